"""Requests that are forwarded: what goes up arrives unchanged, what comes down does too."""

from __future__ import annotations

import json
from typing import Any

import httpx
import openai
import pytest
from gateway_kit import (
    Script,
    ScriptedUpstream,
    StartGateway,
    chunk,
    completion,
    events,
    free_port,
    reply_body,
    respond,
    sleeping,
    words,
)

HELLO: list[Any] = [{"role": "user", "content": "What is a heap?"}]


def post(url: str, raw: bytes, **headers: str) -> httpx.Response:
    sent = {"content-type": "application/json", **headers}
    return httpx.post(f"{url}/v1/chat/completions", content=raw, headers=sent, timeout=10)


def test_plain(gateway: StartGateway, upstream: ScriptedUpstream) -> None:
    upstream.script = completion("A heap is a tree.")
    door = gateway()
    raw = door.client().chat.completions.with_raw_response.create(model="default", messages=HELLO)
    reply = raw.parse()
    assert reply.choices[0].message.content == "A heap is a tree."
    assert raw.headers["x-doorman-action"] == "forward"
    assert raw.headers["x-doorman-decision-id"].startswith("dec_")
    assert float(raw.headers["x-doorman-overhead-ms"]) >= 0
    assert raw.headers["x-request-id"].startswith("req_")
    assert "x-doorman-saved-usd" not in raw.headers
    assert "server" not in raw.headers
    assert [seen.json["model"] for seen in upstream.seen] == ["gpt-4o"]
    assert upstream.seen[0].headers["authorization"] == "Bearer sk-upstream"


async def test_async_client(shared_gateway: StartGateway, upstream: ScriptedUpstream) -> None:
    upstream.script = words("A heap ", "is a tree.")
    door = shared_gateway()
    async with door.async_client() as client:
        stream = await client.chat.completions.create(model="default", messages=HELLO, stream=True)
        pieces = [item.choices[0].delta.content or "" async for item in stream]
        assert "".join(pieces) == "A heap is a tree."
        upstream.script = completion("Whole.")
        reply = await client.chat.completions.create(model="default", messages=HELLO)
        assert reply.choices[0].message.content == "Whole."


def test_streaming(gateway: StartGateway, upstream: ScriptedUpstream) -> None:
    upstream.script = words(*(f"word{i} " for i in range(200)))
    door = gateway()
    stream = door.client().chat.completions.create(model="default", messages=HELLO, stream=True)
    chunks = list(stream)
    assert "".join(c.choices[0].delta.content or "" for c in chunks) == "".join(
        f"word{i} " for i in range(200)
    )
    assert chunks[-1].choices[0].finish_reason == "stop"
    record = door.records.next()
    assert (record.stream, record.ended, record.status) == (True, "complete", 200)


TOOL = {
    "id": "call_1",
    "type": "function",
    "function": {"name": "find", "arguments": '{"q": "heap"}'},
}


def test_tools(shared_gateway: StartGateway, upstream: ScriptedUpstream) -> None:
    body = reply_body(None)
    body["choices"][0]["message"]["tool_calls"] = [TOOL]
    body["choices"][0]["finish_reason"] = "tool_calls"
    upstream.script = respond(200, body)
    client = shared_gateway().client()
    function: Any = {
        "type": "function",
        "function": {"name": "find", "parameters": {"type": "object"}},
    }
    reply = client.chat.completions.create(model="default", messages=HELLO, tools=[function])
    calls = reply.choices[0].message.tool_calls
    assert calls is not None
    assert calls[0].model_dump() == TOOL
    assert upstream.seen[0].json["tools"] == [function]
    answered: list[Any] = [
        *HELLO,
        {"role": "assistant", "content": None, "tool_calls": [TOOL]},
        {"role": "tool", "tool_call_id": "call_1", "content": "found it"},
    ]
    upstream.script = completion("Here.")
    reply = client.chat.completions.create(model="default", messages=answered)
    assert reply.choices[0].message.content == "Here."
    assert upstream.seen[1].json["messages"] == answered


