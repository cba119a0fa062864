"""Completions and embeddings by way of litellm: allowed fields go up, the API's shapes come down."""

from __future__ import annotations

import json
from typing import Any

import pytest
from aiohttp import web
from gateway_kit import ScriptedUpstream, events, respond
from openai.types import Completion, CreateEmbeddingResponse

from proxy.config import LitellmParams, ModelEntry, Timeouts
from proxy.endpoints import ENDPOINTS
from proxy.endpoints.base import Usage
from proxy.upstream import Upstreams, make_upstreams
from proxy.upstream_litellm import LitellmUpstream

TEXT, EMBED = ENDPOINTS["/v1/completions"], ENDPOINTS["/v1/embeddings"]
SMUGGLED: dict[str, Any] = {
    "api_base": "http://169.254.169.254", "api_key": "sk-client", "mock_response": "mocked",
    "extra_headers": {"x-evil": "1"}, "custom_llm_provider": "openai", "unknown": "x",
    "model_list": [], "timeout": 0.001, "caching": True,
}  # fmt: skip
USAGE = {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}
HEAD = {"id": "cmpl-1", "object": "text_completion", "created": 1, "model": "up"}
DONE_CHOICE = {"index": 0, "text": " is a tree.", "logprobs": None, "finish_reason": "stop"}


def behind_litellm(port: int, model: str) -> Upstreams:
    """A model that litellm calls at the scripted upstream (``drop_params`` is its own affair)."""
    params = {"api_key": "sk-up", "api_base": f"http://127.0.0.1:{port}/v1", "drop_params": True}
    entry = ModelEntry(model_name="a", litellm_params=LitellmParams(model=model, **params))
    upstreams = make_upstreams([entry], Timeouts(connect=5, first_byte=60, idle=30, total=60))
    assert isinstance(upstreams.resolve("a").upstream, LitellmUpstream)
    return upstreams


async def test_a_completion(upstream: ScriptedUpstream) -> None:
    upstream.script = respond(200, {**HEAD, "choices": [DONE_CHOICE], "usage": USAGE})
    upstreams = behind_litellm(upstream.port, "text-completion-openai/instruct")
    body = {"model": "a", "prompt": "A heap", "suffix": "!", "max_tokens": 5, "echo": False}
    reply = await upstreams.resolve("a").upstream.complete(
        body | SMUGGLED, None, {}, path="completions"
    )
    await upstreams.close()
    assert reply.status == 200, reply.json
    assert reply.json is not None
    assert Completion.model_validate(reply.json).choices[0].text == " is a tree."
    assert TEXT.usage(reply.json) == Usage(3, 4)
    assert TEXT.sound(reply.json)
    [seen] = upstream.seen
    assert seen.headers["authorization"] == "Bearer sk-up"
    assert seen.json["prompt"] == "A heap"
    assert seen.json["suffix"] == "!"
    assert not seen.json.keys() & SMUGGLED.keys()
    assert "x-evil" not in seen.headers


async def test_a_stream_of_a_completion(upstream: ScriptedUpstream) -> None:
    pieces = [
        {**HEAD, "choices": [{"index": 0, "text": text, "finish_reason": None}]}
        for text in ("A heap", " is a tree.")
    ]
    last = {**HEAD, "choices": [{"index": 0, "text": "", "finish_reason": "stop"}]}
    upstream.script = events(*pieces, last)
    upstreams = behind_litellm(upstream.port, "text-completion-openai/instruct")
    body = {"model": "a", "prompt": "Say", "stream": True}
    async with upstreams.resolve("a").upstream.stream(body, None, {}, path="completions") as stream:
        found = [event async for event in stream]
    await upstreams.close()
    assert found[-1].done
    choices = [c for event in found[:-1] if event.json for c in event.json["choices"]]
    assert "".join(choice["text"] or "" for choice in choices) == "A heap is a tree."
    assert choices[-1]["finish_reason"] == "stop"
    assert all(TEXT.sound(event.json) for event in found[:-1] if event.json)


async def test_a_completion_of_a_model_that_only_chats(upstream: ScriptedUpstream) -> None:
    message = {
        "id": "msg_1", "type": "message", "role": "assistant", "model": "claude-x",
        "content": [{"type": "text", "text": "Hello there"}], "stop_reason": "end_turn",
        "stop_sequence": None, "usage": {"input_tokens": 11, "output_tokens": 3},
    }  # fmt: skip

    async def script(request: web.Request) -> web.StreamResponse:
        return web.json_response(message)

    upstream.script = script
    upstreams = behind_litellm(upstream.port, "anthropic/claude-x")
    body = {"model": "a", "prompt": "Say hello", "max_tokens": 5}
    reply = await upstreams.resolve("a").upstream.complete(body, None, {}, path="completions")
    await upstreams.close()
    assert reply.json is not None
    assert reply.json["choices"][0]["text"] == "Hello there"
    assert "message" not in reply.json["choices"][0]
    assert "Say hello" in json.dumps(upstream.seen[0].json["messages"])


@pytest.mark.parametrize("vector", [[0.5, -2.0], "AAAAPwAAAMA="])
async def test_embeddings(upstream: ScriptedUpstream, vector: Any) -> None:
    data = [{"object": "embedding", "index": 0, "embedding": vector}]
    usage = {"prompt_tokens": 8, "total_tokens": 8}
    upstream.script = respond(200, {"object": "list", "data": data, "model": "up", "usage": usage})
    upstreams = behind_litellm(upstream.port, "openai/text-embedding-3-small")
    body = {"model": "a", "input": ["one"], "dimensions": 2}
    if isinstance(vector, str):
        body["encoding_format"] = "base64"
    reply = await upstreams.resolve("a").upstream.complete(
        body | SMUGGLED, None, {}, path="embeddings"
    )
    await upstreams.close()
    assert reply.status == 200, reply.json
    assert reply.json is not None
    assert reply.json["data"][0]["embedding"] == vector
    if isinstance(vector, list):
        CreateEmbeddingResponse.model_validate(reply.json)
    assert EMBED.usage(reply.json) == Usage(8, 0)
    assert EMBED.sound(reply.json)
    assert EMBED.reply_texts(reply.json) == []
    [seen] = upstream.seen
    assert (seen.json["input"], seen.json["dimensions"]) == (["one"], 2)
    assert not seen.json.keys() & SMUGGLED.keys()


async def test_an_api_that_litellm_does_not_do(upstream: ScriptedUpstream) -> None:
    upstreams = behind_litellm(upstream.port, "openai/gpt-4o")
    reply = await upstreams.resolve("a").upstream.complete({}, None, {}, path="images/generations")
    assert reply.status == 404
    assert upstream.seen == []
