import pytest

from fwdproxy.fields.etags import ANY, AnyTag, EntityTag, parse_etag, parse_list, strong_match, weak_match

A, B, WEAK_A, WEAK_B = EntityTag(b"a"), EntityTag(b"b"), EntityTag(b"a", weak=True), EntityTag(b"b", weak=True)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b'"a"', A),
        (b'W/"a"', WEAK_A),
        (b' "a"\t', A),
        (b'""', EntityTag(b"")),
        (b'"a,b c"', None),
        (b'"a,b"', EntityTag(b"a,b")),
        ('"ü"'.encode(), EntityTag("ü".encode())),
        (b'"a\\"', EntityTag(b"a\\")),
        (b"a", None),
        (b"", None),
        (b'w/"a"', None),
        (b'W"a"', None),
        (b'W\\"a"', None),
        (b'"a', None),
        (b'"a""', None),
        (b'"a", "b"', None),
        (b"*", None),
    ],
)
def test_parse_etag(value: bytes, expected: EntityTag | None) -> None:
    assert parse_etag(value) == expected


@pytest.mark.parametrize("value", [b'"a"', b'W/"a"', b'""'])
def test_serialize(value: bytes) -> None:
    tag = parse_etag(value)
    assert tag is not None
    assert tag.serialize() == value


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ([b"*"], ANY),
        ([b" * "], ANY),
        ([b'"a"'], (A,)),
        ([b'"a","b"'], (A, B)),
        ([b'"a"', b' W/"b"'], (A, WEAK_B)),
        ([b'"x,y"'], (EntityTag(b"x,y"),)),
        ([b'*, "a"'], (A,)),
        ([b'a, "b"'], (B,)),
        ([b"a"], ()),
        ([b""], ()),
    ],
)
def test_parse_list(lines: list[bytes], expected: tuple[EntityTag, ...] | AnyTag) -> None:
    assert parse_list(lines) == expected


@pytest.mark.rfc("9110", "8.8.3.2", "strong")
@pytest.mark.rfc("9110", "8.8.3.2", "weak")
@pytest.mark.parametrize(
    # The table of RFC 9110 §8.8.3.2.
    ("one", "other", "strong", "weak"),
    [(WEAK_A, WEAK_A, False, True), (WEAK_A, WEAK_B, False, False), (WEAK_A, A, False, True), (A, A, True, True)],
)
def test_comparison(one: EntityTag, other: EntityTag, strong: bool, weak: bool) -> None:
    assert strong_match(one, other) is strong_match(other, one) is strong
    assert weak_match(one, other) is weak_match(other, one) is weak
