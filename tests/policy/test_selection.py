"""RFC 9111 §4.1: Vary."""

import pytest

from fwdproxy.policy.selection import matches, nominate, nominated_fields
from tests.policy.builders import fields


@pytest.mark.rfc("9111", "4.1", "star")
@pytest.mark.rfc("9110", "12.5.5", "star")
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


@pytest.mark.rfc("9111", "4.1", "match")
@pytest.mark.rfc("9111", "4.1", "white-space")
@pytest.mark.rfc("9111", "4.1", "lines-combined")
@pytest.mark.rfc("9111", "4.1", "normalised")
@pytest.mark.rfc("9111", "4.1", "absent")
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
        (b"accept-encoding", ["Accept-Encoding: gzip"], ["Accept-Encoding: br"], False),
        (b"accept-encoding", ["Accept-Encoding: gzip;q=0.5"], ["Accept-Encoding: gzip"], False),
        (b"accept-encoding", ["Accept-Encoding: gzip;q=1.0, gzip"], ["Accept-Encoding: X-GZip"], True),
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


@pytest.mark.rfc("9111", "4.1", "normalised")
@pytest.mark.parametrize(
    ("offered", "coding", "presented", "expected"),
    [
        # Offered S, the origin took c: the same for each T that is part of S and has c in it.
        ("gzip, deflate, br", "br", "br", True),
        ("gzip, deflate, br", "br", "gzip, br", True),
        ("gzip, deflate, br", "br", "br;q=1, deflate;q=1.0", True),
        ("gzip, deflate, br", "br", "gzip, deflate", False),
        ("gzip, deflate, br", "gzip", "gzip", True),
        ("gzip, deflate, br", "gzip", "x-gzip, deflate", True),
        ("x-gzip", "x-gzip", "gzip", True),
        ("gzip, br", "x-gzip", "gzip", True),
        ("x-compress, gzip", "compress", "compress", True),
        # Offered more, it might have taken another.
        ("gzip", "gzip", "gzip, br", False),
        ("gzip", "", "gzip, br", False),
        ("", "", "gzip", False),
        ("identity", "", "gzip", False),
        # It encoded nothing though it might have.
        ("gzip, br", "", "gzip", True),
        ("gzip, br", "identity", "gzip", True),
        ("gzip, br", "", "identity", True),
        ("gzip, br", "", "", True),
        ("identity", "", "", True),
        ("", "", "identity", True),
        ("gzip, br", "gzip", "identity", False),
        ("gzip, br", "gzip", "", False),
        # Named, identity has its own rank with some origins.
        ("gzip, br, identity", "gzip", "gzip, identity", True),
        ("gzip, br", "gzip", "gzip, identity", False),
        ("gzip, identity", "", "gzip", False),
        # Weights and wildcards are the same or nothing.
        ("gzip;q=0.5, br", "br", "br, gzip;q=0.5", True),
        ("gzip;q=0.5, br", "br", "br", False),
        ("gzip, br", "br", "br, gzip;q=0.5", False),
        ("gzip, br", "br", "br, gzip;q=0", False),
        ("gzip, br", "br", "br;q=2", False),
        ("gzip, br", "br", "br;q=1.0000", False),
        ("gzip, br", "br", "br;x=1", False),
        ("gzip, br", "", "gzip, identity;q=0", False),
        ("gzip, *", "gzip", "gzip", False),
        ("gzip, br", "gzip", "gzip, *", False),
        ("*", "gzip", "*", True),
        ("*", "gzip", "gzip", False),
        # What isn't a list of tokens, or a body that was encoded twice.
        ("gzip, br", "gzip", '"gzip"', False),
        ("gzip, br", "gzip, br", "gzip", False),
        ("gzip, br", "gzip, br", "br,gzip", True),
        ("gzip, br", "zstd", "br", False),
        # Absent only matches absent.
        (None, "", "gzip", False),
        (None, "", "", False),
        ("gzip, br", "", None, False),
        (None, "gzip", None, True),
    ],
)
def test_accept_encoding(offered: str | None, coding: str, presented: str | None, expected: bool) -> None:
    before, now = ([f"Accept-Encoding: {value}"] if value is not None else [] for value in (offered, presented))
    nominated = nominate(fields(*before), [b"accept-encoding"])
    assert matches(nominated, fields(*now), coding=coding.encode()) is expected
    assert matches(nominated, fields(*before), coding=coding.encode())


def test_the_coding_counts_for_accept_encoding_only() -> None:
    nominated = nominate(fields("Accept-Encoding: gzip, br", "Foo: gzip, br"), [b"accept-encoding", b"foo"])
    assert matches(nominated, fields("Accept-Encoding: br", "Foo: gzip, br"), coding=b"br")
    assert not matches(nominated, fields("Accept-Encoding: br", "Foo: br"), coding=b"br")


@pytest.mark.rfc("9111", "4", "nominated")
@pytest.mark.rfc("9111", "4.1", "match")
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
