"""The numbers that all processes on a store share."""

from pathlib import Path

import pytest

from fwdproxy.store.generation import Generation


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "generation"


def numbers(generation: Generation) -> tuple[int, int]:
    newest, dropped = generation.numbers
    return newest, dropped


def test_what_one_raises_the_other_sees_at_once(path: Path) -> None:
    one = Generation(path, alone=True)
    other = Generation(path, alone=False)
    assert numbers(one) == numbers(other) == (0, 0)
    one.advance(5, 2)
    assert numbers(other) == (5, 2)
    other.advance(3, 4)
    assert numbers(one) == (5, 4)
    one.close()
    assert numbers(one) == (5, 4)  # whoever asks late isn't hurt
    other.advance(6, 6)
    assert (numbers(one), numbers(other)) == ((5, 4), (6, 6))
    other.close()


@pytest.mark.parametrize("content", [b"", b"\xff" * 7, b"\xff" * 16, b"\xff" * 100])
def test_what_is_left_over_means_nothing(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    generation = Generation(path, alone=True)
    assert numbers(generation) == (0, 0)
    generation.close()


def test_a_file_that_cannot_be_made_is_an_error(path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        Generation(path / "below", alone=True)
