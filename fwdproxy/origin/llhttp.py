"""llhttp (by httptools) within bounds: one response head, and the chunked coding that may follow it."""

from __future__ import annotations

from typing import Final, NoReturn

import httptools

from fwdproxy.errors import OriginError
from fwdproxy.messages import Field

_FREE_PER_CHUNK: Final = 256
"""Bytes round the data of one chunk (size line, extensions) that are free; what is more counts towards the limit."""


class Message:
    """One message in llhttp's hands. A fresh one for each head, since llhttp can't be told that HEAD has no body."""

    __slots__ = ("_begun", "_body", "_overhead", "_parser", "_tail", "_trailers", "complete", "fields", "surplus")

    def __init__(self) -> None:
        self.fields: list[Field] = []
        self.complete = False
        self.surplus = False
        self._begun = 0
        self._body: list[bytes] = []
        self._overhead = 0
        self._tail = b""
        self._trailers = 0
        self._parser = httptools.HttpResponseParser(self)

    def read_head(self, raw: bytes) -> list[Field]:
        """The fields of a whole head, in order. Raises OriginError ``http_protocol_error``."""
        try:
            self._parser.feed_data(raw)
        except httptools.HttpParserUpgrade:
            pass  # llhttp stops at a 101; whether that is in order is not its matter
        except httptools.HttpParserError as fault:
            raise OriginError("http_protocol_error", f"the response head is malformed: {fault}", sent=True) from None
        fields, self.fields = self.fields, []
        self.complete = False
        if b" \r\n" in raw or b"\t\r\n" in raw:  # white space behind a value, which llhttp leaves there
            fields = [(name, value.rstrip(b" \t")) for name, value in fields]
        return fields

    def read_chunked(self, data: bytes, limit: int) -> list[bytes]:
        """The content in ``data`` of a chunked body (RFC 9112 §7.1).

        After the end ``complete`` is set, ``fields`` holds the trailers, and ``surplus`` tells that bytes followed.
        Size lines, extensions and trailers of more than ``limit`` bytes without content to show for it are a fault.
        """
        fault: Exception | None = None
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            fault = error
        body, self._body = self._body, []
        self._tail = (self._tail + data[-5:])[-5:]
        if self.complete:
            # llhttp passes over line ends that follow a message without a word, so they are looked for here.
            del self.fields[self._trailers :]
            self.surplus = (
                fault is not None or self._begun > 1 or self._tail[:1] == b"\n" or self._tail[-4:] != b"\r\n\r\n"
            )
        elif fault is not None:
            _refuse(f"the chunked coding is malformed: {fault}")
        if not self.surplus:
            overhead = len(data) - sum(map(len, body)) - _FREE_PER_CHUNK * len(body)
            self._overhead = max(0, self._overhead + overhead)
            if self._overhead > limit:
                _refuse(f"chunk extensions or trailers are over {limit} bytes")
        return body

    # What llhttp calls.

    def on_message_begin(self) -> None:
        """A message begins: the second one is what follows ours."""
        self._begun += 1

    def on_header(self, name: bytes, value: bytes) -> None:
        """A field line of the head, or of the trailer section."""
        self.fields.append((name, value))

    def on_body(self, data: bytes) -> None:
        """A part of the content."""
        if self._begun == 1:
            self._body.append(data)

    def on_message_complete(self) -> None:
        """The message has ended."""
        if not self.complete:
            self.complete = True
            self._trailers = len(self.fields)


def _refuse(text: str) -> NoReturn:
    raise OriginError("http_response_transfer_coding", text, sent=True)
