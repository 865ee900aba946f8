"""What an origin may see of a request head, and that nothing else can be sent."""

import pytest

from fwdproxy.anonymize.rewrite import OutboundHead, Rewriting, rewrite
from fwdproxy.messages import Headers, Origin, RequestHead, TargetURI


def head(*fields: tuple[bytes, bytes], method: str = "GET") -> RequestHead:
    return RequestHead(method, TargetURI(Origin("http", "a.test", 8080), "/x"), Headers(fields))


def test_hop_by_hop_fields_stay_here() -> None:
    sent = rewrite(
        head(
            (b"Host", b"other.test"),
            (b"Connection", b"close, X-Hop"),
            (b"X-Hop", b"1"),
            (b"Proxy-Authorization", b"Basic c2VjcmV0"),
            (b"Proxy-Connection", b"keep-alive"),
            (b"TE", b"trailers"),
            (b"Accept", b"*/*"),
        ),
        Rewriting(via=None),
    )
    assert sent.head.headers == Headers([(b"Host", b"a.test:8080"), (b"Accept", b"*/*")])


def test_via_is_appended_and_can_be_silent() -> None:
    assert rewrite(head(), Rewriting(via="gate")).head.headers.get(b"via") == b"1.1 gate"
    assert b"via" not in rewrite(head(), Rewriting(via=None)).head.headers


@pytest.mark.rfc("9110", "7.6.2", "decremented")
@pytest.mark.parametrize(
    ("method", "value", "sent"),
    [("OPTIONS", b"5", b"4"), ("TRACE", b"1", b"0"), ("GET", b"5", b"5"), ("OPTIONS", b"x", b"x")],
)
def test_max_forwards_counts_down(method: str, value: bytes, sent: bytes) -> None:
    rewritten = rewrite(head((b"Max-Forwards", value), method=method), Rewriting())
    assert rewritten.head.headers.get(b"max-forwards") == sent


def test_only_rewrite_makes_an_outbound_head() -> None:
    with pytest.raises(TypeError):
        OutboundHead(head(), object())
