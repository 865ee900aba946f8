"""The command line: what it prints, its exit status, and that nobody ever sees a traceback."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from fwdproxy import __version__, cli
from fwdproxy.config import SETTINGS


def fwdproxy(*arguments: str | bytes, cwd: Path | None = None, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "fwdproxy", *arguments],
        cwd=cwd,
        env={**os.environ, "COLUMNS": "80", **env},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def one_line(done: subprocess.CompletedProcess[str]) -> str:
    """The one line that a failed start prints."""
    assert done.returncode == 1, done.stderr
    assert done.stdout == ""
    [line] = done.stderr.splitlines()
    assert line.startswith("fwdproxy: ")
    return line.removeprefix("fwdproxy: ")


def test_version() -> None:
    done = fwdproxy("--version")
    assert (done.returncode, done.stdout) == (0, f"fwdproxy {__version__}\n")


def test_help_has_every_setting() -> None:
    done = fwdproxy("run", "--help")
    assert done.returncode == 0
    # Help is wrapped, within words with a hyphen too.
    shown = "".join(done.stdout.split())
    for setting in SETTINGS:
        assert setting.flag in shown
        assert "".join(setting.about.split()) in shown
        assert not setting.default or f"[default:({setting.default})]" in shown


def test_an_unknown_flag_is_named_with_the_one_that_was_meant() -> None:
    done = fwdproxy("run", "--lisen", "127.0.0.1:0")
    assert done.returncode == 2
    assert "No such option: --lisen" in done.stderr
    assert "--listen" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--listen", "8080"], '--listen = "8080" is not an address and a port; write "127.0.0.1:8080"'),
        (["--listen", "0.0.0.0:8080"], "listen = 0.0.0.0:8080 lets other machines connect, and none is allowed"),
        (["--cache-size", "much"], '--cache-size = "much" is not a size'),
        (["--cache-size", "1"], '--cache-size = "1" is too small; write at least "1MB"'),
        (["--cache-size", "99999999999999999999TB"], '--cache-size = "99999999999999999999TB" is too large; write at'),
        (["--config", "/dev/zero"], "/dev/zero: can't be read (it is not a regular file); name a readable file"),
        (["--allow-client", "10.0.0.0/8", "--allow-client", "me"], '--allow-client = "me" is not a network'),
        (["--config", "nowhere.toml"], "nowhere.toml: can't be read (No such file or directory)"),
        (["--config", "wrong.toml"], "wrong.toml: cache.sizes is not a setting; did you mean cache.size?"),
        (["--config", "recipe.toml"], "recipe.toml: recipe 1: the pattern '(' of a recipe can't be used"),
    ],
)
def test_a_fault_of_configuration_is_one_line(tmp_path: Path, arguments: list[str], complaint: str) -> None:
    (tmp_path / "wrong.toml").write_text('[cache]\nsizes = "1GB"\n')
    (tmp_path / "recipe.toml").write_text("[[recipes]]\npattern = '('\nkey = 'https://a.internal/'\n")
    assert one_line(fwdproxy("run", *arguments, cwd=tmp_path)).startswith(complaint)


def test_windows_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    with pytest.raises(SystemExit, match="runs on Linux and macOS; on Windows, run it in WSL"):
        cli.main()


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (PermissionError(13, "Permission denied", "/srv/cache"), "/srv/cache: Permission denied"),
        (OSError(98, "Address already in use"), "Address already in use"),
        (
            KeyError("x"),
            "a fault in fwdproxy itself, KeyError: 'x'; FWDPROXY_TRACEBACK=1 in the environment shows where",
        ),
    ],
)
def test_no_error_reaches_a_user_as_a_traceback(monkeypatch: pytest.MonkeyPatch, error: Exception, line: str) -> None:
    def fails() -> None:
        raise error

    monkeypatch.delenv("FWDPROXY_TRACEBACK", raising=False)
    monkeypatch.setattr(cli, "app", fails)
    with pytest.raises(SystemExit) as caught:
        cli.main()
    assert caught.value.code == f"fwdproxy: {line}"


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (
            ["cache", "stats"],
            "there is no cache in {data}/cache, and no proxy runs; name the data folder with --data-dir",
        ),
        (["cache", "purge"], "say what to purge by one of --url, --prefix, --host, --tag, --group or --all"),
        (["cache", "purge", "--all", "--tag", "a"], "say what to purge by one of --url, --prefix,"),
        (["cache", "purge", "--group", "a"], "--group and --origin go together: a group's name is its origin's own"),
        (["cache", "purge", "--tag", "a", "--origin", "https://a"], "--group and --origin go together"),
        (
            ["cache", "warm", "-"],
            "no proxy runs on the data folder {data}, and only a running one fetches; start it with",
        ),
        (["explain", "https://a.example/"], "no proxy runs on the data folder {data}, and only a running one fetches;"),
        (["explain", "https://a.example/", "-H", "x"], "'x' is not a header field; write 'Name: value'"),
        (["cache", "stats", "--config", "recipe.toml"], "recipe.toml: recipe 1: the pattern '(' of a recipe can't be"),
        (["cache", "show", b"http://a.example/\xff"], "there is no cache in {data}/cache"),
        (["explain", "--dry-run", b"http://a.example/\xff"], "'http://a.example/\\udcff' is not UTF-8 text; write"),
        (["explain", "--dry-run", "https://a.example/", "-H", b"A: \xff"], "'A: \\udcff' is not a header field;"),
        (["cache", "ls", "--config", "nowhere.toml"], "nowhere.toml: can't be read (No such file or directory)"),
    ],
)
def test_a_fault_of_a_command_is_one_line(tmp_path: Path, arguments: list[str | bytes], complaint: str) -> None:
    (tmp_path / "recipe.toml").write_text("[[recipes]]\npattern = '('\nkey = 'https://a.internal/'\n")
    done = fwdproxy(*arguments, "--data-dir", str(tmp_path), cwd=tmp_path)
    assert one_line(done).startswith(complaint.format(data=tmp_path))


def test_a_command_makes_no_folders(tmp_path: Path) -> None:
    fwdproxy("cache", "ls", "--data-dir", str(tmp_path / "data"))
    assert list(tmp_path.iterdir()) == []


def test_a_recipe_is_tried_without_a_cache(tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text(
        "[[recipes]]\npattern = 'https://mirror\\d\\.example/(.*)'\nkey = 'https://mirrors.internal/\\1'\n"
        "[[rules]]\nhost = ['.example']\nmax_lifetime = '5m'\n"
    )
    url, data = "https://mirror7.example/a", str(tmp_path / "data")
    done = fwdproxy("explain", "--dry-run", "--config", "c.toml", "--data-dir", data, url, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        "https://mirror7.example/a",
        "  key           https://mirrors.internal/a",
        r"                because of the recipe for https://mirror\d\.example/(.*)",
        "  your rules    max_lifetime: fresh for at most 5m",
        "  stored before nothing",
    ]
    assert "key           https://mirror7.example/a" in fwdproxy("explain", "--dry-run", "--data-dir", data, url).stdout
    assert not (tmp_path / "data").exists()


def test_the_settings_of_a_proxy_for_others_serve_its_commands_too(tmp_path: Path) -> None:
    """Which networks it admits may have been said by a flag."""
    (tmp_path / "c.toml").write_text('listen = "0.0.0.0:8080"\n')
    done = fwdproxy("cache", "ls", "--config", "c.toml", "--data-dir", str(tmp_path / "data"), cwd=tmp_path)
    assert one_line(done).startswith("there is no cache in")
