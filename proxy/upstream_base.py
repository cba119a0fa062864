"""What an upstream is: two methods and the values they return."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol

import orjson

from proxy.endpoints.base import Body
from proxy.errors import body as error_body
from proxy.sse import Event

CHAT_PATH = "chat/completions"

PASSED_HEADERS = ("request-id", "retry-after", "retry-after-ms", "x-request-id")
PASSED_PREFIXES = ("anthropic-ratelimit-", "openai-", "x-ratelimit-")
KEPT_BACK = ("openai-organization", "openai-project")
"""Headers of a reply that are passed on, by name and by prefix, and which of those name the
operator's account and are not."""


MAX_MESSAGE_CHARS = 1000
MAX_NAME_CHARS = 128
"""How much of an upstream's error is passed on: of its message, and of each of its names."""


@dataclass(frozen=True, slots=True)
class UpstreamReply:
    """A complete reply, of any HTTP status.

    Attributes:
        headers: by lower-case name, only those that may be passed on; ``x-request-id`` is the
            upstream's own.
        body: for statuses below 400 the bytes as they came; above, an error in OpenAI's shape.
        json: the body parsed.
    """

    status: int
    headers: dict[str, str]
    body: bytes = field(repr=False)
    json: dict[str, Any] | None = field(repr=False)


class UpstreamStream:
    """A reply as events. Iterate it once, within the ``async with`` that made it.

    Attributes:
        status: HTTP status.
        headers: as in :class:`UpstreamReply`.
        reply: what came in place of a stream, for statuses of 400 and above; there are no events then.
    """

    __slots__ = ("_events", "headers", "reply", "status")

    def __init__(
        self,
        status: int,
        headers: dict[str, str],
        events: AsyncIterator[Event] | None = None,
        reply: UpstreamReply | None = None,
    ) -> None:
        self.status = status
        self.headers = headers
        self.reply = reply
        self._events = _nothing() if events is None else events

    def __aiter__(self) -> AsyncIterator[Event]:
        """The events; raises :class:`UpstreamError` where the upstream fails."""
        return self._events


class Upstream(Protocol):
    """A place that answers requests. ``path`` is the API's, below the base URL."""

    async def complete(
        self,
        body: Body,
        raw: bytes | None,
        headers: Mapping[str, str],
        *,
        path: str = CHAT_PATH,
    ) -> UpstreamReply:
        """Send a request and read the whole reply.

        Args:
            body: the parsed body, its ``model`` already the upstream's name.
            raw: the same as bytes, to be sent as they are; None to encode ``body``.
            headers: of the client, by lower-case name; only a few are passed on.

        Raises:
            UpstreamError: there is no reply to be had. An HTTP error status is a reply.
        """
        ...

    def stream(
        self,
        body: Body,
        raw: bytes | None,
        headers: Mapping[str, str],
        *,
        path: str = CHAT_PATH,
    ) -> AbstractAsyncContextManager[UpstreamStream]:
        """Send a request and read the reply as events; leaving the context ends the call."""
        ...

    async def close(self) -> None:
        """Close connections."""
        ...


def passed_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """What of an upstream's headers may reach the client."""
    return {
        name: value
        for name, value in ((name.lower(), value) for name, value in headers.items())
        if (name in PASSED_HEADERS or name.startswith(PASSED_PREFIXES)) and name not in KEPT_BACK
    }


def error_reply(
    status: int, message: str, code: str, headers: dict[str, str] | None = None
) -> UpstreamReply:
    """An error status with an error in OpenAI's shape."""
    error = error_body(message, error_type(status), code)
    return UpstreamReply(status, headers or {}, orjson.dumps(error), error)


def error_type(status: int) -> str:
    """OpenAI's type of an error, where the upstream names none."""
    if status == 429:
        return "rate_limit_error"
    return "invalid_request_error" if status < 500 else "server_error"


_PRIVATE = re.compile(
    r"Traceback|\bFile \"|\bline \d+"
    r"|http://|://[^/\s]*@|localhost|\b\d{1,3}(?:\.\d{1,3}){3}\b|\b[a-z][\w-]*(?:\.[\w-]+)*:\d{2,5}\b"
    r"|(?:^|[\s\"'(=])[~.]{0,2}/(?!v\d)[\w.-]+/|[A-Za-z]:\\"
    r"|\b(?:sk|pk|rk)-[\w-]{6,}|\bbearer\s+\S{6,}|\b[\w-]{40,}\b",
    re.IGNORECASE,
)


def is_private(said: str) -> bool:
    """Whether an upstream's words hold what looks like a trace, an address within the operator's
    network, a path on a machine, or a key."""
    return _PRIVATE.search(said) is not None


def told_error(error: Mapping[str, Any]) -> dict[str, Any] | None:
    """An upstream's error with the fields of OpenAI's shape and no others; None without a message.

    What else stands in it (traces, the request, the provider's account) is not the client's.
    """
    message = error.get("message")
    if not isinstance(message, str):
        return None
    fields: dict[str, Any] = {"message": message[:MAX_MESSAGE_CHARS]}
    for name in ("type", "param", "code"):
        value = error.get(name)
        # Some servers give a number as the code.
        known = str(value) if isinstance(value, str | int) else None
        fields[name] = None if known is None else known[:MAX_NAME_CHARS]
    return fields


async def _nothing() -> AsyncIterator[Event]:
    return
    yield
