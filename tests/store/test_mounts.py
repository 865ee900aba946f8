"""Which file system holds a folder."""

from pathlib import Path

import pytest

from fwdproxy.store import mounts

MOUNTINFO = r"""22 27 0:21 / /proc rw,relatime - proc proc rw
27 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
40 27 0:40 / /home rw - nfs4 server:/home rw
41 40 0:41 / /home/local rw master:2 propagate_from:1 - xfs /dev/vdb rw
42 27 0:42 / /mnt/with\040space rw - cifs //server/share rw
43 27 0:43 / /mnt/twice rw - nfs server:/a rw
44 27 0:44 / /mnt/twice rw - tmpfs tmpfs rw
45 27 0:45 / /mnt/ssh rw - fuse.sshfs host: rw
a line that is none
"""


@pytest.mark.parametrize(
    ("path", "kind", "network"),
    [
        ("/var/cache", "ext4", False),
        ("/", "ext4", False),
        ("/home", "nfs4", True),
        ("/home/someone/cache", "nfs4", True),
        ("/homestead", "ext4", False),
        ("/home/local/cache", "xfs", False),
        ("/mnt/with space/x", "cifs", True),
        ("/mnt/twice/x", "tmpfs", False),
        ("/mnt/ssh/x", "fuse.sshfs", True),
    ],
)
def test_the_innermost_mount_counts(path: str, kind: str, network: bool) -> None:
    assert mounts.find_type(path, MOUNTINFO) == kind
    assert mounts.is_network(kind) is network


@pytest.mark.parametrize("kind", [None, "btrfs", "overlay", "zfs", "fuse.ntfs", "fuseblk", "nfsd", "ceph2"])
def test_what_is_local_or_unknown_is_allowed(kind: str | None) -> None:
    assert not mounts.is_network(kind)


@pytest.mark.parametrize("kind", ["nfs", "9p", "smb3", "ceph", "fuse.glusterfs", "fuse.rclone", "lustre"])
def test_what_is_on_a_network_is_known(kind: str) -> None:
    assert mounts.is_network(kind)


def test_nothing_is_found_where_nothing_is_mounted() -> None:
    assert mounts.find_type("/x", "") is None


def test_a_folder_that_does_not_exist_yet_has_a_file_system(tmp_path: Path) -> None:
    assert mounts.file_system_of(tmp_path / "a" / "b") == mounts.file_system_of(tmp_path)
