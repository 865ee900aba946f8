"""Two numbers that all processes on a store share: which purge is the newest, and up to which they are dropped.

They lie in a small file that each process maps into its memory; so asking whether anything was purged costs one read of
memory. What was purged stands in the database; the numbers are raised after it is written there and before the purge
is acknowledged.
"""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
from pathlib import Path
from typing import Final

FILE: Final = "generation"
_SIZE: Final = 16


class Generation:
    """The mapped file ``path``. ``alone``: no other process uses it, so what it holds is of the past.

    ``numbers``: the newest purge, and the one up to which purges have been carried out and dropped. To be read only.

    Raises OSError when the file can't be made or mapped.
    """

    def __init__(self, path: Path, *, alone: bool) -> None:
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            if alone or os.fstat(self._fd).st_size < _SIZE:
                os.pwrite(self._fd, bytes(_SIZE), 0)
            self._map = mmap.mmap(self._fd, _SIZE)
        except BaseException:
            os.close(self._fd)
            raise
        self.numbers = memoryview(self._map).cast("Q")  # no property: every lookup reads it

    def advance(self, newest: int, dropped: int) -> None:
        """Raise the numbers, for all processes at once; they never fall. Raises OSError."""
        if self._fd < 0:
            raise OSError(errno.EBADF, "the store is closed")
        fcntl.flock(self._fd, fcntl.LOCK_EX)
        try:
            for place, number in enumerate((newest, dropped)):
                self.numbers[place] = max(self.numbers[place], number)
        finally:
            fcntl.flock(self._fd, fcntl.LOCK_UN)

    def close(self) -> None:
        """Give the file back; the numbers stay as they are now for whoever still asks."""
        numbers, self.numbers = self.numbers, memoryview(self._map[:_SIZE]).cast("Q")
        numbers.release()
        self._map.close()
        os.close(self._fd)
        self._fd = -1  # or a late purge would lock whatever file has the number then
