"""One client connection: uvicorn's HTTP/1.1 with the bounds that it lacks.

A request's head has a size and a time, so have trailers, chunk extensions and what stands behind a
request; a client that does not read is cut off; connections are counted. What two HTTP parsers
could read differently is refused. Refusals have OpenAI's shape and close the connection.
"""

from __future__ import annotations

import asyncio
from asyncio.events import TimerHandle
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, cast

import httptools
import orjson
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from proxy import errors
from proxy.config import Limits
from proxy.errors import HeadersTooLarge, InvalidRequest, NotFound, TooSlow, Unavailable
from proxy.ids import random_id

MAX_HEADERS = 200
"""Header fields of one request."""
LINGER_SECONDS = 3.0
"""How long a connection stays open for a client that has its answer and goes on sending: closing at
once would take the answer away from it."""

SINGLE = (b"authorization", b"content-encoding", b"content-type", b"host", b"x-api-key")
"""Headers that may stand once: of two, somebody else may have read the other one. (Of content-length
the parser sees to that.)"""

_OVER_SECONDS = 1.0
"""How long a connection over the limit may wait to be told so."""
_ODD_HTTP = "The request is not valid HTTP/1.1; send each header and the body once, plainly."


@dataclass(frozen=True, slots=True)
class Rules:
    """What a connection is held to. ``refused`` is told the status of each refusal."""

    limits: Limits
    refused: Callable[[int], None]


def connection_class(limits: Limits, refused: Callable[[int], None]) -> type[HttpToolsProtocol]:
    """The protocol of a server's connections, for uvicorn's ``http``."""

    class Ruled(Connection):
        rules = Rules(limits, refused)

    return Ruled


