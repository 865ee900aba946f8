"""The resolver's cache, with a clock and a lookup of our own."""

from __future__ import annotations

import asyncio
import socket
import threading
from ipaddress import ip_address

import pytest

from fwdproxy.errors import OriginError
from fwdproxy.origin.resolver import Resolver

ONE = ip_address("192.0.2.1")
TWO = ip_address("2001:db8::1")


class Dns:
    """Answers from ``names``; counts the questions."""

    def __init__(self, **names):
        self.names = names
        self.asked = []
        self.time = 1000.0

    def lookup(self, host):
        self.asked.append(host)
        answer = self.names.get(host.partition(".")[0])
        if answer is None:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return answer

    def resolver(self):
        return Resolver(self.lookup, lambda: self.time)


async def test_answers_are_kept_for_a_minute():
    dns = Dns(a=(ONE, TWO))
    resolver = dns.resolver()
    for _ in range(3):
        assert await resolver.resolve("a.test") == (ONE, TWO)
    dns.time += 59.9
    await resolver.resolve("a.test")
    assert len(dns.asked) == 1
    dns.time += 0.1
    dns.names["a"] = (TWO,)
    assert await resolver.resolve("a.test") == (TWO,)


async def test_failures_are_kept_for_five_seconds():
    dns = Dns()
    resolver = dns.resolver()
    for _ in range(2):
        with pytest.raises(OriginError) as caught:
            await resolver.resolve("b.test")
        assert caught.value.kind == "dns_error"
        assert "b.test" in str(caught.value)
    assert len(dns.asked) == 1
    dns.names["b"] = (ONE,)
    dns.time += 5
    assert await resolver.resolve("b.test") == (ONE,)


async def test_no_address_is_a_failure():
    with pytest.raises(OriginError) as caught:
        await Dns(a=()).resolver().resolve("a.test")
    assert caught.value.kind == "dns_error"


async def test_one_lookup_for_all_who_ask_at_once():
    go = threading.Event()
    asked = []

    def lookup(host):
        asked.append(host)
        go.wait()
        return (ONE,)

    resolver = Resolver(lookup)
    asking = [asyncio.create_task(resolver.resolve("a.test")) for _ in range(5)]
    await asyncio.sleep(0)
    asking[0].cancel()
    go.set()
    with pytest.raises(asyncio.CancelledError):
        await asking[0]
    assert await asyncio.gather(*asking[1:]) == [(ONE,)] * 4
    assert asked == ["a.test"]


@pytest.mark.parametrize("host", ["192.0.2.1", "2001:db8::1"])
async def test_an_address_is_its_own(host):
    dns = Dns()
    assert await dns.resolver().resolve(host) == (ip_address(host),)
    assert not dns.asked


async def test_an_empty_name_is_not_this_machine():
    dns = Dns()
    with pytest.raises(OriginError):
        await dns.resolver().resolve("")
    assert not dns.asked


@pytest.mark.parametrize("host", ["a" * 64 + ".test", "a\0b", "a..b"])
async def test_names_the_system_can_not_be_asked_for(host):
    with pytest.raises(OriginError) as caught:
        await Resolver().resolve(host)
    assert caught.value.kind == "dns_error"


async def test_forgotten():
    dns = Dns(a=(ONE,))
    resolver = dns.resolver()
    await resolver.resolve("a.test")
    resolver.forget("a.test")
    resolver.forget("never.asked")
    await resolver.resolve("a.test")
    assert len(dns.asked) == 2


async def test_names_are_bounded():
    dns = Dns(a=(ONE,))
    resolver = dns.resolver()
    await resolver.resolve("a.test")
    for number in range(4095):
        resolver._answers[f"x{number}"] = resolver._answers["a.test"]
    dns.names["b"] = (TWO,)
    await resolver.resolve("b.test")
    assert len(resolver._answers) == 4096
    assert "a.test" not in resolver._answers


async def test_the_system_knows_this_machine():
    assert ip_address("127.0.0.1") in await Resolver().resolve("localhost")
