"""RFC 9651: what this reads of it; the grammar itself is http_sf's business."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fwdproxy.fields.structured import MAX_LENGTH, is_string, parse_dictionary, parse_list, strings


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ([], []),
        ([b""], []),
        ([b'"a", b;c=1'], ["a", "b"]),
        ([b'"a"', b'"b"'], ["a", "b"]),
        ([b'"a",'], None),
        ([b'"a'], None),
        ([b'"\xff"'], None),
        ([b'"' + b"a" * MAX_LENGTH + b'"'], None),
    ],
)
def test_lists(lines: list[bytes], expected: list[str] | None) -> None:
    members = parse_list(lines)
    assert (members if members is None else [str(item) for item, _ in members]) == expected


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ([], {}),
        ([b"a, b=2, c=:YQ==:"], {"a": True, "b": 2, "c": b"a"}),
        ([b"a=1", b"a=2"], {"a": 2}),
        ([b"a=1 b=2"], None),
        ([b"A=1"], None),
        ([b"a=:YQ==", b"b=:"], None),
    ],
)
def test_dictionaries(lines: list[bytes], expected: dict[str, object] | None) -> None:
    members = parse_dictionary(lines)
    assert (members if members is None else {key: value for key, (value, _) in members.items()}) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b'("a" "b";c)', ("a", "b")),
        (b"()", ()),
        (b'("a" b)', None),
        (b'("a" %"b")', None),
        (b'"a"', None),
        (b"?1", None),
    ],
)
def test_strings_of_an_inner_list(value: bytes, expected: tuple[str, ...] | None) -> None:
    (member,) = parse_list([value]) or []
    assert strings(member) == expected


def test_a_token_is_no_string() -> None:
    (text, _), (token, _) = parse_list([b'"a", a']) or []
    assert is_string(text)
    assert not is_string(token)


@given(st.lists(st.binary(max_size=40) | st.text('"(),;=:?%@ ab19-', max_size=40).map(str.encode), max_size=3))
def test_any_bytes_are_a_field_or_none(lines: list[bytes]) -> None:
    for member in (parse_list(lines) or []) + list((parse_dictionary(lines) or {}).values()):
        assert strings(member) is None or isinstance(member[0], list)
