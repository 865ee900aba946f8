"""HTTP/1.1 responses out of bytes (RFC 9112), strictly: no sockets, no clock.

llhttp splits heads and decodes the chunked coding. It is lenient in places, so what it is given is bounded and looked
at here first, and how long a body is (§6.3) is decided here. Every framing fault is an `OriginError`.
"""

from __future__ import annotations

import re
from enum import Enum
from typing import Final, NamedTuple, NoReturn

from fwdproxy.errors import OriginError
from fwdproxy.fields.connection import connection_options
from fwdproxy.messages import Headers, ResponseHead
from fwdproxy.origin.llhttp import ChunkedDecoder, read_fields

_STATUS_LINE: Final = re.compile(rb"HTTP/1\.([01]) ([1-5][0-9]{2})(?: ([\t\x20-\x7e\x80-\xff]*))?\r\n")
_BARE_LF: Final = re.compile(rb"(?<!\r)\n")
_FOLD: Final = re.compile(rb"\r\n[ \t]+")
_DIGITS: Final = re.compile(rb"[0-9]{1,18}")

_MAX_INTERIM: Final = 100  # interim responses to one request


class Incoming(NamedTuple):
    """A response head has arrived; an interim one (1xx) too.

    ``length`` is the number of body bytes that follow, None when it isn't known before. ``delimited`` is False when
    only the end of the connection ends the body.
    """

    head: ResponseHead
    length: int | None
    delimited: bool


class End(NamedTuple):
    """The message is complete."""

    trailers: Headers


Event = Incoming | bytes | End

_NO_TRAILERS: Final = End(Headers())


class _Phase(Enum):
    DONE = "between responses"
    HEAD = "in the response head"
    COUNTED = "before the response's Content-Length was reached"
    CHUNKED = "before the last chunk of the response"
    RAW = "in a body that ends with the connection, or in a tunnel"


