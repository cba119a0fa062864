"""``POST /v1/chat/completions``."""

from __future__ import annotations

import re
from collections.abc import Collection, Hashable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from classifiers.types import Text
from policies.decision import Reply
from proxy.endpoints import chat_request, derived, leaves
from proxy.endpoints.base import Address, Body, Delta, Endpoint, ReplyContext, Usage
from proxy.sse import DONE, encode

_REPEATED = frozenset(
    {
        "citations", "created", "id", "images", "model", "moderation", "object", "related_questions",
        "search_results", "usage", "x_groq",
    }
)  # fmt: skip
"""Top-level fields that come again with every event of a stream."""

_NAMES = frozenset({"id", "object", "created", "model"})
"""Top-level fields that name a reply. A value of the usual form holds no text."""

_NAME = re.compile(r"[!-~]{0,128}")

_PIECE_CHARS = 200
"""How much text an event of a local answer holds; nobody waits for it, so few events do."""


class Chat(Endpoint):
    """The chat completions API of OpenAI and of everyone who speaks it."""

    name = "chat.completions"
    path = "/v1/chat/completions"
    operation = "chat"

    def validate(self, body: Body) -> None:
        chat_request.validate(body)

    def texts(self, body: Body) -> list[Text]:
        return chat_request.texts(body)

    def unscanned(self, body: Body) -> list[str]:
        messages = body.get("messages")
        found = leaves.unreadable(messages, ("messages",))
        return [".".join(map(str, leaves.shown(at))) for at in found]

    def reply_texts(self, reply: Body) -> list[Text]:
        found = [Text(text, "assistant", at, "output") for at, text in _reply_strings(reply)]
        return [*found, *(made for text in found for made in derived.decoded(text))]

    def deltas(self, event: Body) -> list[Delta]:
        return [
            Delta(
                channel := _channel(event, at),
                text,
                at,
                json=self.is_json(at),
                whole=channel[0] in _REPEATED,
            )
            for at, text in _reply_strings(event)
        ]

    def finished(self, event: Body) -> Sequence[Hashable]:
        return [
            _index(choice, position)
            for position, choice in enumerate(_choices(event))
            if choice.get("finish_reason") is not None
        ]

    def opened(self, event: Body) -> Sequence[Hashable]:
        return [
            _index(choice, position)
            for position, choice in enumerate(_choices(event))
            if isinstance(delta := choice.get("delta"), dict) and delta.get("role") is not None
        ]

    def continued(self, context: ReplyContext, event: Body) -> ReplyContext:
        id, model, created = (event.get(name) for name in ("id", "model", "created"))
        return replace(
            context,
            id=id if isinstance(id, str) else context.id,
            model=model if isinstance(model, str) else context.model,
            created=created if type(created) is int else context.created,
        )

    def usage(self, reply: Body) -> Usage | None:
        usage = reply.get("usage")
        if not isinstance(usage, dict):
            return None
        prompt, completion = _count(usage.get("prompt_tokens")), usage.get("completion_tokens")
        # Embedding-like replies count no completion.
        counted = 0 if completion is None else _count(completion)
        return None if prompt is None or counted is None else Usage(prompt, counted)

    def is_json(self, address: Address) -> bool:
        return address[-1:] == ("arguments",)

    def scrub(self, body: Body, address: Address) -> None:
        if address[:1] == ("choices",) and len(address) > 1:
            choice = body["choices"][address[1]]
            if choice.get("logprobs") is not None:
                choice["logprobs"] = None

    def sound(self, body: Body) -> bool:
        choices = body.get("choices")
        if choices is None:
            choices = []
        return (
            isinstance(choices, list)
            and all(isinstance(choice, dict) and _sound_index(choice) for choice in choices)
            and next(leaves.odd_keys(body), None) is None
        )

    def strip(self, body: Body) -> None:
        for choice in _choices(body):
            if choice.get("logprobs") is not None:
                choice["logprobs"] = None

    def answer(self, reply: Reply, context: ReplyContext, *, usage: Usage | None = None) -> Body:
        message = {"role": "assistant", "content": reply.content, "refusal": None}
        return {
            "id": context.id,
            "object": "chat.completion",
            "created": context.created,
            "model": context.model,
            "choices": [
                {
                    "index": index,
                    "message": dict(message),
                    "logprobs": None,
                    "finish_reason": reply.finish_reason,
                }
                for index in range(context.choices)
            ],
            "usage": _usage(usage or Usage(0, 0)),
        }

    def answer_events(self, reply: Reply, context: ReplyContext) -> list[bytes]:
        everyone = range(context.choices)
        return self.cut_events(reply, context, everyone, silent=everyone)

    def cut_events(
        self,
        reply: Reply,
        context: ReplyContext,
        open_choices: Sequence[int],
        *,
        silent: Sequence[int] = (),
        opened: Collection[Hashable] = (),
        usage: Usage | None = None,
    ) -> list[bytes]:
        events: list[Body] = []
        for index in open_choices:
            if index in silent:
                if index not in opened:
                    head_delta = {"role": "assistant", "content": "", "refusal": None}
                    events.append(_choice(index, head_delta))
                events += [_choice(index, {"content": part}) for part in _pieces(reply.content)]
            events.append(_choice(index, {}, reply.finish_reason))
        head: Body = {
            "id": context.id,
            "object": "chat.completion.chunk",
            "created": context.created,
            "model": context.model,
        }
        if context.include_usage:
            head["usage"] = None
            events.append({"choices": [], "usage": _usage(usage or Usage(0, 0))})
        return [encode(head | event) for event in events] + [DONE]


