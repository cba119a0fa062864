"""Responses that are made here, whole and as streams, and the end of a stream that is cut."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from policies.decision import Reply
from proxy.endpoints.base import Body, ReplyContext, Usage
from proxy.endpoints.responses_progress import Sent
from proxy.sse import encode

_LOCAL = "resp_doorman"
_LOCAL_ID = re.compile(r"resp_doorman[0-9a-f]{24}(?:_(?P<before>.+))?")

Status = Literal["in_progress", "completed", "incomplete"]

_PIECE_CHARS = 200
"""How much text an event of a local answer holds; nobody waits for it, so few events do."""


@dataclass(frozen=True, slots=True)
class _Form:
    """How a reply is told: a request that was refused is answered with a refusal, an answer that
    was stopped is incomplete, a local answer is an answer."""

    kind: Literal["output_text", "refusal"]
    key: Literal["text", "refusal"]
    status: Status

    @classmethod
    def of(cls, reply: Reply, context: ReplyContext) -> _Form:
        if reply.finish_reason == "stop":
            return cls("output_text", "text", "completed")
        if context.written:
            return cls("output_text", "text", "incomplete")
        return cls("refusal", "refusal", "completed")

    def part(self, text: str) -> Body:
        if self.kind == "refusal":
            return {"type": "refusal", "refusal": text}
        return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def answer(reply: Reply, context: ReplyContext, usage: Usage | None) -> Body:
    """A complete response."""
    form = _Form.of(reply, context)
    item = _message(context, form.status, [form.part(reply.content)])
    return _ended(_response(context), form.status, [item], usage)


def answer_events(
    reply: Reply, context: ReplyContext, sent: Sent, usage: Usage | None
) -> list[bytes]:
    """The events that are missing to end a stream with a reply.

    Args:
        sent: what the client has seen. Where that is no word of a message, it is shown the reply;
            otherwise what is open is closed, and the last event says why it is incomplete.
    """
    form, events = _Form.of(reply, context), _Events(sent.next)
    response = sent.response
    if response is None:
        response = _response(context)
        events.add("response.created", response=response)
        events.add("response.in_progress", response=response)
    place = None if sent.heard else sent.silent_part()
    if place is not None:
        item, part = place
        _say(events, form, sent.items[item]["id"], item, part, reply.content, begun=True)
        sent.items[item]["content"][part] = form.part(reply.content)
        sent.parts.discard((item, "content", part))
    for closing in _closed(sent, form.status):
        events.add(**closing)
    if not sent.heard and place is None:
        number = max(sent.items, default=-1) + 1
        empty = _message(context, "in_progress", [])
        events.add("response.output_item.added", output_index=number, item=empty)
        _say(events, form, empty["id"], number, 0, reply.content, begun=False)
        item_done = _message(context, form.status, [form.part(reply.content)])
        events.add("response.output_item.done", output_index=number, item=item_done)
        sent.items[number] = item_done
    output = [sent.items[number] for number in sorted(sent.items)]
    events.add(f"response.{form.status}", response=_ended(response, form.status, output, usage))
    return events.encoded


def error_events(message: str, code: str, type: str, number: int) -> list[bytes]:
    """The event that ends a stream with an error.

    Its fields are those of the API; ``error`` says them once more, because the openai SDK raises
    ``APIError`` for that and hands on an event without it as if nothing had happened.
    """
    told = {"message": message, "param": None, "code": code}
    event = {"type": "error", "sequence_number": number, **told, "error": {**told, "type": type}}
    return [encode(event, name="error")]


def local_id(id: str, before: Any) -> str:
    """The identifier of a response made here. No upstream knows it, so it names the response before
    it, with which a conversation goes on that continues from it.

    Args:
        before: the request's ``previous_response_id``.
    """
    behind = origin(before) if isinstance(before, str) else None
    made = _LOCAL + id.removeprefix("resp_")
    return made if behind is None else f"{made}_{behind}"


def origin(id: str) -> str | None:
    """The upstream's response that an identifier leads to, None for the beginning."""
    found = _LOCAL_ID.fullmatch(id)
    return id if found is None else found["before"]


class _Events:
    """Events with their numbers."""

    def __init__(self, number: int) -> None:
        self._number = number
        self.encoded: list[bytes] = []

    def add(self, type: str, **fields: Any) -> None:
        """One more."""
        event = {"type": type, "sequence_number": self._number, **fields}
        self.encoded.append(encode(event, name=type))
        self._number += 1


def _say(
    events: _Events, form: _Form, id: Any, item: int, part: int, text: str, *, begun: bool
) -> None:
    """A text as a content part; ``begun`` where the client knows of the part."""
    at = {"item_id": id, "output_index": item, "content_index": part}
    copies: Body = {"logprobs": []} if form.kind == "output_text" else {}
    if not begun:
        events.add("response.content_part.added", **at, part=form.part(""))
    for start in range(0, len(text), _PIECE_CHARS):
        piece = text[start : start + _PIECE_CHARS]
        events.add(f"response.{form.kind}.delta", **at, delta=piece, **copies)
    events.add(f"response.{form.kind}.done", **at, **{form.key: text}, **copies)
    events.add("response.content_part.done", **at, part=form.part(text))


def _closed(sent: Sent, status: Status) -> Iterator[Body]:
    """Ends of what is open. The arguments of a tool call get none: no client is to act on a half."""
    for item, name, position in sorted(sent.parts):
        part = sent.items[item][name][position]
        kind = {"text": "output_text", "summary_text": "reasoning_summary_text"}.get(
            part.get("type"), part.get("type")
        )
        content = name == "content"
        counter = "content_index" if content else "summary_index"
        at = {"item_id": sent.items[item].get("id"), "output_index": item, counter: position}
        key = "refusal" if kind == "refusal" else "text"
        if isinstance(part.get(key), str):
            copies: Body = {"logprobs": []} if kind == "output_text" else {}
            yield {"type": f"response.{kind}.done", **at, key: part[key], **copies}
        ended = "content_part" if content else "reasoning_summary_part"
        yield {"type": f"response.{ended}.done", **at, "part": part}
    for item in sorted(sent.open):
        sent.items[item]["status"] = status
        yield {
            "type": "response.output_item.done",
            "output_index": item,
            "item": sent.items[item],
        }


def _response(context: ReplyContext) -> Body:
    """A response that has only begun."""
    return {
        "id": context.id,
        "object": "response",
        "created_at": context.created,
        "status": "in_progress",
        "background": False,
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "max_output_tokens": None,
        "metadata": {},
        "model": context.model,
        "output": [],
        "parallel_tool_calls": True,
        "previous_response_id": None,
        "reasoning": {"effort": None, "summary": None},
        "store": False,
        "temperature": None,
        "text": {"format": {"type": "text"}},
        "tool_choice": "auto",
        "tools": [],
        "top_p": None,
        "truncation": "disabled",
        "usage": None,
        "user": None,
    }


def _ended(response: Body, status: Status, output: list[Body], usage: Usage | None) -> Body:
    reason = {"reason": "content_filter"} if status == "incomplete" else None
    return {
        **response,
        "status": status,
        "incomplete_details": reason,
        "output": output,
        "usage": _usage(usage or Usage(0, 0)),
    }


def _message(context: ReplyContext, status: Status, content: list[Body]) -> Body:
    return {
        "id": f"msg_{context.id[len(_LOCAL) :][:24]}",
        "type": "message",
        "status": status,
        "role": "assistant",
        "content": content,
    }


def _usage(usage: Usage) -> Body:
    return {
        "input_tokens": usage.prompt_tokens,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": usage.completion_tokens,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
    }
