"""Other providers by way of litellm: the real translation against a server that speaks Anthropic's API."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import asynccontextmanager

import pytest
from aiohttp import web
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.responses import Response

from proxy.config import ConfigError, LitellmParams, ModelEntry, Timeouts
from proxy.endpoints import ENDPOINTS
from proxy.endpoints.base import Usage
from proxy.errors import UpstreamError
from proxy.litellm_apis import FORWARDED_PARAMS
from proxy.upstream import make_upstreams

KEY = "sk-ant-the-operators-own-key"
CHAT = ENDPOINTS["/v1/chat/completions"]
PATIENT = Timeouts(connect=5, first_byte=30, idle=10, total=30)
BODY = {
    "model": "anthropic/claude-x",
    "messages": [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "hi"}],
    "temperature": 0.5,
    "max_tokens": 50,
}

MESSAGE = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "claude-x",
    "content": [{"type": "text", "text": "Hello there"}],
    "stop_reason": "end_turn",
    "stop_sequence": None,
    "usage": {"input_tokens": 11, "output_tokens": 3},
}
EVENTS = [
    {"type": "message_start", "message": {**MESSAGE, "content": [], "stop_reason": None}},
    {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hello "}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "there"}},
    {"type": "content_block_stop", "index": 0},
    {
        "type": "message_delta",
        "delta": {"stop_reason": "end_turn", "stop_sequence": None},
        "usage": {"output_tokens": 3},
    },
    {"type": "message_stop"},
]


class Anthropic:
    """A small server of the Messages API."""

    def __init__(self):
        self.seen = []
        self.error = None
        self.events = EVENTS

    async def messages(self, request):
        body = await request.json()
        self.seen.append((dict(request.headers), body))
        if self.error is not None:
            status, message = self.error
            error = {
                "type": "error",
                "error": {"type": "invalid_request_error", "message": message},
            }
            return web.json_response(
                error, status=status, headers={"retry-after": "9", "x-host": "db1"}
            )
        if not body.get("stream"):
            return web.json_response(MESSAGE)
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        for event in self.events:
            wire = f"event: {event['type']}\ndata: {json.dumps(event)}\n\n"
            await response.write(wire.encode())
        return response


@asynccontextmanager
async def upstream_of(server, **params):
    app = web.Application()
    app.router.add_post("/v1/messages", server.messages)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    configured = {"api_key": KEY, "api_base": f"http://127.0.0.1:{port}", **params}
    entry = ModelEntry(
        model_name="a", litellm_params=LitellmParams(model="anthropic/claude-x", **configured)
    )
    upstreams = make_upstreams([entry], PATIENT)
    try:
        yield upstreams.resolve("a").upstream
    finally:
        await upstreams.close()
        await runner.cleanup()


async def test_a_reply_is_translated_and_nothing_of_the_client_steers_litellm():
    server = Anthropic()
    smuggled = {
        "api_base": "http://169.254.169.254",
        "base_url": "http://169.254.169.254",
        "api_key": "sk-client",
        "extra_headers": {"x-evil": "1"},
        "headers": {"x-evil": "1"},
        "mock_response": "mocked",
        "fallbacks": ["openai/gpt-4o"],
        "custom_llm_provider": "openai",
        "langfuse_host": "http://169.254.169.254",
        "model_list": [],
        "timeout": 0.001,
        "unknown": "x",
    }
    async with upstream_of(server) as upstream:
        reply = await upstream.complete(
            BODY | smuggled, b"ignored", {"authorization": "Bearer client"}
        )
    whole = ChatCompletion.model_validate(reply.json)
    assert reply.status == 200
    assert json.loads(reply.body) == reply.json
    assert whole.choices[0].message.content == "Hello there"
    assert whole.choices[0].finish_reason == "stop"
    assert CHAT.usage(reply.json) == Usage(11, 3)
    ((headers, sent),) = server.seen
    assert headers["x-api-key"] == KEY
    assert "x-evil" not in headers
    assert "Authorization" not in headers
    assert sent["model"] == "claude-x"
    assert sent["temperature"] == 0.5
    assert "Be kind." in json.dumps(sent["system"])
    assert "unknown" not in sent


async def test_a_stream_is_translated_to_the_same_events():
    async with (
        upstream_of(Anthropic()) as upstream,
        upstream.stream(
            BODY | {"stream": True, "stream_options": {"include_usage": True}}, None, {}
        ) as stream,
    ):
        assert (stream.status, stream.reply) == (200, None)
        events = [event async for event in stream]
    assert events[-1].done
    chunks = [ChatCompletionChunk.model_validate(event.json) for event in events[:-1]]
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == "Hello there"
    assert [
        c.choices[0].finish_reason for c in chunks if c.choices and c.choices[0].finish_reason
    ] == ["stop"]
    assert [usage for event in events[:-1] if (usage := CHAT.usage(event.json))] == [Usage(11, 3)]
    for event in events[:-1]:
        assert json.loads(event.raw.removeprefix(b"data: ")) == event.json == json.loads(event.data)


async def test_the_operators_parameters_are_honoured_and_the_clients_win():
    server = Anthropic()
    async with upstream_of(server, drop_params=True, temperature=0.1, rpm=5) as upstream:
        reply = await upstream.complete(BODY | {"logit_bias": {"1": 1}}, None, {})
    assert reply.status == 200
    assert server.seen[0][1]["temperature"] == 0.5
    assert not FORWARDED_PARAMS & {"api_key", "api_base", "base_url", "extra_headers", "headers"}


@pytest.mark.parametrize("given", [{}, {"temperature": None}])
async def test_the_operators_parameters_are_what_counts_where_the_client_gives_none(given):
    server = Anthropic()
    async with upstream_of(server, temperature=0.1) as upstream:
        body = {key: value for key, value in BODY.items() if key != "temperature"} | given
        await upstream.complete(body, None, {})
    assert server.seen[0][1]["temperature"] == 0.1


PLAIN = "The model's server answered with status 400."
REFUSALS = [
    (400, "max_tokens: must be at least 1", 400, "max_tokens: must be at least 1", "bad_request"),
    (429, "Too many tokens per minute", 429, "Too many tokens per minute", "rate_limit_exceeded"),
    (
        401,
        f"invalid x-api-key {KEY}",
        401,
        "refused the gateway's credentials",
        "upstream_unauthorized",
    ),
    (400, f"bad {KEY}", 400, "", "bad_request"),
    (
        400,
        "see https://internal.example/x",
        400,
        PLAIN,
        "bad_request",
    ),
    (
        400,
        "in /srv/app/main.py",
        400,
        PLAIN,
        "bad_request",
    ),
    (500, "Overloaded", 500, "", "upstream_error"),
]


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize(("status", "said", "seen", "message", "code"), REFUSALS)
async def test_refusals(status, said, seen, message, code, streaming):
    server = Anthropic()
    server.error = (status, said)
    async with upstream_of(server) as upstream:
        if streaming:
            async with upstream.stream(BODY | {"stream": True}, None, {}) as stream:
                reply = stream.reply
                assert [event async for event in stream] == []
        else:
            reply = await upstream.complete(BODY, None, {})
    assert len(server.seen) == 1
    assert reply.status == seen
    assert message in reply.json["error"]["message"]
    assert reply.json["error"]["code"] == code
    text = reply.body.decode()
    for private in (
        KEY,
        "127.0.0.1",
        "internal.example",
        "/srv/",
        "Traceback",
        "litellm",
        "Anthropic",
        "db1",
    ):
        assert private not in text


async def test_a_parameter_that_the_provider_does_not_take():
    async with upstream_of(Anthropic()) as upstream:
        reply = await upstream.complete(BODY | {"logit_bias": {"1": 1}}, None, {})
    assert (reply.status, reply.json["error"]["code"]) == (400, "unsupported_parameter")


async def test_an_error_within_a_stream():
    server = Anthropic()
    error = {"type": "overloaded_error", "message": f"host db1 {KEY}"}
    server.events = [*EVENTS[:3], {"type": "error", "error": error}]
    async with upstream_of(server) as upstream:
        with pytest.raises(UpstreamError) as caught:
            await read_all(upstream)
    assert caught.value.kind == "protocol"
    assert KEY not in caught.value.message


async def test_a_server_that_is_not_there():
    async with upstream_of(Anthropic(), api_base="http://127.0.0.1:9") as upstream:
        with pytest.raises(UpstreamError) as caught:
            await upstream.complete(BODY, None, {})
    assert caught.value.kind == "connect"
    assert "127.0.0.1" not in caught.value.message


async def test_other_apis_are_not_found():
    async with upstream_of(Anthropic()) as upstream:
        assert (await upstream.complete(BODY, None, {}, path="audio/speech")).status == 404


async def read_all(upstream):
    async with upstream.stream(BODY | {"stream": True}, None, {}) as stream:
        return [event async for event in stream]


UNKNOWN = {
    "foo/bar": (
        "model_list: 'a': litellm knows no provider for the model 'foo/bar'",
        "openai/bar with an api_base",
    ),
    "antropic/claude-x": ("did you mean 'anthropic/claude-x'?",),
    "claude-unheard-of": ("no provider for the model 'claude-unheard-of'",),
}


@pytest.mark.parametrize(("model", "parts"), UNKNOWN.items(), ids=UNKNOWN)
def test_a_model_of_no_known_provider_is_refused_at_start(model, parts):
    with pytest.raises(ConfigError) as caught:
        upstreams_of(model).check()
    for part in parts:
        assert part in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("model", ["anthropic/claude-x", "bedrock/x", "github_copilot/x", "poe/x"])
def test_models_of_known_providers_are_not(model):
    upstreams_of(model).check()


def upstreams_of(model):
    entry = ModelEntry(model_name="a", litellm_params=LitellmParams(model=model, drop_params=True))
    return make_upstreams([entry], PATIENT)


def test_litellm_is_not_imported_before_it_is_needed():
    code = (
        "import sys, proxy.upstream, proxy.prices\n"
        "from proxy.config import *\n"
        "proxy.prices.Prices.load()\n"
        "proxy.upstream.make_upstreams(defaults().model_list, Timeouts())\n"
        "assert 'litellm' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ}, timeout=60)


RESPONSES = ENDPOINTS["/v1/responses"]
ASKED = {"model": "anthropic/claude-x", "input": "hi", "instructions": "Be kind."}


async def test_a_provider_without_the_responses_api_is_bridged():
    server = Anthropic()
    smuggled = {
        "api_base": "http://169.254.169.254",
        "api_key": "sk-client",
        "metadata": {"a": "b"},
    }
    async with upstream_of(server) as upstream:
        body = {**ASKED, **smuggled, "max_output_tokens": 50}
        reply = await upstream.complete(body, None, {}, path="responses")
    assert RESPONSES.sound(reply.json)
    response = Response.model_validate(reply.json)
    assert (response.output_text, response.status) == ("Hello there", "completed")
    assert RESPONSES.usage(reply.json) == Usage(11, 3)
    headers, sent = server.seen[0]
    assert headers["x-api-key"] == KEY
    assert sent["max_tokens"] == 50
    assert "Be kind." in json.dumps(sent["system"])


async def test_a_bridged_stream_has_names_numbers_and_an_end():
    server = Anthropic()
    async with (
        upstream_of(server) as upstream,
        upstream.stream({**ASKED, "stream": True}, None, {}, path="responses") as stream,
    ):
        events = [event async for event in stream]
    assert all(event.name == event.json["type"] for event in events)
    assert [event.json["sequence_number"] for event in events] == list(range(len(events)))
    assert all(RESPONSES.sound(event.json) for event in events)
    assert RESPONSES.ends(events[-1].json)
    pieces = [e.json["delta"] for e in events if e.name == "response.output_text.delta"]
    assert "".join(pieces) == "Hello there"


async def test_a_history_that_the_bridge_would_lose_is_refused():
    server = Anthropic()
    asked = {**ASKED, "previous_response_id": "resp_1"}
    async with upstream_of(server) as upstream:
        reply = await upstream.complete(asked, None, {}, path="responses")
    assert reply.status == 400
    assert "keeps no history" in reply.json["error"]["message"]
    assert server.seen == []


ILL_FORMED = {
    "a tool without a function": {"tools": [{}]},
    "a function without a name": {"tools": [{"type": "function", "function": {}}]},
    "a limit that is no number": {"max_tokens": "x"},
}


@pytest.mark.parametrize("more", ILL_FORMED.values(), ids=ILL_FORMED)
async def test_what_cannot_be_translated_is_the_requests_own_fault(more):
    server = Anthropic()
    async with upstream_of(server) as upstream:
        reply = await upstream.complete(BODY | more, None, {})
    assert reply.status == 400
    assert "provider" in reply.json["error"]["message"]
