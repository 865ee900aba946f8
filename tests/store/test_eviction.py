"""The plan of victims."""

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fwdproxy.store import eviction


@dataclass(frozen=True)
class Row:
    size: int


@pytest.mark.parametrize(
    ("sizes", "used", "victims"),
    [
        ([10, 10, 10], 1000, 3),
        ([30, 30, 30], 1000, 2),
        ([50, 1], 1000, 1),
        ([49, 1, 1], 1000, 2),
        ([10], 950, 0),
        ([], 5000, 0),
    ],
)
def test_the_oldest_go_until_the_low_water_mark(sizes: list[int], used: int, victims: int) -> None:
    rows = [Row(size) for size in sizes]
    assert eviction.plan(rows, used, 1000) == rows[:victims]


def test_nothing_is_due_at_the_limit() -> None:
    assert not eviction.due(1000, 1000)
    assert eviction.due(1001, 1000)
    assert eviction.largest_object(1000) == 950


@given(st.lists(st.integers(1, 100), max_size=30), st.integers(0, 3000))
def test_no_row_goes_without_need(sizes: list[int], used: int) -> None:
    rows = [Row(size) for size in sizes]
    victims = eviction.plan(rows, used, 1000)
    assert victims == rows[: len(victims)]
    freed = sum(row.size for row in victims)
    assert used - freed <= 950 or len(victims) == len(rows)
    if victims:
        assert used - freed + victims[-1].size > 950