class ResponseParser:
    """Reads the responses of one connection.

    Call `expect` for each request, feed what arrives to `receive`, and call `receive_eof` at the end. They raise
    OriginError at a fault; the parser is spent then. ``reusable`` tells, once `End` came, whether the connection
    may carry another exchange (RFC 9112 §9.3).
    """

    def __init__(self, *, max_head_bytes: int = 65536, max_fields: int = 256) -> None:
        self._max_head_bytes = max_head_bytes
        self._max_fields = max_fields
        self._phase = _Phase.DONE
        self._method = ""
        self._upgrade = False
        self._interim = 0
        self._partial = bytearray()
        self._left = 0
        self._decoder: ChunkedDecoder | None = None
        self.reusable = True

    def expect(self, method: str, *, upgrade: bool = False) -> None:
        """The next bytes answer a request with ``method``; with ``upgrade`` a 101 may be the answer."""
        self._phase = _Phase.HEAD
        self._method = method
        self._upgrade = upgrade
        self._interim = 0

    def receive(self, data: bytes) -> list[Event]:
        """What ``data`` completes. Bytes behind the end of the message make the connection not reusable."""
        events: list[Event] = []
        while data:
            phase = self._phase
            if phase is _Phase.HEAD:
                data = self._receive_head(data, events)
            elif phase is _Phase.COUNTED:
                data = self._receive_counted(data, events)
            elif phase is _Phase.CHUNKED:
                data = self._receive_chunked(data, events)
            elif phase is _Phase.RAW:
                events.append(data)
                break
            else:
                self.reusable = False
                break
        return events

    def receive_eof(self) -> list[Event]:
        """The origin has ended its side: that completes only a body that ends with the connection (RFC 9112 §8)."""
        self.reusable = False
        phase, self._phase = self._phase, _Phase.DONE
        if phase is _Phase.RAW:
            return [_NO_TRAILERS]
        if phase is _Phase.DONE:
            return []
        if phase is _Phase.HEAD and not self._partial:
            raise OriginError("connection_terminated", "the origin closed the connection without a response", sent=True)
        raise OriginError("http_response_incomplete", f"the origin closed the connection {phase.value}", sent=True)

    # Heads

    def _receive_head(self, data: bytes, events: list[Event]) -> bytes:
        """Collect the head and read it once it is whole; the bytes behind it."""
        partial = self._partial
        known = len(partial)
        partial += data
        end = partial.find(b"\r\n\r\n", max(0, known - 3)) + 4
        whole = end >= 4
        if (end if whole else len(partial)) > self._max_head_bytes:
            _refuse_size(f"the response head is over {self._max_head_bytes} bytes")
        if not whole:
            _refuse_hopeless(partial, known)
            return b""
        head, rest = bytes(partial[:end]), bytes(partial[end:])
        partial.clear()
        self._read_head(head, events)
        return rest

    def _read_head(self, raw: bytes, events: list[Event]) -> None:
        line = _STATUS_LINE.match(raw)
        if line is None:
            _refuse("the status line is malformed")
        if raw[line.end()] in b" \t":
            _refuse("white space follows the status line")
        if b"\r\n " in raw or b"\r\n\t" in raw:
            raw = _FOLD.sub(b" ", raw)  # RFC 9112 §5.2
        headers = Headers(read_fields(raw))
        if len(headers) > self._max_fields:
            _refuse_size(f"the response head has over {self._max_fields} fields")
        self._begin_body(ResponseHead(int(line[2]), headers, line[3] or b""), line[1] == b"0", events)

    def _begin_body(self, head: ResponseHead, old: bool, events: list[Event]) -> None:
        """Decide how the message goes on (RFC 9112 §6.3). ``old``: the response is HTTP/1.0."""
        status = head.status
        length = _declared_length(head.headers)
        chunked = _is_chunked(head.headers)
        if chunked and (old or length is not None or status < 200 or status == 204):
            _refuse("Transfer-Encoding stands where it must not", "http_response_transfer_coding")
        if status < 200:
            self._begin_interim(head, events)
            return
        self.reusable = not old and b"close" not in connection_options(head.headers)
        if self._method == "HEAD" or status in (204, 304) or length == 0:
            events.append(Incoming(head, 0, True))
            self._finish(_NO_TRAILERS, events)
        elif chunked:
            self._phase = _Phase.CHUNKED
            self._decoder = ChunkedDecoder(self._max_head_bytes)
            events.append(Incoming(head, None, True))
        elif length is not None:
            self._phase = _Phase.COUNTED
            self._left = length
            events.append(Incoming(head, length, True))
        else:
            self._phase = _Phase.RAW
            events.append(Incoming(head, None, False))

    def _begin_interim(self, head: ResponseHead, events: list[Event]) -> None:
        self._interim += 1
        if head.status == 101:
            if not self._upgrade:
                _refuse("the origin switched protocols without being asked", "http_upgrade_failed")
            self._phase = _Phase.RAW
            self.reusable = False
            events.append(Incoming(head, None, False))
        elif self._interim > _MAX_INTERIM:
            _refuse("the origin sends interim responses without end")
        else:
            events.append(Incoming(head, 0, True))

    # Bodies

    def _finish(self, end: End, events: list[Event]) -> None:
        self._phase = _Phase.DONE
        events.append(end)

    def _receive_counted(self, data: bytes, events: list[Event]) -> bytes:
        left = self._left
        if len(data) < left:
            self._left = left - len(data)
            events.append(data)
            return b""
        events.append(data[:left])
        self._finish(_NO_TRAILERS, events)
        return data[left:]

    def _receive_chunked(self, data: bytes, events: list[Event]) -> bytes:
        decoder = self._decoder
        assert decoder is not None
        events += decoder.receive(data)
        if decoder.trailers is not None:
            if len(decoder.trailers) > self._max_fields:
                _refuse(f"the response has over {self._max_fields} trailers", "http_response_trailer_section_size")
            self.reusable = self.reusable and not decoder.surplus
            self._decoder = None
            self._finish(End(Headers(decoder.trailers)), events)
        return b""


def _declared_length(headers: Headers) -> int | None:
    """Content-Length (RFC 9110 §8.6). A repeated one is refused even when both say the same."""
    values = headers.get_all(b"content-length")
    if not values:
        return None
    if len(values) > 1 or not _DIGITS.fullmatch(values[0]):
        _refuse("Content-Length is malformed or repeated")
    return int(values[0])


def _is_chunked(headers: Headers) -> bool:
    """Whether the body is chunked. Every other transfer coding is refused, since none is decoded here."""
    values = headers.get_all(b"transfer-encoding")
    if not values:
        return False
    if len(values) > 1 or values[0].lower() != b"chunked":
        _refuse("a transfer coding other than chunked", "http_response_transfer_coding")
    return True


def _refuse_hopeless(partial: bytearray, known: int) -> None:
    """Refuse at once what can't become a head any more, rather than wait for the rest; ``known`` bytes are checked."""
    if known < 7 and not partial.startswith(b"HTTP/1."[: len(partial)]):
        _refuse("the response isn't HTTP/1.1")
    if _BARE_LF.search(partial, max(0, known - 1)):
        _refuse("a line of the response head ends without CR")


def _refuse_size(text: str) -> NoReturn:
    _refuse(text, "http_response_header_section_size")


def _refuse(text: str, kind: str = "http_protocol_error") -> NoReturn:
    raise OriginError(kind, text, sent=True)
