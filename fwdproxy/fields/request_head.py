"""What a request head must look like on the wire, before anything is read out of it (RFC 9112 §2–§6)."""

from __future__ import annotations

import re
from typing import Final

MAX_HEAD: Final = 64 * 1024
MAX_FIELDS: Final = 256

_TOKEN: Final = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_REQUEST_LINE: Final = re.compile(rb"(" + _TOKEN + rb") ([\x21\x22\x24-\x7e\x80-\xff]+) HTTP/1\.([01])")
_PORT_ZERO: Final = re.compile(rb"(?:[A-Za-z]+://)?[^/?]*:0+(?:[/?]|$)")
# Possessive (*+) where two parts take the same bytes: a line that ends badly must not be tried at every place.
_ABSOLUTE: Final = re.compile(rb"(\S+) ([A-Za-z]+://[^\s/?\x80-\xff]*+)(\S*+) (HTTP/1\.[01])")
_FIELD_LINE: Final = re.compile(rb"(" + _TOKEN + rb"):[ \t]*+([\t\x20-\x7e\x80-\xff]*)")


def request_head_fault(head: bytes) -> tuple[int, str] | None:
    """The status and the words to refuse ``head`` with, or None when it is sound.

    ``head`` is the request line and the field lines without the empty line that ends them. Refused are bare CR and LF,
    NUL and other controls, folded lines, white space before a colon, a fragment in the target, another version than
    HTTP/1.0 and HTTP/1.1, a missing or second Host, and every framing that two readers could take differently.
    """
    lines = head.split(b"\r\n")
    start = _REQUEST_LINE.fullmatch(lines[0])
    if start is None:
        return 400, f"the request line {_shown(lines[0])} is malformed"
    if len(lines) - 1 > MAX_FIELDS:
        return 431, f"the request has more than {MAX_FIELDS} field lines"
    if start[2] == b"*" and start[1] != b"OPTIONS":
        return 400, "only OPTIONS has the target *"
    if _PORT_ZERO.match(start[2]):
        return 400, f"the port of {_shown(start[2])} is not between 1 and 65535"
    framing: dict[bytes, list[bytes]] = {b"host": [], b"content-length": [], b"transfer-encoding": []}
    for line in lines[1:]:
        matched = _FIELD_LINE.fullmatch(line)
        if matched is None:
            return 400, f"the field line {_shown(line)} is malformed"
        seen = framing.get(matched[1].lower())
        if seen is not None:
            seen.append(matched[2].strip())
    return _framing_fault(framing, http10=start[3] == b"0", connect=start[1] == b"CONNECT")


def absolute_form(line: bytes) -> bytes:
    """A request line in absolute-form in the spelling that every parser takes (RFC 9112 §3.2.2, RFC 9110 §4.2.3).

    An empty path becomes "/", and bytes beyond ASCII are percent-encoded.
    Other request lines come back as they are.
    """
    matched = _ABSOLUTE.fullmatch(line)
    if matched is None:
        return line
    method, origin, path, version = matched.groups()
    if path.startswith(b"?"):
        path = b"/" + path
    encoded = b"".join(bytes([byte]) if byte < 0x80 else b"%%%02X" % byte for byte in path)
    return b"%b %b%b %b" % (method, origin, encoded or b"/", version)


def _framing_fault(framing: dict[bytes, list[bytes]], *, http10: bool, connect: bool) -> tuple[int, str] | None:
    hosts, lengths, codings = framing.values()
    if len(hosts) > 1:
        return 400, "the request has more than one Host field"
    if not hosts and not http10 and not connect:
        return 400, "the request has no Host field"
    if len(lengths) > 1 or (lengths and not re.fullmatch(rb"[0-9]{1,18}", lengths[0])):
        return 400, f"Content-Length is {_shown(b', '.join(lengths))}"
    if codings and (lengths or http10):
        return 400, "Transfer-Encoding stands beside Content-Length, or in an HTTP/1.0 request"
    if codings and [coding.lower() for coding in codings] != [b"chunked"]:
        return 501, f"the transfer coding {_shown(b', '.join(codings))} is not chunked"
    return None


def _shown(value: bytes) -> str:
    text = value[:60].decode("latin-1")
    return repr(text + "…" if len(value) > 60 else text)
