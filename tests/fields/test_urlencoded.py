import pytest
from hypothesis import given
from hypothesis import strategies as st

from fwdproxy.fields.urlencoded import decoded, parameter


@pytest.mark.parametrize(
    ("piece", "expected"),
    [
        ("a=b", ("a", "b")),
        ("a", ("a", "")),
        ("a=", ("a", "")),
        ("=b", ("", "b")),
        ("a=b=c", ("a", "b=c")),
        ("%61%3D=%2b", ("a=", "+")),
        ("a+b=c%20d", ("a b", "c d")),
        ("%C3%A9=%c3%a9", ("é", "é")),
        ("\xc3\xa9", ("é", "")),  # as received: the two bytes of é
        ("%f6=\xf6", ("\ufffd", "\ufffd")),
        ("a=%", ("a", "%")),
        ("a=%zz%4", ("a", "%zz%4")),
        ("%EF%BB%BFa", ("\ufeffa", "")),
        ("%00", ("\0", "")),
    ],
)
def test_parameters(piece: str, expected: tuple[str, str]) -> None:
    assert parameter(piece) == expected


@given(st.text(max_size=30))
def test_any_text_stands_for_some_text(text: str) -> None:
    decoded(text).encode("utf-8")
