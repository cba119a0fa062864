"""The rim: bodies in, bytes out, and noticing that the client has gone."""

from __future__ import annotations

import asyncio
import functools
import logging
import re
import traceback
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, TypeVar

import orjson
from starlette.types import Receive, Scope, Send

from proxy import errors
from proxy.errors import Answer, TooLarge, TooSlow, UnsupportedMedia
from proxy.ids import random_id
from proxy.sse import encode
from proxy.ticket import Ticket

log = logging.getLogger("doorman.gateway")

LIMIT_PREFIXES = ("anthropic-ratelimit-", "x-ratelimit-")
"""What an upstream's headers about limits begin with."""
_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")
WATCH_SECONDS = 0.02
_DISCARD_FACTOR = 8
_LARGE_BYTES = 1 << 16
_LARGE = ThreadPoolExecutor(2, "large-body")
"""Few threads: parsing takes some thirty times a body's size for a moment."""

T = TypeVar("T")
ErrorShape = Callable[[Answer, str], Answer]


@dataclass(frozen=True, slots=True)
class Request:
    """The head of a request; ``headers`` by lower-case name, without any ``x-doorman-*``; ``query``
    as it came."""

    method: str
    path: str
    headers: Mapping[str, str]
    request_id: str
    query: bytes = field(default=b"", repr=False)

    @classmethod
    def of(cls, scope: Scope) -> Request:
        """Read the head of an ASGI scope."""
        headers = {
            str(name, "latin-1"): str(value, "latin-1")
            for name, value in scope["headers"]
            # Clients must not be able to pretend to be the gateway.
            if not name.startswith(b"x-doorman-")
        }
        given = headers.get("x-request-id", "")
        request_id = given if _REQUEST_ID.fullmatch(given) else f"req_{random_id()}"
        query = scope.get("query_string", b"")
        return cls(scope["method"], scope["path"], headers, request_id, query)


@dataclass(frozen=True, slots=True)
class Ask:
    """An authenticated request, as handlers see it. ``body`` is empty for GET; ``key`` is the name of
    the caller that ``ticket`` tells more of."""

    request: Request
    key: str
    params: Mapping[str, Any]
    body: dict[str, Any] = field(default_factory=dict, repr=False)
    raw: bytes = field(default=b"", repr=False)
    ticket: Ticket = field(default_factory=Ticket, repr=False)


class Responder:
    """Sends one response, whole or in pieces. ``status`` is None until it has begun.

    Args:
        shape: how errors look on this path, from OpenAI's shape; see ``Endpoint.shaped``.
    """

    def __init__(self, send: Send, shape: ErrorShape | None = None) -> None:
        self._send = send
        self._shape = shape
        self._ended = False
        self.status: int | None = None
        self.limits: Mapping[str, str] = {}
        """Headers about the limits of the client's key, in place of the upstream's about its own."""
        self.before_end: Callable[[], Coroutine[Any, Any, None]] | None = None
        """Awaited before the last byte leaves, so that the client's next request finds all counted."""

    async def whole(
        self,
        status: int,
        body: bytes,
        headers: Mapping[str, str],
        content_type: str = "application/json",
    ) -> None:
        """Send a complete response."""
        await self.ending()
        length = {**headers, "content-length": str(len(body))}
        await self.start(status, length, content_type)
        self._ended = True
        await self._send({"type": "http.response.body", "body": body})

    async def json(self, status: int, value: Any, headers: Mapping[str, str]) -> None:
        """Send a complete JSON response."""
        await self.whole(status, orjson.dumps(value), headers)

    async def error(
        self, error: Exception, request_id: str, headers: Mapping[str, str] | None = None
    ) -> None:
        """Answer an exception by the table; after a stream has begun, as its last event."""
        answer = errors.answer(error, request_id)
        if answer.status == 500:
            log_unexpected(error, request_id)
        if self._shape is not None:
            answer = self._shape(answer, request_id)
        if self.status is None:
            out = {"x-request-id": request_id, **(headers or {}), **answer.headers}
            await self.json(answer.status, answer.body, out)
        elif not self._ended:
            await self.chunk(encode(answer.body, name=answer.event))
            await self.end()

    async def start(self, status: int, headers: Mapping[str, str], content_type: str) -> None:
        """Send the head of a response whose body follows in pieces."""
        self.status = status
        if self.limits:
            own = {n: v for n, v in headers.items() if not n.startswith(LIMIT_PREFIXES)}
            headers = {**own, **self.limits}
        head = {**headers, "content-type": content_type}
        pairs = [(_name(name), _latin(value)) for name, value in head.items()]
        await self._send({"type": "http.response.start", "status": status, "headers": pairs})

    async def chunk(self, body: bytes) -> None:
        """Send a piece of the body."""
        await self._send({"type": "http.response.body", "body": body, "more_body": True})

    async def ending(self) -> None:
        """What comes next is the last that a client waits for."""
        if self.before_end is not None:
            await self.before_end()

    async def end(self) -> None:
        """End the body."""
        await self.ending()
        self._ended = True
        await self._send({"type": "http.response.body", "body": b""})