class Connection(HttpToolsProtocol):
    """See the module. ``rules`` is set by :func:`connection_class`."""

    rules: ClassVar[Rules]

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client has come; it has ``header_seconds`` to say what it wants."""
        super().connection_made(cast(asyncio.Transport, transport))
        limits = self.rules.limits
        self._in_head = True
        self._between = False  # nothing of the next request has come
        self._silent = True  # nothing has come at all
        self._deaf = False  # what comes is dropped
        self._fields = 0
        self._head_bytes = 0
        self._uncounted = 0  # bytes since the last that became a head or a body
        self._fault: Exception | None = None
        self._write_timer: TimerHandle | None = None
        self._linger_timer: TimerHandle | None = None
        self._over = len(self.connections) > limits.max_connections
        seconds = min(_OVER_SECONDS, limits.header_seconds) if self._over else limits.header_seconds
        self._head_timer: TimerHandle | None = self.loop.call_later(seconds, self._head_is_late)

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is no more."""
        for timer in (self._head_timer, self._write_timer, self._linger_timer):
            if timer is not None:
                timer.cancel()
        super().connection_lost(exc)

    # -- what comes in ----------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        """Parse what has come."""
        self._unset_keepalive_if_required()
        self._silent = self._between = False
        self._uncounted += len(data)
        most = self.rules.limits.max_header_bytes
        if self._deaf:
            if self._uncounted > most and self._answering():
                self.transport.abort()  # it floods the connection while it waits for an answer
            return
        if self._over:
            self._refuse(Unavailable("Too many connections; retry later.", "too_many_connections"))
            return
        try:
            self.parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._refuse(self._fault or InvalidRequest(_ODD_HTTP))
        else:
            if self._uncounted > most:
                self._refuse(_too_large(most))
            elif self._in_head and not self._between and self._head_timer is None:
                seconds = self.rules.limits.header_seconds
                self._head_timer = self.loop.call_later(seconds, self._head_is_late)

    def on_message_begin(self) -> None:
        """A head begins."""
        super().on_message_begin()
        self._in_head, self._between = True, False
        self._fields = self._head_bytes = 0

    def on_url(self, url: bytes) -> None:
        """A piece of the request's target."""
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header; trailers are dropped, they must not pass for headers."""
        if self._in_head:
            self._fields += 1
            self._count(len(name) + len(value))
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """The head is there: refuse it, or start with the request."""
        self._check_head()
        self._in_head = False
        self._uncounted = 0
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """A piece of a body."""
        self._uncounted = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """A request has come whole."""
        super().on_message_complete()
        self._in_head = self._between = True
        self._uncounted = 0
        if self._linger_timer is not None:
            self._linger_timer.cancel()
            self._linger_timer = None

    def _count(self, size: int) -> None:
        self._head_bytes += size
        most = self.rules.limits.max_header_bytes
        if self._head_bytes > most or self._fields > MAX_HEADERS:
            self._fail(_too_large(most))

    def _check_head(self) -> None:
        if self._answering():
            # Answering the first and closing is what clients must be prepared for; they resend.
            self._fail(InvalidRequest("Wait for the answer before the next request."))
        named = [name for name, _ in self.headers]
        version = self.parser.get_http_version()
        twice = any(named.count(name) > 1 for name in SINGLE)
        no_host = version == "1.1" and b"host" not in named
        codings = [v.strip().lower() for n, v in self.headers if n == b"transfer-encoding"]
        odd_coding = codings not in ([], [b"chunked"]) or (codings and version != "1.1")
        if version not in ("1.0", "1.1") or twice or no_host or odd_coding:
            self._fail(InvalidRequest(_ODD_HTTP))
        if self.parser.should_upgrade() and self.parser.get_method() != b"CONNECT":
            # Its body, if it has one, would not be read as such.
            self._fail(InvalidRequest("Upgrades are not offered; speak plain HTTP/1.1."))
        if not self.url.startswith(b"/") or b"#" in self.url:
            self._fail(NotFound("Name the path alone, such as /v1/models.", code="unknown_url"))

    def _fail(self, error: Exception) -> None:
        """Stop parsing: the parser hides what callbacks raise."""
        self._fault = error
        raise error

    # -- what goes out ----------------------------------------------------------------------------

    def pause_writing(self) -> None:
        """The client reads more slowly than it is written to."""
        super().pause_writing()
        self._watch_reader()

    def resume_writing(self) -> None:
        """The client has caught up."""
        super().resume_writing()
        if self._write_timer is not None:
            self._write_timer.cancel()
            self._write_timer = None

    def on_response_complete(self) -> None:
        """An answer is written, though not read yet."""
        super().on_response_complete()
        if self.transport.get_write_buffer_size():
            self._watch_reader()
        if self.cycle.more_body and not self.transport.is_closing():
            # The client still sends the body of a request that was answered early.
            self._linger()

    def _watch_reader(self) -> None:
        if self._write_timer is None:
            seconds = self.rules.limits.write_seconds
            self._write_timer = self.loop.call_later(seconds, self._reader_is_late)

    def _reader_is_late(self) -> None:
        self._write_timer = None
        done = not self._answering()
        if self.transport.get_write_buffer_size() and (self.flow.write_paused or done):
            self.transport.abort()  # tells the application, which ends the call to the model

    # -- refusals ---------------------------------------------------------------------------------

    def _answering(self) -> bool:
        """Whether an answer is under way."""
        return self.cycle is not None and not self.cycle.response_complete

    def _head_is_late(self) -> None:
        self._head_timer = None
        if self._silent:
            self.transport.close()
        else:
            seconds = self.rules.limits.header_seconds
            self._refuse(TooSlow(f"The request's head did not come within {seconds:g} s."))

    def _refuse(self, error: Exception) -> None:
        """Answer with an error if the connection is free for it, and close."""
        if self._deaf:
            return
        self._deaf = True
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None
        self._uncounted = 0
        if self._answering():
            if not self.cycle.more_body:
                self.cycle.keep_alive = False  # an earlier request is answered first
                return
            # The fault is in the body of the request that runs: its handler sees the client leave.
            self.cycle.disconnected = True
            self.cycle.message_event.set()
            if self.cycle.response_started:
                self.transport.abort()
                return
        if self.transport.is_closing():
            return
        answer = errors.answer(error, request_id := f"req_{random_id()}")
        body = orjson.dumps(answer.body)
        head = {
            "content-type": "application/json",
            "content-length": str(len(body)),
            "connection": "close",
            "x-request-id": request_id,
            **answer.headers,
        }
        lines = "".join(f"{name}: {value}\r\n" for name, value in head.items())
        status = f"HTTP/1.1 {answer.status} \r\n"
        self.rules.refused(answer.status)
        self.transport.write(f"{status}{lines}\r\n".encode("latin-1") + body)
        if self._over:
            self.transport.close()
        else:
            self.transport.write_eof()
            self._linger()

    def _linger(self) -> None:
        if self._linger_timer is None:
            self._linger_timer = self.loop.call_later(LINGER_SECONDS, self.transport.abort)


def _too_large(most: int) -> HeadersTooLarge:
    return HeadersTooLarge(
        f"The request's head has over {most} bytes (limits.max_header_bytes) or {MAX_HEADERS} fields; "
        "send less."
    )
