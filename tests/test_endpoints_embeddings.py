"""``/v1/embeddings``: what is embedded is read first, and vectors come back as they were."""

from __future__ import annotations

import base64
import json
import struct
from typing import Any

import httpx
import openai
import pytest
from gateway_kit import Door, ScriptedUpstream, StartGateway, respond

from proxy.endpoints import ENDPOINTS

EMBED = ENDPOINTS["/v1/embeddings"]
POLICY = """
rules:
  - {name: no-attacks, when: {guard: attack}, roles: [system, developer, user], do: {block: "No."}}
  - {name: hide, when: {pii: EMAIL}, do: {redact: {as: "<{label}_{n}>", restore: true}}}
  - {name: small-talk, when: {intent: greeting}, do: {answer: "Hello!"}}
  - {name: cheap, when: {topic: cheap}, do: {route: small}}
"""
OUTPUT = (
    POLICY + '  - {name: leaks, when: {guard: secret}, check: [output], do: {block: "Stays."}}\n'
)
VECTOR = [0.0023064255, -1.5e-05, 1.0, 7]


def packed(*numbers: float) -> str:
    return base64.b64encode(struct.pack(f"<{len(numbers)}f", *numbers)).decode()


def reply(*vectors: Any, **extra: Any) -> dict[str, Any]:
    data = [
        {"object": "embedding", "index": i, "embedding": vector} for i, vector in enumerate(vectors)
    ]
    usage = {"prompt_tokens": 8, "total_tokens": 8}
    return {"object": "list", "data": data, "model": "up", "usage": usage, **extra}


def post(door: Door, **body: Any) -> httpx.Response:
    return httpx.post(f"{door.url}/v1/embeddings", json={"model": "default", **body}, timeout=10)


@pytest.mark.parametrize("policy", [POLICY, OUTPUT])
def test_texts_go_up_and_vectors_come_down(
    shared_gateway: StartGateway, upstream: ScriptedUpstream, policy: str
) -> None:
    upstream.script = respond(200, reply(packed(0.5, -2.0), packed(0.25)))
    client = shared_gateway(policy).client()
    found = client.embeddings.create(model="default", input=["one", "two"], dimensions=2)
    assert [item.embedding for item in found.data] == [[0.5, -2.0], [0.25]]  # sent as base64
    assert found.usage.prompt_tokens == 8
    sent = upstream.seen[0].json
    assert (sent["input"], sent["model"], sent["dimensions"]) == (["one", "two"], "gpt-4o", 2)
    upstream.script = respond(200, reply(VECTOR))
    found = client.embeddings.create(model="default", input="one", encoding_format="float")
    assert found.data[0].embedding == VECTOR


def test_a_reply_passes_byte_for_byte_without_rules_for_it(
    shared_gateway: StartGateway, upstream: ScriptedUpstream
) -> None:
    raw = b'{"object":"list", "data":[{"embedding": [-1.50e-05,\n 0.10]}],"model":"up"}'
    upstream.script = respond(200, raw)
    assert post(shared_gateway(POLICY), input="one").content == raw
    assert post(shared_gateway(OUTPUT), input="one").json() == json.loads(raw)


BLOCKED: dict[str, dict[str, Any]] = {
    "a string": {"input": "an attack"},
    "the last of several": {"input": ["fine", "attack"]},
    "the user": {"input": "fine", "user": "attack"},
    "a field nobody knows": {"input": "fine", "task": {"x": ["attack now"]}},
    "the name of a field": {"input": "fine", "attack": 1},
    "an input that looks like media": {"input": "data:text/plain,an%20%61ttack"},
}


@pytest.mark.parametrize("body", BLOCKED.values(), ids=BLOCKED)
def test_a_block_is_an_error_because_a_vector_carries_no_message(
    shared_gateway: StartGateway, upstream: ScriptedUpstream, body: Any
) -> None:
    answer = post(shared_gateway(POLICY), **body)
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["param"]) == (400, "content_filter", "input")
    assert error["message"] == "No."
    assert answer.headers["x-should-retry"] == "false"
    assert answer.headers["x-doorman-action"] == "block"
    assert upstream.seen == []


def test_the_client_sees_a_bad_request(shared_gateway: StartGateway) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        shared_gateway(POLICY).client().embeddings.create(model="default", input="attack")
    assert caught.value.code == "content_filter"


