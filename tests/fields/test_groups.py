"""RFC 9875 §2 and §3: the syntax of both fields."""

import pytest

from fwdproxy.fields.groups import MAX_GROUP_LENGTH, MAX_GROUPS, parse


@pytest.mark.rfc("9875", "2", "strings")
@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ([], ()),
        ([b'"a"'], ("a",)),
        ([b'"a", "B b"'], ("a", "B b")),
        ([b'"a"', b'"b"'], ("a", "b")),
        ([b'"a";x=1;y, "b"'], ("a", "b")),
        ([b'"a", "a"'], ("a",)),
        ([b'"a,b", "c\\"d"'], ("a,b", 'c"d')),
        ([b'""'], ("",)),
        # One member that is no string spoils the field.
        ([b"a"], ()),
        ([b'"a", b'], ()),
        ([b'"a", ("b")'], ()),
        ([b'"a", 1'], ()),
        ([b'"a", %"b"'], ()),
        ([b'"a'], ()),
        ([b'"a",'], ()),
        ([b'"a" "b"'], ()),
        ([b'"\xc3\xa4"'], ()),
    ],
)
def test_groups(lines: list[bytes], expected: tuple[str, ...]) -> None:
    assert parse(lines) == expected


@pytest.mark.rfc("9875", "2", "size")
@pytest.mark.rfc("9875", "3", "size")
def test_as_many_groups_and_as_long_as_the_rfc_asks_for() -> None:
    names = tuple(f"{number:032}" for number in range(32))
    assert parse([", ".join(f'"{name}"' for name in names).encode()]) == names


def test_more_than_anyone_needs_is_left_out() -> None:
    many = [b'"%d"' % number for number in range(MAX_GROUPS + 1)]
    assert parse(many) == tuple(str(number) for number in range(MAX_GROUPS))
    longest = b"a" * MAX_GROUP_LENGTH
    assert parse([b'"%b", "%ba"' % (longest, longest)]) == (longest.decode(),)


@pytest.mark.rfc("9875", "2.1", "same-string")
def test_case_counts() -> None:
    assert parse([b'"a", "A"']) == ("a", "A")