def test_tools_in_a_stream(shared_gateway: StartGateway, upstream: ScriptedUpstream) -> None:
    call = {
        "index": 0,
        "id": "call_1",
        "type": "function",
        "function": {"name": "find", "arguments": ""},
    }
    parts = [{"index": 0, "function": {"arguments": part}} for part in ('{"q":', ' "heap"}')]
    upstream.script = events(
        chunk({"role": "assistant", "content": None, "tool_calls": [call]}),
        *(chunk({"tool_calls": [part]}) for part in parts),
        chunk({}, finish="tool_calls"),
    )
    client = shared_gateway().client()
    stream = client.chat.completions.create(model="default", messages=HELLO, stream=True)
    arguments = ""
    for item in stream:
        for delta in item.choices[0].delta.tool_calls or []:
            arguments += (delta.function.arguments or "") if delta.function else ""
    assert json.loads(arguments) == {"q": "heap"}


def test_several_choices(shared_gateway: StartGateway, upstream: ScriptedUpstream) -> None:
    upstream.script = completion("one", "two")
    client = shared_gateway().client()
    reply = client.chat.completions.create(model="default", messages=HELLO, n=2)
    assert [choice.message.content for choice in reply.choices] == ["one", "two"]
    upstream.script = events(
        *(chunk({"content": f"{index}{piece} "}, index) for piece in "abc" for index in (0, 1)),
        *(chunk({}, index, "stop") for index in (0, 1)),
    )
    stream = client.chat.completions.create(model="default", messages=HELLO, n=2, stream=True)
    texts = {0: "", 1: ""}
    for item in stream:
        for choice in item.choices:
            texts[choice.index] += choice.delta.content or ""
    assert texts == {0: "0a 0b 0c ", 1: "1a 1b 1c "}


ODD = (
    b'{ "messages" :[{"role":"user","content":"caf\\u00e9 \xc3\xa9 \\/ hi"}], "temperature":1.50e+00,\n'
    b'\t"brand_new": {"deep":[1, 2.0, -0.0, 123456789012345678901234567890, null]} , "model":"%s", '
    b'"empty":{},"seed":9007199254740993}'
)


def test_unknown_fields_arrive_byte_for_byte(
    shared_gateway: StartGateway, upstream: ScriptedUpstream
) -> None:
    door = shared_gateway()
    assert post(door.url, ODD % b"default").status_code == 200
    assert upstream.seen[0].raw == ODD % b"gpt-4o"


def test_replies_arrive_byte_for_byte(
    shared_gateway: StartGateway, upstream: ScriptedUpstream
) -> None:
    raw = json.dumps(reply_body("ok", brand_new={"x": 1.50}), indent=3).encode()
    upstream.script = respond(
        200, raw, {"x-ratelimit-remaining-requests": "7", "set-cookie": "a=b"}
    )
    answer = post(shared_gateway().url, ODD % b"default")
    assert answer.content == raw
    assert answer.headers["x-ratelimit-remaining-requests"] == "7"
    assert "set-cookie" not in answer.headers


def test_what_would_redirect_the_call_is_not_forwarded(
    shared_gateway: StartGateway, upstream: ScriptedUpstream
) -> None:
    body = {
        "model": "default", "messages": HELLO, "api_base": "http://evil.example", "api_key": "x",
        "base_url": "http://evil.example", "aws_region_name": "x", "doorman": {"policies": []},
    }  # fmt: skip
    answer = post(
        shared_gateway().url,
        json.dumps(body).encode(),
        authorization="Bearer client-key",
        cookie="a=b",
        **{"x-doorman-policy": "none", "openai-beta": "assistants=v2"},
    )
    assert answer.status_code == 200
    assert upstream.seen[0].json == {"model": "gpt-4o", "messages": HELLO}
    sent = upstream.seen[0].headers
    assert sent["authorization"] == "Bearer sk-upstream"
    assert sent["openai-beta"] == "assistants=v2"
    assert not [name for name in sent if name.startswith("x-doorman") or name == "cookie"]


def test_request_ids_are_kept_if_they_are_harmless(shared_gateway: StartGateway) -> None:
    door = shared_gateway()
    raw = ODD % b"default"
    assert post(door.url, raw, **{"x-request-id": "my-id.1"}).headers["x-request-id"] == "my-id.1"
    odd = post(door.url, raw, **{"x-request-id": "a b" * 100})
    assert odd.headers["x-request-id"].startswith("req_")


