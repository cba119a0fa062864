"""Replies with text that no rule could read: none of it reaches the client of a guarded model."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
from gateway_kit import ScriptedUpstream, StartGateway, events, reply_body, respond

OUTPUT = """
rules:
  - {name: no-leaks, when: {guard: secret}, check: [output], do: {block: "That stays here."}}
"""
INPUT = """
rules:
  - {name: no-attacks, when: {guard: attack}, do: {block: "No."}}
"""
TWICE = (
    b'{"choices":[{"index":0,"message":{"role":"assistant","content":"the secret","content":"ok"},'
    b'"finish_reason":"stop"}]}'
)


def with_logprobs() -> bytes:
    body = reply_body("ok")
    body["choices"][0]["logprobs"] = {"content": [{"token": "the secret"}]}
    return json.dumps(body).encode()


STRIPPED = {"a key twice": TWICE, "log probabilities": with_logprobs()}
REFUSED: dict[str, Any] = {
    "choices as an object": {"choices": {"0": {"message": {"content": "the secret"}}}},
    "choices of strings": {"choices": ["the secret"]},
    "text as a key": reply_body("ok") | {"the secret": 1},
}


def ask(url: str, **options: Any) -> httpx.Response:
    body = {"model": "default", "messages": [{"role": "user", "content": "hi"}], **options}
    return httpx.post(url + "/v1/chat/completions", json=body)


@pytest.mark.parametrize("raw", STRIPPED.values(), ids=STRIPPED)
def test_a_guarded_reply_is_written_anew(
    gateway: StartGateway, upstream: ScriptedUpstream, raw: bytes
) -> None:
    upstream.script = respond(200, raw)
    answer = ask(gateway(OUTPUT).url)
    assert "secret" not in answer.text
    assert answer.json()["choices"][0]["message"]["content"] == "ok"
    assert answer.json()["choices"][0]["finish_reason"] == "stop"


@pytest.mark.parametrize("body", REFUSED.values(), ids=REFUSED)
def test_a_guarded_reply_of_unknown_shape_is_refused(
    gateway: StartGateway, upstream: ScriptedUpstream, body: Any
) -> None:
    upstream.script = respond(200, json.dumps(body).encode())
    answer = ask(gateway(OUTPUT).url)
    assert answer.status_code == 502
    assert answer.json()["error"]["code"] == "upstream_invalid_response"
    assert "secret" not in answer.text


@pytest.mark.parametrize("raw", STRIPPED.values(), ids=STRIPPED)
def test_without_a_rule_for_replies_the_bytes_pass(
    gateway: StartGateway, upstream: ScriptedUpstream, raw: bytes
) -> None:
    upstream.script = respond(200, raw)
    assert ask(gateway(INPUT).url).content == raw


def test_a_guarded_stream_loses_its_log_probabilities(
    gateway: StartGateway, upstream: ScriptedUpstream
) -> None:
    choice = {"index": 0, "delta": {"content": "ok"}, "finish_reason": "stop"}
    upstream.script = events(
        {"choices": [choice | {"logprobs": {"content": [{"token": "the secret"}]}}]}
    )
    answer = ask(gateway(OUTPUT).url, stream=True)
    assert '"content":"ok"' in answer.text
    assert "secret" not in answer.text
    assert "secret" in ask(gateway(INPUT).url, stream=True).text
