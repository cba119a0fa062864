"""Which requests of an API a stored reply can answer, and which replies are whole enough to store.

Both lists of fields are closed: a field that stands in neither may have an effect that nobody here
knows (tools, searches, stored conversations), and its request always goes to the model.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from proxy.endpoints.base import Body


@dataclass(frozen=True, slots=True)
class Read:
    """What a complete reply says.

    Attributes:
        whole: the model has ended it by itself, with nothing but words.
        text: all of its words, where they are one text and it holds nothing else; None otherwise.
        id, model, created: as the reply names itself.
    """

    whole: bool
    text: str | None = None
    id: str = ""
    model: str = ""
    created: int = 0


NOTHING = Read(False)
_ODD = (AttributeError, IndexError, KeyError, TypeError, ValueError)
"""What reading a reply of another shape raises: servers have bugs."""


@dataclass(frozen=True, slots=True)
class Shape:
    """One API.

    Attributes:
        keyed: fields that change the answer.
        ignored: fields that do not, and are not repeated in it.
        reply: reads a complete reply.
        stream: reads the events of a complete stream; None where there are no streams.
        sampled: the API draws words at random, unless the temperature is 0.
    """

    keyed: frozenset[str]
    ignored: frozenset[str]
    reply: Callable[[Body], Read]
    stream: Callable[[Sequence[Body]], Read] | None
    sampled: bool = True

    def read(self, reply: Body) -> Read:
        """What a complete reply says; nothing whole where its shape is odd."""
        try:
            return self.reply(reply)
        except _ODD:
            return NOTHING

    def read_stream(self, events: Sequence[Body]) -> Read:
        """The same of a stream's events."""
        try:
            return self.stream(events) if self.stream is not None and events else NOTHING
        except _ODD:
            return NOTHING


def _chat_reply(reply: Body) -> Read:
    choice = _only(reply.get("choices"))
    message = choice.get("message")
    if not isinstance(message, dict) or choice.get("finish_reason") != "stop":
        return NOTHING
    return _chat_read(reply, message, choice.get("logprobs"))


def _chat_read(reply: Body, message: Body, logprobs: Any) -> Read:
    content = message.get("content")
    if not isinstance(content, str) or not content or any(map(message.get, _NO_WORDS)):
        return NOTHING
    plain = not logprobs and {key for key, value in message.items() if value} <= _SAID
    return _named(reply, content if plain else None)


def _chat_stream(events: Sequence[Body]) -> Read:
    choices = [choice for event in events for choice in event.get("choices") or ()]
    deltas = [choice.get("delta") or {} for choice in choices]
    if not _ends_once(choices):
        return NOTHING
    joined: Body = {key: True for delta in deltas for key, value in delta.items() if value}
    joined["content"] = "".join(delta.get("content") or "" for delta in deltas)
    return _chat_read(events[0], joined, any(choice.get("logprobs") for choice in choices))


def _completion_reply(reply: Body) -> Read:
    choice = _only(reply.get("choices"))
    text = choice.get("text")
    if not isinstance(text, str) or not text or choice.get("finish_reason") != "stop":
        return NOTHING
    return _named(reply, None if choice.get("logprobs") else text)


def _completion_stream(events: Sequence[Body]) -> Read:
    choices = [choice for event in events for choice in event.get("choices") or ()]
    text = "".join(choice.get("text") or "" for choice in choices)
    if not _ends_once(choices) or not text:
        return NOTHING
    return _named(events[0], None if any(choice.get("logprobs") for choice in choices) else text)


def _response_reply(reply: Body) -> Read:
    output = reply.get("output")
    if reply.get("status") != "completed" or reply.get("error") or not isinstance(output, list):
        return NOTHING
    messages = [item for item in output if item.get("type") == "message"]
    parts = [part for item in messages for part in item.get("content") or ()]
    kinds = {item.get("type") for item in output} | {part.get("type") for part in parts}
    if not parts or not kinds <= {"message", "reasoning", "output_text"}:
        return NOTHING
    plain = len(output) == len(parts) == 1 and not (
        parts[0].get("annotations") or parts[0].get("logprobs")
    )
    return _named(reply, parts[0].get("text") if plain else None, "created_at")


def _response_stream(events: Sequence[Body]) -> Read:
    last = events[-1]
    done = last.get("type") == "response.completed" and isinstance(last.get("response"), dict)
    return _response_reply(last["response"]) if done else NOTHING


