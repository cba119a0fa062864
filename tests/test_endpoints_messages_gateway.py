"""Anthropic's API over the gateway, with the official client: what goes up, down, and what does not."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import anthropic
import httpx
import pytest
from gateway_kit import Door, ScriptedUpstream, events, respond
from messages_kit import (
    BEGIN,
    HELLO,
    client,
    delta,
    event,
    message,
    messages_gateway,
    start,
    stop,
    stream,
    text_block,
)

GUARD = """
rules:
  - {name: attacks, when: {guard: attack}, check: [input, output], do: {block: "Not here."}}
"""
ERRORS = GUARD.replace('"Not here."', '{message: "Not here.", as: error}')
REDACT = """
rules:
  - {name: hide, when: {pii: EMAIL}, do: {redact: {as: "<{label}_{n}>", restore: true}}}
"""
REDACT_OUTPUT = """
rules:
  - {name: hide, when: {pii: EMAIL}, check: [output], do: {redact: {as: "<{label}_{n}>"}}}
"""
ANSWER = """
rules:
  - {name: small-talk, when: {intent: greeting}, do: {answer: "Hello. Ask me something."}}
"""


@pytest.fixture
def serve_messages(tmp_path: Path, upstream: ScriptedUpstream) -> Iterator[Any]:
    with ExitStack() as stack:
        yield lambda policy="", more="": stack.enter_context(
            messages_gateway(tmp_path, upstream.port, policy, more)
        )


def ask(door: Door, messages: Any = HELLO, **options: Any) -> Any:
    given = {"model": "claude", "max_tokens": 100, "messages": messages, **options}
    return client(door).messages.create(**given)


def told(door: Door, messages: Any = HELLO, **options: Any) -> tuple[list[Any], Any]:
    """The events of a stream, and the message they add up to."""
    given = {"model": "claude", "max_tokens": 100, "messages": messages, **options}
    with client(door).messages.stream(**given) as stream:
        seen = list(stream)
        return seen, stream.get_final_message()


def test_passed_through(serve_messages: Any, upstream: ScriptedUpstream) -> None:
    upstream.script = message("A heap is a tree.")
    door = serve_messages(GUARD)
    raw = client(door).messages.with_raw_response.create(
        model="claude", max_tokens=100, messages=HELLO, extra_headers={"anthropic-beta": "b-1"}
    )
    reply = raw.parse()
    assert reply.content[0].text == "A heap is a tree."
    assert reply.stop_reason == "end_turn"
    assert raw.headers["x-doorman-action"] == "forward"
    seen = upstream.seen[0]
    assert seen.json["model"] == "claude-x"
    assert seen.headers["x-api-key"] == "sk-ant-upstream"
    assert seen.headers["anthropic-version"] >= "2023-06-01"  # the client's own
    assert seen.headers["anthropic-beta"] == "b-1"
    assert "authorization" not in seen.headers
    record = door.records.next()
    assert (record.endpoint, record.tokens.prompt, record.tokens.completion) == (
        "messages", 1000, 100,
    )  # fmt: skip


def test_streamed_through(serve_messages: Any, upstream: ScriptedUpstream) -> None:
    tool = {"type": "tool_use", "id": "toolu_01", "name": "find", "input": {}}
    upstream.script = stream(
        start(0, {"type": "thinking", "thinking": "", "signature": ""}),
        delta(0, "thinking_delta", thinking="They want a heap"),
        delta(0, "signature_delta", signature="c2ln" * 20),
        stop(0),
        *text_block(1, "A heap ", "is a tree"),
        start(2, tool),
        delta(2, "input_json_delta", partial_json='{"q": "he'),
        delta(2, "input_json_delta", partial_json='ap"}'),
        stop(2),
        reason="tool_use",
    )
    door = serve_messages(GUARD)
    seen, reply = told(door)
    assert [block.type for block in reply.content] == ["thinking", "text", "tool_use"]
    assert reply.content[0].thinking == "They want a heap"
    assert reply.content[0].signature == "c2ln" * 20
    assert reply.content[1].text == "A heap is a tree"
    assert reply.content[2].input == {"q": "heap"}
    assert reply.stop_reason == "tool_use"
    assert seen[-1].type == "message_stop"
    record = door.records.next()
    assert (record.ended, record.tokens.prompt, record.tokens.completion) == ("complete", 1000, 100)


ATTACK = "launch the attack now"
ONE = {"type": "text", "text": "What is this?"}
RESULT = {"type": "tool_result", "tool_use_id": "toolu_01", "content": ATTACK}
CALL = {"type": "tool_use", "id": "toolu_01", "name": "find", "input": {"q": "heap"}}
CALLED = [*HELLO, {"role": "assistant", "content": [CALL]}]


@pytest.mark.parametrize(
    "messages",
    [
        [{"role": "user", "content": ATTACK}],
        [{"role": "user", "content": [{"type": "text", "text": ATTACK}]}],
        [{"role": "user", "content": [ONE, {"type": "document", "source": {
            "type": "text", "media_type": "text/plain", "data": "attack"}}]}],
        [{"role": "user", "content": [ONE, {"type": "document", "title": ATTACK, "source": {
            "type": "url", "url": "https://example.com/a.pdf"}}]}],
        [{"role": "user", "content": [{"type": "search_result", "source": "https://a.b", "title": "t",
            "content": [{"type": "text", "text": ATTACK}]}]}],
        [*CALLED, {"role": "user", "content": [RESULT]}],
        [*CALLED, {"role": "user", "content": [
            {**RESULT, "content": [{"type": "text", "text": ATTACK}]}]}],
        [*HELLO, {"role": "assistant", "content": "Sure, the attack is"}],
        [{"role": "user", "content": [{"type": "text", "text": "att"}, {"type": "text", "text": "ack"}]}],
    ],
)  # fmt: skip
@pytest.mark.parametrize("streamed", [False, True])
def test_blocked_input(
    serve_messages: Any, upstream: ScriptedUpstream, messages: Any, streamed: bool
) -> None:
    door = serve_messages(GUARD)
    reply = told(door, messages)[1] if streamed else ask(door, messages)
    assert [block.text for block in reply.content] == ["Not here."]
    assert (reply.stop_reason, reply.role, reply.type) == ("refusal", "assistant", "message")
    assert (reply.usage.input_tokens, reply.usage.output_tokens) == (0, 0)
    assert reply.id.startswith("msg_")
    assert upstream.seen == []
    assert door.records.next().action == "block"


def test_answered_here(serve_messages: Any, upstream: ScriptedUpstream) -> None:
    door = serve_messages(ANSWER)
    hello = [{"role": "user", "content": "hello"}]
    for reply in (ask(door, hello), told(door, hello)[1]):
        assert reply.content[0].text == "Hello. Ask me something."
        assert reply.stop_reason == "end_turn"
    assert upstream.seen == []
    upstream.script = message("A cat.")
    picture = {"type": "image", "source": {"type": "url", "url": "https://example.com/a.png"}}
    greeted = [{"role": "user", "content": [{"type": "text", "text": "hello"}, picture]}]
    assert ask(door, greeted).content[0].text == "A cat."
    assert ask(door, [*hello, {"role": "assistant", "content": "{"}]).content[0].text == "A cat."


@pytest.mark.parametrize(
    "block",
    [
        {"type": "text", "text": ATTACK},
        {"type": "thinking", "thinking": ATTACK, "signature": "c2ln" * 20},
        {"type": "tool_use", "id": "toolu_01", "name": "find", "input": {"a": [{"b": ATTACK}]}},
        {"type": "tool_use", "id": "toolu_01", "name": "find", "input": {"attack now": 1}},
        {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {"query": ATTACK}},
        {"type": "text", "text": "As said.", "citations": [{
            "type": "char_location", "cited_text": ATTACK, "document_index": 0,
            "document_title": None, "start_char_index": 0, "end_char_index": 9}]},
        {"type": "web_search_tool_result", "tool_use_id": "srvtoolu_1", "content": [{
            "type": "web_search_result", "title": ATTACK, "url": "https://a.b",
            "encrypted_content": "c2ln" * 20, "page_age": None}]},
        {"type": "not_known_yet", "said": {"how": ATTACK}},
    ],
)  # fmt: skip
def test_blocked_reply(serve_messages: Any, upstream: ScriptedUpstream, block: Any) -> None:
    upstream.script = message("Well.", block)
    door = serve_messages(GUARD)
    reply = ask(door)
    assert [part.text for part in reply.content] == ["Not here."]
    assert reply.stop_reason == "refusal"
    assert reply.usage.output_tokens == 100


@pytest.mark.parametrize(
    "block",
    [
        text_block(1, "launch the att", "ack now"),
        [start(1, {"type": "thinking", "thinking": "", "signature": ""}),
         delta(1, "thinking_delta", thinking="launch the att"),
         delta(1, "thinking_delta", thinking="ack now"), stop(1)],
        [start(1, CALL | {"input": {}}), delta(1, "input_json_delta", partial_json='{"q": "att'),
         delta(1, "input_json_delta", partial_json='ack now"}'), stop(1)],
        [start(1, {"type": "text", "text": ""}), delta(1, "text_delta", text="Said."),
         delta(1, "citations_delta", citation={
             "type": "char_location", "cited_text": ATTACK, "document_index": 0,
             "document_title": None, "start_char_index": 0, "end_char_index": 9}), stop(1)],
        [start(1, {"type": "web_search_tool_result", "tool_use_id": "srvtoolu_1", "content": [{
            "type": "web_search_result", "title": ATTACK, "url": "https://a.b",
            "encrypted_content": "c2ln" * 20, "page_age": None}]}), stop(1)],
        [event({"type": "not_known_yet", "index": 1, "said": ATTACK})],
    ],
)  # fmt: skip
def test_blocked_stream(serve_messages: Any, upstream: ScriptedUpstream, block: Any) -> None:
    long = "A heap is a tree. " * 40
    upstream.script = stream(*text_block(0, *([long] * 3)), *block)
    door = serve_messages(GUARD)
    seen, reply = told(door)
    text = "".join(part.text for part in reply.content if part.type == "text")
    assert text.startswith("A heap is a tree.")
    assert "attack" not in json.dumps(reply.to_dict())
    assert reply.stop_reason == "refusal"
    assert [item.type for item in seen][-2:] == ["message_delta", "message_stop"]
    opened = [item.index for item in seen if item.type == "content_block_start"]
    stopped = [item.index for item in seen if item.type == "content_block_stop"]
    assert opened == stopped == list(range(len(opened)))
    assert door.records.next().action == "block"


def test_blocked_in_a_first_thought(serve_messages: Any, upstream: ScriptedUpstream) -> None:
    """Nothing was said yet, so the policy's words are."""
    upstream.script = stream(
        start(0, {"type": "thinking", "thinking": "", "signature": ""}),
        delta(0, "thinking_delta", thinking="A heap is a tree. " * 100),
        0.3,
        delta(0, "thinking_delta", thinking="launch the attack now"),
        stop(0),
    )
    _, reply = told(serve_messages(GUARD))
    assert reply.content[-1].text == "Not here."
    assert reply.stop_reason == "refusal"


