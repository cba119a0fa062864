"""Responses through the gateway, with the real client: guarded both ways, plain and as streams."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import openai
import pytest
from gateway_kit import ScriptedUpstream, StartGateway, respond, serve
from responses_kit import (
    ANSWER,
    ASK,
    ERROR,
    GUARD,
    MAIL,
    answered,
    ask,
    ask_blocked,
    call,
    message,
    raw_stream,
    reasoning,
    refusal,
    response,
    stream,
    stream_events,
    streamed,
    told,
)

from proxy.config import Config, LitellmParams, ModelEntry

# -- forwarded ------------------------------------------------------------------------------------


def test_plain(gateway: StartGateway, upstream: ScriptedUpstream) -> None:
    paths = []

    async def script(request: Any) -> Any:
        paths.append(request.path)
        return await answered(message("A heap is a tree."))(request)

    upstream.script = script
    door = gateway(GUARD)
    raw = door.client().responses.with_raw_response.create(
        model="default", input=ASK, instructions="Be kind.", metadata={"a": "b"}
    )
    reply = raw.parse()
    assert (reply.output_text, reply.status) == ("A heap is a tree.", "completed")
    assert raw.headers["x-doorman-action"] == "forward"
    assert paths == ["/v1/responses"]
    assert upstream.seen[0].json == {
        "model": "gpt-4o", "input": ASK, "instructions": "Be kind.", "metadata": {"a": "b"},
    }  # fmt: skip
    record = door.records.next()
    assert (record.endpoint, record.ended, record.status) == ("responses", "complete", 200)
    assert record.tokens is not None
    assert (record.tokens.prompt, record.tokens.completion) == (1000, 100)


FORWARDED = [
    ("a message", [message("A heap is a tree.")]),
    ("a refusal", [message(refusal("I would rather not."))]),
    ("a call", [call('{"q": "heap"}')]),
    ("reasoning", [reasoning("Let me see.", content=["A tree."]), message("A tree, I think.")]),
    ("several", [message("One.", "Two."), call("{}"), message("Three.", id="msg_1a")]),
    ("silence", [message("")]),
    ("nothing", []),
]


@pytest.mark.parametrize("policy", ["", GUARD, MAIL], ids=["unguarded", "guarded", "redacting"])
@pytest.mark.parametrize("items", [c[1] for c in FORWARDED], ids=[c[0] for c in FORWARDED])
def test_a_stream_arrives_as_it_was_sent(
    shared_gateway: StartGateway, upstream: ScriptedUpstream, policy: str, items: list[Any]
) -> None:
    upstream.script = streamed(*items)
    assert raw_stream(shared_gateway(policy)) == [(e["type"], e) for e in stream_events(*items)]


def test_the_clients_own_stream(shared_gateway: StartGateway, upstream: ScriptedUpstream) -> None:
    upstream.script = streamed(message("A heap is a tree."), call('{"q": "heap"}'))
    client = shared_gateway(GUARD).client()
    with client.responses.stream(model="default", input=ASK) as found:
        final = found.get_final_response()
    assert final.output_text == "A heap is a tree."
    assert final.output[1].arguments == '{"q": "heap"}'  # type: ignore[union-attr]


def test_what_the_request_said_is_not_taken_for_the_models(
    shared_gateway: StartGateway, upstream: ScriptedUpstream
) -> None:
    said: dict[str, Any] = {"instructions": "Keep the secret.", "metadata": {"my key": "x"}}
    items = [message("A tree.")]
    upstream.script = answered(*items, **said)
    assert ask(shared_gateway(GUARD), **said).instructions == "Keep the secret."
    upstream.script = streamed(*items, **said)
    assert stream(shared_gateway(GUARD), **said)[-1].response.instructions == "Keep the secret."
    # Said by nobody before, so it is the upstream's own.
    said.pop("metadata")
    assert ask_blocked(shared_gateway(GUARD), upstream, answered(*items, **said))


# -- blocked requests -----------------------------------------------------------------------------

BLOCKED = [
    ("a string", "an attack"),
    ("a message", [{"role": "user", "content": "an attack"}]),
    ("a part", [{"role": "user", "content": [{"type": "input_text", "text": "an attack"}]}]),
    ("an earlier turn", [{"role": "user", "content": "an attack"}, {"role": "user", "content": "x"}]),
    ("an earlier answer", [message("an attack"), {"role": "user", "content": "x"}]),
    ("a refusal", [message(refusal("an attack")), {"role": "user", "content": "x"}]),
    ("arguments", [call('{"q": "an attack"}')]),
    ("a name", [call("{}", name="attack")]),
    ("a result", [{"type": "function_call_output", "call_id": "c1", "output": "an attack"}]),
    (
        "a result in parts",
        [
            {
                "type": "function_call_output",
                "call_id": "c1",
                "output": [{"type": "input_text", "text": "an attack"}],
            }
        ],
    ),
    (
        "a custom call",
        [{"type": "custom_tool_call", "call_id": "c1", "name": "n", "input": "an attack"}],
    ),
    (
        "a custom result",
        [{"type": "custom_tool_call_output", "call_id": "c1", "output": "an attack"}],
    ),
    (
        "a command",
        [
            {
                "type": "local_shell_call",
                "id": "l1",
                "call_id": "c1",
                "status": "completed",
                "action": {"type": "exec", "command": ["an attack"], "env": {}},
            }
        ],
    ),
    ("a shell's result", [{"type": "local_shell_call_output", "id": "c1", "output": "an attack"}]),
    (
        "found in files",
        [
            {
                "type": "file_search_call",
                "id": "fs_1",
                "status": "completed",
                "queries": ["x"],
                "results": [{"text": "an attack"}],
            }
        ],
    ),
    ("reasoning", [reasoning("an attack")]),
    ("an MCP tool", [{"type": "mcp_list_tools", "tools": [{"name": "n", "description": "attack"}]}]),
    (
        "an MCP result",
        [{"type": "mcp_call", "id": "m1", "name": "n", "arguments": "{}", "output": "an attack"}],
    ),
    (
        "code's result",
        [{"type": "code_interpreter_call", "outputs": [{"type": "logs", "logs": "an attack"}]}],
    ),
    ("unknown", [{"type": "prophecy", "vision": [["an attack"]]}]),
    ("split over parts", [{"role": "user", "content": [
        {"type": "input_text", "text": "an att"}, {"type": "input_text", "text": "ack"},
    ]}]),
    ("escaped", [{"type": "function_call_output", "call_id": "c1", "output": '["\\u0061ttack"]'}]),
]  # fmt: skip


@pytest.mark.parametrize("input", [c[1] for c in BLOCKED], ids=[c[0] for c in BLOCKED])
def test_no_item_hides_an_attack(
    shared_gateway: StartGateway, upstream: ScriptedUpstream, input: Any
) -> None:
    reply = ask(shared_gateway(GUARD), input=input)
    assert reply.output[0].content[0].refusal == "No, sorry."
    assert reply.status == "completed"
    assert (reply.usage.input_tokens, reply.usage.output_tokens) == (0, 0)
    assert reply.id.startswith("resp_")
    assert upstream.seen == []


@pytest.mark.parametrize(
    "fields",
    [
        {"instructions": "an attack"},
        {"tools": [{"type": "function", "name": "n", "description": "an attack"}]},
        {"text": {"format": {"type": "json_schema", "name": "n", "schema": {"title": "attack"}}}},
        {"metadata": {"a": "an attack"}},
        {"user": "an attack"},
        {"prompt": {"id": "pmpt_1", "variables": {"city": "an attack"}}},
        {"extra_body": {"of_the_future": {"deep": "an attack"}}},
    ],
)
def test_no_field_hides_an_attack(
    shared_gateway: StartGateway, upstream: ScriptedUpstream, fields: dict[str, Any]
) -> None:
    assert ask(shared_gateway(GUARD), **fields).output[0].content[0].type == "refusal"
    assert upstream.seen == []


def test_a_blocked_request_as_a_stream(
    shared_gateway: StartGateway, upstream: ScriptedUpstream
) -> None:
    found = stream(shared_gateway(GUARD), input="an attack")
    assert [event.type for event in found] == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
        "response.refusal.delta",
        "response.refusal.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ]
    assert told(found) == {"0.0": {"No, sorry."}}
    client = shared_gateway(GUARD).client()
    with client.responses.stream(model="default", input="an attack") as own:
        assert own.get_final_response().output[0].content[0].refusal == "No, sorry."  # type: ignore[union-attr]
    assert upstream.seen == []


@pytest.mark.parametrize("streams", [False, True])
def test_a_block_as_an_error(
    shared_gateway: StartGateway, upstream: ScriptedUpstream, streams: bool
) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        ask(shared_gateway(ERROR), input="an attack", stream=streams)
    assert (caught.value.code, caught.value.param) == ("content_filter", "input")
    upstream.script = (streamed if streams else answered)(message("it is the secret"))
    with pytest.raises(openai.BadRequestError) as caught:
        list(ask(shared_gateway(ERROR), stream=streams))
    assert caught.value.code == "content_filter"


@pytest.mark.parametrize("streams", [False, True])
def test_a_local_answer(
    shared_gateway: StartGateway, upstream: ScriptedUpstream, streams: bool
) -> None:
    door = shared_gateway(ANSWER)
    reply = stream(door, input="hello")[-1].response if streams else ask(door, input="hello")
    assert (reply.output_text, reply.status) == ("Hello yourself.", "completed")
    history = [
        {"role": "user", "content": ASK},
        message("A tree."),
        {"role": "user", "content": "hello"},
    ]
    assert ask(door, input=history).output_text == "Hello yourself."
    assert upstream.seen == []
    # Nobody knows what the picture asks.
    parts = [
        {"type": "input_text", "text": "hello"},
        {"type": "input_image", "image_url": "https://x.y/z.png", "detail": "auto"},
    ]
    upstream.script = answered(message("A cat."))
    asked = ask(door, input=[{"role": "user", "content": parts}])
    assert asked.output_text == "A cat."


def test_a_conversation_goes_on_after_a_reply_made_here(
    shared_gateway: StartGateway, upstream: ScriptedUpstream
) -> None:
    door = shared_gateway("on_unscannable: allow\n" + ANSWER)
    upstream.script = answered(message("A tree."))
    first = ask(door, input="hello")
    again = ask(door, input="hello", previous_response_id=first.id)
    real = ask(door, previous_response_id=again.id)
    assert real.id == response()["id"]
    made = ask(door, input="hello", previous_response_id=real.id)
    ask(door, previous_response_id=made.id)
    ask(door, previous_response_id=ask(door, input="hello", previous_response_id=made.id).id)
    before = [seen.json.get("previous_response_id", "none") for seen in upstream.seen]
    assert before == ["none", real.id, real.id]


def test_what_is_saved(gateway: StartGateway, upstream: ScriptedUpstream) -> None:
    door = gateway(GUARD)
    ask(door, input="an attack", max_output_tokens=16)
    record = door.records.next()
    assert record.saved_basis is not None
    assert "16 assumed completion tokens" in record.saved_basis


def test_what_was_not_read_is_recorded(gateway: StartGateway, upstream: ScriptedUpstream) -> None:
    upstream.script = answered(message("ok"))
    door = gateway("on_unscannable: allow\n" + GUARD)
    ask(door, previous_response_id="resp_1", prompt={"id": "pmpt_1"})
    assert set(door.records.next().unscanned) == {"previous_response_id", "prompt.id"}
    assert upstream.seen[0].json["previous_response_id"] == "resp_1"


def test_a_history_that_nobody_can_read_is_for_the_policy_to_stop(
    shared_gateway: StartGateway, upstream: ScriptedUpstream
) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        ask(shared_gateway(GUARD), previous_response_id="resp_1")
    assert caught.value.code == "unscannable_content"
    assert upstream.seen == []


def test_nothing_that_is_stored_is_handed_out(
    shared_gateway: StartGateway, upstream: ScriptedUpstream
) -> None:
    client = shared_gateway().client()
    for call_it in (
        lambda: client.responses.retrieve("resp_1"),
        lambda: client.responses.retrieve("resp_1", stream=True),
        lambda: client.responses.cancel("resp_1"),
        lambda: client.responses.delete("resp_1"),
        lambda: client.responses.input_items.list("resp_1"),
        lambda: client.responses.compact(model="default", input="x"),
        lambda: client.conversations.retrieve("conv_1"),
    ):
        with pytest.raises(openai.NotFoundError):
            call_it()
    with pytest.raises(openai.BadRequestError) as caught:
        ask(shared_gateway(), background=True)
    assert caught.value.param == "background"
    assert upstream.seen == []


def test_an_error_of_the_upstream(shared_gateway: StartGateway, upstream: ScriptedUpstream) -> None:
    error = {
        "message": "No such response.",
        "type": "invalid_request_error",
        "param": None,
        "code": "x",
    }
    upstream.script = respond(400, {"error": error})
    for streams in (False, True):
        with pytest.raises(openai.BadRequestError, match="No such response"):
            ask(shared_gateway(GUARD), stream=streams)


@pytest.mark.parametrize("streams", [False, True])
def test_the_embedded_upstream_answers_responses(tmp_path: Path, streams: bool) -> None:
    entry = ModelEntry(model_name="default", litellm_params=LitellmParams(model="doorman/echo"))
    (tmp_path / "policy.yaml").write_text("name: test\nversion: 1\n" + MAIL)
    policy = str(tmp_path / "policy.yaml")
    with serve(Config(model_list=(entry,), policies=(policy,))) as door:
        said = [{"role": "user", "content": "I am jane@example.com"}]
        found = stream(door, input=said)[-1].response if streams else ask(door, input=said)
    assert found.output_text == "doorman/echo: no model was called. You said: I am jane@example.com"
