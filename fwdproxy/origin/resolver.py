"""Names to addresses: a small cache in front of the system's resolver."""

from __future__ import annotations

import asyncio
import concurrent.futures
import ipaddress
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from fwdproxy.errors import OriginError
from fwdproxy.origin.settings import IPAddress

_POSITIVE_SECONDS: Final = 60.0
_NEGATIVE_SECONDS: Final = 5.0
_MAX_NAMES: Final = 4096
_MAX_THREADS: Final = 16

Lookup = Callable[[str], tuple[IPAddress, ...]]
"""Blocks until ``host`` is resolved; addresses in the order to try. Raises OSError (socket.gaierror)."""


def system_lookup(host: str) -> tuple[IPAddress, ...]:
    """Ask the system (hosts file, DNS), which sorts by RFC 6724."""
    found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return tuple(dict.fromkeys(ipaddress.ip_address(address[0]) for *_, address in found))


@dataclass(frozen=True, slots=True)
class _Answer:
    addresses: tuple[IPAddress, ...]
    error: str
    expires: float


class Resolver:
    """Answers are kept for a minute, failures for five seconds; one lookup per name at a time."""

    def __init__(self, lookup: Lookup = system_lookup, now: Callable[[], float] = time.monotonic) -> None:
        self._lookup = lookup
        self._now = now
        self._answers: dict[str, _Answer] = {}
        self._pending: dict[str, asyncio.Task[_Answer]] = {}
        self._threads = asyncio.Semaphore(_MAX_THREADS)

    async def resolve(self, host: str) -> tuple[IPAddress, ...]:
        """The addresses of ``host``, at least one; an address is its own. Raises OriginError ``dns_error``."""
        if not host:
            raise OriginError("dns_error", "the target has no host")  # to the system it would mean this machine
        try:
            return (ipaddress.ip_address(host),)
        except ValueError:
            pass
        answer = self._answers.get(host)
        if answer is None or answer.expires <= self._now():
            pending = self._pending.get(host)
            if pending is None:
                pending = self._pending[host] = asyncio.create_task(self._ask(host), name="resolve")
                pending.add_done_callback(lambda _: self._pending.pop(host, None))
            answer = await asyncio.shield(pending)
        if not answer.addresses:
            raise OriginError("dns_error", f"the name {host} can't be resolved: {answer.error}")
        return answer.addresses

    def forget(self, host: str) -> None:
        """No address of ``host`` works: ask anew next time."""
        self._answers.pop(host, None)

    async def _ask(self, host: str) -> _Answer:
        try:
            async with self._threads:
                addresses = await _in_thread(self._lookup, host)
            error = "" if addresses else "it has no address"
            seconds = _POSITIVE_SECONDS if addresses else _NEGATIVE_SECONDS
        except (OSError, ValueError, RuntimeError) as fault:  # RuntimeError: no thread to be had
            addresses, error, seconds = (), (getattr(fault, "strerror", None) or str(fault)), _NEGATIVE_SECONDS
        answer = _Answer(addresses, error, self._now() + seconds)
        self._answers.pop(host, None)
        self._answers[host] = answer
        if len(self._answers) > _MAX_NAMES:
            del self._answers[next(iter(self._answers))]
        return answer


async def _in_thread(lookup: Lookup, host: str) -> tuple[IPAddress, ...]:
    """Run ``lookup`` in a daemon thread: unlike an executor's, it never holds up the end of the program."""
    done: concurrent.futures.Future[tuple[IPAddress, ...]] = concurrent.futures.Future()
    done.set_running_or_notify_cancel()

    def work() -> None:
        try:
            done.set_result(lookup(host))
        except BaseException as error:  # noqa: BLE001 - it is raised again where the answer is awaited
            done.set_exception(error)

    threading.Thread(target=work, name="resolve", daemon=True).start()
    return await asyncio.wrap_future(done)