def test_redacted_and_restored(serve_messages: Any, upstream: ScriptedUpstream) -> None:
    door = serve_messages(REDACT)
    said = [{"role": "user", "content": "Write to jo@example.com please"}]
    upstream.script = message("Wrote to <EMAIL_1>.", {**CALL, "input": {"to": "<EMAIL_1>"}})
    reply = ask(door, said)
    assert "jo@" not in upstream.seen[0].raw.decode()
    mail = upstream.seen[0].json["messages"][0]["content"].split()[2]
    assert mail == "<EMAIL_1>"
    assert reply.content[0].text == "Wrote to jo@example.com."
    assert reply.content[1].input == {"to": "jo@example.com"}
    upstream.script = stream(
        *text_block(0, f"Wrote to {mail[:4]}", f"{mail[4:]}."),
        start(1, CALL | {"input": {}}),
        delta(1, "input_json_delta", partial_json='{"to": "' + mail[:3]),
        delta(1, "input_json_delta", partial_json=mail[3:] + '"}'),
        stop(1),
        reason="tool_use",
    )
    _, reply = told(door, said)
    assert reply.content[0].text == "Wrote to jo@example.com."
    assert reply.content[1].input == {"to": "jo@example.com"}


def test_redacted_reply(serve_messages: Any, upstream: ScriptedUpstream) -> None:
    door = serve_messages(REDACT_OUTPUT)
    upstream.script = message("Ask jo@example.com.", {**CALL, "input": {"to": "jo@example.com"}})
    assert "jo@example.com" not in json.dumps(ask(door).to_dict())
    upstream.script = stream(*text_block(0, "Ask jo@exa", "mple.com."))
    seen, reply = told(door)
    assert "jo@" not in json.dumps([item.to_dict() for item in seen])
    assert reply.content[0].text.startswith("Ask <EMAIL_1>")


