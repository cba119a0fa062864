"""``POST /v1/chat/completions``."""

from __future__ import annotations

import re
from collections.abc import Collection, Hashable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from classifiers.types import Text
from policies.decision import Reply
from proxy.endpoints import chat_request, derived, leaves, words
from proxy.endpoints.base import Address, Body, Delta, Endpoint, ReplyContext, Usage
from proxy.endpoints.reply_keys import REPLY_KEYS
from proxy.sse import DONE, encode

_REPEATED = frozenset(
    {
        "citations", "created", "id", "images", "model", "moderation", "object", "related_questions",
        "search_results", "usage", "x_groq",
    }
)  # fmt: skip
"""Top-level fields that come again with every event of a stream."""

_NAMES = frozenset({"id", "object", "created", "model", "obfuscation"})
"""Top-level fields that name a reply, or pad its events with random characters. A value of the usual
form holds no text."""

_NAME = re.compile(r"[!-~]{0,128}")

_PLAIN_CHOICE = frozenset({"index", "message", "delta", "finish_reason", "logprobs"})
_PLAIN_MESSAGE = frozenset({"role", "content", "refusal", "annotations", "tool_calls", "audio"})
"""Of these all but the role and the content are empty where there is but one text."""
_ROLES = ("assistant",)
_HOLDING = (dict, list)
_KNOWN = leaves.KNOWN_KEYS | REPLY_KEYS
_SIMPLE = _NAMES | {"choices", "system_fingerprint", "service_tier", "usage"}

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

    def unread(self, body: Body) -> list[Address]:
        return chat_request.unread(body)

    def reply_texts(self, reply: Body) -> list[Text]:
        found = [Text(text, "assistant", at, "output") for at, text in _reply_strings(reply)]
        made = [text for own in found for text in derived.decoded(own)]
        made += (Text(t, "assistant", at, "output", derived=True) for at, t in _reply_names(reply))
        for position in range(len(_choices(reply))):
            said = [text for text in found if text.address[1:2] == (position,) and _is_said(text)]
            if len(said) > 1:
                made += derived.joined(said)
        return [*found, *made]

    def deltas(self, event: Body) -> list[Delta]:
        return [
            Delta(
                channel := _channel(event, at),
                text,
                at,
                json=self.is_json(at),
                whole=channel[0] in _REPEATED or channel[-1] in leaves.PROTOCOL_KEYS,
                flow=channel[0] if _is_content(channel[1:]) else None,
            )
            for at, text in _reply_strings(event)
        ]

    def names(self, event: Body) -> list[Delta]:
        found = _reply_names(event)
        return [Delta(("name",), text, at, whole=True, name=True) for at, text in found]

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

    def late(self, event: Body, finished: Collection[Hashable]) -> bool:
        return any(
            choice.get("finish_reason") is not None
            or next(leaves.texts(choice.get("delta")), None) is not None
            for position, choice in enumerate(_choices(event))
            if _index(choice, position) in finished
        )

    def is_json(self, address: Address) -> bool:
        return address[-1:] == ("arguments",)

    def scrub(self, body: Body, address: Address) -> None:
        if address[:1] == ("choices",) and len(address) > 1:
            choice = body["choices"][address[1]]
            if choice.get("logprobs") is not None:
                choice["logprobs"] = None

    def reply_unscanned(self, reply: Body) -> list[str]:
        return [] if _is_simple(reply) else super().reply_unscanned(reply)

    def sound(self, body: Body) -> bool:
        if _is_simple(body):
            return True
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
        if (plain := _plain(choice)) is None:
            yield from leaves.texts(leaves.without(choice, ("logprobs",)), ("choices", position))
        elif plain[1]:
            yield ("choices", position, plain[0], "content"), plain[1]
    given = ((key, reply.get(key)) for key in _NAMES)
    named = [key for key, it in given if isinstance(it, str) and _NAME.fullmatch(it)]
    # In a request a model's name is no text; in a reply it is what the server chose to write.
    model = reply.get("model")
    if isinstance(model, str) and "model" not in named:
        yield ("model",), model
        named.append("model")
    yield from leaves.texts(leaves.without(reply, ("choices", *named)))


def _reply_names(reply: Body) -> Iterator[tuple[Address, str]]:
    """The keys of a reply that no API knows, and what encoded data in it decodes to."""
    if _is_simple(reply):
        return
    rest = leaves.names(leaves.without(reply, ("choices",)))
    for position, choice in enumerate(_choices(reply)):
        if _plain(choice) is not None:
            continue
        found = leaves.names(leaves.without(choice, ("logprobs",)), ("choices", position))
        yield from ((at, name) for at, name in found if at[-1] not in REPLY_KEYS)
    yield from ((at, name) for at, name in rest if at[-1] not in REPLY_KEYS)


def _plain(choice: Body) -> tuple[str, str] | None:
    """What a choice says that has one text at most, as nearly all do: the name of the object that
    holds it, and the text. None where a walk has to find the texts, and for any field of another kind."""
    if not _PLAIN_CHOICE.issuperset(choice):
        return None
    place = "delta" if "delta" in choice else "message"
    own, ended = choice.get(place), choice.get("finish_reason")
    if own.__class__ is not dict or (place == "delta" and "message" in choice):
        return None
    if not _PLAIN_MESSAGE.issuperset(own) or choice.get("index", 0).__class__ is not int:
        return None
    content = own.get("content", "")
    for name, value in own.items():
        if value and name != "content" and (name != "role" or value not in _ROLES):
            return None
    if ended is not None and (ended.__class__ is not str or ended not in words.VALUES):
        return None
    if content is None:
        return place, ""
    return (place, content) if content.__class__ is str else None


def _is_simple(body: Body) -> bool:
    """Whether a reply or an event has nothing in it but one text a choice and what every API has beside
    it: no name that is a text, nothing that cannot be read."""
    if not _SIMPLE.issuperset(body) or not _is_counts(body.get("usage")):
        return False
    for key, value in body.items():
        if value.__class__ in _HOLDING and key != "choices" and key != "usage":
            return False
    choices = body.get("choices")
    if choices.__class__ is not list:
        return False
    for choice in choices:
        if choice.__class__ is not dict or choice.get("index", 0).__class__ is not int:
            return False
        if choice.get("index", 0) < 0 or _plain(choice) is None:
            return False
    return True


def _is_counts(usage: Any) -> bool:
    """Whether there are but numbers, by names that APIs know."""
    if usage is None:
        return True
    if usage.__class__ is not dict or not _KNOWN.issuperset(usage):
        return False
    for value in usage.values():
        if value.__class__ is int or value is None:
            continue
        if value.__class__ is not dict or not _KNOWN.issuperset(value):
            return False
        if any(count.__class__ is not int and count is not None for count in value.values()):
            return False
    return True


def _is_said(text: Text) -> bool:
    return text.address[2:3] == ("message",) and _is_content(text.address[3:])


def _is_content(place: Sequence[Hashable]) -> bool:
    """Whether a place in a message is of what the reader sees: its content, in parts or not, or
    the refusal beside it."""
    names = [key for key in place if isinstance(key, str)]
    return names in (["content"], ["content", "text"], ["content", "refusal"], ["refusal"])


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
