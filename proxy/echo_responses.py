"""``doorman/echo`` for ``POST /v1/responses``: it repeats the newest text of the input."""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import AsyncIterator
from typing import Any

import orjson

from proxy.endpoints.base import Body
from proxy.prices import estimate_tokens
from proxy.sse import Event, encode

PATH = "responses"
_WORD = re.compile(r"\S+\s*|\s+")


def reply(body: Body, text: str) -> Body:
    """The whole response that says ``text``."""
    return {
        **_head(body),
        "status": "completed",
        "output": [_message(body, "completed", [_part(text)])],
        "usage": _usage(body, text),
    }


async def events(body: Body, text: str) -> AsyncIterator[Event]:
    """The same as a stream, a word at a time."""
    begun = {**_head(body), "status": "in_progress", "output": [], "usage": None}
    item = _message(body, "in_progress", [])
    at = {"item_id": item["id"], "output_index": 0, "content_index": 0}
    told: list[Body] = [
        {"type": "response.created", "response": begun},
        {"type": "response.in_progress", "response": begun},
        {"type": "response.output_item.added", "output_index": 0, "item": item},
        {"type": "response.content_part.added", **at, "part": _part("")},
    ]
    piece: Body = {"type": "response.output_text.delta", **at, "logprobs": []}
    told += ({**piece, "delta": word} for word in _WORD.findall(text))
    done = _message(body, "completed", [_part(text)])
    told += [
        {"type": "response.output_text.done", **at, "text": text, "logprobs": []},
        {"type": "response.content_part.done", **at, "part": _part(text)},
        {"type": "response.output_item.done", "output_index": 0, "item": done},
        {"type": "response.completed", "response": reply(body, text)},
    ]
    for number, event in enumerate(told):
        numbered = {**event, "sequence_number": number}
        raw = encode(numbered, name=event["type"])
        yield Event(orjson.dumps(numbered), numbered, False, raw, event["type"])


def prompt(body: Body) -> str:
    """What is repeated: the input, or the newest message of the user in it."""
    given = body.get("input")
    if isinstance(given, str):
        return given
    for item in reversed(given if isinstance(given, list) else []):
        if isinstance(item, dict) and item.get("role") == "user":
            return _text(item.get("content"))
    return ""


def _head(body: Body) -> Body:
    return {
        "id": f"resp_echo_{_digest(body)}",
        "object": "response",
        "created_at": int(time.time()),
        "error": None,
        "incomplete_details": None,
        "instructions": body.get("instructions"),
        "metadata": body.get("metadata") or {},
        "model": "doorman/echo",
        "parallel_tool_calls": True,
        "previous_response_id": None,
        "store": False,
        "temperature": None,
        "text": {"format": {"type": "text"}},
        "tool_choice": "auto",
        "tools": [],
        "top_p": None,
    }


def _message(body: Body, status: str, content: list[Body]) -> Body:
    return {
        "id": f"msg_echo_{_digest(body)}",
        "type": "message",
        "status": status,
        "role": "assistant",
        "content": content,
    }


def _part(text: str) -> Body:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def _digest(body: Body) -> str:
    return hashlib.blake2s(orjson.dumps(body.get("input")), digest_size=12).hexdigest()


def _usage(body: Body, text: str) -> Body:
    """Estimated from characters, as no tokenizer is at work here."""
    asked, said = estimate_tokens(len(prompt(body))), estimate_tokens(len(text))
    return {
        "input_tokens": asked,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": said,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": asked + said,
    }


def _text(content: Any) -> str:
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else []
    found = [part.get("text") for part in parts if isinstance(part, dict)]
    return "\n".join(text for text in found if isinstance(text, str))
