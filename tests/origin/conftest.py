"""The origin client runs on asyncio's loop, with mitmproxy's eager tasks, and on uvloop: so do its tests."""

from __future__ import annotations

import asyncio

import pytest
import uvloop

from tests.e2e.authority import Authority


def eager_loop() -> asyncio.AbstractEventLoop:
    loop = asyncio.new_event_loop()
    loop.set_task_factory(asyncio.eager_task_factory)
    return loop


def pytest_asyncio_loop_factories():
    return {"asyncio": asyncio.new_event_loop, "eager": eager_loop, "uvloop": uvloop.new_event_loop}


@pytest.fixture(scope="session")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="session")
def stranger(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("stranger"), "nobody's authority")


@pytest.fixture(scope="session", autouse=True)
def small_system_trust(tmp_path_factory):
    """A system that trusts one authority of no consequence: reading a real bundle takes 100 ms a client."""
    folder = tmp_path_factory.mktemp("system")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SSL_CERT_FILE", str(Authority(folder, "the system's").ca_file))
        patch.setenv("SSL_CERT_DIR", str(folder / "none"))
        yield
