"""Another process on the same store: `python -m tests.store.child obey FOLDER` or `… load FOLDER SEED`.

``obey`` does what it is told on its standard input, a line of JSON each, and answers with one. ``load`` stores,
freshens and invalidates without end, and is meant to be killed.
"""

import asyncio
import json
import random
import sys
import time
from pathlib import Path

from fwdproxy.errors import FillAborted
from fwdproxy.store.disk import DiskStore, open_store
from fwdproxy.store.purging import PurgeRule
from tests.store.samples import ANY, LIMIT, best, body_of, content, key, meta, put, wants

KEYS = 40


def size_of(seed: str) -> int:
    """From nothing to some 400 KB, half of it inline, a function of the seed."""
    dice = random.Random(seed)
    return dice.randrange(32_768) if dice.random() < 0.5 else dice.randrange(400_000)


async def load(store: DiskStore, seed: int) -> None:
    dice = random.Random(seed)
    print("ready", flush=True)

    async def work() -> None:
        while True:
            name = dice.randrange(KEYS)
            request = wants("gzip")[1]
            action = dice.random()
            if action < 0.7:
                version = f"{name}/{dice.random()}"
                nominated = wants("gzip")[0] if name % 3 == 0 else ()
                body = content(size_of(version), version)
                fill = store.open_fill(key(name), meta(at=time.time(), etag=version, nominated=nominated), None)
                for start in range(0, len(body), 30_000):
                    await fill.write(body[start : start + 30_000])
                try:
                    await fill.complete()
                except FillAborted:
                    continue
            elif action < 0.8:
                await store.invalidate([key(name)])
            elif (stored := await best(store, key(name), request)) is not None:
                etag = (stored.meta.head.headers.get(b"etag") or b"").decode()[1:-1]
                await store.freshen(stored, meta(at=time.time(), etag=etag, nominated=stored.meta.nominated))
            await asyncio.sleep(0)

    await asyncio.gather(*(work() for _ in range(8)))


async def obey(store: DiskStore) -> None:  # noqa: C901  # one case a command
    growing = store.open_fill(key("nothing"), meta(), None)
    for line in sys.stdin:
        command, *arguments = json.loads(line)
        answer: object = None
        match command, arguments:
            case "put", [name, size, seed, at]:
                await put(store, key(name), content(size, seed), meta(at=at))
                await store.settle()
            case "find", [name, size, seed]:
                body = await body_of(store, key(name))
                answer = None if body is None else body == content(size, seed)
            case "invalidate", [name]:
                await store.invalidate([key(name)])
            case "many", [first, count]:
                await asyncio.gather(
                    *(put(store, key(number), content(50_000, number)) for number in range(first, first + count))
                )
                await store.settle()
            case "known", [first, count]:
                found = [await store.lookup(key(number), ANY) for number in range(first, first + count)]
                answer = sum(each.best is not None for each in found)
            case "purge", [kind, value]:
                await store.purge(PurgeRule(kind, value))
            case "begin", [name]:
                growing = store.open_fill(key(name), meta(), None, moment=store.moment())
                await growing.write(b"beginning")
            case "will store", []:
                answer = growing.will_store
            case "complete", [name]:
                await growing.complete()
                answer = (await store.lookup(key(name), ANY)).best is not None
            case "close", []:
                await store.aclose()
        print(json.dumps(answer), flush=True)


async def main() -> None:
    what, folder, *rest = sys.argv[1:]
    store = open_store(Path(folder), LIMIT)
    await (load(store, int(rest[0])) if what == "load" else obey(store))


if __name__ == "__main__":
    asyncio.run(main())
