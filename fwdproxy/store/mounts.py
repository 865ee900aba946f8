"""On which file system does a folder lie? SQLite's locks and shared memory don't hold on those of a network."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

_MOUNTINFO: Final = Path("/proc/self/mountinfo")
_NETWORK: Final = re.compile(
    r"9p|afs|beegfs|ceph|cifs|coda|davfs|gfs2?|glusterfs|gpfs|lustre|ncpfs|nfs4?|ocfs2|orangefs|pvfs2|smb2|smb3|smbfs"
    r"|vboxsf|vmhgfs"
    r"|fuse\.(ceph|curlftpfs|davfs2?|gcsfuse|glusterfs|goofys|hdfs|juicefs|moosefs|mfs|rclone|s3fs|s3ql|seaweedfs"
    r"|smbnetfs|sshfs|vmhgfs-fuse)"
)
_ESCAPE: Final = re.compile(r"\\([0-7]{3})")


def is_network(kind: str | None) -> bool:
    """Is a file system of this type (as the kernel names it) one of a network? None, unknown, is not."""
    return kind is not None and _NETWORK.fullmatch(kind) is not None


def file_system_of(path: Path) -> str | None:
    """The type of the file system on which ``path`` lies or would lie; None where the system doesn't tell."""
    try:
        mountinfo = _MOUNTINFO.read_text(errors="surrogateescape")
    except OSError:
        return None
    return find_type(str(path.resolve()), mountinfo)


def find_type(path: str, mountinfo: str) -> str | None:
    """The type of the mount that holds the absolute ``path``; ``mountinfo`` is in the form of proc_pid_mountinfo(5)."""
    found: tuple[int, str] | None = None
    for line in mountinfo.splitlines():
        before, separator, after = line.partition(" - ")
        fields = before.split(" ")
        if not separator or len(fields) < 5:
            continue
        point = _ESCAPE.sub(lambda match: chr(int(match[1], 8)), fields[4])
        inside = point == "/" or path == point or path.startswith(point + "/")
        # Of several mounts on one point the last one covers the others.
        if inside and (found is None or len(point) >= found[0]):
            found = len(point), after.split(" ")[0]
    return found and found[1]
