"""Where control sockets lie, and who may reach them."""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path

import pytest

from fwdproxy.control import sockets
from fwdproxy.errors import FwdProxyError, StartupError


@pytest.fixture(params=["short", "l" * 120])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return tmp_path / str(request.param) / "control"


def test_only_its_user_may_reach_a_socket(folder: Path) -> None:
    folder.mkdir(0o755, parents=True)
    listener, path = sockets.listen(folder)
    with listener:
        assert path == folder / f"{os.getpid()}.sock"
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_ISSOCK(path.stat().st_mode)
        assert list(folder.iterdir()) == [path]


def test_a_living_socket_is_reached_and_a_dead_one_is_not(folder: Path) -> None:
    listener, path = sockets.listen(folder)
    connection = sockets.connect(path)
    assert connection is not None
    connection.close()
    listener.close()
    assert sockets.connect(path) is None
    path.unlink()
    assert sockets.connect(path) is None


def test_sockets_of_the_dead_go_and_those_of_the_living_stay(folder: Path) -> None:
    first, alive = sockets.listen(folder)
    alive.rename(folder / "1.sock")
    second, dead = sockets.listen(folder)
    dead.rename(folder / "2.sock")
    second.close()
    (folder / "notes.txt").touch()
    third, own = sockets.listen(folder)
    with first, third:
        assert {path.name for path in folder.iterdir()} == {"1.sock", own.name, "notes.txt"}


def test_two_containers_may_have_the_same_process_number(folder: Path) -> None:
    first, path = sockets.listen(folder)
    second, other = sockets.listen(folder)
    with first, second:
        assert path != other
        assert set(sockets.found(folder)) == {path, other}


def test_the_newest_comes_first(folder: Path) -> None:
    first, older = sockets.listen(folder)
    second, newer = sockets.listen(folder)
    os.utime(older, (1, 1))
    with first, second:
        assert sockets.found(folder) == [newer, older]


def test_without_a_folder_nothing_runs(tmp_path: Path) -> None:
    assert sockets.found(tmp_path / "none") == []


def test_a_folder_that_leads_elsewhere_is_refused(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "control").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StartupError, match="control isn't a folder of this user's; name another one with --data-dir"):
        sockets.listen(tmp_path / "control")


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StartupError, match="can't make a control socket in .*Not a directory; name another folder"):
        sockets.listen(tmp_path / "file" / "control")


def test_a_proxy_that_hangs_is_told_of(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sockets, "_PATIENCE", 0.05)
    monkeypatch.setattr(sockets, "BACKLOG", 0)
    listener, path = sockets.listen(folder)
    waiting: list[socket.socket] = []
    with listener, pytest.raises(FwdProxyError, match="can't talk to the proxy behind .*: it does not answer"):
        for _ in range(10):
            connection = sockets.connect(path)
            assert connection is not None
            waiting.append(connection)
    for connection in waiting:
        connection.close()
