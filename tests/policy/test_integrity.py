"""RFC 9530: what is not what the origin says it is."""

import base64
import hashlib

import pytest

from fwdproxy.messages import Headers
from fwdproxy.policy.integrity import Digesting, expected
from tests.policy.builders import fields

BODY = b"0123456789"
NONE = Headers()


def sha(size: int, content: bytes = BODY) -> str:
    return f"sha-{size}=:{base64.b64encode(hashlib.new(f'sha{size}', content).digest()).decode()}:"


def mismatch(
    *lines: str, status: int = 200, partial: bool = False, trailers: Headers = NONE, body: bytes = BODY
) -> str | None:
    """The verdict over ``body``, which comes in two pieces; None, too, where there is nothing to check."""
    checks = expected(fields(*lines), status, partial)
    if checks is None:
        return None
    digesting = Digesting(checks)
    digesting.update(body[:3])
    digesting.update(body[3:])
    return digesting.mismatch(trailers)


WRONG = sha(256, b"other")


@pytest.mark.rfc("9530", "2", "content-digest")
@pytest.mark.rfc("9530", "3", "repr-digest")
@pytest.mark.rfc("9530", "5", "algorithms")
@pytest.mark.parametrize(
    ("lines", "status", "partial", "fault"),
    [
        ([f"Content-Digest: {sha(256)}"], 200, False, None),
        ([f"Content-Digest: {sha(512)}"], 200, False, None),
        ([f"Repr-Digest: {sha(256)}"], 200, False, None),
        ([f"Content-Digest: {WRONG}"], 200, False, "sha-256 of Content-Digest"),
        ([f"Content-Digest: {sha(512, b'')}"], 200, False, "sha-512 of Content-Digest"),
        ([f"Repr-Digest: {WRONG}"], 200, False, "sha-256 of Repr-Digest"),
        # All must agree.
        ([f"Content-Digest: {sha(256)}, {sha(512, b'')}"], 200, False, "sha-512"),
        ([f"Content-Digest: {sha(256)}", f"Repr-Digest: {WRONG}"], 200, False, "Repr-Digest"),
        # The content of any message is its own, a representation is whole only in a 200.
        ([f"Content-Digest: {WRONG}"], 206, True, "Content-Digest"),
        ([f"Content-Digest: {WRONG}"], 404, False, "Content-Digest"),
        ([f"Repr-Digest: {WRONG}"], 206, True, None),
        ([f"Repr-Digest: {WRONG}"], 206, False, None),
        ([f"Repr-Digest: {WRONG}"], 200, True, None),
        # A digest of another length is none of these bytes.
        (["Content-Digest: sha-256=:YQ==:"], 200, False, "sha-256"),
    ],
)
def test_digests_of_the_head(lines: list[str], status: int, partial: bool, fault: str | None) -> None:
    found = mismatch(*lines, status=status, partial=partial)
    assert fault in found if fault is not None and found is not None else found == fault


@pytest.mark.rfc("9530", "2", "ignored")
@pytest.mark.parametrize(
    "lines",
    [
        [],
        ["Content-Digest: md5=:YQ==:"],
        ["Content-Digest: sha=:YQ==:, id-sha-256=:YQ==:"],
        ["Content-Digest: nonsense"],
        [f"Content-Digest: {WRONG},"],
        [f"Digest: {WRONG}"],
        ["Trailer: Expires"],
    ],
)
def test_nothing_to_check(lines: list[str]) -> None:
    assert expected(fields(*lines), 200, False) is None


@pytest.mark.rfc("9530", "6.4", "trailers")
@pytest.mark.parametrize(
    ("lines", "trailers", "wrong"),
    [
        (["Trailer: Content-Digest"], [f"Content-Digest: {sha(256)}"], False),
        (["Trailer: Content-Digest"], [f"Content-Digest: {WRONG}"], True),
        (["Trailer: Expires, REPR-DIGEST"], [f"Repr-Digest: {sha(512, b'')}"], True),
        (["Trailer: Content-Digest"], [], False),
        (["Trailer: Content-Digest"], ["Content-Digest: md5=:YQ==:"], False),
        # One in the head, another one behind.
        (["Trailer: Repr-Digest", f"Content-Digest: {sha(256)}"], [f"Repr-Digest: {WRONG}"], True),
        ([f"Content-Digest: {sha(256)}"], [f"Content-Digest: {WRONG}"], True),
        # Nobody said that this algorithm would be needed.
        ([f"Content-Digest: {sha(256)}"], [f"Content-Digest: {sha(512, b'')}"], False),
    ],
)
def test_digests_of_the_trailers(lines: list[str], trailers: list[str], wrong: bool) -> None:
    assert (mismatch(*lines, trailers=fields(*trailers)) is not None) is wrong


def test_a_representation_digest_of_a_trailer_says_nothing_of_a_part() -> None:
    assert mismatch("Trailer: Content-Digest", partial=True, trailers=fields(f"Repr-Digest: {WRONG}")) is None
    assert mismatch("Trailer: Repr-Digest", partial=True, trailers=fields(f"Repr-Digest: {WRONG}")) is None


def test_empty_content_has_a_digest() -> None:
    assert mismatch(f"Content-Digest: {sha(256, b'')}", body=b"") is None
    assert mismatch(f"Content-Digest: {sha(256)}", body=b"") is not None