@pytest.mark.parametrize("where", [0, 1, 2])
def test_a_cut_stream_is_no_answer(
    serve_messages: Any, upstream: ScriptedUpstream, where: int
) -> None:
    """Cut in a block, between blocks, and before the reason is told."""
    block = text_block(0, "A heap is a tree. " * 100)
    items = [block[:-1], block, [*block, start(1, {"type": "text", "text": ""})]][where]
    upstream.script = stream(*items, whole=False)
    door = serve_messages(GUARD)
    with pytest.raises(anthropic.APIStatusError) as raised:
        told(door)
    assert raised.value.body["type"] == "error"
    assert raised.value.body["error"]["type"] == "api_error"
    assert door.records.next().ended == "upstream_invalid_response"


def test_an_error_within_a_stream(serve_messages: Any, upstream: ScriptedUpstream) -> None:
    fault = {"type": "error", "error": {"type": "overloaded_error", "message": "key sk-1"}}
    upstream.script = events(BEGIN, *text_block(0, "A heap. " * 200), event(fault), done=False)
    with pytest.raises(anthropic.APIStatusError) as raised:
        told(serve_messages(GUARD))
    assert "sk-1" not in str(raised.value.body)


KEYS = 'keys: [{name: app, key: "client-key-of-the-app-000"}]'


