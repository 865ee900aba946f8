"""RFC 9111 §4.4, RFC 9875 §3."""

import pytest

from fwdproxy.policy.invalidation import groups, targets
from tests.policy.builders import get, ok

OWN = "http://origin.example/page?q=1"


CHANGES = pytest.mark.parametrize(
    ("method", "status", "expected"),
    [
        ("GET", 200, False),
        ("HEAD", 200, False),
        ("OPTIONS", 200, False),
        ("TRACE", 200, False),
        ("QUERY", 200, False),
        ("POST", 200, True),
        ("PUT", 201, True),
        ("DELETE", 204, True),
        ("PATCH", 200, True),
        ("M-SEARCH", 200, True),
        ("UNKNOWN", 299, True),
        ("get", 200, True),
        ("POST", 303, True),
        ("POST", 399, True),
        ("POST", 400, False),
        ("PUT", 404, False),
        ("DELETE", 500, False),
        ("POST", 103, False),
    ],
)


@pytest.mark.rfc("9111", "4.4", "unsafe")
@pytest.mark.rfc("9111", "4.4", "unknown-method")
@pytest.mark.rfc("9111", "4.4", "errors")
@pytest.mark.rfc("9110", "9.2.1", "safe")
@pytest.mark.rfc("9110", "9.3.4", "put")
@pytest.mark.rfc("9110", "9.3.5", "delete")
@pytest.mark.rfc("10008", "2", "safe")
@CHANGES
def test_unsafe_methods_without_error_invalidate(method: str, status: int, expected: bool) -> None:
    found = targets(get(method=method), ok(status=status))
    assert [str(target) for target in found] == ([OWN] if expected else [])


@pytest.mark.rfc("9111", "4.4", "other-uris")
@pytest.mark.rfc("9111", "4.4", "other-origin")
@pytest.mark.parametrize(
    ("response_lines", "expected"),
    [
        (["Location: /new"], ["http://origin.example/new"]),
        (["Content-Location: /new"], ["http://origin.example/new"]),
        (["Location: /a", "Content-Location: /b"], ["http://origin.example/a", "http://origin.example/b"]),
        (["Location: http://ORIGIN.example:80/a"], ["http://origin.example/a"]),
        (["Location: //origin.example/a"], ["http://origin.example/a"]),
        (["Location: other?x"], ["http://origin.example/other?x"]),
        (["Location: ?x=2"], ["http://origin.example/page?x=2"]),
        (["Location: /a#part"], ["http://origin.example/a"]),
        (["Location: http://origin.example"], ["http://origin.example/"]),
        (["Location: /page?q=1"], []),
        # Another origin's are its own business.
        (["Location: http://other.example/a"], []),
        (["Location: https://origin.example/a"], []),
        (["Location: http://origin.example:8080/a"], []),
        (["Content-Location: http://other.example/a"], []),
        (["Location: http://user@origin.example/a"], []),
        (["Location: http://[origin/a"], []),
        (["Location: ftp://origin.example/a"], []),
        (["Location: mailto:a@b"], []),
        (["Location: /a b"], []),
        (["Location: "], []),
    ],
)
def test_location_and_content_location(response_lines: list[str], expected: list[str]) -> None:
    found = targets(get(method="POST"), ok(*response_lines, status=201))
    assert [str(target) for target in found] == [OWN, *expected]
    assert targets(get(), ok(*response_lines)) == ()


@pytest.mark.rfc("9875", "3", "invalidates")
@pytest.mark.rfc("9875", "3", "safe")
@CHANGES
def test_groups_of_unsafe_methods_without_error(method: str, status: int, expected: bool) -> None:
    found = groups(get(method=method), ok('Cache-Group-Invalidation: "a", "b"', status=status))
    assert found == (("a", "b") if expected else ())


@pytest.mark.rfc("9875", "2.2.1", "no-cascade")
def test_the_groups_that_a_changed_response_is_in_are_not_invalidated() -> None:
    assert groups(get(method="POST"), ok('Cache-Groups: "a"')) == ()
    assert groups(get(method="POST"), ok('Cache-Groups: "a"', 'Cache-Group-Invalidation: "b"')) == ("b",)


@pytest.mark.parametrize("lines", [[], ["Cache-Group-Invalidation: a"], ['Cache-Group-Invalidation: "a']])
def test_nothing_that_can_be_read_invalidates_no_group(lines: list[str]) -> None:
    assert groups(get(method="POST"), ok(*lines)) == ()
