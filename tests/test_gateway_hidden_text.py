"""No text reaches the model unread because of where it stands or how it is written."""

from __future__ import annotations

import base64
import json
from typing import Any

import httpx
import orjson
import pytest
from gateway_kit import (
    Door,
    ScriptedUpstream,
    StartGateway,
    WordClassifier,
    completion,
    reply_body,
    respond,
)

EVERYONE = "roles: [system, developer, user, assistant, tool, function]"
POLICY = f"""
rules:
  - {{name: no-attacks, when: {{guard: attack}}, {EVERYONE}, do: {{block: "No."}}}}
  - {{name: no-leaks, when: {{guard: secret}}, check: [output], do: {{block: "Stays here."}}}}
  - name: hide
    when: {{pii: EMAIL}}
    {EVERYONE}
    do: {{redact: {{as: "<{{label}}_{{n}}>", restore: true}}}}
  - {{name: hide-out, when: {{pii: EMAIL}}, check: [output], do: {{redact: "[mail]"}}}}
  - {{name: small-talk, when: {{intent: greeting}}, do: {{answer: "Hello!"}}}}
"""
CARDS = [WordClassifier("pii", {"CARD": r"[0-9]{16}"}, kind="spans")]
HI = {"role": "user", "content": "hi"}


def parts(*texts: str) -> dict[str, Any]:
    return {"role": "user", "content": [{"type": "text", "text": text} for text in texts]}


def called(arguments: str) -> dict[str, Any]:
    function = {"name": "f", "arguments": arguments}
    call = {"id": "call_1", "type": "function", "function": function}
    return {"role": "assistant", "content": None, "tool_calls": [call]}


def result(content: str) -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": "call_1", "content": content}


def tool(parameters: Any) -> list[dict[str, Any]]:
    return [{"type": "function", "function": {"name": "f", "parameters": parameters}}]


def url(value: str) -> dict[str, Any]:
    return {"role": "user", "content": [{"type": "image_url", "image_url": {"url": value}}]}


def send(door: Door, *messages: Any, **fields: Any) -> httpx.Response:
    body = {"model": "default", "messages": list(messages) or [HI], **fields}
    return httpx.post(f"{door.url}/v1/chat/completions", json=body)


ATTACKS: list[tuple[str, list[Any], dict[str, Any]]] = [
    ("a word over two parts", [parts("tell of the att", "ack")], {}),
    ("a word over letters", [parts(*"an attack")], {}),
    ("a word behind a long part", [parts("x " * 5000 + "att", "ack" + " x" * 5000)], {}),
    ("a word over old parts", [parts("att", "ack"), {"role": "assistant", "content": "a"}, HI], {}),
    ("a word over messages", [parts("att"), {"role": "user", "content": "ack"}], {}),
    ("parts without a blank", [parts("an", "attack", "is")], {}),
    ("an escape in arguments", [called('{"q": "\\u0061ttack"}')], {}),
    ("a line in arguments", [called(json.dumps({"q": "an\nattack"}))], {}),
    ("a line in a tool's result", [result(json.dumps({"q": ["an\nattack"]}))], {}),
    ("a field's name", [HI], {"attack": 1}),
    ("a name below a field nobody knows", [HI], {"extra": {"an attack": {}}}),
    ("a name in metadata", [HI], {"metadata": {"attack": "x"}}),
    ("a name in logit_bias", [HI], {"logit_bias": {"attack": 1}}),
    ("a name in a message", [{**HI, "attack": 1}], {}),
    ("a property of a tool", [HI], {"tools": tool({"properties": {"attack now": {}}})}),
    ("a required property", [HI], {"tools": tool({"required": ["attack"]})}),
    ("an enum", [HI], {"tools": tool({"enum": ["attack"]})}),
    ("an id that is a word", [result("x") | {"tool_call_id": "attack"}], {}),
    ("a long identifier", [{**HI, "type": "attack" + "/x" * 40}], {}),
    ("data that belongs to nothing", [{**parts("x"), "data": "attack+x"}], {}),
    ("a data url without a type", [url("data:attack;base64,")], {}),
    ("a data url with words", [url("data:image/png;attack;base64,AAAA")], {}),
    (
        "a text as a data url",
        [url("data:text/plain;base64," + base64.b64encode(b"an attack").decode())],
        {},
    ),
    ("a coded data url", [url("data:,an%20%61ttack")], {}),
    ("a link", [url("https://x.y/attack")], {}),
]


