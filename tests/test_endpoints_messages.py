"""What Anthropic's requests, replies and events hold: whose text it is, and what is none."""

from __future__ import annotations

import json
from typing import Any

import pytest

from classifiers.types import Text
from policies.decision import Reply
from proxy.endpoints.base import ReplyContext, Usage, string_at
from proxy.endpoints.messages import Messages
from proxy.endpoints.messages_events import Seen
from proxy.errors import Answer, InvalidRequest, NotFound

API = Messages()
B64 = "aGVsbG8x" * 20
CALL = {
    "type": "tool_use",
    "id": "toolu_01A9",
    "name": "find",
    "input": {"q": "heap", "id": "text"},
}


def body(*messages: Any, **more: Any) -> dict[str, Any]:
    return {"model": "m", "max_tokens": 9, "messages": list(messages), **more}


def user(*blocks: Any) -> dict[str, Any]:
    return {"role": "user", "content": list(blocks)}


def assistant(*blocks: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": list(blocks)}


def said(given: dict[str, Any]) -> set[tuple[str, str]]:
    """Role and content of the texts that stand in a body, which must be where they say."""
    texts = [text for text in API.texts(given) if not text.derived]
    assert all(string_at(given, text.address) == text.content for text in texts)
    return {(text.role, text.content) for text in texts}


TEXT = {"type": "text", "text": "plain words"}
TEXTS: list[tuple[dict[str, Any], set[tuple[str, str]]]] = [
    (body({"role": "user", "content": "a b"}), {("user", "a b")}),
    (body(user(TEXT), system="be brief"), {("user", "plain words"), ("system", "be brief")}),
    (body(user(TEXT), system=[{"type": "text", "text": "be brief",
        "cache_control": {"type": "ephemeral", "ttl": "1h"}}]),
     {("user", "plain words"), ("system", "be brief")}),
    (body(user({"type": "image", "source": {
        "type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="}})), set()),
    # A document of plain text is text, even where it looks like base64.
    (body(user({"type": "document", "title": "T 1", "context": "C 1", "source": {
        "type": "text", "media_type": "text/plain", "data": "attackme"}})),
     {("user", "T 1"), ("user", "C 1"), ("user", "attackme")}),
    (body(user({"type": "document", "source": {"type": "content", "content": [TEXT]}})),
     {("user", "plain words")}),
    (body(user({"type": "document", "source": {"type": "file", "file_id": "file_011"}})), set()),
    (body(user({"type": "image", "source": {"type": "url", "url": "https://a.b/c d"}})),
     {("user", "https://a.b/c d")}),
    (body(user(TEXT), assistant(CALL), user({
        "type": "tool_result", "tool_use_id": "toolu_01A9", "content": "it said"})),
     {("user", "plain words"), ("assistant", "find"), ("assistant", "heap"),
      ("assistant", "text"), ("tool", "it said")}),
    (body(user({"type": "tool_result", "tool_use_id": "toolu_01A9", "content": [TEXT, {
        "type": "image", "source": {"type": "base64", "media_type": "image/png", "data": B64}}]})),
     {("tool", "plain words")}),
    (body(user(TEXT), assistant({"type": "thinking", "thinking": "hm hm", "signature": "x9" * 60}),
          user({"type": "text", "text": "go on"})),
     {("user", "plain words"), ("assistant", "hm hm"), ("user", "go on")}),
    (body(user({"type": "search_result", "source": "s 1", "title": "t 1", "content": [TEXT]})),
     {("user", "s 1"), ("user", "t 1"), ("user", "plain words")}),
    (body(user(TEXT), assistant({"type": "web_search_tool_result", "tool_use_id": "srvtoolu_019",
        "content": [{"type": "web_search_result", "title": "a title", "url": "https://a.b",
                     "encrypted_content": B64}]}), user({"type": "text", "text": "go on"})),
     {("user", "plain words"), ("tool", "a title"), ("tool", "https://a.b"), ("user", "go on")}),
    (body(user(TEXT), assistant({"type": "bash_code_execution_tool_result",
        "tool_use_id": "srvtoolu_019", "content": {"type": "bash_code_execution_result",
        "stdout": "out 1", "stderr": "err 1", "return_code": 0, "content": []}}), user(TEXT)),
     {("user", "plain words"), ("tool", "out 1"), ("tool", "err 1")}),
    (body(user(TEXT), assistant({"type": "mcp_tool_result", "tool_use_id": "mcptoolu_019",
        "content": [{"type": "text", "text": "mcp said"}]}), user(TEXT)),
     {("user", "plain words"), ("tool", "mcp said")}),
    (body(user({"type": "never_seen", "deep": [{"er": "found it"}]})),
     {("user", "never_seen"), ("user", "found it")}),
    (body(user(TEXT), tools=[{"name": "a tool", "description": "does it", "input_schema": {
        "type": "object", "properties": {"x": {"type": "string", "description": "the x"}}}}],
        tool_choice={"type": "tool", "name": "a tool"}, stop_sequences=["the end"],
        metadata={"user_id": "somebody here"}),
     {("user", "plain words"), ("developer", "a tool"), ("developer", "does it"),
      ("developer", "the x"), ("developer", "the end"), ("developer", "somebody here")}),
    (body(user(TEXT), new_field="a b c"), {("user", "plain words"), ("user", "a b c")}),
    # How the answer begins is the client's word, all else of the assistant's is history.
    (body(user(TEXT), assistant({"type": "text", "text": "sure, it"})),
     {("user", "plain words"), ("user", "sure, it")}),
    (body(user(TEXT), {"role": "system", "content": "now brief"}),
     {("user", "plain words"), ("system", "now brief")}),
]  # fmt: skip


@pytest.mark.parametrize(("given", "expected"), TEXTS)
def test_texts(given: dict[str, Any], expected: set[tuple[str, str]]) -> None:
    API.validate(given)
    assert said(given) == expected


def contents(given: dict[str, Any]) -> list[str]:
    return [text.content for text in API.texts(given) if text.derived]


def test_what_stands_nowhere_as_one_string() -> None:
    parts = [{"type": "text", "text": "att"}, {"type": "text", "text": "ack"}]
    assert "attack" in contents(body(user(*parts)))
    assert "attack" in contents(body(user(parts[0]), user(parts[1])))
    assert "attack" in contents(body(user(TEXT), system=parts))
    call = {**CALL, "input": {"a": "att", "b": "ack", "a key here": 1}}
    assert {"attack", "a key here"} <= set(contents(body(user(TEXT), assistant(call), user(TEXT))))
    hidden = {"type": "document", "source": {"type": "base64", "media_type": "text/plain",
              "data": "dGhlIGF0dGFjayBub3c="}}  # fmt: skip
    assert "the attack now" in contents(body(user(hidden)))
    # What a tool said and what the user said are not one text.
    result = {"type": "tool_result", "tool_use_id": "toolu_01A9", "content": "att"}
    assert "attack" not in contents(body(user(result, parts[1])))


@pytest.mark.parametrize(
    ("messages", "newest"),
    [
        ([user(TEXT)], {0}),
        ([user(TEXT), assistant(CALL), user(TEXT)], {2}),
        ([user(TEXT), assistant(TEXT)], {0, 1}),
        ([user(TEXT), user({"type": "tool_result", "tool_use_id": "toolu_01A9", "content": "x"})],
         {1}),
    ],
)  # fmt: skip
def test_turns(messages: Any, newest: set[int]) -> None:
    found: list[Text] = API.texts(body(*messages))
    assert {text.turn for text in found if text.last_turn} == newest


def test_unscanned() -> None:
    given = body(
        user(
            {"type": "image", "source": {"type": "url", "url": "https://a.b/c.png"}},
            {"type": "document", "source": {"type": "base64", "media_type": "application/pdf",
             "data": "JVBERi0xLjQK"}},
            {"type": "container_upload", "file_id": "file_011"},
        ),
        assistant(
            {"type": "redacted_thinking", "data": "x9Zq" * 40},
            {"type": "thinking", "thinking": "hm", "signature": "x9Zq" * 40},
            {"type": "text", "text": "So.", "citations": [{
                "type": "web_search_result_location", "url": "https://a.b", "title": "t",
                "cited_text": "c", "encrypted_index": "x9Zq" * 40}]},
        ),
        user(TEXT),
    )  # fmt: skip
    assert API.unscanned(given) == [
        "messages.0.content.0.source.url",
        "messages.0.content.1.source.data",
        "messages.0.content.2.file_id",
        "messages.1.content.0.data",
    ]


def test_a_container_and_its_skills_are_unscanned() -> None:
    skills = [{"type": "custom", "skill_id": "skill_011", "version": "latest"}]
    given = body(user(TEXT)) | {"container": {"id": "container_011", "skills": skills}}
    assert API.unscanned(given) == ["container.id", "container.skills.0.skill_id"]
    assert API.unscanned(body(user(TEXT)) | {"container": "container_011"}) == ["container"]


def test_an_object_where_a_type_should_stand_is_read_too() -> None:
    given = body(user({"type": {"deep": "words to read"}, "url": "https://a.b/c"}))
    assert "words to read" in {text.content for text in API.texts(given)}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "model: Field required"),
        ({"model": "m", "max_tokens": 9}, "messages: Field required"),
        ({"model": "m", "messages": []}, "max_tokens: Field required"),
        (body(), "messages: at least one message is required"),
        (body("a"), "messages.0: Input should be a valid dictionary"),
        (body({"role": "tool", "content": "a"}), "messages.0.role: Input should be 'user'"),
        (body({"role": "user"}), "messages.0.content: Field required"),
        (body({"role": "user", "content": 3}), "messages.0.content: Input should be"),
        (body(user("a")), "messages.0.content.0: Input should be a valid dictionary"),
        (body(user({"text": "a"})), "messages.0.content.0.type: Field required"),
        (body(user({"type": "text", "text": 3})), "messages.0.content.0.text: Input should be"),
        (body(user({**TEXT, "say the word": 1})), "messages.0: Extra inputs are not permitted"),
        (body(user(TEXT), system=3), "system: Input should be"),
        (body(user(TEXT), stream="yes"), "stream: Input should be a valid boolean"),
        (body(user(TEXT), max_tokens=True), "max_tokens: Input should be a valid integer"),
        (body(user(TEXT), tools=[3]), "tools.0: Input should be a valid dictionary"),
        (body(user(TEXT), mcp_servers=[{"type": "url", "url": "https://a.b"}]), "mcp_servers: not"),
        (body(user(TEXT), **{"x" * 300: 1}), "The name of a field is longer"),
    ],
)
def test_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidRequest) as raised:
        API.validate(given)
    assert raised.value.message.startswith(message)


