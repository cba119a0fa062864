"""Who answers Anthropic's messages API: Anthropic itself, passed through, and everybody else by way
of a chat completion."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import orjson

from proxy.config import Timeouts
from proxy.endpoints.base import Body
from proxy.endpoints.messages_from_chat import to_events, to_message
from proxy.endpoints.messages_to_chat import to_chat
from proxy.errors import UpstreamError
from proxy.jsonbody import splice
from proxy.sse import Event
from proxy.upstream_base import CHAT_PATH, Upstream, UpstreamReply, UpstreamStream
from proxy.upstream_http import HttpPool, HttpUpstream

MESSAGES_PATH = "messages"
API_BASE = "https://api.anthropic.com"
VERSION = "2023-06-01"
"""What ``anthropic-version`` says where the client says nothing."""

SENT_HEADERS = (
    "anthropic-beta",
    "anthropic-version",
    "idempotency-key",
    "traceparent",
    "tracestate",
)
"""Headers of the client that go up. Its ``x-api-key`` never does: it is its key to the gateway."""


class AnthropicUpstream(HttpUpstream):
    """Anthropic's API, or a server that speaks it.

    Args:
        api_base: as litellm takes it: with or without ``/v1`` or ``/v1/messages`` at its end.
        model: Anthropic's name of the model.
    """

    sent_headers = SENT_HEADERS

    def __init__(
        self,
        pool: HttpPool,
        api_base: str,
        api_key: str | None,
        model: str,
        timeouts: Timeouts | None = None,
        extra_headers: Mapping[str, str] | None = None,
    ) -> None:
        base = api_base.rstrip("/").removesuffix("/messages").removesuffix("/v1")
        super().__init__(pool, f"{base}/v1", api_key, timeouts, extra_headers)
        self._model = model

    async def complete(
        self,
        body: Body,
        raw: bytes | None,
        headers: Mapping[str, str],
        *,
        path: str = MESSAGES_PATH,
    ) -> UpstreamReply:
        """See :class:`proxy.upstream_base.Upstream`."""
        body, raw = self._named(body, raw)
        return await super().complete(body, raw, headers, path=path)

    @asynccontextmanager
    async def stream(
        self,
        body: Body,
        raw: bytes | None,
        headers: Mapping[str, str],
        *,
        path: str = MESSAGES_PATH,
    ) -> AsyncIterator[UpstreamStream]:
        """See :class:`proxy.upstream_base.Upstream`."""
        body, raw = self._named(body, raw)
        async with super().stream(body, raw, headers, path=path) as upstream:
            yield upstream

    def _named(self, body: Body, raw: bytes | None) -> tuple[Body, bytes | None]:
        """The body with Anthropic's name of the model; other bytes of it stay as they are."""
        spliced = None if raw is None else splice(raw, {("model",): self._model})
        return {**body, "model": self._model}, spliced

    def _credentials(self) -> dict[str, str]:
        key = {} if self._key is None else {"x-api-key": self._key}
        return {"anthropic-version": VERSION, **key}

    def _is_last(self, event: Event) -> bool:
        return event.json is not None and event.json.get("type") == "message_stop"


class ByChat:
    """Anthropic's API in front of an upstream that knows chat completions only.

    Args:
        inner: gets the chat completion.
        thinks: it knows Anthropic's ``thinking`` in a chat.
    """

    def __init__(self, inner: Upstream, *, thinks: bool = False) -> None:
        self._inner = inner
        self._thinks = thinks

    async def complete(
        self,
        body: Body,
        raw: bytes | None,
        headers: Mapping[str, str],
        *,
        path: str = MESSAGES_PATH,
    ) -> UpstreamReply:
        """See :class:`proxy.upstream_base.Upstream`. ``raw`` says it in the other language."""
        chat = to_chat(body, thinks=self._thinks)
        reply = await self._inner.complete(chat, None, headers, path=CHAT_PATH)
        if reply.status >= 400:
            return reply
        if reply.json is None:
            raise UpstreamError("protocol", "The model's server sent no JSON object.")
        message = to_message(reply.json)
        return UpstreamReply(reply.status, reply.headers, orjson.dumps(message), message)

    @asynccontextmanager
    async def stream(
        self,
        body: Body,
        raw: bytes | None,
        headers: Mapping[str, str],
        *,
        path: str = MESSAGES_PATH,
    ) -> AsyncIterator[UpstreamStream]:
        """See :class:`proxy.upstream_base.Upstream`."""
        chat = to_chat(body, thinks=self._thinks)
        async with self._inner.stream(chat, None, headers, path=CHAT_PATH) as upstream:
            if upstream.reply is not None:
                yield upstream
            else:
                yield UpstreamStream(upstream.status, upstream.headers, to_events(aiter(upstream)))

    async def close(self) -> None:
        """The inner upstream is closed by its owner."""
