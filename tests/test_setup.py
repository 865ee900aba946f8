"""deploy/setup.sh with stand-ins for python, apt-get and the like: what it does, in which order, and what it says."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
TOOLS = ["sh", "cat", "cmp", "cp", "chmod", "dirname", "env", "mkdir", "rm", "touch", "tr"]

# Behaves like a Python 3.12+ as far as the script asks; what it is asked to install goes to pip.log.
PYTHON = """#!/bin/sh
case "$*" in
    --version) echo Python 3.13.9 ;;
    "-m venv --clear .venv")
        [ ! -e no-venv ] || { echo "ensurepip is not available"; exit 1; }
        rm -rf .venv; mkdir -p .venv/bin; cp "$0" .venv/bin/python; touch .venv/bin/fwdproxy
        chmod +x .venv/bin/fwdproxy ;;
    *install*) echo "$*" >>pip.log; [ ! -e no-index ] ;;
esac
"""
TOO_OLD = '#!/bin/sh\n[ "$*" = --version ] && echo Python 3.11.2\nexit 1\n'
BROKEN_SHIM = "#!/bin/sh\necho \"pyenv: version '3.13' is not installed\" >&2\nexit 127\n"
NOBODY = {"id": "#!/bin/sh\necho 1000\n", "sudo": "#!/bin/sh\nexit 1\n"}
TEST_PROGRAMS = dict.fromkeys(("chromium", "nginx", "curl", "iptables"), "#!/bin/sh\n")


class Machine:
    """A checkout with the files that the script reads, on a machine that has only the programs given."""

    def __init__(self, folder: Path) -> None:
        self.checkout = folder / "checkout"
        self.programs = folder / "bin"
        self.home = folder / "home"
        (self.checkout / "deploy" / "lock").mkdir(parents=True)
        self.programs.mkdir()
        shutil.copy(ROOT / "deploy" / "setup.sh", self.checkout / "deploy")
        for name in ("deploy/lock/runtime.txt", "deploy/lock/dev.txt", "pyproject.toml"):
            (self.checkout / name).write_text(f"{name}\n")
        for tool in TOOLS:
            found = shutil.which(tool)
            assert found is not None
            (self.programs / tool).symlink_to(found)

    def has(self, programs: dict[str, str]) -> None:
        for name, text in programs.items():
            path = self.programs / name
            path.unlink(missing_ok=True)
            path.write_text(text)
            path.chmod(0o755)

    def set_up(self, kind: str = "runtime", **env: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["sh", "deploy/setup.sh", kind],
            cwd=self.checkout,
            env={"PATH": str(self.programs), "HOME": str(self.home), **env},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )

    def installed(self) -> list[str]:
        """pip's arguments since the last call of this method."""
        log = self.checkout / "pip.log"
        lines = log.read_text().splitlines() if log.exists() else []
        log.unlink(missing_ok=True)
        return lines


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


@pytest.mark.parametrize("programs", [{}, {"python3": TOO_OLD, "python": TOO_OLD}, {"python3": BROKEN_SHIM}])
def test_without_a_python_one_line_says_what_to_do(machine: Machine, programs: dict[str, str]) -> None:
    machine.has(programs)
    done = machine.set_up()
    assert done.returncode == 1
    [line] = done.stderr.splitlines()
    assert "Python 3.12 or newer is missing: install it" in line
    assert not (machine.checkout / ".venv").exists()


@pytest.mark.parametrize("name", ["python3", "python3.14", "python3.13", "python3.12", "python"])
def test_any_usual_name_of_a_new_python_will_do(machine: Machine, name: str) -> None:
    machine.has({"python3": BROKEN_SHIM} | {name: PYTHON})
    done = machine.set_up()
    assert done.returncode == 0, done.stderr
    assert "making .venv with Python 3.13.9" in done.stderr


def test_a_python_of_pyenv_is_found_though_its_shim_is_of_no_use(machine: Machine) -> None:
    machine.has({"python3": BROKEN_SHIM})
    pyenv = machine.home / ".pyenv" / "versions" / "3.12.1" / "bin"
    pyenv.mkdir(parents=True)
    (pyenv / "python3").write_text(PYTHON)
    (pyenv / "python3").chmod(0o755)
    assert machine.set_up().returncode == 0


def test_a_named_python_comes_first(machine: Machine, tmp_path: Path) -> None:
    machine.has({"python3": TOO_OLD})
    mine = tmp_path / "my-python"
    mine.write_text(PYTHON)
    mine.chmod(0o755)
    assert machine.set_up(PYTHON=str(mine)).returncode == 0


def test_a_python_without_venv(machine: Machine) -> None:
    machine.has({"python3": PYTHON})
    (machine.checkout / "no-venv").touch()
    done = machine.set_up()
    assert done.returncode == 1
    assert "apt install python3-venv" in done.stderr
    assert "ensurepip is not available" in done.stderr
    assert not (machine.checkout / ".venv").exists()


