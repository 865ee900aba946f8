"""A store in a fresh folder."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from fwdproxy.store import chores, sweeping
from fwdproxy.store.disk import DiskStore, open_store
from tests.store.samples import LIMIT


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stores whose background work doesn't let anyone wait; to be asked for before they are opened."""
    monkeypatch.setattr(chores, "PAUSE", 0.02)
    monkeypatch.setattr(sweeping, "IDLE", 0.02)


@pytest.fixture
async def store(folder: Path) -> AsyncIterator[DiskStore]:
    store = open_store(folder, LIMIT)
    yield store
    await store.aclose()
