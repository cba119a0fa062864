"""``doorman/echo``: an upstream within the gateway, for trying it out without any model.

It repeats the newest message of the user, and says that this is all it does.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import orjson

from proxy import echo_completions, echo_responses
from proxy.endpoints.base import Body
from proxy.prices import estimate_tokens
from proxy.sse import DONE, Event, encode, parse_event
from proxy.upstream_base import CHAT_PATH, UpstreamReply, UpstreamStream, error_reply

MAX_ECHO_CHARS = 4000
_NOTICE = "doorman/echo: no model was called. You said: "
_WORD = re.compile(r"\S+\s*|\s+")


class Echo:
    """The embedded upstream. ``n``, ``tools`` and all else but the messages are ignored."""

    async def complete(
        self, body: Body, raw: bytes | None, headers: Mapping[str, str], *, path: str = CHAT_PATH
    ) -> UpstreamReply:
        """See :class:`proxy.upstream_base.Upstream`."""
        if path == echo_completions.PATH:
            text_reply = echo_completions.reply(body, notice(echo_completions.prompt(body)))
            return UpstreamReply(200, {}, orjson.dumps(text_reply), text_reply)
        if path == echo_responses.PATH:
            response = echo_responses.reply(body, notice(echo_responses.prompt(body)))
            return UpstreamReply(200, {}, orjson.dumps(response), response)
        if path != CHAT_PATH:
            return error_reply(404, "doorman/echo does not answer this API.", "not_found")
        text = answer(body)
        reply = _head(body, "chat.completion") | {
            "choices": [
                {
                    "index": 0,
                    "message": {"role": "assistant", "content": text, "refusal": None},
                    "logprobs": None,
                    "finish_reason": "stop",
                }
            ],
            "usage": _usage(body, text),
        }
        return UpstreamReply(200, {}, orjson.dumps(reply), reply)

    @asynccontextmanager
    async def stream(
        self, body: Body, raw: bytes | None, headers: Mapping[str, str], *, path: str = CHAT_PATH
    ) -> AsyncIterator[UpstreamStream]:
        """See :class:`proxy.upstream_base.Upstream`."""
        if path == echo_completions.PATH:
            said = notice(echo_completions.prompt(body))
            yield UpstreamStream(200, {}, echo_completions.events(body, said))
        elif path == echo_responses.PATH:
            said = notice(echo_responses.prompt(body))
            yield UpstreamStream(200, {}, echo_responses.events(body, said))
        elif path != CHAT_PATH:
            reply = await self.complete(body, raw, headers, path=path)
            yield UpstreamStream(reply.status, {}, reply=reply)
        else:
            yield UpstreamStream(200, {}, _events(body))

    async def close(self) -> None:
        """Nothing to close."""


def answer(body: Body) -> str:
    """What the echo says to a request."""
    messages = body.get("messages")
    said = ""
    for message in reversed(messages if isinstance(messages, list) else []):
        if isinstance(message, dict) and message.get("role") == "user":
            said = _text(message.get("content"))
            break
    return notice(said)


def notice(said: str) -> str:
    """The words of the echo, with what was said to it."""
    return _NOTICE + (said if len(said) <= MAX_ECHO_CHARS else said[:MAX_ECHO_CHARS] + "...")


async def _events(body: Body) -> AsyncIterator[Event]:
    text = answer(body)
    head = _head(body, "chat.completion.chunk")
    options = body.get("stream_options")
    asked = isinstance(options, dict) and options.get("include_usage") is True
    if asked:
        head["usage"] = None
    deltas: list[Body] = [{"role": "assistant", "content": "", "refusal": None}]
    deltas += [{"content": word} for word in _WORD.findall(text)]
    for delta in deltas:
        yield _event(head | _choice(delta, None))
        await asyncio.sleep(0)  # small pieces, each on its own, as from a model
    yield _event(head | _choice({}, "stop"))
    if asked:
        yield _event(head | {"choices": [], "usage": _usage(body, text)})
    yield parse_event(b"[DONE]", DONE)


def _event(body: Body) -> Event:
    return Event(orjson.dumps(body), body, False, encode(body))


def _choice(delta: Body, finish_reason: str | None) -> Body:
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
    return {"choices": [choice]}


def _head(body: Body, kind: str) -> Body:
    digest = hashlib.blake2s(orjson.dumps(body.get("messages")), digest_size=12).hexdigest()
    return {
        "id": f"chatcmpl-echo-{digest}",
        "object": kind,
        "created": int(time.time()),
        "model": "doorman/echo",
    }


def _usage(body: Body, text: str) -> dict[str, int]:
    """Estimated from characters, as no tokenizer is at work here."""
    messages = body.get("messages")
    said = sum(
        len(_text(message.get("content")))
        for message in (messages if isinstance(messages, list) else [])
        if isinstance(message, dict)
    )
    prompt, completion = estimate_tokens(said), estimate_tokens(len(text))
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
    }


def _text(content: Any) -> str:
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else []
    found = [part.get("text") for part in parts if isinstance(part, dict)]
    return "\n".join(text for text in found if isinstance(text, str))