def _reply_strings(reply: Body) -> Iterator[tuple[Address, str]]:
    """Every text of a reply or of an event.

    Log probabilities are left out: they repeat the text of their own event token by token, and are
    dropped when it is rewritten (``scrub``) or any rule looks at replies (``strip``).
    """
    for position, choice in enumerate(_choices(reply)):
        yield from leaves.texts(leaves.without(choice, ("logprobs",)), ("choices", position))
    named = [key for key in _NAMES if _NAME.fullmatch(str(reply.get(key, "")))]
    yield from leaves.texts(leaves.without(reply, ("choices", *named)))


def _choices(reply: Body) -> list[Body]:
    choices = reply.get("choices")
    # Positions are addresses, so what is no object keeps its place as an empty one.
    items = choices if isinstance(choices, list) else []
    return [choice if isinstance(choice, dict) else {} for choice in items]


def _sound_index(choice: Body) -> bool:
    index = choice.get("index", 0)
    return type(index) is int and index >= 0  # 0.0 and true are equal to numbers elsewhere


def _index(choice: Body, position: int) -> int:
    index = choice.get("index")
    return index if isinstance(index, int) else position


def _channel(event: Body, address: Address) -> tuple[Hashable, ...]:
    """Strings of equal channel join over the events of a stream.

    Elements that carry an ``index`` (choices, tool calls) go by it and not by their position,
    because an event lists only those that it adds to.
    """
    names: list[Hashable] = []
    node: Any = event
    for key in address:
        node = node[key]
        if isinstance(key, int):
            names.append(_index(node, key) if isinstance(node, dict) else key)
        else:
            names.append(key)
    if names[0] != "choices":
        return tuple(names)
    return tuple(names[1:2] + names[3:] if names[2:3] == ["delta"] else names[1:])


def _choice(index: int, delta: Body, finish_reason: str | None = None) -> Body:
    choice = {"index": index, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
    return {"choices": [choice]}


def _pieces(text: str) -> list[str]:
    return [text[at : at + _PIECE_CHARS] for at in range(0, len(text), _PIECE_CHARS)]


def _count(value: Any) -> int | None:
    """A number of tokens, None for what is none: servers have bugs, and bills are made of this."""
    return value if type(value) is int and value >= 0 else None


def _usage(usage: Usage) -> dict[str, int]:
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
    }
