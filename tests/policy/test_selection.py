"""RFC 9111 §4.1: Vary."""

import pytest

from fwdproxy.policy.selection import matches, nominate, nominated_fields
from tests.policy.builders import fields


@pytest.mark.parametrize(
    ("vary_lines", "expected"),
    [
        ([], ()),
        (["Vary: "], ()),
        (["Vary: Accept"], (b"accept",)),
        (["Vary: User-Agent, accept ,, USER-AGENT"], (b"accept", b"user-agent")),
        (["Vary: b", "Vary: a"], (b"a", b"b")),
        (["Vary: *"], None),
        (["Vary: *, *"], None),
        (["Vary: , *"], None),
        (["Vary: ", "Vary: *"], None),
        (["Vary: *, Foo"], None),
        (["Vary: Foo, *"], None),
        (["Vary: Foo", "Vary: *"], None),
        # What can't be compared never matches.
        (["Vary: Accept Encoding"], None),
        (['Vary: "Accept"'], None),
    ],
)
def test_nominated_fields(vary_lines: list[str], expected: tuple[bytes, ...] | None) -> None:
    assert nominated_fields(fields(*vary_lines)) == expected


@pytest.mark.parametrize(
    ("name", "one", "other", "expected"),
    [
        (b"foo", ["Foo: 1"], ["foo: 1"], True),
        (b"foo", ["Foo: 1"], ["Foo: 2"], False),
        (b"foo", ["Foo: a"], ["Foo: A"], False),
        (b"foo", ["Foo: 1", "Other: 2"], ["Foo: 1", "Other: 3"], True),
        # Absent only matches absent.
        (b"foo", [], [], True),
        (b"foo", ["Foo: 1"], [], False),
        (b"foo", [], ["Foo: 1"], False),
        (b"foo", ["Foo: "], [], False),
        (b"foo", ["Foo: "], ["Foo:   "], True),
        # Lines combine, white space round them is nothing; inside an unknown field it may mean something.
        (b"foo", ["Foo: 1, 2"], ["Foo: 1", "Foo: 2"], True),
        (b"foo", ["Foo: 1 "], ["Foo: \t1"], True),
        (b"foo", ["Foo: 1,2"], ["Foo: 1, 2"], False),
        (b"foo", ["Foo: 1, 2"], ["Foo: 2, 1"], False),
        # Lists that RFC 9110 defines.
        (b"accept-encoding", ["Accept-Encoding: gzip,br"], ["Accept-Encoding:  BR , gzip"], True),
        (b"accept-encoding", ["Accept-Encoding: gzip;q=0.5"], ["Accept-Encoding: gzip ; q=0.5"], True),
        (b"accept-language", ["Accept-Language: en \t; \tq=0.5"], ["Accept-Language: en;q=0.5"], True),
        (b"accept-language", ["Accept-Language: a b"], ["Accept-Language: a  b"], False),
        (b"accept-encoding", ["Accept-Encoding: gzip"], ["Accept-Encoding: gzip, br"], False),
        (b"accept-encoding", ["Accept-Encoding: gzip;q=0.5"], ["Accept-Encoding: gzip"], False),
        (b"accept-language", ["Accept-Language: en,de"], ["Accept-Language: EN, de"], True),
        (b"accept-language", ["Accept-Language: en, de"], ["Accept-Language: de, en"], False),
        (b"accept", ["Accept: text/html,*/*"], ["Accept: text/html, */*"], True),
        (b"accept", ["Accept: text/html, */*"], ["Accept: */*, text/html"], False),
        (b"accept", ['Accept: a/b;p="X,y"'], ['Accept: a/b;p="x,y"'], False),
        (b"accept", ['Accept: a/b;p="x,y"'], ['Accept: a/b;p="x, y"'], False),
        (b"cookie", ["Cookie: a=1"], ["Cookie: a=1"], True),
        (b"cookie", ["Cookie: a=1"], ["Cookie: a=2"], False),
        (b"user-agent", ["User-Agent: A/1 (x,y)"], ["User-Agent: A/1 (x, y)"], False),
    ],
)
def test_matching(name: bytes, one: list[str], other: list[str], expected: bool) -> None:
    first, second = fields(*one), fields(*other)
    assert matches(nominate(first, [name]), second) is expected
    assert matches(nominate(second, [name]), first) is expected
    assert matches(nominate(first, [name]), first)


def test_every_nominated_field_counts() -> None:
    nominated = nominate(fields("A: 1", "C: 3"), [b"a", b"b", b"c"])
    assert nominated == ((b"a", b"1"), (b"b", None), (b"c", b"3"))
    assert matches(nominated, fields("C: 3", "A: 1"))
    assert not matches(nominated, fields("C: 3", "A: 1", "B: 2"))
    assert not matches(nominated, fields("C: 4", "A: 1"))
    assert matches((), fields("Z: 1"))


@pytest.mark.parametrize("name", ["Cookie", "Authorization"])
def test_credentials_are_compared_by_digest(name: str) -> None:
    ((_, value),) = nominate(fields(f"{name}: secret"), [name.lower().encode()])
    assert value is not None
    assert b"secret" not in value


def test_long_values_compare_like_short_ones() -> None:
    long = "gzip, " * 1000
    assert matches(
        nominate(fields(f"Accept-Encoding: {long}"), [b"accept-encoding"]), fields(f"Accept-Encoding:{long}")
    )
