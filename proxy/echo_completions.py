"""``doorman/echo`` for ``POST /v1/completions``: it repeats the prompt, or the first of several."""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import AsyncIterator

import orjson

from proxy.endpoints.base import Body
from proxy.prices import estimate_tokens
from proxy.sse import DONE, Event, encode, parse_event

PATH = "completions"
_WORD = re.compile(r"\S+\s*|\s+")


def reply(body: Body, text: str) -> Body:
    """The whole reply that says ``text``."""
    return _head(body) | {"choices": [_choice(text, "stop")], "usage": _usage(body, text)}


async def events(body: Body, text: str) -> AsyncIterator[Event]:
    """The same as a stream, a word at a time."""
    head = _head(body)
    for word in _WORD.findall(text):
        yield _event(head | {"choices": [_choice(word, None)]})
    yield _event(head | {"choices": [_choice("", "stop")]})
    options = body.get("stream_options")
    if isinstance(options, dict) and options.get("include_usage") is True:
        yield _event(head | {"choices": [], "usage": _usage(body, text)})
    yield parse_event(b"[DONE]", DONE)


def prompt(body: Body) -> str:
    """The prompt that is repeated."""
    given = body.get("prompt")
    first = given[0] if isinstance(given, list) and given else given
    return first if isinstance(first, str) else ""


def _event(body: Body) -> Event:
    return Event(orjson.dumps(body), body, False, encode(body))


def _choice(text: str, finish_reason: str | None) -> Body:
    return {"index": 0, "text": text, "logprobs": None, "finish_reason": finish_reason}


def _head(body: Body) -> Body:
    digest = hashlib.blake2s(orjson.dumps(body.get("prompt")), digest_size=12).hexdigest()
    return {
        "id": f"cmpl-echo-{digest}",
        "object": "text_completion",
        "created": int(time.time()),
        "model": "doorman/echo",
    }


def _usage(body: Body, text: str) -> dict[str, int]:
    """Estimated from characters, as no tokenizer is at work here."""
    asked, said = estimate_tokens(len(prompt(body))), estimate_tokens(len(text))
    return {"prompt_tokens": asked, "completion_tokens": said, "total_tokens": asked + said}