def test_keys(serve_messages: Any, upstream: ScriptedUpstream) -> None:
    upstream.script = message("ok")
    door = serve_messages("", KEYS)
    given = {"model": "claude", "max_tokens": 9, "messages": HELLO}
    key = "client-key-of-the-app-000"
    assert client(door, api_key=key).messages.create(**given).content[0].text == "ok"
    assert door.records.next().key == "app"
    by_token = client(door, api_key=None, auth_token=key)
    assert by_token.messages.create(**given).content[0].text == "ok"
    for wrong in ("client-key-of-nobody-00", "x"):
        with pytest.raises(anthropic.AuthenticationError) as raised:
            client(door, api_key=wrong).messages.create(**given)
        assert raised.value.body["error"]["type"] == "authentication_error"
        assert key not in str(raised.value.body)
    assert len(upstream.seen) == 2
    assert all(key not in str(seen.headers) for seen in upstream.seen)
    # The same header works for the other paths.
    headers = {"x-api-key": key}
    assert httpx.get(f"{door.url}/v1/models", headers=headers).status_code == 200


def post(door: Door, raw: bytes, path: str = "/v1/messages") -> httpx.Response:
    headers = {"content-type": "application/json"}
    return httpx.post(f"{door.url}{path}", content=raw, headers=headers, timeout=10)