def test_the_lock_is_installed_with_hashes_and_the_project_without_dependencies(machine: Machine) -> None:
    machine.has({"python3": PYTHON})
    assert machine.set_up().returncode == 0
    [lock, project] = machine.installed()
    assert "install --require-hashes --requirement deploy/lock/runtime.txt" in lock
    assert "install --no-deps --no-build-isolation --editable ." in project


def test_what_is_done_is_not_done_again(machine: Machine) -> None:
    machine.has({"python3": PYTHON, **NOBODY, **TEST_PROGRAMS})
    assert machine.set_up("dev").returncode == 0
    assert machine.installed()
    for kind in ("dev", "runtime"):
        again = machine.set_up(kind)
        assert (again.returncode, again.stderr) == (0, "")
        assert machine.installed() == []


@pytest.mark.parametrize("changed", ["deploy/lock/runtime.txt", "pyproject.toml"])
def test_a_change_is_installed(machine: Machine, changed: str) -> None:
    machine.has({"python3": PYTHON})
    machine.set_up()
    machine.installed()
    (machine.checkout / changed).write_text("changed\n")
    assert machine.set_up().returncode == 0
    assert len(machine.installed()) == 2


def test_dev_after_runtime_and_a_moved_checkout_are_installed(machine: Machine) -> None:
    machine.has({"python3": PYTHON, **NOBODY, **TEST_PROGRAMS})
    machine.set_up("runtime")
    machine.installed()
    machine.set_up("dev")
    assert len(machine.installed()) == 2
    machine.checkout = machine.checkout.rename(machine.checkout.with_name("moved"))
    machine.set_up("dev")
    assert len(machine.installed()) == 2


def test_a_failed_installation_is_said_and_tried_again(machine: Machine) -> None:
    machine.has({"python3": PYTHON})
    (machine.checkout / "no-index").touch()
    done = machine.set_up()
    assert done.returncode == 1
    assert "is the package index within reach?" in done.stderr
    (machine.checkout / "no-index").unlink()
    assert machine.set_up().returncode == 0
    assert len(machine.installed()) == 3


@pytest.mark.parametrize(("env", "status"), [({}, 0), ({"CI": "true"}, 1)])
def test_missing_test_programs_are_named_where_they_cannot_be_installed(
    machine: Machine, env: dict[str, str], status: int
) -> None:
    machine.has({"python3": PYTHON, **NOBODY, "apt-get": "#!/bin/sh\nexit 100\n", "nginx": "#!/bin/sh\n"})
    done = machine.set_up("dev", **env)
    assert done.returncode == status
    assert "please install them: chromium curl (Debian: sudo apt install chromium curl)" in done.stderr
    assert "installing for the tests" not in done.stderr


def test_missing_test_programs_are_installed_where_that_is_possible(machine: Machine, tmp_path: Path) -> None:
    log = tmp_path / "apt.log"
    machine.has(TEST_PROGRAMS | {"python3": PYTHON, "id": "#!/bin/sh\necho 0\n", "tee": "#!/bin/sh\ncat >/dev/null\n"})
    (machine.programs / "curl").unlink()
    curl = machine.programs / "curl"
    apt_get = f"""#!/bin/sh
        echo "$*" >>{log}
        case "$*" in *curl*) touch {curl}; /bin/chmod +x {curl} ;; esac
    """
    machine.has({"apt-get": apt_get, "chmod": '#!/bin/sh\n[ "$2" = /usr/sbin/policy-rc.d ] || /bin/chmod "$@"\n'})
    done = machine.set_up("dev", CI="true")
    assert done.returncode == 0, done.stderr
    assert log.read_text().splitlines() == ["-qq update", "-qq -y install --no-install-recommends curl"]


def test_a_runtime_set_up_needs_no_test_programs(machine: Machine) -> None:
    machine.has({"python3": PYTHON, **NOBODY})
    assert "please install" not in machine.set_up("runtime").stderr


def test_a_wrong_call_is_refused(machine: Machine) -> None:
    done = machine.set_up("everything")
    assert done.returncode == 1
    assert "usage: sh deploy/setup.sh runtime|dev" in done.stderr


def test_locks_name_no_index_and_no_folder_and_every_package_has_a_hash() -> None:
    for name in ("runtime", "dev"):
        text = (ROOT / "deploy" / "lock" / f"{name}.txt").read_text()
        assert "://" not in text
        assert "--index" not in text
        assert " /" not in text
        packages = [
            entry for entry in text.replace("\\\n", "").splitlines() if entry and not entry.lstrip().startswith("#")
        ]
        assert packages
        assert all("==" in entry and "--hash=sha256:" in entry for entry in packages)


def test_dev_has_all_of_runtime_in_the_same_versions() -> None:
    def pins(name: str) -> set[str]:
        text = (ROOT / "deploy" / "lock" / f"{name}.txt").read_text()
        return {line.split()[0] for line in text.splitlines() if "==" in line}

    assert pins("runtime") < pins("dev")
