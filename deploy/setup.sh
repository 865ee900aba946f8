#!/bin/sh
# Make .venv and put the locked dependencies and this project into it:  sh deploy/setup.sh runtime|dev
#
# `runtime` is what running the proxy needs; `dev` adds the tools of the tests and, on Debian and its like, the
# programs that the tests talk to. What is done already is not done again: a stamp in .venv holds what it was made
# from, so a second run costs a few milliseconds and a changed lock is installed.
set -eu

say() { printf 'fwdproxy set-up: %s\n' "$*" >&2; }
fail() { say "$*"; exit 1; }

# --- Python ---------------------------------------------------------------------------------------------------

new_enough() {
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 12))' </dev/null >/dev/null 2>&1
}

# A name on PATH may be a shim of pyenv for a version that isn't installed: only running it tells.
find_python() {
    for candidate in ${PYTHON:-} python3 python3.14 python3.13 python3.12 python \
        "${PYENV_ROOT:-${HOME:-/nonexistent}/.pyenv}"/versions/3.1[2-9]*/bin/python3; do
        if new_enough "$candidate"; then
            printf '%s\n' "$candidate"
            return
        fi
    done
    fail "Python 3.12 or newer is missing: install it (Debian 13, Ubuntu 24.04: apt install python3 python3-venv;" \
        "macOS: brew install python; anywhere: pyenv install 3.13) or name one with PYTHON=/path/to/python3"
}

make_venv() {
    if new_enough .venv/bin/python && .venv/bin/python -m pip --version >/dev/null 2>&1; then
        return
    fi
    python=$(find_python)
    say "making .venv with $("$python" --version)"
    told=$("$python" -m venv --clear .venv 2>&1) || {
        rm -rf .venv
        fail "$python can't make a virtual environment: install its venv module (Debian, Ubuntu:" \
            "apt install python3-venv). It said: $(printf '%s' "$told" | tr '\n' ' ')"
    }
}

# --- Packages -------------------------------------------------------------------------------------------------

# What .venv is made from. The folder is part of it: the scripts in .venv/bin carry it.
ingredients() {
    pwd
    cat "deploy/lock/$1.txt" pyproject.toml
}

is_done() {
    [ -f ".venv/.made-$1" ] && ingredients "$1" | cmp -s - ".venv/.made-$1" && [ -x .venv/bin/fwdproxy ] &&
        .venv/bin/python -c '' 2>/dev/null
}

install_packages() {
    say "installing the locked packages ($1); this takes a minute"
    rm -f .venv/.made-*
    # Errors only: one line for each of many packages would bury them.
    pip="env PIP_DISABLE_PIP_VERSION_CHECK=1 .venv/bin/python -m pip -qq"
    $pip install --require-hashes --requirement "deploy/lock/$1.txt" </dev/null ||
        fail "the packages of deploy/lock/$1.txt could not be installed (see above): is the package index within reach?"
    $pip install --no-deps --no-build-isolation --editable . </dev/null ||
        fail "fwdproxy itself could not be installed into .venv (see above)"
    ingredients "$1" >".venv/.made-$1"
    # dev holds all of runtime in the same versions.
    if [ "$1" = dev ]; then ingredients runtime >.venv/.made-runtime; fi
}

# --- Programs that the tests talk to ---------------------------------------------------------------------------

missing_programs() {
    missing=
    for program in chromium nginx curl iptables; do
        PATH="$PATH:/usr/sbin" command -v "$program" >/dev/null 2>&1 || missing="$missing $program"
    done
    printf '%s\n' "${missing# }"
}

as_root() {
    if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo -n "$@"; fi
}

# Debian starts a service when its package is installed; nobody asked for a web server on port 80.
without_starting_services() {
    if [ -e /usr/sbin/policy-rc.d ]; then
        "$@"
        return
    fi
    printf '#!/bin/sh\nexit 101\n' | as_root tee /usr/sbin/policy-rc.d >/dev/null
    as_root chmod 755 /usr/sbin/policy-rc.d
    trap 'as_root rm -f /usr/sbin/policy-rc.d' EXIT
    "$@"
    as_root rm -f /usr/sbin/policy-rc.d
    trap - EXIT
}

apt_install() {
    as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq update </dev/null >&2 &&
        as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq -y install --no-install-recommends "$@" </dev/null >&2
}

install_programs() {
    missing=$(missing_programs)
    [ -n "$missing" ] || return 0
    if command -v apt-get >/dev/null 2>&1 && as_root true 2>/dev/null; then
        say "installing for the tests: $missing"
        # shellcheck disable=SC2086  # a list of names
        without_starting_services apt_install $missing || say "apt-get could not install: $missing"
        missing=$(missing_programs)
    fi
    [ -z "$missing" ] && return 0
    say "the end-to-end tests also need these programs, please install them: $missing (Debian: sudo apt install $missing)"
    # A person may still run the other tests; a CI run without them would prove less than it says.
    [ -z "${CI:-}" ]
}

# --- What to do -----------------------------------------------------------------------------------------------

cd "$(dirname "$0")/.."
kind=${1:-}
case $kind in
    runtime | dev) ;;
    *) fail "usage: sh deploy/setup.sh runtime|dev" ;;
esac
if ! is_done "$kind"; then
    make_venv
    install_packages "$kind"
fi
if [ "$kind" = dev ]; then install_programs; fi