def test_errors(serve_messages: Any, upstream: ScriptedUpstream) -> None:
    door = serve_messages(ERRORS, "limits: {max_body_bytes: 2000}")
    body = {"model": "claude", "max_tokens": 9, "messages": HELLO}
    attack = {**body, "messages": [{"role": "user", "content": ATTACK}]}
    cases = [
        (b"{", "/v1/messages", 400, "invalid_request_error"),
        (b'{"a": "' + b"x" * 3000 + b'"}', "/v1/messages", 413, "request_too_large"),
        (b"{}", "/v1/messages", 400, "invalid_request_error"),
        (json.dumps({**body, "model": "other"}).encode(), "/v1/messages", 404, "not_found_error"),
        (json.dumps(attack).encode(), "/v1/messages", 400, "invalid_request_error"),
        (json.dumps(body).encode(), "/v1/messages/count_tokens", 404, "not_found_error"),
        (json.dumps(body).encode(), "/v1/messages/batches", 404, "not_found_error"),
    ]
    for raw, path, status, kind in cases:
        reply = post(door, raw, path)
        told = reply.json()
        assert (reply.status_code, told["type"], told["error"]["type"]) == (status, "error", kind)
        assert told["request_id"] == reply.headers["x-request-id"]
        assert "attack" not in told["error"]["message"]
    blocked = post(door, json.dumps(attack).encode())
    assert blocked.headers["x-should-retry"] == "false"
    assert blocked.json()["error"]["message"] == "Not here."
    assert blocked.json()["error"]["doorman"]["rule"] == "attacks"
    assert upstream.seen == []
    wrong = httpx.get(f"{door.url}/v1/messages")
    assert (wrong.status_code, wrong.json()["type"]) == (405, "error")
    # Other paths keep OpenAI's shape.
    assert "type" not in post(door, b"{", "/v1/chat/completions").json()


def test_blocked_reply_as_an_error(serve_messages: Any, upstream: ScriptedUpstream) -> None:
    door = serve_messages(ERRORS)
    upstream.script = message(ATTACK)
    with pytest.raises(anthropic.BadRequestError, match="Not here"):
        ask(door)
    upstream.script = stream(*text_block(0, ATTACK))
    with pytest.raises(anthropic.BadRequestError, match="Not here"):
        told(door)


@pytest.mark.parametrize(
    ("status", "kind"),
    [(400, "invalid_request_error"), (401, "authentication_error"), (404, "not_found_error"),
     (429, "rate_limit_error"), (500, "api_error"), (529, "overloaded_error")],
)  # fmt: skip
@pytest.mark.parametrize("model", ["claude", "gpt"])
def test_errors_of_the_upstream(
    serve_messages: Any, upstream: ScriptedUpstream, status: int, kind: str, model: str
) -> None:
    said = {"type": kind, "message": "So it is."}
    fault = {"type": "error", "error": said} if model == "claude" else {"error": said}
    headers = {"retry-after": "7", "anthropic-ratelimit-requests-remaining": "3"}
    upstream.script = respond(status, fault, headers)
    door = serve_messages(GUARD)
    with pytest.raises(anthropic.APIStatusError) as raised:
        ask(door, model=model)
    assert raised.value.status_code == status
    assert raised.value.body["error"]["type"] == kind
    assert raised.value.response.headers["retry-after"] == "7"
    assert raised.value.response.headers["anthropic-ratelimit-requests-remaining"] == "3"
    with pytest.raises(anthropic.APIStatusError) as raised:
        told(door, model=model)
    assert raised.value.body["error"]["type"] == kind
