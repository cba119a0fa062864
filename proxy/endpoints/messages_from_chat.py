"""A chat completion as a message of Anthropic's API: a reply whole, and a reply as a stream."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import orjson

from proxy.endpoints.base import Body
from proxy.endpoints.messages_events import named
from proxy.errors import UpstreamError
from proxy.sse import Event

STOP_REASONS = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "function_call": "tool_use",
    "content_filter": "refusal",
}
"""Why a chat completion ends -> why a message does."""

_THOUGHTS = ("reasoning_content", "reasoning")
"""Where servers put what a model thinks."""


def to_message(reply: Body) -> Body:
    """A message from a complete reply; of several choices it is the first.

    Raises:
        UpstreamError: it is no chat completion.
    """
    choices = reply.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices else None
    said = choice.get("message") if isinstance(choice, dict) else None
    if not isinstance(choice, dict) or not isinstance(said, dict):
        raise UpstreamError("protocol", "The model's server sent a reply of unknown shape.")
    content = _thoughts(said)
    for key in ("content", "refusal"):
        if isinstance(said.get(key), str) and said[key]:
            content.append({"type": "text", "text": said[key]})
    calls = said.get("tool_calls")
    content += [_tool_use(call) for call in (calls if isinstance(calls, list) else [])]
    reason = _stop_reason(choice.get("finish_reason"))
    return {
        **_head(reply),
        "content": content,
        "stop_reason": "refusal" if said.get("refusal") else reason or "end_turn",
        "stop_sequence": None,
        "usage": _usage(reply.get("usage")),
    }


async def to_events(events: AsyncIterator[Event]) -> AsyncIterator[Event]:
    """A message's events from a chat completion's. What is no chunk goes through as it is, for the
    guard to judge; without a reason to end there is no end, so that a cut stream stays one."""
    stream = _Stream()
    async for event in events:
        if event.done:
            break
        if event.json is None or event.json.get("error"):
            yield event
            continue
        for made in stream.take(event.json):
            yield _event(made)
    for made in stream.end():
        yield _event(made)


class _Stream:
    """What has been said so far: which blocks are open, and why it ends."""

    def __init__(self) -> None:
        self._begun = False
        self._blocks = 0
        self._open: str | None = None  # the kind of the block that words go to
        self._tools: dict[int, int] = {}  # number of a tool call -> its block
        self._refused = False
        self._reason: str | None = None
        self._usage = _usage(None)

    def take(self, chunk: Body) -> Iterator[Body]:
        """The events of one chunk."""
        if not self._begun:
            self._begun = True
            empty: Body = {"content": [], "stop_reason": None, "stop_sequence": None}
            yield {
                "type": "message_start",
                "message": {**_head(chunk), **empty, "usage": _usage(None)},
            }
        if isinstance(chunk.get("usage"), dict):
            self._usage = _usage(chunk["usage"])
        choices = chunk.get("choices")
        for choice in choices if isinstance(choices, list) else []:
            if isinstance(choice, dict) and choice.get("index", 0) == 0:
                delta = choice.get("delta")
                if isinstance(delta, dict):
                    yield from self._said(delta)
                self._reason = _stop_reason(choice.get("finish_reason")) or self._reason

    def end(self) -> Iterator[Body]:
        """The events of a good end; none if there was no reason to end."""
        if self._reason is None:
            return
        yield from self._close()
        for block in self._tools.values():
            yield {"type": "content_block_stop", "index": block}
        reason = "refusal" if self._refused else self._reason
        delta = {"stop_reason": reason, "stop_sequence": None}
        yield {"type": "message_delta", "delta": delta, "usage": self._usage}
        yield {"type": "message_stop"}

    def _said(self, delta: Body) -> Iterator[Body]:
        thought = next((delta[k] for k in _THOUGHTS if isinstance(delta.get(k), str)), "")
        if thought:
            yield from self._into("thinking", {"type": "thinking", "thinking": "", "signature": ""})
            yield self._add({"type": "thinking_delta", "thinking": thought})
        blocks = delta.get("thinking_blocks")
        for block in blocks if isinstance(blocks, list) else []:
            signature = block.get("signature") if isinstance(block, dict) else None
            if signature and self._open == "thinking":
                yield self._add({"type": "signature_delta", "signature": signature})
        for key in ("content", "refusal"):
            text = delta.get(key)
            if isinstance(text, str) and text:
                self._refused |= key == "refusal"
                yield from self._into("text", {"type": "text", "text": ""})
                yield self._add({"type": "text_delta", "text": text})
        calls = delta.get("tool_calls")
        for call in calls if isinstance(calls, list) else []:
            if isinstance(call, dict):
                yield from self._called(call)

    def _into(self, kind: str, block: Body) -> Iterator[Body]:
        if self._open != kind:
            yield from self._close()
            self._open = kind
            yield {"type": "content_block_start", "index": self._blocks, "content_block": block}
            self._blocks += 1

    def _close(self) -> Iterator[Body]:
        if self._open is not None:
            self._open = None
            yield {"type": "content_block_stop", "index": self._blocks - 1}

    def _add(self, delta: Body) -> Body:
        # While words come, their block is the newest: that of a tool closes it.
        return {"type": "content_block_delta", "index": self._blocks - 1, "delta": delta}

    def _called(self, call: Body) -> Iterator[Body]:
        number = call.get("index")
        key = number if type(number) is int else 0
        function = call.get("function")
        function = function if isinstance(function, dict) else {}
        if key not in self._tools:
            yield from self._close()
            self._tools[key] = self._blocks
            use = {"type": "tool_use", "id": call.get("id"), "name": function.get("name")}
            yield {
                "type": "content_block_start",
                "index": self._blocks,
                "content_block": {**use, "input": {}},
            }
            self._blocks += 1
        if isinstance(arguments := function.get("arguments"), str) and arguments:
            yield {
                "type": "content_block_delta",
                "index": self._tools[key],
                "delta": {"type": "input_json_delta", "partial_json": arguments},
            }


def _event(body: Body) -> Event:
    return Event(orjson.dumps(body), body, False, named(body), str(body["type"]))


def _head(reply: Body) -> Body:
    return {
        "id": str(reply.get("id") or "msg_unknown"),
        "type": "message",
        "role": "assistant",
        "model": str(reply.get("model") or ""),
    }


def _thoughts(said: Body) -> list[Body]:
    blocks = said.get("thinking_blocks")
    if isinstance(blocks, list) and blocks:
        return [block for block in blocks if isinstance(block, dict)]
    thought = next((said[key] for key in _THOUGHTS if isinstance(said.get(key), str)), "")
    return [{"type": "thinking", "thinking": thought, "signature": ""}] if thought else []


def _tool_use(call: Any) -> Body:
    function = call.get("function") if isinstance(call, dict) else None
    if not isinstance(function, dict):
        raise UpstreamError("protocol", "The model's server sent a reply of unknown shape.")
    try:
        value = orjson.loads(function.get("arguments") or "{}")
    except (orjson.JSONDecodeError, TypeError):
        value = None
    if not isinstance(value, dict):
        raise UpstreamError("protocol", "The model called a tool with what is no JSON object.")
    return {"type": "tool_use", "id": call.get("id"), "name": function.get("name"), "input": value}


def _stop_reason(finish: Any) -> str | None:
    return None if finish is None else STOP_REASONS.get(str(finish), "end_turn")


def _usage(usage: Any) -> Body:
    told = usage if isinstance(usage, dict) else {}
    details = told.get("prompt_tokens_details")
    cached = _tokens(details.get("cached_tokens")) if isinstance(details, dict) else 0
    return {
        "input_tokens": max(0, _tokens(told.get("prompt_tokens")) - cached),
        "cache_read_input_tokens": cached,
        "output_tokens": _tokens(told.get("completion_tokens")),
    }


def _tokens(value: Any) -> int:
    return value if type(value) is int and value >= 0 else 0
