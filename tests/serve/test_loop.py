"""Event loop and signals of the running program."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys

import pytest

from fwdproxy.serve.loop import choose_loop, until_told

LOOPS = [asyncio.new_event_loop, choose_loop()[0]]


@pytest.mark.parametrize("new_loop", LOOPS)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_lets_the_work_clean_up(new_loop: object, number: int) -> None:
    steps = []

    async def work() -> None:
        steps.append("began")
        os.kill(os.getpid(), number)
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            steps.append("cleaned up")

    with asyncio.Runner(loop_factory=new_loop) as runner:  # type: ignore[arg-type]
        runner.run(until_told(work()))
    assert steps == ["began", "cleaned up"]


@pytest.mark.parametrize("new_loop", LOOPS)
def test_what_the_work_raises_comes_out(new_loop: object) -> None:
    async def work() -> None:
        raise PermissionError("no")

    with asyncio.Runner(loop_factory=new_loop) as runner, pytest.raises(PermissionError):  # type: ignore[arg-type]
        runner.run(until_told(work()))


@pytest.mark.parametrize("new_loop", LOOPS)
def test_all_that_wait_are_accepted_at_once(new_loop: object) -> None:
    """However long one round of the loop takes, a crowd of newcomers is not let in one by one."""

    async def work() -> int:
        loop = asyncio.get_running_loop()
        joined: list[asyncio.BaseTransport] = []
        all_in = asyncio.Event()

        class Guest(asyncio.Protocol):
            def connection_made(self, transport: asyncio.BaseTransport) -> None:
                joined.append(transport)
                if len(joined) == 60:
                    all_in.set()

        server = await loop.create_server(Guest, "127.0.0.1", 0)
        address = server.sockets[0].getsockname()
        clients = [socket.create_connection(address) for _ in range(60)]
        rounds = 0

        def count() -> None:
            nonlocal rounds
            rounds += 1
            loop.call_soon(count)

        loop.call_soon(count)
        async with asyncio.timeout(10):
            await all_in.wait()
        for each in joined:
            each.close()
        for client in clients:
            client.close()
        server.close()
        with pytest.raises(OSError, match="refused"):
            socket.create_connection(address)
        return rounds

    with asyncio.Runner(loop_factory=new_loop) as runner:  # type: ignore[arg-type]
        assert runner.run(work()) < 30


STUBBORN = """
import asyncio
from fwdproxy.serve.loop import until_told

async def work():
    while True:
        try:
            print("waiting", flush=True)
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            pass

asyncio.run(until_told(work()))
"""


def test_a_second_signal_ends_the_process_at_once() -> None:
    with subprocess.Popen([sys.executable, "-c", STUBBORN], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for _ in range(2):
            assert process.stdout.readline() == "waiting\n"
            process.send_signal(signal.SIGINT)
        assert process.wait(20) == 128 + signal.SIGINT


def test_mitmproxys_eager_tasks_work_on_the_chosen_loop() -> None:
    new_loop, name = choose_loop()
    assert name == ("asyncio" if sys.platform == "win32" else "uvloop")

    async def main() -> bool:
        loop = asyncio.get_running_loop()
        loop.set_task_factory(asyncio.eager_task_factory)
        task = asyncio.create_task(asyncio.sleep(0, "done"), name="named")
        started_at_once = asyncio.create_task(nothing()).done()
        assert (await task, task.get_name()) == ("done", "named")
        loop.set_task_factory(None)
        assert await asyncio.create_task(asyncio.sleep(0, "still works")) == "still works"
        return started_at_once

    async def nothing() -> None:
        return None

    with asyncio.Runner(loop_factory=new_loop) as runner:
        assert runner.run(main())
