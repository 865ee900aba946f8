"""A store in a fresh folder."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from fwdproxy.store.disk import DiskStore, open_store
from tests.store.samples import LIMIT


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
async def store(folder: Path) -> AsyncIterator[DiskStore]:
    store = open_store(folder, LIMIT)
    yield store
    await store.aclose()
