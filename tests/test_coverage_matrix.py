"""Blocked text over every endpoint, place and way of asking: none of it gets anywhere."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
from gateway_kit import Door, ScriptedUpstream, StartGateway, chunk, events, reply_body, respond

from benchmarks.carriers import CARRIERS, UNREADABLE
from benchmarks.coverage_shapes import REQUESTS
from proxy.endpoints import ENDPOINTS

EVERYONE = "roles: [system, developer, user, assistant, tool, function]"
POLICY = f"""
rules:
  - {{name: no-attacks, when: {{guard: attack}}, {EVERYONE}, do: {{block: "No."}}}}
  - {{name: no-leaks, when: {{guard: secret}}, check: [output], do: {{block: "No."}}}}
"""
ATTACK = "An attack comes"
STREAMS = {
    path: (False, True) if endpoint.speaks else (False,) for path, endpoint in ENDPOINTS.items()
}


def send(door: Door, path: str, body: dict[str, Any]) -> httpx.Response:
    return httpx.post(door.url + path, json=body, timeout=30, headers={"x-api-key": "any"})


def test_every_endpoint_has_places() -> None:
    assert CARRIERS.keys() == REQUESTS.keys() == ENDPOINTS.keys()


@pytest.mark.parametrize("path", CARRIERS)
def test_no_blocked_text_reaches_the_upstream(
    shared_gateway: StartGateway, upstream: ScriptedUpstream, path: str
) -> None:
    """Every place, plain and streamed: what the upstream has seen is counted."""
    door, asked = shared_gateway(POLICY), 0
    for place, make in CARRIERS[path].items():
        for stream in STREAMS[path]:
            response = send(door, path, {**make(ATTACK), **({"stream": True} if stream else {})})
            asked += 1
            assert response.headers["x-doorman-action"] == "block", (place, response.text)
            assert "comes" not in response.text, place
    assert asked == len(CARRIERS[path]) * len(STREAMS[path])
    assert upstream.seen == []


@pytest.mark.parametrize("path", CARRIERS)
def test_ordinary_text_in_the_same_places_goes_on(
    shared_gateway: StartGateway, upstream: ScriptedUpstream, path: str
) -> None:
    """The same bodies without the word: it is the word that is stopped, not the body."""
    upstream.script = respond(400, {"error": {"message": "enough"}})
    door = shared_gateway("on_unscannable: allow\n" + POLICY)
    for place, make in CARRIERS[path].items():
        response = send(door, path, make("A garden grows"))
        assert response.headers["x-doorman-action"] != "block", place
    assert len(upstream.seen) >= len(CARRIERS[path]) // 2  # some need what this upstream has not


@pytest.mark.parametrize("path", UNREADABLE)
def test_what_cannot_be_read_does_not_reach_the_upstream(
    shared_gateway: StartGateway, upstream: ScriptedUpstream, path: str
) -> None:
    door = shared_gateway(POLICY)
    for place, body in UNREADABLE[path].items():
        for stream in STREAMS[path]:
            response = send(door, path, {**body, "stream": stream})
            assert response.status_code == 400, place
            assert int(response.headers["x-doorman-unscanned"]) >= 1, place
            assert json.loads(response.text)["error"], place
    assert upstream.seen == []


LEAK = "the secret is out"
SAID: dict[str, dict[str, Any]] = {
    "content": {"content": LEAK},
    "refusal": {"refusal": LEAK},
    "reasoning": {"content": "a", "reasoning_content": LEAK},
    "a tool's arguments": {
        "tool_calls": [
            {"index": 0, "id": "c", "function": {"name": "f", "arguments": json.dumps([LEAK])}}
        ]
    },
    "a tool's name": {
        "tool_calls": [{"index": 0, "id": "c", "function": {"name": LEAK, "arguments": "{}"}}]
    },
    "a transcript": {"audio": {"transcript": LEAK}},
    "a citation": {"content": "a", "annotations": [{"url_citation": {"title": LEAK}}]},
    "an unknown field": {"content": "a", "future": {"deep": [LEAK]}},
}
OUTPUT: dict[str, dict[str, Any]] = {
    "text": {"type": "message", "id": "m", "content": [{"type": "output_text", "text": LEAK}]},
    "arguments": {"type": "function_call", "id": "f", "name": "f", "arguments": json.dumps([LEAK])},
    "reasoning": {"type": "reasoning", "id": "r", "summary": [{"text": LEAK}]},
    "unknown": {"type": "new", "id": "n", "new": LEAK},
}


@pytest.mark.parametrize("stream", [False, True])
def test_no_blocked_output_of_a_chat_reaches_the_client(
    shared_gateway: StartGateway, upstream: ScriptedUpstream, stream: bool
) -> None:
    door = shared_gateway(POLICY)
    for place, message in SAID.items():
        whole = reply_body(choices=[{"index": 0, "message": message, "finish_reason": "stop"}])
        parts = events(chunk({"role": "assistant"}), chunk(message), chunk({}, finish="stop"))
        upstream.script = parts if stream else respond(200, whole)
        for path, body in (
            ("/v1/chat/completions", {"messages": [{"role": "user", "content": "hi"}]}),
            ("/v1/messages", {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 9}),
        ):
            response = send(door, path, {"model": "default", "stream": stream, **body})
            assert "secret" not in response.text, (path, place)
    assert len(upstream.seen) == 2 * len(SAID)


def test_no_blocked_output_of_the_others_reaches_the_client(
    shared_gateway: StartGateway, upstream: ScriptedUpstream
) -> None:
    door = shared_gateway(POLICY)
    upstream.script = respond(200, {"choices": [{"index": 0, "text": LEAK}]})
    response = send(door, "/v1/completions", {"model": "default", "prompt": "hi"})
    assert response.headers["x-doorman-action"] == "block"
    assert "secret" not in response.text
    for place, item in OUTPUT.items():
        reply = {"id": "resp_1", "object": "response", "status": "completed", "output": [item]}
        upstream.script = respond(200, reply)
        response = send(door, "/v1/responses", {"model": "default", "input": "hi"})
        assert response.headers["x-doorman-action"] == "block", place
        assert "secret" not in response.text, place
    assert len(upstream.seen) == 1 + len(OUTPUT)