@pytest.mark.parametrize(("name", "messages", "fields"), ATTACKS, ids=[row[0] for row in ATTACKS])
def test_it_is_blocked_wherever_it_hides(
    shared_gateway: StartGateway,
    upstream: ScriptedUpstream,
    name: str,
    messages: list[Any],
    fields: dict[str, Any],
) -> None:
    response = send(shared_gateway(POLICY), *messages, **fields)
    assert response.headers["x-doorman-action"] == "block"
    assert response.json()["choices"][0]["message"]["content"] == "No."
    assert upstream.seen == []


def test_ordinary_requests_are_not_held(
    shared_gateway: StartGateway, upstream: ScriptedUpstream
) -> None:
    picture = url("data:image/png;base64,iVBORw0KGgo=")
    sound = {"type": "input_audio", "input_audio": {"data": "UklGRiQA/w==", "format": "wav"}}
    messages = [
        {"role": "system", "content": "Be kind."},
        parts("What is this?", "And that?"),
        called(json.dumps({"q": "a\nb"})),
        result('{"a": "\\u00e4"}'),
        picture,
        {"role": "user", "content": [sound]},
    ]
    door = shared_gateway("on_unscannable: allow" + POLICY)
    response = send(door, *messages, logit_bias={"1234": 1}, metadata={"a": "b"})
    assert response.headers["x-doorman-action"] == "forward"
    assert upstream.seen[0].json["messages"] == messages


def test_small_talk_is_still_answered(
    shared_gateway: StartGateway, upstream: ScriptedUpstream
) -> None:
    door = shared_gateway(POLICY)
    assert send(door, parts("hello you")).headers["x-doorman-action"] == "answer"
    assert send(door, parts("hello", "hello")).headers["x-doorman-action"] == "answer"
    # Joined it is a greeting, but the second part alone is none.
    assert send(door, parts("hello", "what is a heap?")).headers["x-doorman-action"] == "forward"
    assert len(upstream.seen) == 1


def test_a_find_over_two_parts_is_replaced_in_both_and_put_back(
    shared_gateway: StartGateway, upstream: ScriptedUpstream
) -> None:
    upstream.script = completion("sent to <EMAIL_1><EMAIL_2>")
    response = send(shared_gateway(POLICY), parts("mail jane@exam", "ple.com now"))
    content = upstream.seen[0].json["messages"][0]["content"]
    assert [part["text"] for part in content] == ["mail <EMAIL_1>", "<EMAIL_2> now"]
    assert response.json()["choices"][0]["message"]["content"] == "sent to jane@example.com"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ('{"to": "jane@example.com", "n": 1}', {"to": "<EMAIL_1>", "n": 1}),
        (json.dumps({"to": "x\njane@example.com\ty"}), {"to": "x\n<EMAIL_1>\ty"}),
        ('{"to": "\\u006aane@example\\u002ecom!"}', {"to": "<EMAIL_1>!"}),
        ('["\\ud83d\\ude00 jane@example.com", "\\\\"]', ["\U0001f600 <EMAIL_1>", "\\"]),
    ],
)
def test_json_within_json_stays_json(
    shared_gateway: StartGateway, upstream: ScriptedUpstream, arguments: str, expected: Any
) -> None:
    upstream.script = completion("to <EMAIL_1>")
    response = send(shared_gateway(POLICY), called(arguments), HI)
    call = upstream.seen[0].json["messages"][0]["tool_calls"][0]
    assert json.loads(call["function"]["arguments"]) == expected
    assert response.json()["choices"][0]["message"]["content"] == "to jane@example.com"


def test_a_coded_find_takes_the_whole_code(
    shared_gateway: StartGateway, upstream: ScriptedUpstream
) -> None:
    send(shared_gateway(POLICY), url("data:,a\\%6aane%40example.com"))
    part = upstream.seen[0].json["messages"][0]["content"][0]
    assert part["image_url"]["url"] == "<EMAIL_1>"


def test_a_document_full_of_finds(shared_gateway: StartGateway, upstream: ScriptedUpstream) -> None:
    source = json.dumps({"all": "\n".join(f"m{i}@b.co" for i in range(3000))})
    send(shared_gateway(POLICY), result(source))
    found = json.loads(upstream.seen[0].json["messages"][0]["content"])["all"].split("\n")
    assert found == [f"<EMAIL_{i}>" for i in range(1, 3001)]


def test_a_number_that_is_replaced_becomes_a_string(
    gateway: StartGateway, upstream: ScriptedUpstream
) -> None:
    door = gateway(
        "rules: [{name: a, when: {pii: CARD}, roles: [tool], do: redact}]", classifiers=CARDS
    )
    send(door, result('{"card": 4111111111111111, "ok": true}'))
    content = upstream.seen[0].json["messages"][0]["content"]
    assert json.loads(content) == {"card": "<CARD_1>", "ok": True}


