"""Which requests may share one request to the origin (RFC 9111 §4: collapsed requests)."""

from __future__ import annotations

from fwdproxy.fields import cache_control
from fwdproxy.messages import RequestHead
from fwdproxy.policy import stale


def waits(request: RequestHead) -> bool:
    """Whether a request may wait for the head of a response that another one has asked for.

    Not with cookies or credentials: what comes is likely to be another client's, and the wait would be in vain. Not
    when the client wants the origin asked on its own behalf (§5.2.1.1, §5.2.1.4).
    """
    headers = request.headers
    if b"cookie" in headers or b"authorization" in headers:
        return False
    asked = cache_control.parse(headers.get_all(b"cache-control"))
    return not stale.wants_validation(headers, asked) and asked.seconds(b"max-age") != 0


def leads(request: RequestHead) -> bool:
    """Whether others may wait for the head of the response to this request.

    A response to HEAD has no content, one to ``no-store`` is not kept: nobody else could use them.
    """
    if request.method == "HEAD" or not waits(request):
        return False
    return not cache_control.parse(request.headers.get_all(b"cache-control")).has(b"no-store")