def test_a_classifier_is_no_model() -> None:
    with pytest.raises(NotFound):
        API.validate(body(user(TEXT), model="doorman/safety"))


def event(kind: str, **more: Any) -> dict[str, Any]:
    return {"type": kind, **more}


def test_deltas_of_a_block_join_and_results_do_not() -> None:
    def channels(given: dict[str, Any]) -> list[tuple[Any, str, bool, bool]]:
        return [(d.channel, d.text, d.json, d.whole) for d in API.deltas(given)]

    begin = event("content_block_start", index=1, content_block={"type": "text", "text": "A"})
    more = event("content_block_delta", index=1, delta={"type": "text_delta", "text": "B"})
    assert channels(begin) == [((1, "text"), "A", False, False)]
    assert channels(more) == [((1, "text"), "B", False, False)]
    part = {"type": "input_json_delta", "partial_json": '{"a'}
    assert channels(event("content_block_delta", index=2, delta=part)) == [
        ((2, "partial_json"), '{"a', True, False)
    ]
    signature = {"type": "signature_delta", "signature": "x9Zq" * 40}
    assert channels(event("content_block_delta", index=2, delta=signature)) == []
    message = {"id": "msg_01", "model": "claude-x", "role": "assistant", "content": []}
    assert channels(event("message_start", message=message)) == []
    assert channels(event("ping")) == []
    end = event("message_delta", delta={"stop_reason": "end_turn", "stop_sequence": "the end"})
    assert [(text, whole) for _, text, _, whole in channels(end)] == [("the end", True)]


