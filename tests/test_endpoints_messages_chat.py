"""Anthropic's API in front of models that know chat completions only."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import anthropic
import pytest
from gateway_kit import ScriptedUpstream, chunk, completion, events, words
from messages_kit import HELLO, client, messages_gateway

from proxy.config import ModelEntry, Timeouts
from proxy.endpoints.messages_from_chat import to_message
from proxy.endpoints.messages_to_chat import to_chat
from proxy.errors import InvalidRequest, UpstreamError
from proxy.upstream import Target, make_upstreams
from proxy.upstream_anthropic import AnthropicUpstream, ByChat
from proxy.upstream_litellm import LitellmUpstream

GUARD = """
rules:
  - {name: attacks, when: {guard: attack}, check: [input, output], do: {block: "Not here."}}
  - {name: hide, when: {pii: EMAIL}, do: {redact: {as: "<{label}_{n}>", restore: true}}}
"""

PNG = {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="}
CALL = {"type": "tool_use", "id": "toolu_1", "name": "find", "input": {"q": "heap"}}
TOOL = {"name": "find", "description": "Finds.", "input_schema": {"type": "object"}}


@pytest.fixture(scope="module")
def door(_upstream: ScriptedUpstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with ExitStack() as stack:
        folder: Path = tmp_path_factory.mktemp("messages")
        yield stack.enter_context(messages_gateway(folder, _upstream.port, GUARD))


def ask(door: Any, messages: Any = HELLO, **options: Any) -> Any:
    given = {"model": "gpt", "max_tokens": 100, "messages": messages, **options}
    return client(door).messages.create(**given)


def told(door: Any, messages: Any = HELLO, **options: Any) -> Any:
    given = {"model": "gpt", "max_tokens": 100, "messages": messages, **options}
    with client(door).messages.stream(**given) as stream:
        for _ in stream:
            pass
        return stream.get_final_message()


def test_plain(door: Any, upstream: ScriptedUpstream) -> None:
    upstream.script = completion("A heap is a tree.")
    reply = ask(door, system="Be brief.", stop_sequences=["END"], tools=[TOOL])
    assert reply.content[0].text == "A heap is a tree."
    assert (reply.stop_reason, reply.model) == ("end_turn", "upstream-model")
    assert (reply.usage.input_tokens, reply.usage.output_tokens) == (1000, 100)
    sent = upstream.seen[0].json
    assert sent["messages"] == [{"role": "system", "content": "Be brief."}, *HELLO]
    assert (sent["model"], sent["max_tokens"], sent["stop"]) == ("gpt-4o", 100, ["END"])
    assert sent["tools"][0]["function"]["name"] == "find"
    assert upstream.seen[0].headers["authorization"] == "Bearer sk-upstream"


def test_streamed(door: Any, upstream: ScriptedUpstream) -> None:
    call = {"index": 0, "id": "call_1", "type": "function", "function": {"name": "find"}}
    upstream.script = events(
        chunk({"role": "assistant", "content": ""}),
        chunk({"reasoning_content": "They want a heap"}),
        chunk({"content": "A heap "}),
        chunk({"content": "is a tree"}),
        chunk({"tool_calls": [{**call, "function": {"name": "find", "arguments": ""}}]}),
        chunk({"tool_calls": [{"index": 0, "function": {"arguments": '{"q": "he'}}]}),
        chunk({"tool_calls": [{"index": 0, "function": {"arguments": 'ap"}'}}]}),
        chunk({}, finish="tool_calls"),
        {**chunk({}), "choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 5}},
    )
    reply = told(door)
    assert [block.type for block in reply.content] == ["thinking", "text", "tool_use"]
    assert reply.content[0].thinking == "They want a heap"
    assert reply.content[1].text == "A heap is a tree"
    assert (reply.content[2].name, reply.content[2].input) == ("find", {"q": "heap"})
    assert (reply.stop_reason, reply.usage.output_tokens) == ("tool_use", 5)
    assert upstream.seen[0].json["stream_options"] == {"include_usage": True}


def test_guarded(door: Any, upstream: ScriptedUpstream) -> None:
    attack = [{"role": "user", "content": "the attack"}]
    for reply in (ask(door, attack), told(door, attack)):
        assert (reply.content[0].text, reply.stop_reason) == ("Not here.", "refusal")
    assert upstream.seen == []
    upstream.script = completion("the attack")
    assert ask(door).content[0].text == "Not here."
    upstream.script = words("A heap is a tree. " * 80, "the att", "ack")
    assert [block.text for block in told(door).content] == ["Not here."]
    upstream.script = words(*["A heap is a tree. "] * 80, "the att", "ack")
    reply = told(door)
    assert reply.content[0].text.startswith("A heap")
    assert "attack" not in reply.content[0].text
    assert reply.stop_reason == "refusal"
    mail = [{"role": "user", "content": "Write to jo@example.com"}]
    upstream.script = words("Wrote to <EMA", "IL_1>.")
    assert told(door, mail).content[0].text == "Wrote to jo@example.com."
    assert "jo@" not in upstream.seen[-1].raw.decode()


@pytest.mark.parametrize("done", [False, True])
def test_a_cut_stream_is_no_answer(door: Any, upstream: ScriptedUpstream, done: bool) -> None:
    upstream.script = events(chunk({"content": "A heap is a tree. " * 100}), done=done)
    with pytest.raises(anthropic.APIStatusError) as raised:
        told(door)
    assert raised.value.body["error"]["type"] == "api_error"


def test_echo(door: Any) -> None:
    reply = ask(door, model="echo")
    assert reply.content[0].text.endswith("You said: What is a heap?")
    assert told(door, model="echo").content[0].text == reply.content[0].text


def test_what_a_chat_cannot_say(door: Any, upstream: ScriptedUpstream) -> None:
    container = {"type": "tool_reference", "tool_name": "find"}
    with pytest.raises(anthropic.BadRequestError, match="tool_reference"):
        ask(door, [{"role": "user", "content": [container]}])
    with pytest.raises(anthropic.BadRequestError, match="Anthropic's models"):
        ask(door, tools=[{"type": "web_search_20250305", "name": "web_search"}])
    assert upstream.seen == []


def text(value: str) -> dict[str, Any]:
    return {"type": "text", "text": value}


REQUESTS: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"system": [text("a"), text("b")]}, {"messages": [{"role": "system", "content": "a\nb"}]}),
    (
        {"messages": [{"role": "user", "content": [text("a"), {"type": "image", "source": PNG}]}]},
        {"messages": [{"role": "user", "content": [text("a"), {"type": "image_url", "image_url": {
            "url": "data:image/png;base64,iVBORw0KGgo="}}]}]},
    ),
    (
        {"messages": [{"role": "assistant", "content": [
            {"type": "thinking", "thinking": "t", "signature": "s"}, text("a"), text("b"), CALL]}]},
        {"messages": [{"role": "assistant", "content": "ab", "tool_calls": [{
            "id": "toolu_1", "type": "function",
            "function": {"name": "find", "arguments": '{"q":"heap"}'}}]}]},
    ),
    (
        {"messages": [{"role": "user", "content": [
            {"type": "tool_result", "tool_use_id": "toolu_1", "content": [
                text("x"), {"type": "image", "source": PNG}]}, text("y")]}]},
        {"messages": [
            {"role": "tool", "tool_call_id": "toolu_1", "content": "x"},
            {"role": "user", "content": [{"type": "image_url", "image_url": {
                "url": "data:image/png;base64,iVBORw0KGgo="}}, text("y")]}]},
    ),
    (
        {"messages": [{"role": "user", "content": [{"type": "document", "title": "T", "source": {
            "type": "text", "media_type": "text/plain", "data": "d"}}]}]},
        {"messages": [{"role": "user", "content": [text("T"), text("d")]}]},
    ),
    ({"tools": [TOOL], "tool_choice": {"type": "any", "disable_parallel_tool_use": True}},
     {"tool_choice": "required", "parallel_tool_calls": False}),
    ({"tools": [TOOL], "tool_choice": {"type": "tool", "name": "find"}},
     {"tool_choice": {"type": "function", "function": {"name": "find"}}}),
    ({"model": "gpt-5-mini"}, {"max_completion_tokens": 9}),
    ({"metadata": {"user_id": "u1"}}, {"user": "u1"}),
    ({"output_config": {"effort": "low"}}, {"reasoning_effort": "low"}),
]  # fmt: skip


@pytest.mark.parametrize(("given", "expected"), REQUESTS)
def test_requests(given: dict[str, Any], expected: dict[str, Any]) -> None:
    body = {"model": "m", "max_tokens": 9, "messages": [], **given}
    before = json.dumps(body)
    chat = to_chat(body)
    assert {key: chat[key] for key in expected} == expected
    assert json.dumps(body) == before


def test_only_what_is_known_goes_over() -> None:
    body = {"model": "m", "max_tokens": 9, "messages": HELLO, "api_base": "http://evil", "n": 3}
    assert set(to_chat(body)) == {"model", "max_tokens", "messages"}
    thinking = {"type": "enabled", "budget_tokens": 1024}
    assert "thinking" not in to_chat({**body, "thinking": thinking})
    assert to_chat({**body, "thinking": thinking}, thinks=True)["thinking"] == thinking
    with pytest.raises(InvalidRequest):
        to_chat({**body, "messages": [{"role": "user", "content": [{"type": "new"}]}]})


@pytest.mark.parametrize("arguments", ["[1]", "{", 3])
def test_calls_that_are_none(arguments: Any) -> None:
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": arguments}}
    with pytest.raises(UpstreamError):
        to_message({"choices": [{"message": {"content": None, "tool_calls": [call]}}]})


BASES = [
    (None, "https://api.anthropic.com/v1"),
    ("https://a.example", "https://a.example/v1"),
    ("https://a.example/v1/", "https://a.example/v1"),
    ("https://a.example/proxy/v1/messages", "https://a.example/proxy/v1"),
]


@pytest.mark.parametrize(("base", "expected"), BASES)
def test_who_answers(monkeypatch: pytest.MonkeyPatch, base: str | None, expected: str) -> None:
    """Anthropic's models are passed through, and their chats still go by litellm."""
    for name in ("ANTHROPIC_API_BASE", "ANTHROPIC_BASE_URL", "ANTHROPIC_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    params = {"model": "anthropic/claude-x", **({"api_base": base} if base else {})}
    target = made(params)
    assert isinstance(target.at("chat/completions"), LitellmUpstream)
    native = target.at("messages")
    assert isinstance(native, AnthropicUpstream)
    assert native._base == expected
    # litellm knows what to make of other options, so it makes the call.
    assert isinstance(made({**params, "temperature": 0.1}).at("messages"), ByChat)
    assert isinstance(made({"model": "openai/gpt-4o"}).at("messages"), ByChat)


def made(params: dict[str, Any]) -> Target:
    entry = ModelEntry.model_validate({"model_name": "m", "litellm_params": params})
    return make_upstreams([entry], Timeouts()).resolve("m")