def _message_reply(reply: Body) -> Read:
    blocks = reply.get("content")
    if reply.get("stop_reason") not in _ENDS or not isinstance(blocks, list) or not blocks:
        return NOTHING
    if any(block.get("type") != "text" for block in blocks):
        return NOTHING
    plain = len(blocks) == 1 and not blocks[0].get("citations")
    plain = plain and reply.get("stop_reason") == "end_turn"
    return _named(reply, blocks[0].get("text") or None if plain else None)


def _message_stream(events: Sequence[Body]) -> Read:
    message: Body = dict(events[0].get("message") or {})
    blocks: dict[Any, Body] = {}
    for event in events:
        kind, delta = event.get("type"), event.get("delta") or {}
        if kind == "content_block_start":
            blocks[event.get("index")] = dict(event.get("content_block") or {})
        elif kind == "content_block_delta":
            block = blocks.setdefault(event.get("index"), {})
            if delta.get("type") == "text_delta":
                block["text"] = (block.get("text") or "") + (delta.get("text") or "")
            else:
                block["citations"] = True  # more than text
        elif kind == "message_delta":
            message["stop_reason"] = delta.get("stop_reason")
    return _message_reply({**message, "content": [*blocks.values()]})


def _embeddings_reply(reply: Body) -> Read:
    data = reply.get("data")
    whole = isinstance(data, list) and bool(data) and not reply.get("error")
    return Read(whole and all(item.get("embedding") for item in data or ()))


def _only(items: Any) -> Body:
    """The one object of a list, an empty one if it is no such list."""
    if isinstance(items, list) and len(items) == 1 and isinstance(items[0], dict):
        found: Body = items[0]
        return found
    return {}


def _ends_once(choices: Sequence[Body]) -> bool:
    reasons = [choice["finish_reason"] for choice in choices if choice.get("finish_reason")]
    return reasons == ["stop"] and {choice.get("index", 0) for choice in choices} == {0}


def _named(reply: Body, text: str | None, created: str = "created") -> Read:
    id, model, time = reply.get("id"), reply.get("model"), reply.get(created)
    known = isinstance(id, str) and isinstance(model, str)
    at = int(time) if isinstance(time, int | float) else 0
    return Read(True, text if known else None, str(id), str(model), at)


_NO_WORDS = ("refusal", "tool_calls", "function_call", "audio", "images")
_SAID = {"role", "content"}
_ENDS = ("end_turn", "stop_sequence")
_SAMPLING = frozenset({"temperature", "top_p", "top_k", "min_p", "seed", "stop"})
_PENALTIES = frozenset(
    {"frequency_penalty", "presence_penalty", "repetition_penalty", "logit_bias"}
)
_STREAM = frozenset({"model", "stream", "stream_options"})

SHAPES: Mapping[str, Shape] = {
    "chat.completions": Shape(
        _SAMPLING | _PENALTIES | {"messages", "max_tokens", "max_completion_tokens", "n"}
        | {"response_format", "reasoning_effort", "verbosity", "logprobs", "top_logprobs", "service_tier"},
        _STREAM | {"user", "metadata", "safety_identifier", "prompt_cache_key", "prompt_cache_retention"},
        _chat_reply,
        _chat_stream,
    ),
    "completions": Shape(
        _SAMPLING | _PENALTIES | {"prompt", "suffix", "max_tokens", "n", "best_of", "echo", "logprobs"},
        _STREAM | {"user"},
        _completion_reply,
        _completion_stream,
    ),
    # A response repeats most of its request (metadata, user), so all of that is part of the key.
    "responses": Shape(
        _SAMPLING | {"input", "instructions", "max_output_tokens", "text", "reasoning", "truncation"}
        | {"store", "metadata", "user", "safety_identifier", "prompt_cache_key", "service_tier"}
        | {"top_logprobs", "prompt_cache_retention"},
        _STREAM,
        _response_reply,
        _response_stream,
    ),
    "messages": Shape(
        _SAMPLING | {"messages", "system", "max_tokens", "stop_sequences", "service_tier"},
        _STREAM | {"metadata"},
        _message_reply,
        _message_stream,
    ),
    "embeddings": Shape(
        frozenset({"input", "encoding_format", "dimensions"}),
        frozenset({"model", "user"}),
        _embeddings_reply,
        None,
        sampled=False,
    ),
}  # fmt: skip
"""By the name of the endpoint. What is not here is never cached."""
