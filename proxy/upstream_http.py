"""OpenAI-compatible servers, passed through: bytes up, bytes down, over pooled connections."""

from __future__ import annotations

import asyncio
import base64
import functools
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib import metadata
from typing import Any, ClassVar
from urllib.parse import unquote, urlsplit

import orjson

from proxy.asgi import aside
from proxy.config import Timeouts
from proxy.endpoints.base import Body
from proxy.errors import UpstreamError
from proxy.http_address import Address, lines
from proxy.http_client import HttpClient, HttpFault, Reply
from proxy.sse import Event, Parser, SseError
from proxy.upstream_base import (
    CHAT_PATH,
    UpstreamReply,
    UpstreamStream,
    error_reply,
    error_type,
    is_private,
    passed_headers,
    told_error,
)

SENT_HEADERS = ("idempotency-key", "openai-beta", "traceparent", "tracestate")
"""Headers of the client that go up. Its Authorization never does: it is its key to the gateway."""

CONNECT_TRIES = 2
"""Only a connection that never came about is tried again: nothing was sent, so nothing can be
billed or done twice."""

_BACKOFF_SECONDS = 0.1
_DRAIN_SECONDS = 0.05
_DRAIN_BYTES = 1 << 16


@dataclass(frozen=True, slots=True)
class HttpLimits:
    """Sizes of the connection pool and of what is read.

    Attributes:
        connections: open connections in all, to all servers.
        keepalive_seconds: how long an idle one is kept.
        reply_bytes: largest reply, also the sum of a stream.
        event_bytes: largest event of a stream.
    """

    connections: int = 1000
    keepalive_seconds: float = 15.0
    reply_bytes: int = 64 << 20
    event_bytes: int = 4 << 20


class HttpPool:
    """The connections of all upstreams."""

    def __init__(self, timeouts: Timeouts, limits: HttpLimits) -> None:
        self.timeouts = timeouts
        self.limits = limits
        self.client = HttpClient(limits.keepalive_seconds, limits.connections)

    async def close(self) -> None:
        """Close all connections."""
        await self.client.close()


