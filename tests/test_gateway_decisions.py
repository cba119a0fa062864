"""What policies decide is what happens: over the wire, with the official client."""

from __future__ import annotations

import json
from typing import Any

import httpx
import openai
import pytest
from gateway_kit import (
    Door,
    ScriptedUpstream,
    StartGateway,
    chunk,
    completion,
    events,
    reply_body,
    respond,
    words,
)

from proxy.replies import is_whole_document

POLICY = """
rules:
  - {name: no-attacks, when: {guard: attack}, do: {block: "I can't help with that."}}
  - {name: hateful, when: {safety: hate}, do: {block: {message: "Be kind.", as: error}}}
  - {name: no-leaks, when: {guard: secret}, check: [output], do: {block: "That stays here."}}
  - {name: hide, when: {pii: EMAIL}, do: {redact: {as: "<{label}_{n}>", restore: true}}}
  - {name: small-talk, when: {intent: [greeting, thanks]}, do: {answer: {greeting: "Hello!", thanks: "Welcome!"}}}
  - {name: cheap, when: {topic: cheap}, do: {route: small}}
  - {name: watch, mode: shadow, when: {safety: violence}, do: {block: "never shown"}}
"""  # noqa: E501


def ask(door: Door, text: str, **options: Any) -> Any:
    """The raw response of the official client."""
    client = door.client()
    return client.chat.completions.with_raw_response.create(
        **{"model": "default", "messages": [{"role": "user", "content": text}], **options}
    )


def streamed(door: Door, text: str, **options: Any) -> tuple[str, list[Any], Any]:
    """Text, chunks and headers of a stream."""
    raw = ask(door, text, stream=True, **options)
    chunks = list(raw.parse())
    content = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    return content, chunks, raw.headers


def test_block_as_message(gateway: StartGateway, upstream: ScriptedUpstream) -> None:
    door = gateway(POLICY)
    raw = ask(door, "attack the server", n=2)
    reply = raw.parse()
    assert [c.message.content for c in reply.choices] == ["I can't help with that."] * 2
    assert {c.finish_reason for c in reply.choices} == {"content_filter"}
    assert reply.model == "default"
    assert reply.usage.total_tokens == 0
    assert raw.headers["x-doorman-action"] == "block"
    assert raw.headers["x-doorman-policy"] == "test@1"
    assert float(raw.headers["x-doorman-saved-usd"]) > 0
    assert upstream.seen == []


def test_block_in_a_stream(gateway: StartGateway, upstream: ScriptedUpstream) -> None:
    text, chunks, headers = streamed(
        gateway(POLICY), "attack the server", stream_options={"include_usage": True}
    )
    assert text == "I can't help with that."
    assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] == "content_filter"
    assert chunks[-1].usage.total_tokens == 0
    assert headers["content-type"].startswith("text/event-stream")
    assert headers["x-doorman-action"] == "block"
    assert upstream.seen == []


@pytest.mark.parametrize("stream", [False, True])
def test_block_as_error_is_not_retried(
    gateway: StartGateway, upstream: ScriptedUpstream, stream: bool
) -> None:
    door = gateway(POLICY)
    with pytest.raises(openai.BadRequestError) as caught:
        ask(door, "something hateful", stream=stream)
    error: Any = caught.value.body
    assert caught.value.code == "content_filter"
    assert error["message"] == "Be kind."
    assert error["doorman"]["rule"] == "hateful"
    assert error["innererror"]["content_filter_result"]["hate"]["filtered"] is True
    assert "something" not in json.dumps(error)
    assert door.records.next().decision_id == error["doorman"]["decision_id"]
    assert door.app.state.gateway.metrics.text().count(b'rule="hateful"} 1.0') == 1
    assert upstream.seen == []


def test_answer(gateway: StartGateway, upstream: ScriptedUpstream) -> None:
    door = gateway(POLICY)
    raw = ask(door, "hello there")
    choice = raw.parse().choices[0]
    assert (choice.message.content, choice.finish_reason) == ("Hello!", "stop")
    assert raw.headers["x-doorman-action"] == "answer"
    assert streamed(door, "thanks a lot")[0] == "Welcome!"
    assert upstream.seen == []


