import http_sf
import pytest

from fwdproxy.fields.cache_status import CacheStatus


@pytest.mark.rfc("9211", "2", "syntax")
@pytest.mark.rfc("9211", "2.3", "fwd-status")
@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (CacheStatus("fwdproxy", hit=True), b"fwdproxy; hit"),
        (CacheStatus("fwdproxy", hit=True, ttl=376), b"fwdproxy; hit; ttl=376"),
        (CacheStatus("fwdproxy", hit=True, ttl=-5, detail="grace"), b"fwdproxy; hit; ttl=-5; detail=grace"),
        (
            CacheStatus("fwdproxy", fwd="uri-miss", fwd_status=200, stored=True, collapsed=True),
            b"fwdproxy; fwd=uri-miss; fwd-status=200; stored; collapsed",
        ),
        (CacheStatus("a b"), b'"a b"'),
        (CacheStatus("9proxy"), b'"9proxy"'),
        (CacheStatus(""), b'""'),
        (CacheStatus("p", key='http://x/"\\'), b'p; key="http://x/\\"\\\\"'),
        (CacheStatus("p", detail="two words é\r\n"), b'p; detail="two words ???"'),
    ],
)
def test_serialize(status: CacheStatus, expected: bytes) -> None:
    value = status.serialize()
    assert value == expected
    http_sf.parse(value, tltype="list")  # an independent reader takes it


@pytest.mark.rfc("9211", "2.1", "exclusive")
def test_a_hit_was_not_forwarded() -> None:
    with pytest.raises(ValueError, match="no hit"):
        CacheStatus("p", hit=True, fwd="stale")