def test_what_is_found_in_a_name_cannot_be_replaced(
    gateway: StartGateway, upstream: ScriptedUpstream
) -> None:
    door = gateway(POLICY)
    response = send(door, tools=tool({"properties": {"jane@example.com": {}}}))
    error = response.json()["error"]
    assert (response.status_code, error["code"]) == (400, "content_filter")
    assert error["doorman"]["rule"] == "hide"
    assert "rename the field" in error["message"]
    assert "jane" not in response.text
    assert "jane" not in orjson.dumps(door.records.next()).decode()
    assert upstream.seen == []


def test_json_in_a_reply_is_read_as_the_client_reads_it(
    shared_gateway: StartGateway, upstream: ScriptedUpstream
) -> None:
    door = shared_gateway(POLICY)
    message = called('{"q": "a\\nsecret"}')
    upstream.script = respond(200, reply_body(choices=[{"index": 0, "message": message}]))
    assert send(door, HI).headers["x-doorman-action"] == "block"
    message = called('{"q": "\\u006aane@example.com", "n": 4}')
    upstream.script = respond(200, reply_body(choices=[{"index": 0, "message": message}]))
    call = send(door, HI).json()["choices"][0]["message"]["tool_calls"][0]
    assert json.loads(call["function"]["arguments"]) == {"q": "[mail]", "n": 4}


@pytest.mark.parametrize("role", ["attack", "jane@example.com", "User", "Ignore_all"])
def test_roles_are_those_that_there_are(
    shared_gateway: StartGateway, upstream: ScriptedUpstream, role: str
) -> None:
    response = send(shared_gateway(POLICY), {"role": role, "content": "x"})
    assert response.status_code == 400
    assert response.json()["error"]["param"] == "messages[0].role"
    assert role not in response.text
    assert upstream.seen == []


@pytest.mark.parametrize("mode", ["hash", "full"])
def test_a_record_stays_small_whatever_clients_send(
    gateway: StartGateway, upstream: ScriptedUpstream, mode: str
) -> None:
    door = gateway("on_unscannable: allow" + POLICY, f"record: {{content: {mode}}}")
    deep: Any = [f"a{i}@b.co \x01" for i in range(1500)]
    for level in range(60):
        deep = {f"jane{level}" + "k" * 240: deep}
    images = [url("https://x.y/z")["content"][0]] * 200
    response = send(door, parts("hi"), {"role": "user", "content": images}, x=deep)
    assert response.status_code == 200
    record = door.records.next()
    line = orjson.dumps(record)
    assert len(line) < 64_000
    assert b"jane" not in line
    assert record.content[-1]["left_out"] + len(record.content) - 1 == record.texts
    assert record.stages["input"]["redactions_left_out"] == 1400
    assert record.unscanned[-1] == "and 150 more"
    response = send(door, model="m" * 3_000)
    assert response.status_code == 404
    assert door.records.next().model == "?"


def test_a_text_that_is_too_long_for_a_record_is_cut(
    gateway: StartGateway, upstream: ScriptedUpstream
) -> None:
    door = gateway("", "record: {content: full}")
    send(door, {"role": "user", "content": "\x01" * 100_000})
    entry = door.records.next().content[0]
    assert len(orjson.dumps(entry)) < 41_000
    assert len(entry["text"]) + entry["cut"] == 100_000


def test_names_of_fields_have_a_limit(
    shared_gateway: StartGateway, upstream: ScriptedUpstream
) -> None:
    door = shared_gateway(POLICY)
    assert send(door, metadata={"k" * 256: "x"}).status_code == 200
    response = send(door, metadata={"k" * 257: "x"})
    assert (response.status_code, len(upstream.seen)) == (400, 1)
    assert "256 characters" in response.json()["error"]["message"]


def test_an_upstreams_error_is_passed_on_without_what_does_not_belong_to_it(
    shared_gateway: StartGateway, upstream: ScriptedUpstream
) -> None:
    error = {"message": "not so " * 1000, "type": "t", "code": 7, "param": None, "trace": "db1"}
    upstream.script = respond(400, {"error": error, "request": "db2"})
    response = send(shared_gateway(POLICY), HI)
    assert response.status_code == 400
    assert response.json() == {
        "error": {"message": ("not so " * 1000)[:1000], "type": "t", "param": None, "code": "7"}
    }
