"""One request and its response on a connection, seen from both ends: the connection's and the client's."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Coroutine
from typing import TYPE_CHECKING

from fwdproxy.errors import OriginError
from fwdproxy.messages import Headers
from fwdproxy.origin.http1 import Incoming
from fwdproxy.origin.inbox import Inbox

if TYPE_CHECKING:
    from fwdproxy.origin.connection import Connection


class Stream:
    """Made by `Connection.begin`. Once it is over, nothing done to it touches the connection any more.

    ``responded``: a byte of the response has arrived. ``sending``: the request body is under way. ``whole``: the
    request has been sent to its end. ``tunnel``: the origin has switched protocols. ``inbox``: what follows the final
    head, once that has arrived.
    """

    __slots__ = (
        "_connection",
        "_failure",
        "_heads",
        "_upload",
        "_waiter",
        "content_taken",
        "go_ahead",
        "inbox",
        "responded",
        "sending",
        "tunnel",
        "whole",
    )

    def __init__(self, connection: Connection, *, has_body: bool, expect_continue: bool) -> None:
        self._connection = connection
        self._heads: deque[Incoming] = deque()
        self._waiter: asyncio.Future[None] | None = None
        self._failure: Exception | None = None
        self._upload: asyncio.Task[None] | None = None
        self.inbox: Inbox | None = None
        self.responded = False
        self.sending = has_body
        self.whole = not has_body
        self.tunnel = False
        self.content_taken = False
        self.go_ahead: asyncio.Event | None = asyncio.Event() if expect_continue else None

    # The client's end

    async def next_head(self) -> Incoming:
        """The next response head: interim ones, then the final one. Raises what ended the stream."""
        while not self._heads:
            if self._failure is not None:
                raise self._failure
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        return self._heads.popleft()

    def start_upload(self, upload: Coroutine[None, None, None]) -> None:
        """Send the request body beside the response."""
        self._upload = asyncio.get_running_loop().create_task(upload, name="request body")
        self._upload.add_done_callback(self._upload_done)

    async def write(self, data: bytes) -> None:
        """Send ``data``, and wait while the origin takes no more."""
        await self._connection.write(self, data)

    def finish_request(self) -> None:
        """The request body has been sent."""
        self.sending = False
        self.whole = True
        self._connection.request_finished(self)

    def abort(self, error: Exception | None = None) -> None:
        """Drop the connection unless the stream is over."""
        self._connection.drop(
            self, error or OriginError("connection_terminated", "the request was given up", sent=True)
        )

    def write_eof(self) -> None:
        """End our side of a tunnel."""
        self._connection.write_eof(self)

    def close(self) -> None:
        """Close a tunnel once what was written is sent."""
        self._connection.close_tunnel(self)

    # The connection's end

    def head_arrived(self, incoming: Incoming) -> None:
        """A head is here. A 100 that answers our own Expect is spent here (RFC 9110 §10.1.1)."""
        status = incoming.head.status
        if status == 100 and self.go_ahead is not None and not self.go_ahead.is_set():
            self.go_ahead.set()
            return
        if status >= 200 or status == 101:
            self.tunnel = status == 101
            self.inbox = Inbox(self._set_full)
            if not (200 <= status < 300 and self.content_taken):
                self._stop_sending()
        self._heads.append(incoming)
        self._wake()

    def end(self, trailers: Headers) -> None:
        """The response is complete."""
        self._stop_sending()
        if self.inbox is not None:
            self.inbox.end(trailers)

    def fail(self, error: Exception) -> None:
        """The response won't be complete."""
        self._failure = error
        self._stop_sending()
        if self.inbox is not None:
            if not isinstance(error, OriginError):
                error = OriginError("http_request_error", "the request body ended early", sent=True)
            self.inbox.fail(error)
        self._wake()

    def _upload_done(self, upload: asyncio.Task[None]) -> None:
        error = None if upload.cancelled() else upload.exception()
        if isinstance(error, Exception):
            self.abort(error)

    def _stop_sending(self) -> None:
        """RFC 9112 §9.5: an origin that has answered otherwise doesn't want the rest of the request."""
        if self.sending:
            self.sending = False
            if self._upload is not None:
                self._upload.cancel()

    def _set_full(self, full: bool) -> None:
        self._connection.set_full(self, full)

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
