"""What the tests of the caches share: gateways with a cache, and one request per cacheable API."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import httpx
from gateway_kit import Door, Script, chunk, completion, events, respond, words
from responses_kit import answered, streamed
from responses_kit import message as response_item

EXACT = "cache: {exact: {models: [default]}}"
QUESTION = "What is the capital of France?"
ANSWER = "Paris is the capital."


@dataclass(frozen=True)
class Api:
    """One cacheable API: a request, and what its model says, whole and as a stream."""

    path: str
    body: dict[str, Any]
    whole: Script
    stream: Script | None
    text: Callable[[Any], str]


def _text(text: str, **extra: Any) -> dict[str, Any]:
    head = {"id": "cmpl-up", "object": "text_completion", "created": 1, "model": "up", **extra}
    return {
        **head,
        "choices": [{"index": 0, "text": text, "logprobs": None, "finish_reason": "stop"}],
    }


def _pieces(*texts: str) -> Script:
    head = {"id": "cmpl-up", "object": "text_completion", "created": 1, "model": "up"}
    made = [
        {**head, "choices": [{"index": 0, "text": text, "finish_reason": end}]}
        for text, end in [*((text, None) for text in texts), ("", "stop")]
    ]
    return events(*made)


_USAGE = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
_ASK = [{"role": "user", "content": QUESTION}]

APIS: dict[str, Api] = {
    "chat": Api(
        "/v1/chat/completions",
        {"messages": _ASK, "temperature": 0},
        completion(ANSWER),
        words("Paris ", "is the ", "capital."),
        lambda reply: reply["choices"][0]["message"]["content"],
    ),
    "completions": Api(
        "/v1/completions",
        {"prompt": QUESTION, "temperature": 0},
        respond(200, _text(ANSWER, usage=_USAGE)),
        _pieces("Paris ", "is the ", "capital."),
        lambda reply: reply["choices"][0]["text"],
    ),
    "responses": Api(
        "/v1/responses",
        {"input": QUESTION, "temperature": 0},
        answered(response_item(ANSWER)),
        streamed(response_item(ANSWER)),
        lambda reply: reply["output"][0]["content"][0]["text"],
    ),
    "messages": Api(
        "/v1/messages",
        {"messages": _ASK, "temperature": 0, "max_tokens": 50},
        completion(ANSWER),  # the model behind it speaks the chat's API
        words("Paris ", "is the ", "capital."),
        lambda reply: reply["content"][0]["text"],
    ),
    "embeddings": Api(
        "/v1/embeddings",
        {"input": QUESTION},
        respond(
            200,
            {
                "object": "list",
                "model": "up",
                "data": [{"object": "embedding", "index": 0, "embedding": [0.25, -1.0]}],
                "usage": {"prompt_tokens": 8, "total_tokens": 8},
            },
        ),
        None,
        lambda reply: str(reply["data"][0]["embedding"]),
    ),
}


def ask(door: Door, question: str = QUESTION, **extra: Any) -> httpx.Response:
    """A chat with one question; ``headers`` go up as they are."""
    headers = extra.pop("headers", {})
    body = {
        "model": "default",
        "messages": [{"role": "user", "content": question}],
        "temperature": 0,
    }
    return post(door, "/v1/chat/completions", {**body, **extra}, headers)


def post(
    door: Door, path: str, body: dict[str, Any] | bytes, headers: dict[str, str] | None = None
) -> httpx.Response:
    given = {"content-type": "application/json", **(headers or {})}
    if isinstance(body, bytes):
        return httpx.post(f"{door.url}{path}", content=body, headers=given, timeout=20)
    return httpx.post(f"{door.url}{path}", json=body, headers=given, timeout=20)


def action(reply: httpx.Response) -> str:
    """What the gateway says that it did."""
    return reply.headers["x-doorman-action"]


def saw(*contents: str, finish: str = "stop") -> Script:
    """A stream of one choice with another end."""
    return events(*(chunk({"content": content}) for content in contents), chunk({}, finish=finish))


__all__ = ["ANSWER", "APIS", "EXACT", "QUESTION", "Api", "action", "ask", "post", "saw"]
