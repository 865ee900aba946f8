"""A message being received, and those who read it meanwhile."""

import asyncio
import gc
import random
import resource
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fwdproxy.errors import FillAborted
from fwdproxy.messages import Span
from fwdproxy.store.bodies import FileIO, digest_of
from fwdproxy.store.fills import INLINE_LIMIT, WINDOW, DiskFill
from fwdproxy.store.spool import BATCH
from tests.store.samples import content, read_all

SIZES = [0, 1, INLINE_LIMIT - 1, INLINE_LIMIT, BATCH - 1, BATCH, 3 * BATCH + 5]
MakeFill = Callable[..., "Kept"]


class Kept:
    """A fill, and what became of it."""

    def __init__(self, folder: Path, io: FileIO, **options: object) -> None:
        self.commits: list[tuple[int, bytes, bytes]] = []
        self.ended = 0
        self.saved: list[asyncio.Task[None]] = []
        settings: dict[str, object] = {"length": None, "largest": 10**9} | options
        self.fill = DiskFill(
            "ident",
            folder,
            io,
            commit=self._commit,
            cut=lambda fill: self.saved.append(asyncio.ensure_future(fill.save())),
            ended=self._count,
            **settings,  # type: ignore[arg-type]
        )

    async def _commit(self, fill: DiskFill) -> None:
        inline = fill.inline()
        self.commits.append((fill.received, fill.digest(), fill.path.read_bytes() if inline is None else inline))

    def _count(self, fill: DiskFill) -> None:
        self.ended += 1


@pytest.fixture
def io() -> Iterator[FileIO]:
    io = FileIO()
    yield io
    io.close()


@pytest.fixture
def make(tmp_path: Path, io: FileIO) -> MakeFill:
    return lambda **options: Kept(tmp_path, io, **options)


async def write(fill: DiskFill, body: bytes, piece: int = 50_000) -> None:
    for start in range(0, len(body), piece):
        await fill.write(body[start : start + piece])


def leftovers(kept: Kept) -> list[Path]:
    return list(kept.fill.path.parent.glob("*"))


def descriptors(path: str) -> int:
    return sum(link.readlink() == Path(path) for link in Path("/proc/self/fd").iterdir() if link.is_symlink())


@contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    """The disk takes ``size`` bytes of a file and then fails, as a full one does."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("declared", [True, False])
async def test_what_was_written_is_committed_and_read(make: MakeFill, size: int, declared: bool) -> None:
    body = content(size)
    kept = make(length=size if declared else None)
    early = kept.fill.reader()
    await write(kept.fill, body)
    await kept.fill.complete()
    assert kept.commits == [(size, digest_of(body), body)]
    assert kept.ended == 1
    assert await read_all(early) == body
    assert await read_all(kept.fill.reader(), 777 if size < 10**5 else 99_999) == body


async def test_the_end_is_seen_only_after_the_commit(make: MakeFill) -> None:
    kept = make()
    reader = kept.fill.reader()
    await kept.fill.write(b"abc")
    assert await reader.read() == b"abc"
    end = asyncio.ensure_future(reader.read())
    await asyncio.sleep(0)
    assert not end.done()
    await kept.fill.complete()
    assert kept.commits
    assert await end == b""


@pytest.mark.parametrize("size", [10_000, 2 * BATCH + 9])
async def test_many_readers_follow_a_growing_fill(make: MakeFill, size: int) -> None:
    body = content(size)
    kept = make()
    readers = [asyncio.ensure_future(read_all(kept.fill.reader(), 1000 + 7000 * number)) for number in range(30)]
    for start in range(0, size, 9_999):
        await kept.fill.write(body[start : start + 9_999])
        await asyncio.sleep(0)
    await kept.fill.complete()
    assert await asyncio.gather(*readers) == [body] * 30


async def test_bytes_are_seen_as_soon_as_they_are_written(make: MakeFill) -> None:
    kept = make()
    reader = kept.fill.reader()
    total = 0
    while total < 3 * BATCH:
        await kept.fill.write(b"x" * 40_000)
        total += 40_000
        seen = 0
        while seen < 40_000:
            seen += len(await reader.read())
        assert seen == 40_000


async def test_readers_of_an_aborted_fill_are_told(make: MakeFill) -> None:
    kept = make()
    reader, waiting = kept.fill.reader(), kept.fill.reader()
    await write(kept.fill, content(BATCH * 2))
    while len(await waiting.read()) and waiting.position < BATCH * 2:
        pass
    pending = asyncio.ensure_future(waiting.read())
    await asyncio.sleep(0)
    kept.fill.abort("the origin went away")
    with pytest.raises(FillAborted, match="the origin went away"):
        await pending
    with pytest.raises(FillAborted, match="the origin went away"):
        await read_all(reader)
    with pytest.raises(FillAborted):
        await kept.fill.write(b"more")
    with pytest.raises(FillAborted):
        await kept.fill.complete()
    kept.fill.abort("again")
    assert (kept.commits, kept.ended, kept.fill.will_store) == ([], 1, False)


@pytest.mark.parametrize("body", [b"x" * 9, b"x" * 11])
async def test_another_length_than_declared_is_not_stored(make: MakeFill, body: bytes) -> None:
    kept = make(length=10)
    reader = kept.fill.reader()
    with pytest.raises(FillAborted, match="declared"):
        await kept.fill.write(body)
        await kept.fill.complete()
    assert kept.commits == []
    with pytest.raises(FillAborted, match="declared"):
        await read_all(reader)


@pytest.mark.parametrize("size", [1000, 3 * BATCH])
@pytest.mark.parametrize("pipe", [False, True])
async def test_a_reader_may_start_anywhere_and_ahead(make: MakeFill, size: int, pipe: bool) -> None:
    body = content(size)
    kept = make(length=size, **({"largest": 10} if pipe else {}))
    starts = [0, 1, size // 2, size - 1, size]
    readers = [asyncio.ensure_future(read_all(kept.fill.reader(start))) for start in starts]
    await asyncio.sleep(0)
    assert not any(reader.done() for reader in readers)
    await write(kept.fill, body)
    await kept.fill.complete()
    assert await asyncio.gather(*readers) == [body[start:] for start in starts]
    if not pipe:
        assert [await read_all(kept.fill.reader(start)) for start in starts] == [body[start:] for start in starts]


async def test_a_reader_ahead_of_an_aborted_fill_is_told(make: MakeFill) -> None:
    kept = make()
    await kept.fill.write(b"abc")
    ahead = asyncio.ensure_future(kept.fill.reader(10).read())
    await asyncio.sleep(0)
    kept.fill.abort("the origin went away", keep=True)
    with pytest.raises(FillAborted, match="the origin went away"):
        await ahead


@pytest.mark.parametrize("size", SIZES[1:])
async def test_what_arrived_of_an_aborted_fill_is_kept(make: MakeFill, size: int) -> None:
    body = content(size)
    kept = make(length=size + 1)
    reader = kept.fill.reader()
    await write(kept.fill, body)
    kept.fill.abort("cut", keep=True)
    assert (kept.ended, kept.fill.will_store, kept.fill.wanted) == (0, False, True)
    await asyncio.gather(*kept.saved)
    assert kept.commits == [(size, digest_of(body), body)]
    assert (kept.ended, kept.fill.part) == (1, (Span(0, size), size + 1))
    for position in range(0, size, 65_536):
        assert (await reader.read()).startswith(body[position : position + 1])
    kept.fill.abort("again", keep=True)
    assert (len(kept.saved), kept.ended) == (1, 1)


@pytest.mark.parametrize(
    ("part", "length", "received", "expected"),
    [
        (None, None, 5, None),
        (None, 5, 5, None),
        (None, 9, 5, (Span(0, 5), 9)),
        ((Span(3, 8), 20), 5, 5, (Span(3, 8), 20)),
        ((Span(3, 8), 20), 5, 2, (Span(3, 5), 20)),
        ((Span(0, 5), 5), 5, 5, None),
        ((Span(0, 5), 5), 5, 4, (Span(0, 4), 5)),
    ],
)
async def test_a_fill_knows_what_part_it_has(
    make: MakeFill, part: tuple[Span, int] | None, length: int | None, received: int, expected: tuple[Span, int] | None
) -> None:
    kept = make(length=length, part=part)
    await kept.fill.write(bytes(received))
    assert kept.fill.part == expected


@pytest.mark.parametrize("size", [2 * BATCH, 3 * BATCH])
async def test_a_disk_that_fails_while_a_part_is_kept_leaves_none(make: MakeFill, size: int) -> None:
    kept = make(length=10**8)
    reader = kept.fill.reader()
    with file_size_limit(size - 1):
        await write(kept.fill, content(size))
        kept.fill.abort("cut", keep=True)
        await asyncio.gather(*kept.saved)
    assert (kept.commits, kept.ended, kept.fill.wanted, leftovers(kept)) == ([], 1, False, [])
    with pytest.raises(FillAborted, match="cut"):
        await read_all(reader)


async def test_a_part_that_is_forbidden_while_it_is_kept_leaves_none(make: MakeFill) -> None:
    kept = make(length=10**8)
    await write(kept.fill, content(3 * BATCH))
    kept.fill.abort("cut", keep=True)
    kept.fill.forbid("invalidated")
    await asyncio.gather(*kept.saved)
    while kept.fill._spool.busy:
        await asyncio.sleep(0)
    assert (kept.commits, kept.ended, leftovers(kept)) == ([], 1, [])


async def test_an_abort_after_the_end_is_harmless(make: MakeFill) -> None:
    kept = make()
    await kept.fill.write(b"abc")
    await kept.fill.complete()
    kept.fill.abort("too late")
    assert await read_all(kept.fill.reader()) == b"abc"
    assert kept.ended == 1


async def test_an_abort_while_the_file_is_being_made_leaves_none(make: MakeFill, io: FileIO) -> None:
    kept = make()
    await write(kept.fill, content(BATCH))
    kept.fill.abort("no")
    while kept.fill._spool.busy:
        await asyncio.sleep(0)
    assert leftovers(kept) == []


async def test_readers_go_on_after_the_file_is_gone(make: MakeFill) -> None:
    body = content(2 * BATCH)
    kept = make()
    reader = kept.fill.reader()
    await write(kept.fill, body)
    await kept.fill.complete()
    kept.fill.path.unlink()
    assert await read_all(reader) == body


async def test_the_descriptor_is_closed_with_the_last_who_has_the_fill(make: MakeFill) -> None:
    kept = make()
    path = str(kept.fill.path)
    reader = kept.fill.reader()
    await write(kept.fill, content(2 * BATCH))
    await kept.fill.complete()
    del kept
    assert len(await reader.read()) > 0
    assert descriptors(path) == 1
    del reader
    gc.collect()
    assert descriptors(path) == 0


async def test_a_fill_that_was_forbidden_is_read_but_not_stored(make: MakeFill) -> None:
    body = content(2 * BATCH)
    kept = make()
    reader = kept.fill.reader()
    kept.fill.forbid("invalidated")
    assert not kept.fill.will_store
    await write(kept.fill, body)
    await kept.fill.complete()
    assert (kept.commits, leftovers(kept)) == ([], [])
    assert await read_all(reader) == body


async def _full_disk(kept: Kept, body: bytes) -> None:
    with file_size_limit(BATCH + 1000):
        await write(kept.fill, body)
        await kept.fill.complete()


async def _no_folder(kept: Kept, body: bytes) -> None:
    kept.fill._spool.path = kept.fill._spool.path.parent / "missing" / "file"
    await write(kept.fill, body)
    await kept.fill.complete()


@pytest.mark.parametrize("fault", [_full_disk, _no_folder])
@pytest.mark.parametrize("size", [BATCH * 2, 3 * WINDOW])
async def test_a_disk_fault_leaves_readers_their_body(
    make: MakeFill, fault: Callable[[Kept, bytes], Awaitable[None]], size: int
) -> None:
    body = content(size)
    kept = make(length=size)
    readers = [asyncio.ensure_future(read_all(kept.fill.reader())) for _ in range(3)]
    await asyncio.sleep(0)
    await fault(kept, body)
    assert (kept.commits, kept.fill.will_store, leftovers(kept)) == ([], False, [])
    assert await asyncio.gather(*readers) == [body] * 3


async def test_a_body_too_large_to_store_is_passed_on(make: MakeFill) -> None:
    body = content(4 * WINDOW)
    for options in ({"length": len(body)}, {}):
        kept = make(largest=WINDOW, **options)
        assert kept.fill.will_store is not bool(options)
        reader = asyncio.ensure_future(read_all(kept.fill.reader()))
        await asyncio.sleep(0)
        await write(kept.fill, body)
        assert kept.fill._spool.in_memory <= WINDOW + 50_000
        await kept.fill.complete()
        assert await reader == body
        assert (kept.commits, leftovers(kept)) == ([], [])


async def test_a_pipe_leaves_a_reader_behind_that_does_not_read(make: MakeFill) -> None:
    body = content(3 * WINDOW)
    kept = make(length=len(body), largest=1, patience=0.05)
    stalled, reader = kept.fill.reader(), asyncio.ensure_future(read_all(kept.fill.reader()))
    await asyncio.sleep(0)
    await write(kept.fill, body)
    await kept.fill.complete()
    assert await reader == body
    with pytest.raises(FillAborted, match="only passed on"):
        await read_all(stalled)


async def test_a_pipe_waits_for_its_only_reader_however_long(make: MakeFill) -> None:
    body = content(3 * WINDOW)
    kept = make(length=len(body), largest=1, patience=0.01)
    reader = kept.fill.reader()
    writing = asyncio.ensure_future(write(kept.fill, body))
    _, under_way = await asyncio.wait((writing,), timeout=0.2)
    assert under_way
    assert kept.fill._spool.in_memory <= WINDOW + 50_000
    reading = asyncio.ensure_future(read_all(reader))
    await writing
    await kept.fill.complete()
    assert await reading == body


async def test_a_pipe_leaves_nobody_behind_whom_nobody_waits_for(make: MakeFill) -> None:
    # The second reader has bytes left to read: it is slow too, and not held up by the first.
    body = content(3 * WINDOW)
    kept = make(length=len(body), largest=1, patience=0.01)
    slow, slower = kept.fill.reader(), kept.fill.reader()
    writing = asyncio.ensure_future(write(kept.fill, body))
    start = await slow.read()
    _, under_way = await asyncio.wait((writing,), timeout=0.2)
    assert under_way
    reading = [asyncio.ensure_future(read_all(reader)) for reader in (slow, slower)]
    await writing
    await kept.fill.complete()
    rest, whole = await asyncio.gather(*reading)
    assert start + rest == whole == body


async def test_a_stalled_pipe_ends_with_its_fill_or_its_reader(make: MakeFill) -> None:
    body = content(3 * WINDOW)
    aborted, left = (make(length=len(body), largest=1) for _ in range(2))
    readers = aborted.fill.reader(), left.fill.reader()
    writing = [asyncio.ensure_future(write(kept.fill, body)) for kept in (aborted, left)]
    await asyncio.sleep(0)
    aborted.fill.abort("the store is closing")
    readers[1].close()
    with pytest.raises(FillAborted, match="closing"):
        await writing[0]
    await writing[1]


async def test_a_pipe_without_readers_does_not_wait(make: MakeFill) -> None:
    kept = make(length=3 * WINDOW, largest=1)
    kept.fill.reader().close()
    await write(kept.fill, content(3 * WINDOW))
    await kept.fill.complete()
    assert kept.ended == 1


async def test_the_writer_does_not_wait_for_readers(make: MakeFill) -> None:
    body = content(8 * WINDOW)
    kept = make()
    stalled = kept.fill.reader()
    await write(kept.fill, body)
    await kept.fill.complete()
    assert not kept.fill._spool.in_memory
    assert not kept.fill._spool.busy
    assert await read_all(stalled) == body


@pytest.mark.parametrize("seed", range(12))
async def test_whatever_is_read_is_right(make: MakeFill, seed: int) -> None:
    # Random pieces, readers that come and go and dawdle, and a disk that may fail anywhere: each reader gets a prefix,
    # and who sees the end has it all.
    dice = random.Random(seed)
    body = content(dice.randrange(1, 6 * BATCH), seed)
    kept = make(largest=dice.choice([10**9, BATCH, 2 * BATCH]), patience=0.02)

    async def follow() -> None:
        reader, got = kept.fill.reader(), b""
        try:
            while piece := await reader.read(dice.randrange(1, 200_000)):
                got += piece
                assert body.startswith(got)
                for _ in range(dice.randrange(3)):
                    await asyncio.sleep(0)
            assert got == body
        except FillAborted:
            assert not kept.fill.will_store
        finally:
            reader.close()

    followers = [asyncio.ensure_future(follow()) for _ in range(3)]
    with file_size_limit(dice.choice([10**9, BATCH // 2, 2 * BATCH + 1])):
        position = 0
        while position < len(body):
            piece = body[position : position + dice.randrange(1, 150_000)]
            await kept.fill.write(piece)
            position += len(piece)
            if dice.random() < 0.2:
                followers.append(asyncio.ensure_future(follow()))
        await kept.fill.complete()
    await asyncio.gather(*followers)
    assert kept.commits in ([], [(len(body), digest_of(body), body)])
    assert bool(kept.commits) == kept.fill.will_store