@pytest.mark.parametrize(
    ("given", "sound"),
    [
        (event("ping"), True),
        (event("new_event", anything=[1]), True),
        (event("content_block_stop", index=0), True),
        (event("content_block_stop", index=-1), False),
        (event("content_block_stop", index=True), False),
        (event("content_block_delta", index=0, delta="words"), False),
        (event("content_block_delta", delta={"type": "text_delta", "text": "a"}), False),
        ({"index": 0}, False),
        (event("ping", **{"say the word": 1}), False),
        (event("message", content=[TEXT]), True),
        (event("message", content="words"), False),
        (event("message", content=["words"]), False),
        (event("message", content=[{**CALL, "input": {"a key here": 1}}]), True),
    ],
)
def test_sound(given: dict[str, Any], sound: bool) -> None:
    assert API.sound(given) is sound


def test_usage() -> None:
    read = {"input_tokens": 5, "cache_read_input_tokens": 20, "cache_creation_input_tokens": 3}
    assert API.usage(event("message", usage={**read, "output_tokens": 7})) == Usage(28, 7)
    begun = API.usage(event("message_start", message={"usage": {**read, "output_tokens": 1}}))
    ended = API.usage(event("message_delta", usage={"output_tokens": 7}))
    assert API.counted(API.counted(None, begun), ended) == Usage(28, 7)
    assert API.counted(begun, None) == begun
    assert API.usage(event("message", usage={"input_tokens": -1, "output_tokens": True})) is None


