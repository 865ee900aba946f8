"""RFC 9530 §2 and §3: the syntax of both fields."""

import pytest

from fwdproxy.fields.digests import parse


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ([], {}),
        ([b"sha-256=:YQ==:"], {"sha-256": b"a"}),
        ([b"sha-256=:YQ==:, sha-512=:Yg==:;x"], {"sha-256": b"a", "sha-512": b"b"}),
        ([b"sha-256=:YQ==:", b"sha-512=:Yg==:"], {"sha-256": b"a", "sha-512": b"b"}),
        ([b"md5=:YQ==:"], {"md5": b"a"}),
        ([b"sha-256=:YQ==:, sha-256=:Yg==:"], {"sha-256": b"b"}),
        # No byte sequence, no digest; the others still count.
        ([b"sha-256=YQ==, sha-512=:Yg==:"], {}),
        ([b"sha-256=1, sha-512=:Yg==:"], {"sha-512": b"b"}),
        ([b"sha-256, sha-512=(:Yg==:)"], {}),
        # The syntax of RFC 3230.
        ([b"SHA-256=YQ=="], {}),
        ([b"sha-256=:YQ==:,"], {}),
        ([b"sha-256=:Y!==:"], {}),
        ([b"sha-256=:YQ=="], {}),
    ],
)
def test_digests(lines: list[bytes], expected: dict[str, bytes]) -> None:
    assert parse(lines) == expected
