"""Anthropic's messages and their streams, made here: answers, and the end of a stream cut short."""

from __future__ import annotations

from typing import Any

from policies.decision import Reply
from proxy.endpoints.base import Body, ReplyContext, Usage
from proxy.sse import encode

STOP_REASONS = {"content_filter": "refusal", "stop": "end_turn"}
"""Why a reply of the gateway ends -> Anthropic's word for it."""

_PIECE_CHARS = 200
"""How much text an event holds; nobody waits for it, so few events do."""


class Seen:
    """What the client has seen of a stream: what an end of it has to close.

    Attributes:
        begun: the message has begun.
        open: blocks that have begun and not ended; of those, ``texts`` are to be read.
        blocks: how many have begun; the number of the next one.
        said: some text of the answer has left.
        stopped: the client knows why the message ends.
    """

    def __init__(self) -> None:
        self.begun = False
        self.open: set[int] = set()
        self.texts: set[int] = set()
        self.blocks = 0
        self.said = False
        self.stopped = False

    def note(self, event: Body) -> None:
        """See :class:`proxy.endpoints.base.Progress`."""
        kind, index = event.get("type"), event.get("index")
        if kind == "message_start":
            self.begun = True
        elif kind == "message_delta":
            delta = event.get("delta")
            self.stopped |= isinstance(delta, dict) and delta.get("stop_reason") is not None
        elif type(index) is int and index >= 0:
            self.blocks = max(self.blocks, index + 1)
            if kind == "content_block_start":
                self.open.add(index)
                block = event.get("content_block")
                if isinstance(block, dict) and block.get("type") == "text":
                    self.texts.add(index)
                self._say(block)
            elif kind == "content_block_delta":
                self._say(event.get("delta"))
            elif kind == "content_block_stop":
                self.open.discard(index)
                self.texts.discard(index)

    def _say(self, part: Any) -> None:
        if isinstance(part, dict) and part.get("type") in ("text", "text_delta"):
            self.said |= bool(part.get("text"))


def message(
    context: ReplyContext, content: list[Body], stop_reason: str | None, usage: Usage | None
) -> Body:
    """A message of the API."""
    return {
        "id": context.id,
        "type": "message",
        "role": "assistant",
        "model": context.model,
        "content": content,
        "stop_reason": stop_reason,
        "stop_sequence": None,
        "usage": counted(usage),
    }


def counted(usage: Usage | None) -> dict[str, int]:
    """Tokens in Anthropic's words; zero where no model was called."""
    used = usage or Usage(0, 0)
    return {"input_tokens": used.prompt_tokens, "output_tokens": used.completion_tokens}


def stop_reason(reply: Reply) -> str:
    """Why a reply that was made here ends."""
    return STOP_REASONS.get(reply.finish_reason, "end_turn")


def ending(reply: Reply, context: ReplyContext, seen: Seen, usage: Usage | None) -> list[bytes]:
    """The events that end a stream well-formed, after what the client has seen of it: the policy's
    words unless it has some words of the model already, and the reason."""
    events: list[Body] = []
    if not seen.begun:
        events.append({"type": "message_start", "message": message(context, [], None, usage)})
    words = "" if seen.said else reply.content
    place = min(seen.texts, default=None)  # a block that has begun without a word
    if words and place is not None:
        events += _deltas(place, words)
    events += [{"type": "content_block_stop", "index": index} for index in sorted(seen.open)]
    if words and place is None:
        events += _text_block(seen.blocks, words)
    if not seen.stopped:
        events.append(
            {
                "type": "message_delta",
                "delta": {"stop_reason": stop_reason(reply), "stop_sequence": None},
                "usage": counted(usage),
            }
        )
    events.append({"type": "message_stop"})
    return [named(event) for event in events]


def _text_block(index: int, text: str) -> list[Body]:
    return [
        {
            "type": "content_block_start",
            "index": index,
            "content_block": {"type": "text", "text": ""},
        },
        *_deltas(index, text),
        {"type": "content_block_stop", "index": index},
    ]


def _deltas(index: int, text: str) -> list[Body]:
    pieces = [text[at : at + _PIECE_CHARS] for at in range(0, len(text), _PIECE_CHARS)]
    return [
        {
            "type": "content_block_delta",
            "index": index,
            "delta": {"type": "text_delta", "text": piece},
        }
        for piece in pieces
    ]


def named(event: Body) -> bytes:
    """An event as it goes out: Anthropic's clients read nothing without its name."""
    return encode(event, name=str(event["type"]))