def test_an_old_greeting_does_not_answer_a_new_question(
    gateway: StartGateway, upstream: ScriptedUpstream
) -> None:
    history = [
        {"role": "user", "content": "hello"},
        {"role": "assistant", "content": "Hello!"},
        {"role": "user", "content": "What is a heap?"},
    ]
    raw = ask(gateway(POLICY), "", messages=history)
    assert raw.headers["x-doorman-action"] == "forward"
    assert upstream.seen[0].json["messages"] == history


def test_a_greeting_with_a_picture_is_a_question(
    gateway: StartGateway, upstream: ScriptedUpstream
) -> None:
    door = gateway("on_unscannable: allow" + POLICY)
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    content = [{"type": "text", "text": "hello"}, picture]
    ask(door, "", messages=[{"role": "user", "content": content}])
    assert len(upstream.seen) == 1
    assert door.records.next().unscanned == ("messages.0.content.1.image_url.url",)


@pytest.mark.parametrize("stream", [False, True])
def test_route(gateway: StartGateway, upstream: ScriptedUpstream, stream: bool) -> None:
    upstream.script = words("ok") if stream else completion("ok")
    door = gateway(POLICY)
    if stream:
        assert streamed(door, "a cheap question")[0] == "ok"
    else:
        raw = ask(door, "a cheap question")
        assert raw.headers["x-doorman-action"] == "route"
        # gpt-4o against gpt-4o-mini for 1000 and 100 tokens, as the price map has them.
        assert float(raw.headers["x-doorman-saved-usd"]) == pytest.approx(0.00329, rel=0.01)
    assert [seen.json["model"] for seen in upstream.seen] == ["gpt-4o-mini"]
    record = door.records.next()
    assert (record.model, record.upstream_model) == ("default", "gpt-4o-mini")
    assert record.saved_usd is not None
    assert record.saved_usd > 0


def test_redact_and_restore(gateway: StartGateway, upstream: ScriptedUpstream) -> None:
    body = reply_body("I wrote to <EMAIL_1>, not to <EMAIL_2>.")
    body["choices"][0]["message"]["tool_calls"] = [
        {
            "id": "c",
            "type": "function",
            "function": {"name": "f", "arguments": '{"to": "<EMAIL_1>"}'},
        }
    ]
    upstream.script = respond(200, body)
    raw = ask(gateway(POLICY), "Write to ann@example.com and bob@example.com", temperature=0.5)
    sent = upstream.seen[0].json
    assert sent["messages"][0]["content"] == "Write to <EMAIL_1> and <EMAIL_2>"
    assert sent["temperature"] == 0.5
    assert b"example.com" not in upstream.seen[0].raw
    message = raw.parse().choices[0].message
    assert message.content == "I wrote to ann@example.com, not to bob@example.com."
    assert message.tool_calls[0].function.arguments == '{"to": "ann@example.com"}'
    assert raw.headers["x-doorman-action"] == "redact"


def test_restore_in_a_stream(gateway: StartGateway, upstream: ScriptedUpstream) -> None:
    upstream.script = words("I wrote to <EM", "AIL", "_1> for ", "you <EMAIL_", "7>.")
    text, _, _ = streamed(gateway(POLICY), "Write to ann@example.com")
    assert text == "I wrote to ann@example.com for you <EMAIL_7>."
    assert b"example.com" not in upstream.seen[0].raw


@pytest.mark.parametrize(
    ("content", "document"),
    [
        ('{"a": 1}', True),
        (' [1, "<EMAIL_1>"]\n', True),
        ("{a set}", False),
        ("[1] see below", False),
        ("plain", False),
        ("", False),
        ("{", False),
    ],
)
def test_a_reply_that_is_json_is_known(content: str, document: bool) -> None:
    assert is_whole_document(content) is document