async def read_body(
    request: Request,
    receive: Receive,
    limit: int,
    seconds: float,
    content_type: str = "application/json",
) -> bytes:
    """The body of a request, read no further than the limit.

    Raises:
        UnsupportedMedia: of another content type, or compressed.
        TooLarge: more than ``limit`` bytes.
        TooSlow: sending it took longer than ``seconds``.
        ConnectionResetError: the client went away while sending.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != content_type:
        # Also keeps web pages from posting JSON to a gateway on their visitor's own machine.
        raise UnsupportedMedia(f"The body's content type is not supported; use {content_type}.")
    if request.headers.get("content-encoding", "identity").strip().lower() != "identity":
        raise UnsupportedMedia("Compressed bodies are not supported; send it plain.")
    if int(request.headers.get("content-length", "0")) > limit * _DISCARD_FACTOR:
        raise _too_large(limit)  # it would not be read to its end anyway
    try:
        async with asyncio.timeout(seconds):
            return await _read(receive, limit)
    except TimeoutError:
        raise TooSlow(f"The body did not come within {seconds:g} s; send it faster.") from None


async def _read(receive: Receive, limit: int) -> bytes:
    pieces: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ConnectionResetError
        piece = message.get("body", b"")
        size += len(piece)
        more = message.get("more_body", False)
        if size <= limit:
            pieces.append(piece)
        elif not more or size > limit * _DISCARD_FACTOR:
            # The rest was read and dropped up to a point, because most clients look for an answer
            # only after they have sent everything.
            raise _too_large(limit)
        if not more:
            return b"".join(pieces)


def _too_large(limit: int) -> TooLarge:
    return TooLarge(f"The body is larger than {limit} bytes; send less.")


async def aside(size: int, work: Callable[[], T]) -> T:
    """Do some work on a body of ``size`` bytes: in a thread if it is large, so that nobody waits for
    it; here if it is small, because going to a thread costs more than the work."""
    if size <= _LARGE_BYTES:
        return work()
    return await asyncio.get_running_loop().run_in_executor(_LARGE, work)


async def unless_left(receive: Receive, work: Coroutine[Any, Any, None]) -> None:
    """Do the work, and cancel it when the client goes away. The body must have been read.

    It is watched for from ``WATCH_SECONDS`` on: a task for each request costs more than most of what is
    done for it, and what ends sooner needs no cancelling.
    """
    task, loop = asyncio.current_task(), asyncio.get_running_loop()
    assert task is not None
    gone = False
    watching: asyncio.Task[None] | None = None

    async def watch() -> None:
        nonlocal gone
        await _left(receive)
        gone = True
        task.cancel()

    def begin() -> None:
        nonlocal watching
        watching = loop.create_task(watch())

    later = loop.call_later(WATCH_SECONDS, begin)
    try:
        await work
    except asyncio.CancelledError:
        if not gone or task.uncancel():
            raise  # we ourselves are being stopped
    finally:
        later.cancel()
        if watching is not None:
            watching.cancel()


def log_unexpected(error: BaseException, request_id: str) -> None:
    """Log where an exception came from. Its message is left out: it may quote the user's text."""
    frames = traceback.extract_tb(error.__traceback__)[-8:]
    where = " < ".join(f"{f.filename}:{f.lineno} {f.name}" for f in reversed(frames))
    log.error("request %s failed: %s at %s", request_id, type(error).__name__, where)


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


@functools.lru_cache(1024)
def _name(name: str) -> bytes:
    return name.encode("latin-1")


def _latin(value: str) -> bytes:
    if value.isascii() and value.isprintable():
        return value.encode()
    # A header is one line, whatever an upstream or a policy's name holds.
    return re.sub(r"[\x00-\x1f\x7f]", " ", value).encode("latin-1", "replace")
