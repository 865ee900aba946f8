"""Fetching through the running exchange, as a client would, and politely."""

from __future__ import annotations

import asyncio
import re
from collections import defaultdict
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Final

from fwdproxy.control import urls
from fwdproxy.control.messages import Chunk, Event, Fetch, Fetched, Warm
from fwdproxy.errors import FwdProxyError
from fwdproxy.exchange.answers import Answer, ClientRequest
from fwdproxy.exchange.core import Exchange
from fwdproxy.messages import Headers, RequestHead, TargetURI

AT_ONCE: Final = 4
"""Requests under way while warming."""

AT_ONE_HOST: Final = 2
"""Of these, to one host."""

PAUSE: Final = 0.1
"""Seconds for which a host is left alone after a request, by that one of the requests which it may have."""

_QUOTED: Final = re.compile(r'"(?:[^"\\]|\\.)*"')


class Visitor:
    """Makes requests of its own."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange

    async def do(self, command: Warm | Fetch) -> AsyncGenerator[Event]:
        """The events that answer ``command``."""
        if isinstance(command, Warm):
            async with aclosing(self._warm(command)) as fetches:
                async for fetched in fetches:
                    yield fetched
            return
        answer = await self._ask(urls.target_of(command.url), urls.headers_of(command.fields), "fetch")
        read = 0
        try:
            while data := await answer.read():
                read += len(data)
                yield Chunk(data=data)
        except FwdProxyError as error:
            yield Fetched(url=command.url, how="failed", status=answer.head.status, bytes=read, why=str(error))
            return
        finally:
            await answer.aclose()
        yield became(command.url, answer, read)

    async def visit(self, target: TargetURI, headers: Headers) -> Answer:
        """The answer to a GET, read to its end. Raises FwdProxyError when that doesn't come."""
        answer = await self._ask(target, headers, "explain")
        await _read_all(answer)
        return answer

    async def _warm(self, command: Warm) -> AsyncGenerator[Fetched]:
        headers = urls.headers_of(command.fields)
        gate = asyncio.Semaphore(AT_ONCE)
        hosts: defaultdict[str, asyncio.Semaphore] = defaultdict(lambda: asyncio.Semaphore(AT_ONE_HOST))

        async def one(url: str) -> Fetched:
            try:
                target = urls.target_of(url)
            except FwdProxyError as error:
                return Fetched(url=url, how="failed", why=str(error))
            async with hosts[target.origin.host]:
                async with gate:
                    fetched = await self._fetch(url, target, headers)
                await asyncio.sleep(PAUSE)
                return fetched

        tasks = [asyncio.create_task(one(url), name="warm") for url in command.urls]
        try:
            for finished in asyncio.as_completed(tasks):
                yield await finished
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _fetch(self, url: str, target: TargetURI, headers: Headers) -> Fetched:
        answer = await self._ask(target, headers, "warm")
        try:
            return became(url, answer, await _read_all(answer))
        except FwdProxyError as error:
            return Fetched(url=url, how="failed", status=answer.head.status, why=str(error))

    async def _ask(self, target: TargetURI, headers: Headers, client: str) -> Answer:
        return await self._exchange.answer(ClientRequest(RequestHead("GET", target, headers), client=client))


def became(url: str, answer: Answer, read: int) -> Fetched:
    """What became of one request whose answer, ``read`` bytes of content, came to its end."""
    status, said = answer.head.status, said_of(answer)
    how, why = "passed", ""
    if status >= 400:
        how, why = "failed", f"status {status}"
    elif "hit" in said or "fwd-status=304" in said:
        how = "hit"
    elif "stored" in said or "collapsed" in said:
        how = "stored"
    elif answer.explained.storing is not None:
        why = answer.explained.storing.text
    elif answer.explained.decision is not None:
        why = answer.explained.decision.text
    return Fetched(url=url, how=how, status=status, bytes=read, why=why)


def said_of(answer: Answer) -> frozenset[str]:
    """The members of our Cache-Status: ``hit``, ``stored``, ``fwd=stale``, …"""
    lines = answer.head.headers.get_all(b"cache-status")
    own = lines[-1].decode("latin-1") if lines else ""
    return frozenset(part.strip() for part in _QUOTED.sub('""', own).split(";"))


async def _read_all(answer: Answer) -> int:
    read = 0
    try:
        while data := await answer.read():
            read += len(data)
    finally:
        await answer.aclose()
    return read