def test_redaction_changes_no_other_byte(gateway: StartGateway, upstream: ScriptedUpstream) -> None:
    raw = b'{"odd": 1.50, "messages": [ {"role":"user","content":"ann@example.com"}],  "model":"default"}'
    headers = {"content-type": "application/json"}
    httpx.post(f"{gateway(POLICY).url}/v1/chat/completions", content=raw, headers=headers)
    expected = raw.replace(b"ann@example.com", b"<EMAIL_1>").replace(b"default", b"gpt-4o")
    assert upstream.seen[0].raw == expected


def test_output_block(gateway: StartGateway, upstream: ScriptedUpstream) -> None:
    upstream.script = completion("the secret is 42")
    door = gateway(POLICY)
    raw = ask(door, "What is it?")
    choice = raw.parse().choices[0]
    assert (choice.message.content, choice.finish_reason) == ("That stays here.", "content_filter")
    assert raw.headers["x-doorman-action"] == "block"
    assert "is 42" not in raw.text
    record = door.records.next()
    assert record.upstream_called
    assert record.stages["output"]["cause"]["rule"] == "no-leaks"
    assert record.cost_usd is not None
    assert record.saved_usd is None


def test_output_block_in_a_stream_shows_nothing(
    gateway: StartGateway, upstream: ScriptedUpstream
) -> None:
    upstream.script = words("the se", "cret", " is 42")
    door = gateway(POLICY)
    text, chunks, _ = streamed(door, "What is it?")
    assert text == "That stays here."
    assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] == "content_filter"
    record = door.records.next()
    assert record.action == "block"
    assert record.stages["output"]["cause"]["rule"] == "no-leaks"


def test_output_block_late_in_a_stream(gateway: StartGateway, upstream: ScriptedUpstream) -> None:
    upstream.script = words(*["all is well. "] * 200, "the secret is 42", *[" and so on"] * 200)
    door = gateway(POLICY)
    text, chunks, _ = streamed(door, "What is it?")
    assert text.startswith("all is well. ")
    assert "secret" not in text
    assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] == "content_filter"
    record = door.records.next()
    assert record.action == "block"
    assert record.exposed_chars == len(text)


@pytest.mark.parametrize("stream", [False, True])
def test_shadow_rules_leave_a_record_and_nothing_else(
    gateway: StartGateway, upstream: ScriptedUpstream, stream: bool
) -> None:
    upstream.script = words("ok") if stream else completion("ok")
    door = gateway(POLICY)
    raw = ask(door, "How do I kill a process?", stream=stream)
    if stream:
        assert list(raw.parse())
    assert raw.headers["x-doorman-action"] == "forward"
    assert "x-doorman-policy" not in raw.headers
    record = door.records.next()
    assert [cause["rule"] for cause in record.stages["input"]["shadow"]] == ["watch"]
    assert b'action="shadow_block"' in door.app.state.gateway.metrics.text()


@pytest.mark.parametrize("stream", [False, True])
def test_a_failed_guard_is_not_a_block(
    gateway: StartGateway, upstream: ScriptedUpstream, stream: bool
) -> None:
    door = gateway(POLICY)
    with pytest.raises(openai.InternalServerError) as caught:
        door.client(max_retries=0).chat.completions.create(
            model="default", messages=[{"role": "user", "content": "crash"}], stream=stream
        )
    assert caught.value.status_code == 503
    assert caught.value.code == "policy_unavailable"
    assert caught.value.response.headers["x-doorman-action"] == "error"
    record = door.records.next()
    assert record.action == "error"
    assert record.stages["input"]["errors"][0]["classifier"] == "guard"
    assert b'kind="classifier"' in door.app.state.gateway.metrics.text()
    assert upstream.seen == []


@pytest.mark.parametrize("stream", [False, True])
def test_on_error_allow(gateway: StartGateway, upstream: ScriptedUpstream, stream: bool) -> None:
    upstream.script = words("ok") if stream else completion("ok")
    door = gateway("on_error: allow" + POLICY)
    raw = ask(door, "crash", stream=stream)
    if stream:
        assert list(raw.parse())
    assert raw.headers["x-doorman-action"] == "forward"
    assert len(upstream.seen) == 1
    assert door.records.next().stages["input"]["errors"][0]["outcome"] == "allow"