STATUSES: list[tuple[int, type[openai.APIStatusError]]] = [
    (400, openai.BadRequestError),
    (401, openai.AuthenticationError),
    (404, openai.NotFoundError),
    (422, openai.UnprocessableEntityError),
    (429, openai.RateLimitError),
    (500, openai.InternalServerError),
    (503, openai.InternalServerError),
]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("status", "raised"), STATUSES)
def test_errors_of_the_upstream_are_passed_on(
    shared_gateway: StartGateway,
    upstream: ScriptedUpstream,
    status: int,
    raised: type[openai.APIStatusError],
    stream: bool,
) -> None:
    error = {"error": {"message": "So it is.", "type": "t", "param": None, "code": "c"}}
    upstream.script = respond(status, error, {"retry-after": "7"})
    door = shared_gateway()
    with pytest.raises(raised) as caught:
        door.client(max_retries=0).chat.completions.create(
            model="default", messages=HELLO, stream=stream
        )
    if status == 401:  # the upstream's own words may quote the operator's key
        assert caught.value.code == "upstream_unauthorized"
    else:
        assert caught.value.body == error["error"]
    assert caught.value.response.headers["retry-after"] == "7"


GARBAGE: dict[str, tuple[Script, int, str]] = {
    "page for an error": (respond(500, b"<h1>oops sk-upstream</h1>"), 500, "upstream_error"),
    "other shape of error": (respond(400, {"detail": "no"}), 400, "upstream_error"),
    "no json": (respond(200, b"hello"), 502, "upstream_invalid_response"),
    "empty": (respond(200, b""), 502, "upstream_invalid_response"),
    "array": (respond(200, b"[]"), 502, "upstream_invalid_response"),
    "cut": (respond(200, b'{"choices": ['), 502, "upstream_invalid_response"),
}


@pytest.mark.parametrize(("script", "status", "code"), GARBAGE.values(), ids=GARBAGE)
def test_garbage_from_the_upstream(
    shared_gateway: StartGateway, upstream: ScriptedUpstream, script: Script, status: int, code: str
) -> None:
    upstream.script = script
    answer = post(shared_gateway().url, ODD % b"default")
    assert answer.status_code == status
    assert answer.json()["error"]["code"] == code
    assert "sk-upstream" not in answer.text


def test_no_upstream(gateway: StartGateway) -> None:
    door = gateway(port=free_port())
    for stream in (False, True):
        body = {"model": "default", "messages": HELLO, "stream": stream}
        answer = post(door.url, json.dumps(body).encode())
        assert answer.status_code == 502
        assert answer.json()["error"]["code"] == "upstream_unreachable"
        assert "sk-upstream" not in answer.text
        record = door.records.next()
        assert (record.action, record.status, record.ended) == (
            "error",
            502,
            "upstream_unreachable",
        )


def test_a_slow_upstream(gateway: StartGateway, upstream: ScriptedUpstream) -> None:
    upstream.script = sleeping(5.0)
    door = gateway("", "timeouts: {first_byte: 0.2, idle: 0.2, total: 0.4}")
    for stream in (False, True):
        body = {"model": "default", "messages": HELLO, "stream": stream}
        answer = post(door.url, json.dumps(body).encode())
        assert answer.status_code == 504
        assert answer.json()["error"]["code"] == "upstream_timeout"


def test_a_stream_that_breaks_off(gateway: StartGateway, upstream: ScriptedUpstream) -> None:
    upstream.script = events(chunk({"content": "a word " * 200}), 5.0)
    door = gateway("", "timeouts: {idle: 0.3}")
    client = door.client(max_retries=0)
    stream = client.chat.completions.create(model="default", messages=HELLO, stream=True)
    pieces: list[str] = []
    with pytest.raises(openai.APIError):
        pieces.extend(item.choices[0].delta.content or "" for item in stream)
    assert "".join(pieces).startswith("a word")
    assert door.records.next().ended == "upstream_timeout"
