"""`fwdproxy cache warm`: fetch a list of URLs into the cache, through the running proxy."""

from __future__ import annotations

import sys
from collections import Counter, deque
from collections.abc import AsyncIterator, Iterable, Iterator
from pathlib import Path
from typing import Final

import typer

from fwdproxy.commands import output
from fwdproxy.commands.lists import LARGEST, Listing, read_list
from fwdproxy.commands.reach import Doer, each
from fwdproxy.control.messages import Chunk, Fetch, Fetched, Fields, Warm
from fwdproxy.errors import FwdProxyError
from fwdproxy.values import open_file

BATCH: Final = 500
"""URLs of one command to the proxy."""

BATCH_LENGTH: Final = 256 * 1024
"""Characters of these, so that a command stays below its limit however they are escaped."""

DEEPEST: Final = 3
"""Indexes of sitemaps within each other; sitemaps.org allows one."""

MOST_SITEMAPS: Final = 1000

_SAID: Final = {
    "stored": "stored",
    "hit": "there already",
    "passed": "not to be stored",
    "failed": "failed",
}


async def warm(proxy: Doer, source: str, fields: Fields) -> int:
    """Fetch what ``source`` names (a file, or ``-``); 1 when something failed, else 0. Raises FwdProxyError."""
    name = "standard input" if source == "-" else source
    listing = read_list(_read(source), name)
    with output.progress("warming") as showing:
        warming = _Warming(proxy, fields, showing)
        async for batch in warming.batches(listing):
            async for event in each(proxy, Warm(urls=tuple(batch), fields=fields)):
                if isinstance(event, Fetched):
                    warming.note(event)
    counts = ", ".join(f"{warming.became[how]} {said}" for how, said in _SAID.items() if warming.became[how])
    typer.echo(f"{warming.done} URLs" + (f": {counts}" if counts else ""))
    return 1 if warming.became["failed"] else 0


class _Warming:
    """What one run of `warm` has come to."""

    def __init__(self, proxy: Doer, fields: Fields, showing: output.Showing) -> None:
        self._proxy = proxy
        self._showing = showing
        self._fields = tuple(field for field in fields if field[0].lower() != "accept-encoding")
        self._seen: set[str] = set()
        self.became: Counter[str] = Counter()
        self.known = 0

    @property
    def done(self) -> int:
        """How many URLs are done with."""
        return self.became.total()

    def note(self, fetched: Fetched) -> None:
        """Count one, and tell of it."""
        self.became[fetched.how] += 1
        why = f" ({fetched.why})" if fetched.why else ""
        line = output.printable(f"{_SAID[fetched.how]}: {fetched.url}{why}")
        self._showing.say(line, fault=fetched.how == "failed")
        self._showing.advance(self.done, self.known)

    async def batches(self, listing: Listing) -> AsyncIterator[list[str]]:
        """What is to be fetched, a batch at a time; further sitemaps are read when all of one has been."""
        waiting = deque([(listing, 0)])
        read = 0
        while waiting:
            listing, depth = waiting.popleft()
            urls = [url for url in dict.fromkeys(listing.urls) if url not in self._seen]
            self._seen.update(urls)
            self.known += len(urls)
            for batch in _batched(urls):
                yield batch
            for sitemap in listing.sitemaps:
                read += 1
                try:
                    if depth >= DEEPEST or read > MOST_SITEMAPS:
                        raise FwdProxyError("it is one sitemap too many")
                    waiting.append((await self._sitemap(sitemap), depth + 1))
                except FwdProxyError as error:
                    self.known += 1
                    self.note(Fetched(url=sitemap, how="failed", why=str(error)))

    async def _sitemap(self, url: str) -> Listing:
        data = bytearray()
        identity = ("Accept-Encoding", "identity")
        async for event in each(self._proxy, Fetch(url=url, fields=(*self._fields, identity))):
            match event:
                case Chunk():
                    data += event.data
                    if len(data) > LARGEST:
                        raise FwdProxyError(f"it is larger than {LARGEST // 1024**2} MiB")
                case Fetched(how="failed"):
                    raise FwdProxyError(event.why)
        return read_list(bytes(data), "it", only_sitemap=True)


def _batched(urls: Iterable[str]) -> Iterator[list[str]]:
    batch: list[str] = []
    length = 0
    for url in urls:
        if batch and (len(batch) == BATCH or length + len(url) > BATCH_LENGTH):
            yield batch
            batch, length = [], 0
        batch.append(url)
        length += len(url)
    if batch:
        yield batch


def _read(source: str) -> bytes:
    if source == "-":
        return sys.stdin.buffer.read(LARGEST + 1)
    try:
        with open_file(Path(source)) as file:
            return file.read(LARGEST + 1)
    except OSError as error:
        raise FwdProxyError(
            f"{source}: can't be read ({error.strerror}); name a file with URLs, or - for standard input"
        ) from None
