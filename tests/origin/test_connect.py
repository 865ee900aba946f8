"""Which address is tried when (RFC 8305)."""

from __future__ import annotations

import asyncio
import socket
from ipaddress import ip_address

import pytest

from fwdproxy.origin.connect import interleave, race

A4, B4, C4 = (ip_address(f"192.0.2.{number}") for number in (1, 2, 3))
A6, B6 = (ip_address(f"2001:db8::{number}") for number in (1, 2))


@pytest.mark.parametrize(
    ("given", "order"),
    [
        ((A4,), [A4]),
        ((A6, B6, A4, B4, C4), [A6, A4, B6, B4, C4]),
        ((A4, B4, A6), [A4, A6, B4]),
        ((A6, B6), [A6, B6]),
    ],
)
def test_families_take_turns(given, order):
    assert interleave(given) == order


class Net:
    """Addresses that connect, fail, or stay silent until told."""

    def __init__(self, **outcomes):
        self.outcomes = outcomes
        self.tried = []
        self.sockets = []
        self.given_up = []

    async def attempt(self, address):
        self.tried.append(address)
        outcome = self.outcomes[NAMES[address]]
        try:
            if isinstance(outcome, asyncio.Event):
                await outcome.wait()
            if isinstance(outcome, Exception):
                raise outcome
        except asyncio.CancelledError:
            self.given_up.append(address)
            raise
        made = socket.socket()
        self.sockets.append(made)
        return made


NAMES = {A4: "a4", B4: "b4", A6: "a6"}


async def test_the_first_that_connects():
    net = Net(a4="up", a6="up")
    with await race([A6, A4], net.attempt, 60) as won:
        assert won is net.sockets[0]
    assert net.tried == [A6]


async def test_the_next_one_at_once_after_a_failure():
    net = Net(a6=ConnectionRefusedError(), a4="up")
    with await race([A6, A4], net.attempt, 60):
        assert net.tried == [A6, A4]


async def test_the_next_one_beside_a_silent_one():
    net = Net(a6=asyncio.Event(), a4="up")
    with await race([A6, A4], net.attempt, 0.01):
        assert net.tried == [A6, A4]
    await asyncio.sleep(0)
    assert net.given_up == [A6]


async def test_a_slow_first_one_may_still_win():
    slow = asyncio.Event()
    net = Net(a6=slow, a4=asyncio.Event())
    racing = asyncio.create_task(race([A6, A4], net.attempt, 0.01))
    while len(net.tried) < 2:
        await asyncio.sleep(0.001)
    slow.set()
    with await racing as won:
        assert won is net.sockets[0]
    await asyncio.sleep(0)
    assert net.given_up == [A4]


async def test_two_that_connect_at_once_leave_no_socket_open():
    both = asyncio.Event()
    net = Net(a6=both, a4=both)
    racing = asyncio.create_task(race([A6, A4], net.attempt, 0.01))
    while len(net.tried) < 2:
        await asyncio.sleep(0.001)
    both.set()
    with await racing as won:
        await asyncio.sleep(0)
        assert [made.fileno() >= 0 for made in net.sockets] == [made is won for made in net.sockets]
        assert len(net.sockets) == 2


async def test_all_fail():
    last = OSError(111, "refused")
    net = Net(a6=OSError(101, "unreachable"), a4=last)
    with pytest.raises(OSError) as caught:
        await race([A6, A4], net.attempt, 60)
    assert caught.value is last


async def test_given_up():
    net = Net(a6=asyncio.Event(), a4=asyncio.Event())
    racing = asyncio.create_task(race([A6, A4], net.attempt, 0.001))
    while len(net.tried) < 2:
        await asyncio.sleep(0.001)
    racing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await racing
    await asyncio.sleep(0)
    assert sorted(net.given_up, key=str) == sorted([A6, A4], key=str)