CONTEXT = ReplyContext("msg_1", "m", 0)
REPLY = Reply("Not here.", "content_filter", "message")


def kinds(raw: list[bytes]) -> list[tuple[str, Any]]:
    events = [json.loads(item.partition(b"data: ")[2]) for item in raw]
    assert all(f"event: {e['type']}\n".encode() in r for e, r in zip(events, raw, strict=True))
    return [(e["type"].removeprefix("content_block_"), e.get("index")) for e in events]


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        ([], [("message_start", None), ("start", 0), ("delta", 0), ("stop", 0)]),
        ([event("message_start")], [("start", 0), ("delta", 0), ("stop", 0)]),
        ([event("message_start"), event("content_block_start", index=0, content_block={
            "type": "text", "text": ""})], [("delta", 0), ("stop", 0)]),
        ([event("message_start"), event("content_block_start", index=0, content_block={
            "type": "thinking", "thinking": ""})],
         [("stop", 0), ("start", 1), ("delta", 1), ("stop", 1)]),
        ([event("message_start"), event("content_block_start", index=0, content_block=TEXT),
          event("content_block_stop", index=0),
          event("content_block_start", index=1, content_block=CALL)], [("stop", 1)]),
    ],
)  # fmt: skip
def test_ends_of_streams(seen: list[dict[str, Any]], expected: list[tuple[str, Any]]) -> None:
    progress = Seen()
    for item in seen:
        progress.note(item)
    context = ReplyContext("msg_1", "m", 0, progress=progress)
    made = kinds(API.cut_events(REPLY, context, [0]))
    assert made == [*expected, ("message_delta", None), ("message_stop", None)]


@pytest.mark.parametrize(
    ("status", "code", "given", "kind"),
    [
        (400, None, "invalid_request_error", "invalid_request_error"),
        (401, "invalid_api_key", "invalid_request_error", "authentication_error"),
        (403, None, "x", "permission_error"),
        (404, "model_not_found", "invalid_request_error", "not_found_error"),
        (413, "request_too_large", "invalid_request_error", "request_too_large"),
        (429, None, "rate_limit_error", "rate_limit_error"),
        (500, "internal_error", "server_error", "api_error"),
        (502, "upstream_unreachable", "server_error", "api_error"),
        (503, "overloaded", "server_error", "overloaded_error"),
        (503, "policy_unavailable", "server_error", "api_error"),
        (529, None, "overloaded_error", "overloaded_error"),
    ],
)
def test_errors(status: int, code: str | None, given: str, kind: str) -> None:
    error = {"message": "So.", "type": given, "param": "x", "code": code}
    shaped = API.shaped(Answer(status, {"error": error}, {"retry-after": "1"}), "req_1")
    assert shaped.body == {
        "type": "error", "error": {"type": kind, "message": "So."}, "request_id": "req_1",
    }  # fmt: skip
    assert (shaped.status, shaped.headers, shaped.event) == (status, {"retry-after": "1"}, "error")