class HttpUpstream:
    """A server that speaks OpenAI's API.

    Args:
        pool: shared by all.
        api_base: e.g. ``https://api.openai.com/v1``.
        api_key: sent as a bearer token; None sends no Authorization.
        timeouts: instead of the pool's.
        extra_headers: of the operator, by lower-case name, sent with every request.
    """

    sent_headers: ClassVar[Sequence[str]] = SENT_HEADERS

    def __init__(
        self,
        pool: HttpPool,
        api_base: str,
        api_key: str | None,
        timeouts: Timeouts | None = None,
        extra_headers: Mapping[str, str] | None = None,
    ) -> None:
        self._pool = pool
        self._base = api_base.rstrip("/")
        self._key = api_key
        self._timeouts = timeouts or pool.timeouts
        self._limits = pool.limits
        self._extra = dict(extra_headers or {})
        self._addresses: dict[str, Address] = {}
        self._plain: dict[str, bytes] = {}

    def __repr__(self) -> str:
        return "HttpUpstream(...)"  # a base URL may hold a password

    async def complete(
        self, body: Body, raw: bytes | None, headers: Mapping[str, str], *, path: str = CHAT_PATH
    ) -> UpstreamReply:
        """See :class:`proxy.upstream_base.Upstream`."""
        clock = _Clock(self._timeouts)
        response = await self._open(body, raw, headers, path, "application/json", clock)
        try:
            return await self._reply(response, clock)
        finally:
            response.close()

    @asynccontextmanager
    async def stream(
        self, body: Body, raw: bytes | None, headers: Mapping[str, str], *, path: str = CHAT_PATH
    ) -> AsyncIterator[UpstreamStream]:
        """See :class:`proxy.upstream_base.Upstream`."""
        clock = _Clock(self._timeouts)
        response = await self._open(body, raw, headers, path, "text/event-stream", clock)
        try:
            passed = passed_headers(response.headers)
            if response.status >= 400:
                reply = await self._reply(response, clock)
                yield UpstreamStream(response.status, passed, reply=reply)
                return
            _expect(response, "text/event-stream")
            yield UpstreamStream(response.status, passed, self._events(response, clock))
            await _drain(response)
        finally:
            # A connection whose reply was read to its end is back in the pool already; any other
            # one is closed, which tells the server to stop.
            response.close()

    async def close(self) -> None:
        """The pool is closed by its owner."""

    async def _open(
        self,
        body: Body,
        raw: bytes | None,
        headers: Mapping[str, str],
        path: str,
        accept: str,
        clock: _Clock,
    ) -> Reply:
        """Send the request and wait for the head of the reply."""
        data = orjson.dumps(body) if raw is None else raw
        for attempt in range(1, CONNECT_TRIES + 1):
            try:
                return await self._pool.client.post(
                    self._address(path),
                    self._lines(headers, accept),
                    data,
                    connect_seconds=self._pool.timeouts.connect,
                    deadline=clock.first_byte,
                )
            except HttpFault as fault:
                if fault.kind == "tls":
                    message = "The TLS connection to the model's server was not accepted."
                    raise UpstreamError("connect", message) from None
                if fault.kind == "broken":
                    raise _unanswered() from None
                if attempt == CONNECT_TRIES:
                    message = "The model's server cannot be reached."
                    raise UpstreamError("connect", message) from None
                await asyncio.sleep(_BACKOFF_SECONDS * attempt)
            except TimeoutError:
                raise clock.late() from None
            except (ValueError, OSError):
                raise _unanswered() from None
        raise AssertionError("unreachable")

    def _address(self, path: str) -> Address:
        address = self._addresses.get(path)
        if address is None:
            address = self._addresses[path] = Address.of(f"{self._base}/{path}")
        return address

    def _lines(self, client: Mapping[str, str], accept: str) -> bytes:
        """The head of a request, written; nearly all clients send nothing that goes up with it."""
        if not any(name in client for name in self.sent_headers):
            plain = self._plain.get(accept)
            if plain is None:
                plain = self._plain[accept] = lines(self._headers({}, accept))
            return plain
        return lines(self._headers(client, accept))

    def _headers(self, client: Mapping[str, str], accept: str) -> dict[str, str]:
        headers = {
            "content-type": "application/json",
            "accept": accept,
            "accept-encoding": "identity",
            "user-agent": f"doorman/{_version()}",
        }
        headers |= self._credentials()
        for name in self.sent_headers:
            value = client.get(name)
            if value is not None and value.isascii() and value.isprintable():
                headers[name] = value
        return headers | self._extra

    def _credentials(self) -> dict[str, str]:
        """The headers with the operator's key."""
        if self._key is not None:
            return {"authorization": f"Bearer {self._key}"}
        parts = urlsplit(self._base)
        if parts.username is None:
            return {}
        pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        return {"authorization": f"Basic {base64.b64encode(pair.encode()).decode()}"}

    def _is_last(self, event: Event) -> bool:
        """Whether nothing worth reading comes after an event."""
        return event.done

    async def _reply(self, response: Reply, clock: _Clock) -> UpstreamReply:
        headers = passed_headers(response.headers)
        if response.status < 400:
            _expect(response, "application/json")
        chunks: list[bytes] = []
        size = 0
        while chunk := await _read(response, clock):
            size += len(chunk)
            if size > self._limits.reply_bytes:
                raise _too_large(f"a reply of more than {self._limits.reply_bytes} bytes")
            chunks.append(chunk)
        body = b"".join(chunks)
        parsed = await aside(len(body), lambda: _object(body))
        if response.status >= 400:
            return self._error(response.status, body, parsed, headers)
        if parsed is None:
            raise UpstreamError(
                "protocol", "The model's server sent a reply that is no JSON object."
            )
        return UpstreamReply(response.status, headers, body, parsed)

    def _error(
        self, status: int, body: bytes, parsed: Body | None, headers: dict[str, str]
    ) -> UpstreamReply:
        """An error of the upstream, without what is between it and the operator."""
        if status in (401, 403):
            # Its message quotes part of the operator's key.
            message = "The model's server refused the gateway's credentials; tell its operator."
            return error_reply(status, message, "upstream_unauthorized", headers)
        told = parsed.get("error") if parsed is not None else None
        fields = told_error(told) if isinstance(told, dict) else None
        # The bytes may hold a secret with escapes in it, which only the text shows.
        said = body + (b"" if fields is None else orjson.dumps(fields))
        host = urlsplit(self._base).hostname
        secrets = [s.encode() for s in (self._key, self._base, host) if s]
        private = fields is None or is_private(str(fields["message"]))
        if fields is None or private or any(secret in said for secret in secrets):
            message = f"The model's server answered with status {status}."
            return error_reply(status, message, "upstream_error", headers)
        fields["type"] = fields["type"] or error_type(status)
        error = {"error": fields}
        return UpstreamReply(status, headers, orjson.dumps(error), error)

    async def _events(self, response: Reply, clock: _Clock) -> AsyncIterator[Event]:
        parser = Parser(self._limits.event_bytes)
        size = 0
        try:
            while chunk := await _read(response, clock):
                size += len(chunk)
                if size > self._limits.reply_bytes:
                    raise _too_large(f"a stream of more than {self._limits.reply_bytes} bytes")
                last = False
                for event in parser.feed(chunk):
                    yield event
                    last = last or self._is_last(event)
                if last:
                    return
            for event in parser.close():
                yield event
        except SseError:
            raise _too_large(f"an event of more than {self._limits.event_bytes} bytes") from None


