"""llhttp (by httptools) within bounds: the fields of a response head, and the chunked coding.

Each gets a parser of its own, so that nothing llhttp concludes from a head (that a HEAD has a body, that white space
behind "chunked" makes it another coding) bears on the body.
"""

from __future__ import annotations

from typing import Final, NoReturn

import httptools

from fwdproxy.errors import OriginError
from fwdproxy.messages import Field

_CHUNKED_HEAD: Final = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
_FREE_PER_CHUNK: Final = 256
"""Bytes round the data of one chunk (size line, extensions) that are free; what is more counts towards the limit."""


class _Fields:
    """Collects field lines."""

    __slots__ = ("fields",)

    def __init__(self) -> None:
        self.fields: list[Field] = []

    def on_header(self, name: bytes, value: bytes) -> None:
        """Called by llhttp for each field line."""
        self.fields.append((name, value))


def read_fields(head: bytes) -> list[Field]:
    """The fields of a whole response head, in order. Raises OriginError ``http_protocol_error``."""
    collected = _Fields()
    try:
        httptools.HttpResponseParser(collected).feed_data(head)
    except httptools.HttpParserUpgrade:
        pass  # llhttp stops at a 101; whether that is in order is not its matter
    except httptools.HttpParserError as fault:
        raise OriginError("http_protocol_error", f"the response head is malformed: {fault}", sent=True) from None
    if b" \r\n" in head or b"\t\r\n" in head:
        return _trimmed(collected.fields)
    return collected.fields


def _trimmed(fields: list[Field]) -> list[Field]:
    """llhttp leaves white space behind a value where it stands."""
    return [(name, value.rstrip(b" \t")) for name, value in fields]


class ChunkedDecoder:
    """One chunked body (RFC 9112 §7.1).

    ``trailers`` is None before the end. ``surplus`` tells then that bytes followed.
    """

    __slots__ = ("_begun", "_body", "_fields", "_limit", "_overhead", "_parser", "_tail", "surplus", "trailers")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._begun = 0
        self._body: list[bytes] = []
        self._fields: list[Field] = []
        self._overhead = 0
        self._tail = b""
        self.trailers: list[Field] | None = None
        self.surplus = False
        parser = httptools.HttpResponseParser(self)
        parser.feed_data(_CHUNKED_HEAD)
        self._fields.clear()
        self._parser: httptools.HttpResponseParser | None = parser

    def receive(self, data: bytes) -> list[bytes]:
        """The content in ``data``.

        Raises OriginError ``http_response_transfer_coding``, also for size lines, extensions and trailers of more than
        the limit in bytes without content to show for it.
        """
        assert self._parser is not None
        fault: Exception | None = None
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            fault = error
        body, self._body = self._body, []
        self._tail = (self._tail + data[-5:])[-5:]
        if self.trailers is not None:
            self._parser = None  # it refers to its callbacks, and so to us: a cycle for the collector
            # llhttp passes over line ends that follow a message without a word, so they are looked for here.
            ends_cleanly = self._tail[-4:] == b"\r\n\r\n" and self._tail[:1] != b"\n"
            self.surplus = fault is not None or self._begun > 1 or not ends_cleanly
        elif fault is not None:
            _refuse(f"the chunked coding is malformed: {fault}")
        if not self.surplus:
            self._charge(len(data) - sum(map(len, body)) - _FREE_PER_CHUNK * len(body))
        return body

    def _charge(self, overhead: int) -> None:
        self._overhead = max(0, self._overhead + overhead)
        if self._overhead > self._limit:
            _refuse(f"chunk extensions or trailers are over {self._limit} bytes")

    # What llhttp calls.

    def on_message_begin(self) -> None:
        """A message begins: the second one is what follows ours."""
        self._begun += 1

    def on_header(self, name: bytes, value: bytes) -> None:
        """A field line of the trailer section."""
        self._fields.append((name, value))

    def on_body(self, data: bytes) -> None:
        """A part of the content."""
        if self.trailers is None:
            self._body.append(data)

    def on_message_complete(self) -> None:
        """The message has ended."""
        if self.trailers is None:
            self.trailers = _trimmed(self._fields)


def _refuse(text: str) -> NoReturn:
    raise OriginError("http_response_transfer_coding", text, sent=True)
