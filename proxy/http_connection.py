"""One connection to a server: requests with a body, one after the other, and their replies as they come.

The parser is llhttp, Node.js' own. Whatever is not plain HTTP/1.1 ends the connection.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Literal, cast

import httptools

Kind = Literal["connect", "tls", "broken"]

HEAD_BYTES = 1 << 16
"""The longest head of a reply."""
_HIGH_BYTES = 1 << 18
"""How much of a reply may wait to be read before the server is made to wait."""
_PIECE_BYTES = 1 << 16
"""Larger bodies are written in pieces, so that others get their turn."""


class HttpFault(Exception):
    """An exchange failed: no connection came about (``connect``, ``tls``), or one ``broke``."""

    def __init__(self, kind: Kind) -> None:
        super().__init__(kind)
        self.kind = kind


class Connection(asyncio.Protocol):
    """A connection to a server; one exchange after the other."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._waiter: asyncio.Future[None] | None = None
        self._room: asyncio.Future[None] | None = None
        self._pieces: deque[bytes] = deque()
        self._held = 0
        self._paused = False
        self._fault = False
        self._begin()
        self.busy = False
        self.idle_since = 0.0

    def _begin(self) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self.complete = False
        self._head_done = False
        self._head_bytes = 0
        self._keep = False

    # -- from the transport -----------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """It is there."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's own are not of that class

    def data_received(self, data: bytes) -> None:
        """Parse what has come."""
        if not self.busy:
            self.close()  # nobody has asked for anything
            return
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._broke()
        if not self._head_done:
            self._head_bytes += len(data)
            if self._head_bytes > HEAD_BYTES:
                self._broke()

    def connection_lost(self, exc: Exception | None) -> None:
        """It is no more; a reply without a length ends with it."""
        self._transport = None
        lengthless = not {"content-length", "transfer-encoding"} & self.headers.keys()
        if self._head_done and not self.complete and lengthless and exc is None:
            self.complete = True
            self._wake()
        else:
            self._broke()
        self._let_go()

    def pause_writing(self) -> None:
        """The server reads more slowly than it is written to."""
        self._room = self._loop.create_future()

    def resume_writing(self) -> None:
        """It has caught up."""
        self._let_go()

    # -- from the parser --------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        """A reply begins, which must be the first of its request."""
        if self.complete:
            self._keep = False  # what stands behind a reply was not asked for

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header; of several by one name the first counts, trailers do not."""
        if not self._head_done:
            self.headers.setdefault(str(name, "latin-1").lower(), str(value, "latin-1"))

    def on_headers_complete(self) -> None:
        """The head is there; those of interim replies are passed over."""
        if self._head_done:
            return  # not asked for
        status = self._parser.get_status_code()
        if 100 <= status < 200:
            self.headers = {}
            return
        self.status = status
        self._head_done = True
        self._wake()

    def on_body(self, body: bytes) -> None:
        """A piece of the body."""
        if self.complete:
            return
        self._pieces.append(body)
        self._held += len(body)
        if self._held > _HIGH_BYTES and not self._paused and self._transport is not None:
            self._paused = True
            self._transport.pause_reading()
        self._wake()

    def on_message_complete(self) -> None:
        """A reply has come whole."""
        if self._head_done and not self.complete:
            self.complete = True
            self._keep = self._parser.should_keep_alive()
            self._wake()

    # -- for who asks -----------------------------------------------------------------------------

    @property
    def open(self) -> bool:
        """Whether another request can be sent."""
        return not self._fault and self._transport is not None and not self._transport.is_closing()

    @property
    def reusable(self) -> bool:
        """Whether the reply has come whole, and the server lets the connection be kept."""
        return self.complete and self._keep and self.open and not self._pieces

    async def send(self, head: bytes, body: bytes, deadline: float) -> None:
        """Write a request, and wait for the head of its reply.

        Raises:
            HttpFault: the connection broke.
            TimeoutError: the deadline has passed, by the event loop's clock.
        """
        self._begin()
        self.busy = True
        if self._transport is None:
            raise HttpFault("broken")
        if len(body) <= _PIECE_BYTES:
            self._transport.write(head + body)
        else:
            self._transport.write(head)
            for at in range(0, len(body), _PIECE_BYTES):
                if self._transport is None:
                    break  # it may have answered before it closed
                self._transport.write(body[at : at + _PIECE_BYTES])
                # A server that answers without reading on must be heard.
                while self._room is not None and not self._head_done:
                    await self._wait(deadline)
        while not self._head_done:
            if self._fault:
                raise HttpFault("broken")
            await self._wait(deadline)

    async def read(self, deadline: float) -> bytes:
        """The next bytes of the reply's body, empty at its end. Raises as :meth:`send`."""
        while not self._pieces:
            if self.complete:
                return b""
            if self._fault:
                raise HttpFault("broken")
            await self._wait(deadline)
        pieces = self._pieces
        data = pieces.popleft() if len(pieces) == 1 else b"".join(pieces)
        pieces.clear()
        self._held = 0
        if self._paused and self._transport is not None:
            self._paused = False
            self._transport.resume_reading()
        return data

    def close(self) -> None:
        """End it at once; the server sees that nobody reads on."""
        self._fault = True
        if self._transport is not None:
            self._transport.abort()

    async def _wait(self, deadline: float) -> None:
        """Until something happens."""
        waiter = self._waiter = self._loop.create_future()
        timer = self._loop.call_at(deadline, self._late, waiter)
        try:
            await waiter
        finally:
            timer.cancel()
            self._waiter = None

    @staticmethod
    def _late(waiter: asyncio.Future[None]) -> None:
        if not waiter.done():
            waiter.set_exception(TimeoutError())

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _let_go(self) -> None:
        self._room = None
        self._wake()

    def _broke(self) -> None:
        if not self.complete:
            self._fault = True
        self._keep = False
        if self._transport is not None:
            self._transport.abort()
        self._wake()
