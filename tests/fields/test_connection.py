import pytest

from fwdproxy.fields.connection import connection_options, end_to_end
from fwdproxy.messages import Headers


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ([], set()),
        ([b"close"], {b"close"}),
        ([b"Keep-Alive, X-A"], {b"keep-alive", b"x-a"}),
        ([b"close", b" ,X-A ,,\tX-B"], {b"close", b"x-a", b"x-b"}),
        ([b"x" * 1000 + b", y"], {b"x" * 1000, b"y"}),
    ],
)
def test_options(lines: list[bytes], expected: set[bytes]) -> None:
    assert connection_options(Headers((b"Connection", line) for line in lines)) == expected


@pytest.mark.rfc("9110", "7.6.1", "listed-removed")
@pytest.mark.rfc("9110", "7.6.1", "known-removed")
@pytest.mark.rfc("9110", "11.7", "proxy-authentication")
def test_end_to_end() -> None:
    removed = [
        b"Connection",
        b"Keep-Alive",
        b"Proxy-Connection",
        b"TE",
        b"Trailer",
        b"Transfer-Encoding",
        b"Upgrade",
        b"Proxy-Authorization",
        b"Proxy-Authenticate",
        b"PROXY-Authentication-Info",
        b"Proxy-Features",
        b"X-Hop",
        b"x-hop",
    ]
    kept = [(b"Host", b"a"), (b"Cookie", b"b"), (b"X-Proxy", b"c"), (b"Proxy-Status", b"d"), (b"cookie", b"e")]
    headers = Headers([*((name, b"X-Hop, close") for name in removed), *kept])
    assert list(end_to_end(headers)) == kept


def test_nothing_to_remove() -> None:
    headers = Headers([(b"Host", b"a")])
    assert end_to_end(headers) is headers