@pytest.mark.parametrize("stream", [False, True])
def test_a_guard_that_fails_on_the_reply(
    gateway: StartGateway, upstream: ScriptedUpstream, stream: bool
) -> None:
    upstream.script = words("crash ", "now") if stream else completion("crash now")
    door = gateway(POLICY)
    client = door.client(max_retries=0)
    question: Any = [{"role": "user", "content": "What is it?"}]

    def receive() -> None:
        reply: Any = client.chat.completions.create(
            model="default", messages=question, stream=stream
        )
        list(reply)

    with pytest.raises(openai.APIError) as caught:
        receive()
    assert caught.value.code == "policy_unavailable"
    record = door.records.next()
    assert (record.action, record.ended) == ("error", "policy_unavailable")


def test_policies_attach_to_models_and_keys(
    gateway: StartGateway, upstream: ScriptedUpstream
) -> None:
    keys = "keys: [{name: app, key: key-of-app}, {name: lab, key: key-of-lab}]"
    door = gateway("attach: {models: [default], keys: [app]}" + POLICY, keys)
    for key, model, action in [
        ("key-of-app", "default", "block"),
        ("key-of-app", "small", "forward"),
        ("key-of-lab", "default", "forward"),
    ]:
        raw = door.client(api_key=key).chat.completions.with_raw_response.create(
            model=model, messages=[{"role": "user", "content": "attack"}]
        )
        assert raw.headers["x-doorman-action"] == action
        assert door.records.next().key == key.removeprefix("key-of-")


def test_the_record_names_everything_and_holds_no_text(gateway: StartGateway) -> None:
    door = gateway(POLICY)
    ask(door, "please attack xyzzy")
    record = door.records.next()
    cause = record.stages["input"]["cause"]
    assert cause["policy"] == "test@1"
    assert cause["rule"] == "no-attacks"
    assert (cause["classifier"], cause["label"]) == ("guard@test", "attack")
    assert (cause["score"], cause["threshold"]) == (0.99, 0.5)
    assert cause["address"] == ("messages", 0, "content")
    assert {"classify_input", "evaluate_input", "total", "overhead"} <= set(record.milliseconds)
    assert not record.upstream_called
    assert record.saved_basis is not None
    assert "215 assumed completion tokens" in record.saved_basis
    assert list(record.content[0]) == ["address", "role", "hmac_sha256"]
    assert "xyzzy" not in repr(record)


@pytest.mark.parametrize(("mode", "kept"), [("none", []), ("full", ["please attack"])])
def test_content_in_the_record(gateway: StartGateway, mode: str, kept: list[str]) -> None:
    door = gateway(POLICY, f"record: {{content: {mode}}}")
    ask(door, "please attack")
    assert [entry["text"] for entry in door.records.next().content] == kept


def test_hashes_can_be_found_again(gateway: StartGateway) -> None:
    door = gateway(POLICY)
    for text in ("attack one", "attack one", "attack two"):
        ask(door, text)
    first, second, third = (door.records.next().content[0]["hmac_sha256"] for _ in range(3))
    assert first == second != third


def test_events_of_other_shapes_are_checked_too(
    gateway: StartGateway, upstream: ScriptedUpstream
) -> None:
    upstream.script = events(
        chunk({"reasoning_content": "the secret is 42"}), chunk({}, finish="stop")
    )
    text, chunks, _ = streamed(gateway(POLICY), "What is it?")
    assert "secret" not in json.dumps([c.model_dump() for c in chunks])
    assert text == "That stays here."


def test_the_name_of_a_model_that_is_none_is_not_recorded(gateway: StartGateway) -> None:
    door = gateway(POLICY)
    with pytest.raises(openai.NotFoundError):
        ask(door, "hi", model="my secret is that I am ill")
    record = door.records.next()
    assert (record.model, record.status) == ("?", 404)
