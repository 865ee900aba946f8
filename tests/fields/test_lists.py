import pytest
from hypothesis import given
from hypothesis import strategies as st

from fwdproxy.fields.lists import members, unquoted


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b"", ()),
        (b"a", (b"a",)),
        (b"a,b", (b"a", b"b")),
        (b" a\t,\t b ", (b"a", b"b")),
        (b",,a,, b,", (b"a", b"b")),
        (b'a="x, y", b', (b'a="x, y"', b"b")),
        (b'a="x\\", y", b', (b'a="x\\", y"', b"b")),
        (b'a="x\\\\", b', (b'a="x\\\\"', b"b")),
        (b"a\\,b", (b"a\\", b"b")),
        # An open quote hides nothing.
        (b'a="x, b', (b'a="x', b"b")),
        (b'a="x", b="y, no-store', (b'a="x"', b'b="y', b"no-store")),
    ],
)
def test_members(line: bytes, expected: tuple[bytes, ...]) -> None:
    assert members(line) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"token", b"token"),
        (b"", b""),
        (b'"quoted"', b"quoted"),
        (b'""', b""),
        (b'"a\\"b"', b'a"b'),
        (b'"a\\\\"', b"a\\"),
        (b'"open', None),
        (b'open"', None),
        (b'"a"b"', None),
        (b'"a\\"', None),
        (b'"', None),
    ],
)
def test_unquoted(value: bytes, expected: bytes | None) -> None:
    assert unquoted(value) == expected


@given(st.binary(max_size=60))
def test_no_member_is_lost(line: bytes) -> None:
    joined = b"".join(members(line))
    kept = bytes(byte for byte in line if byte not in b", \t")
    assert bytes(byte for byte in joined if byte not in b", \t") == kept
