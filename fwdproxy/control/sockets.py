"""Where control sockets lie: one for each running proxy, PID.sock in a folder that only its user may enter.

A path in a socket's address has room for about a hundred bytes. Where the folder's is longer, Linux reaches it by a
descriptor's name.
"""

from __future__ import annotations

import contextlib
import os
import socket
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from fwdproxy.errors import FwdProxyError, StartupError

BACKLOG: Final = 100
_LONGEST: Final = 103 if sys.platform == "darwin" else 107
_PATIENCE: Final = 5.0


def listen(folder: Path) -> tuple[socket.socket, Path]:
    """A socket that listens in ``folder``, made where it is missing, and its path. Sockets of the dead are removed.

    Raises StartupError with one line that says what to do.
    """
    try:
        _ready(folder)
        for path in folder.glob("*.sock"):
            if _is_dead(path):
                path.unlink(missing_ok=True)
        # It gets its name only when it listens, so that one which refuses is surely dead.
        unready = folder / f"{os.getpid()}.sock.new"
        unready.unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX)
        try:
            with _address(unready) as address:
                listener.bind(address)
            unready.chmod(0o600)
            listener.listen(BACKLOG)
            listener.setblocking(False)
            path = _free_name(folder)
            unready.rename(path)
        except BaseException:
            listener.close()
            raise
    except OSError as error:
        raise StartupError(
            f"can't make a control socket in {folder}: {error.strerror or error}; name another folder with --data-dir"
        ) from None
    return listener, path


def connect(path: Path) -> socket.socket | None:
    """A connection to the proxy behind ``path``, None where it is dead. Raises FwdProxyError for one that hangs."""
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(_PATIENCE)
    try:
        with _address(path) as address:
            connection.connect(address)
    except (ConnectionRefusedError, FileNotFoundError):
        connection.close()
        return None
    except OSError as error:
        connection.close()
        # Its queue is full and it takes none off, which Linux says at once and others in time.
        hangs = isinstance(error, TimeoutError | BlockingIOError)
        why = "it does not answer; stop it and try again" if hangs else error.strerror
        raise FwdProxyError(f"can't talk to the proxy behind {path}: {why}") from None
    connection.setblocking(False)
    return connection


def found(folder: Path) -> list[Path]:
    """The sockets in ``folder``, of proxies dead or alive, newest first."""
    dated = []
    for path in folder.glob("*.sock"):
        with contextlib.suppress(FileNotFoundError):  # it went meanwhile
            dated.append((-path.stat().st_mtime, path))
    return [path for _, path in sorted(dated)]


def _ready(folder: Path) -> None:
    folder.mkdir(0o700, parents=True, exist_ok=True)
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid():
        raise StartupError(f"{folder} isn't a folder of this user's; name another one with --data-dir")
    folder.chmod(0o700)


def _is_dead(path: Path) -> bool:
    try:
        connection = connect(path)
    except FwdProxyError:
        return False
    if connection is not None:
        connection.close()
    return connection is None


def _free_name(folder: Path) -> Path:
    """PID.sock; a proxy in another container on the same folder may have our number."""
    names = (f"{os.getpid()}{suffix}.sock" for suffix in ("", *(f"-{number}" for number in range(1, 1000))))
    return next(folder / name for name in names if not (folder / name).exists())


@contextlib.contextmanager
def _address(path: Path) -> Iterator[str]:
    """A name for ``path`` that fits into a socket's address."""
    if len(os.fsencode(path)) <= _LONGEST or not Path("/proc/self/fd").is_dir():
        yield str(path)
        return
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)