class _Clock:
    """The time limits of one call, as deadlines on the event loop's clock."""

    def __init__(self, timeouts: Timeouts) -> None:
        self._loop = asyncio.get_running_loop()
        self._timeouts = timeouts
        started = self._loop.time()
        self.total = started + timeouts.total
        self.first_byte = min(started + timeouts.first_byte, self.total)
        self.begun = False

    def next(self) -> float:
        """Deadline of the next read."""
        if not self.begun:
            return self.first_byte
        return min(self._loop.time() + self._timeouts.idle, self.total)

    def read(self) -> None:
        """Something has come."""
        self.begun = True

    def late(self) -> UpstreamError:
        """The error for the deadline that has passed."""
        limits = self._timeouts
        if self._loop.time() >= self.total:
            message = f"The model's server took longer than {limits.total:g} s in all."
        elif self.begun:
            message = f"The model's server fell silent for {limits.idle:g} s within its answer."
        else:
            message = f"The model's server did not begin to answer within {limits.first_byte:g} s."
        return UpstreamError("timeout", message, begun=self.begun)


async def _read(response: Reply, clock: _Clock) -> bytes:
    """The next bytes of a reply, empty at its end."""
    try:
        chunk = await response.read(clock.next())
    except TimeoutError:
        raise clock.late() from None
    except HttpFault:
        raise UpstreamError(
            "protocol",
            "The model's server broke off in the middle of its answer.",
            begun=clock.begun,
        ) from None
    clock.read()
    return chunk


async def _drain(response: Reply) -> None:
    """Read what stands behind the last event, so that the connection can be used again."""
    size = 0
    deadline = asyncio.get_running_loop().time() + _DRAIN_SECONDS
    try:
        while size < _DRAIN_BYTES and (chunk := await response.read(deadline)):
            size += len(chunk)
    except (TimeoutError, HttpFault):
        return


def _unanswered() -> UpstreamError:
    return UpstreamError(
        "protocol", "The model's server closed the connection without an answer.", begun=False
    )


def _expect(response: Reply, content_type: str) -> None:
    """Refuse replies that are no answer: redirects, pages of a proxy, compressed bytes."""
    if 300 <= response.status < 400:
        raise UpstreamError(
            "protocol", "The model's server answered with a redirect, which is not followed."
        )
    if response.headers.get("content-encoding", "identity").lower() != "identity":
        raise UpstreamError("protocol", "The model's server sent a compressed reply, unasked.")
    if response.content_type != content_type:
        raise UpstreamError("protocol", f"The model's server sent no {content_type}.")


def _object(body: bytes) -> dict[str, Any] | None:
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    return value if isinstance(value, dict) else None


def _too_large(what: str) -> UpstreamError:
    return UpstreamError("too_large", f"The model's server sent {what}.")


@functools.cache  # reading the metadata takes a good part of a millisecond
def _version() -> str:
    try:
        return metadata.version("doorman")
    except metadata.PackageNotFoundError:
        return "0"
