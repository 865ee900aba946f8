"""Keys, heads and bodies for the tests of the store, and the few steps that most of them take."""

import hashlib
from pathlib import Path

from fwdproxy.messages import CacheKey, Headers, Nominated, ResponseHead, StoredMeta, StoredResponse
from fwdproxy.store.base import BodyReader, Found, Store
from fwdproxy.store.disk import DiskStore

NOW = 1_700_000_000.0
ANY = Headers()
LIMIT = 10**9


def key(name: object = "a", vantage: str = "direct") -> CacheKey:
    return CacheKey(vantage, "GET", f"https://example.com/{name}")


def meta(*, at: float = NOW, nominated: Nominated = (), etag: str = "1", status: int = 200) -> StoredMeta:
    fields = [(b"Content-Type", b"text/plain"), (b"ETag", f'"{etag}"'.encode()), (b"X-Two", b"a"), (b"x-two", b"\xff")]
    return StoredMeta("GET", ResponseHead(status, Headers(fields), b"Fine"), at - 1, at, nominated, 60, "tenth", True)


def content(size: int, seed: object = 0) -> bytes:
    """``size`` bytes that are the same for the same seed."""
    return hashlib.shake_128(str(seed).encode()).digest(size)


def wants(coding: str) -> tuple[Nominated, Headers]:
    """A selection by Accept-Encoding, and the request that it matches."""
    return ((b"accept-encoding", coding.encode()),), Headers([(b"Accept-Encoding", coding.encode())])


async def put(store: Store, where: CacheKey, body: bytes, what: StoredMeta | None = None) -> str:
    """Store a response as the exchange does; its ident."""
    fill = store.open_fill(where, what or meta(), len(body), moment=store.moment())
    for start in range(0, len(body), 65536):
        await fill.write(body[start : start + 65536])
    await fill.complete()
    return fill.ident


async def read_all(reader: BodyReader, limit: int = 65536) -> bytes:
    """The whole body, the reader closed afterwards."""
    pieces = []
    try:
        while piece := await reader.read(limit):
            assert len(piece) <= limit
            pieces.append(piece)
    finally:
        reader.close()
    return b"".join(pieces)


async def best(store: Store, where: CacheKey, request: Headers = ANY) -> StoredResponse | None:
    return (await store.lookup(where, request)).best


async def body_of(store: Store, where: CacheKey, request: Headers = ANY) -> bytes | None:
    """The stored body for a request, None when there is none."""
    found: Found = await store.lookup(where, request)
    return None if found.best is None else await read_all(store.open_body(found.best.body))


def body_files(store: DiskStore) -> list[Path]:
    """The body files in their final place."""
    return sorted((store.directory / "index").glob("??/*"))


def unfinished(store: DiskStore) -> list[Path]:
    """The files of fills, of whatever process."""
    return sorted(file for file in (store.directory / "fills").glob("*/*") if file.name != "lock")
