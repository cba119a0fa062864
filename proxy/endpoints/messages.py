"""``POST /v1/messages``: Anthropic's API."""

from __future__ import annotations

import re
from collections.abc import Collection, Hashable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

from classifiers.types import Text
from policies.decision import Reply
from proxy.endpoints import leaves, messages_errors, messages_request
from proxy.endpoints.base import (
    Address,
    Body,
    Delta,
    Endpoint,
    Progress,
    ReplyContext,
    Usage,
)
from proxy.endpoints.messages_blocks import Leaf, is_part, joined, odd, texts, unread, walk
from proxy.endpoints.messages_events import (
    Seen,
    ending,
    message,
    named,
    stop_reason,
)
from proxy.errors import Answer

_NAMES = frozenset({"id", "model"})
"""Fields that name a reply. A value of the usual form holds no text."""

_NAME = re.compile(r"[!-~]{0,128}")

_INDEXED = frozenset({"content_block_start", "content_block_delta", "content_block_stop"})
_HOLDERS = {"content_block_start": "content_block", "content_block_delta": "delta"}
"""Events of a block, and where the text of those that have some stands."""

_STREAMED = frozenset({"text", "thinking", "partial_json"})
"""Keys of strings that go on from event to event."""


class Messages(Endpoint):
    """The messages API. In a stream each content block is a choice of its own, as far as holding
    back goes: what is held of a block goes when the block ends."""

    name = "messages"
    path = "/v1/messages"
    operation = "chat"
    id_prefix = "msg_"
    ends_itself: ClassVar[bool] = True

    def validate(self, body: Body) -> None:
        messages_request.validate(body)

    def texts(self, body: Body) -> list[Text]:
        return messages_request.request_texts(body)

    def unread(self, body: Body) -> list[Address]:
        return unread(body, ())

    def reply_texts(self, reply: Body) -> list[Text]:
        found: list[Text] = []
        for key, value in reply.items():
            own = Text("", "assistant", (key,), "output")
            if key == "usage":  # its keys are many, and say nothing
                below = [
                    replace(own, content=leaf.text, address=leaf.address)
                    for leaf in walk(value, (key,), own.role)
                    if leaf.readable
                ]
            elif not (key in _NAMES and _is_name(value)):
                below = list(texts(value, own))
            else:
                continue
            # Whether a tool has said it makes no difference: all of it goes to the client.
            found += [replace(text, role="assistant") for text in below]
        return [*found, *joined([text for text in found if is_part(text)])]

    def deltas(self, event: Body) -> list[Delta]:
        return [_delta(event, leaf) for leaf in _event_strings(event) if leaf.readable]

    def finished(self, event: Body) -> Sequence[Hashable]:
        index = event.get("index")
        ended = event.get("type") == "content_block_stop" and type(index) is int
        return [index] if ended else []

    def ends(self, event: Body) -> bool:
        return event.get("type") == "message_stop"

    def failed(self, event: Body) -> bool:
        return event.get("type") == "error" or bool(event.get("error"))

    def usage(self, reply: Body) -> Usage | None:
        if reply.get("type") == "message_start":
            inner = reply.get("message")
            reply = inner if isinstance(inner, dict) else {}
        usage = reply.get("usage")
        if not isinstance(usage, dict):
            return None
        read = [_count(usage.get(key)) for key in _INPUT_TOKENS]
        written = _count(usage.get("output_tokens"))
        known = [count for count in read if count is not None]
        if written is None or (reply.get("type") == "message" and not known):
            return None
        return Usage(sum(known), written)

    def counted(self, earlier: Usage | None, later: Usage | None) -> Usage | None:
        if earlier is None or later is None or later.prompt_tokens:
            return later or earlier
        return Usage(earlier.prompt_tokens, later.completion_tokens)

    def is_json(self, address: Address) -> bool:
        return address[-1:] == ("partial_json",)

    def sound(self, body: Body) -> bool:
        kind = body.get("type")
        if kind == "message":
            content = body.get("content")
            blocks = isinstance(content, list) and all(isinstance(item, dict) for item in content)
            return blocks and not odd(body)
        if not isinstance(kind, str) or next(leaves.odd_keys(body), None) is not None:
            return False
        if kind not in _INDEXED:
            return True
        index, holder = body.get("index"), _HOLDERS.get(kind)
        held = holder is None or isinstance(body.get(holder), dict)
        return type(index) is int and index >= 0 and held

    def progress(self) -> Progress:
        return Seen()

    def answer(self, reply: Reply, context: ReplyContext, *, usage: Usage | None = None) -> Body:
        content = [{"type": "text", "text": reply.content}]
        return message(context, content, stop_reason(reply), usage)

    def answer_events(self, reply: Reply, context: ReplyContext) -> list[bytes]:
        return ending(reply, context, Seen(), None)

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
        seen = context.progress if isinstance(context.progress, Seen) else Seen()
        return ending(reply, context, seen, usage)

    def error_events(
        self,
        message: str,
        *,
        code: str,
        type: str = "server_error",
        progress: Progress | None = None,
    ) -> list[bytes]:
        error = {"type": messages_errors.kind(None, code, type), "message": message}
        return [named(messages_errors.body(error))]

    def shaped(self, answer: Answer, request_id: str) -> Answer:
        return messages_errors.shaped(answer, request_id)

    def context(self, body: Mapping[str, Any], *, id: str, created: int) -> ReplyContext:
        return ReplyContext(id=id, model=str(body.get("model", "")), created=created)


_INPUT_TOKENS = ("input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens")
"""What the prompt is made up of."""


def _count(value: Any) -> int | None:
    """A number of tokens, None for what is none: servers have bugs, and bills are made of this."""
    return value if type(value) is int and value >= 0 else None


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and _NAME.fullmatch(value) is not None


def _event_strings(event: Body) -> Iterator[Leaf]:
    for key, value in event.items():
        if key in _NAMES and _is_name(value):
            continue
        for leaf in walk(value, (key,), "assistant"):
            name = key == "message" and len(leaf.address) == 2 and leaf.key in _NAMES
            if not (name and _is_name(leaf.text)):
                yield leaf


def _delta(event: Body, leaf: Leaf) -> Delta:
    """A string and the text that it is a piece of. Those of a block go by its number; what comes
    whole (names, results of tools, citations) stays by itself."""
    kind, index, at = event.get("type"), event.get("index"), leaf.address
    choice: tuple[Hashable, ...] = (kind if isinstance(kind, str) else "",)
    if kind in _HOLDERS and type(index) is int:
        choice = (index,)
    goes_on = len(at) == 2 and (leaf.key in _STREAMED or kind == "content_block_delta")
    return Delta(
        (*choice, leaf.key) if goes_on else (*choice, *at),
        leaf.text,
        at,
        json=leaf.key == "partial_json",
        whole=not goes_on,
        flow="text" if goes_on and leaf.key == "text" else None,
    )