def test_nothing_is_answered_here_but_a_route_works(
    shared_gateway: StartGateway, upstream: ScriptedUpstream
) -> None:
    upstream.script = respond(200, reply(VECTOR))
    door = shared_gateway(POLICY)
    assert post(door, input="hello there").headers["x-doorman-action"] == "forward"
    assert post(door, input="something cheap").headers["x-doorman-action"] == "route"
    assert [seen.json["model"] for seen in upstream.seen] == ["gpt-4o", "gpt-4o-mini"]


def test_what_is_embedded_is_redacted_first(
    shared_gateway: StartGateway, upstream: ScriptedUpstream
) -> None:
    upstream.script = respond(200, reply(VECTOR, VECTOR))
    answer = post(shared_gateway(POLICY), input=["to ann@example.com", "fine"])
    assert upstream.seen[0].json["input"] == ["to <EMAIL_1>", "fine"]
    assert answer.headers["x-doorman-action"] == "redact"
    assert answer.json() == reply(VECTOR, VECTOR)


REFUSED: list[tuple[dict[str, Any], str, str]] = [
    ({"input": [1, 2]}, "input", "unsupported_input"),
    ({"input": [[1], [2]]}, "input", "unsupported_input"),
    ({"input": ["x", [1]]}, "input", "unsupported_input"),
    ({"input": [{"image": "https://x.y/z.png"}]}, "input[0]", "invalid_type"),
    ({"input": []}, "input", "empty_array"),
    ({"input": ["x"] * 2049}, "input", "integer_above_max_value"),
    ({}, "input", "missing_required_parameter"),
    ({"messages": [{"role": "user", "content": "x"}]}, "input", "missing_required_parameter"),
    ({"input": "x", "stream": True}, "stream", "invalid_value"),
]


@pytest.mark.parametrize(("body", "param", "code"), REFUSED)
def test_what_cannot_be_read_is_refused(
    shared_gateway: StartGateway, upstream: ScriptedUpstream, body: Any, param: str, code: str
) -> None:
    answer = post(shared_gateway(), **body)
    error = answer.json()["error"]
    assert (answer.status_code, error["param"], error["code"]) == (400, param, code)
    assert upstream.seen == []


SAID: dict[str, tuple[dict[str, Any], int]] = {
    "vectors": (reply(VECTOR, packed(1.0, 2.0)), 200),
    "a field of its own": (reply(VECTOR, note="the secret"), 400),
    "words among the vectors": (reply([0.1, "the secret"]), 400),
    "words in place of a vector": (reply("the secret"), 400),
    "a name that is a sentence": (reply(VECTOR) | {"model": "the secret"}, 400),
    "a key that is a sentence": (reply(VECTOR) | {"the secret key": 1}, 502),
    "no list": ({"object": "list", "data": {}}, 502),
}


@pytest.mark.parametrize(("body", "status"), SAID.values(), ids=SAID)
def test_words_in_a_reply_are_read(
    shared_gateway: StartGateway, upstream: ScriptedUpstream, body: Any, status: int
) -> None:
    upstream.script = respond(200, body)
    answer = post(shared_gateway(OUTPUT), input="x")
    assert answer.status_code == status
    if status == 200:
        assert answer.json() == body
    else:
        assert "the secret" not in answer.text
        assert post(shared_gateway(POLICY), input="x").json() == body


def test_the_record(gateway: StartGateway, upstream: ScriptedUpstream) -> None:
    upstream.script = respond(200, reply(VECTOR))
    door = gateway(POLICY)
    post(door, input=["one", "two"])
    record = door.records.next()
    assert (record.endpoint, record.texts, record.action) == ("embeddings", 2, "forward")
    assert record.tokens is not None
    assert (record.tokens.prompt, record.tokens.completion) == (8, 0)
    post(door, input="attack " * 50)
    saved = door.records.next()
    assert saved.saved_basis is not None
    assert "and 0 assumed completion tokens" in saved.saved_basis


def test_vectors_are_no_texts() -> None:
    assert EMBED.reply_texts(reply(VECTOR, packed(0.1, 0.2, 0.3))) == []
    assert [t.address for t in EMBED.reply_texts(reply(["a b"]))] == [("data", 0, "embedding", 0)]
    assert EMBED.usage(reply()) is not None
