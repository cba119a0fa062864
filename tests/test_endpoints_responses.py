"""The responses endpoint: no text of a request or a reply goes unseen."""

from __future__ import annotations

import pytest
from responses_kit import text

from proxy.endpoints import ENDPOINTS
from proxy.endpoints.base import string_at
from proxy.errors import InvalidRequest

API = ENDPOINTS["/v1/responses"]
IMAGE = "data:image/png;base64,iVBORw0KGgo="
CALL = {"type": "function_call", "call_id": "call_1", "name": "find", "arguments": '{"q": "a b"}'}


def body(*items, **fields):
    return {"model": "m", "input": list(items), **fields}


def seen(request):
    return [(text.content, text.role) for text in API.texts(request) if not text.derived]


ITEMS = [
    ("a message", {"role": "user", "content": "one two"}, [("one two", "user")]),
    ("instructions", {"role": "developer", "content": "Be kind."}, [("Be kind.", "developer")]),
    ("a system message", {"role": "system", "content": "Be kind."}, [("Be kind.", "system")]),
    (
        "parts of every type",
        {
            "type": "message",
            "role": "user",
            "content": [
                {"type": "input_text", "text": "one two"},
                {"type": "input_image", "image_url": IMAGE, "detail": "auto"},
                {"type": "input_file", "filename": "three.pdf", "file_data": IMAGE},
                {"type": "input_audio", "input_audio": {"data": "UklGRg==", "format": "wav"}},
                {"type": "of the future", "future": {"deep": [["four"]]}},
            ],
        },
        [(t, "user") for t in ("one two", "three.pdf", "of the future", "four")],
    ),
    (
        "an earlier answer",
        {
            "type": "message",
            "id": "msg_1",
            "role": "assistant",
            "status": "completed",
            "content": [text("one two"), {"type": "refusal", "refusal": "three"}],
        },
        [("one two", "assistant"), ("three", "assistant")],
    ),
    ("a call", CALL, [("find", "assistant"), ('{"q": "a b"}', "assistant")]),
    (
        "a result",
        {"type": "function_call_output", "call_id": "call_1", "output": "one two"},
        [("one two", "tool")],
    ),
    (
        "a result in parts",
        {
            "type": "function_call_output",
            "call_id": "call_1",
            "output": [{"type": "input_text", "text": "one two"}],
        },
        [("one two", "tool")],
    ),
    (
        "a custom call",
        {"type": "custom_tool_call", "call_id": "call_1", "name": "find", "input": "one two"},
        [("find", "assistant"), ("one two", "assistant")],
    ),
    (
        "its result",
        {"type": "custom_tool_call_output", "call_id": "call_1", "output": "one two"},
        [("one two", "tool")],
    ),
    (
        "a computer's screen",
        {
            "type": "computer_call_output",
            "call_id": "call_1",
            "output": {"type": "computer_screenshot", "image_url": IMAGE},
            "acknowledged_safety_checks": [{"id": "cu_1", "code": "c1", "message": "one two"}],
        },
        [("computer_screenshot", "tool"), ("c1", "tool"), ("one two", "tool")],
    ),
    (
        "a local shell",
        {
            "type": "local_shell_call",
            "call_id": "call_1",
            "action": {"type": "exec", "command": ["rm", "one two"], "env": {"A": "three"}},
        },
        [("rm", "assistant"), ("one two", "assistant"), ("three", "assistant")],
    ),
    (
        "what a local shell printed",
        {"type": "local_shell_call_output", "id": "call_1", "output": "one two"},
        [("one two", "tool")],
    ),
    (
        "what a shell printed",
        {
            "type": "shell_call_output",
            "call_id": "call_1",
            "output": [{"stdout": "one two", "stderr": "three", "outcome": {"type": "exit"}}],
        },
        [("one two", "tool"), ("three", "tool")],
    ),
    (
        "a patch",
        {
            "type": "apply_patch_call",
            "call_id": "call_1",
            "operation": {"type": "update_file", "path": "a b", "diff": "one two"},
        },
        [("a b", "assistant"), ("one two", "assistant")],
    ),
    (
        "a patch's result",
        {"type": "apply_patch_call_output", "call_id": "call_1", "output": "one two"},
        [("one two", "tool")],
    ),
    (
        "a search in files",
        {
            "type": "file_search_call",
            "id": "fs_1",
            "queries": ["one two"],
            "results": [{"file_id": "file-1", "filename": "a.txt", "text": "three"}],
        },
        [("one two", "assistant"), ("a.txt", "tool"), ("three", "tool")],
    ),
    (
        "a search in the web",
        {
            "type": "web_search_call",
            "id": "ws_1",
            "action": {"type": "search", "query": "one two", "sources": [{"url": "https://x.y/"}]},
        },
        [("one two", "assistant"), ("https://x.y/", "tool")],
    ),
    (
        "a call of an MCP server",
        {
            "type": "mcp_call",
            "id": "mcp_1",
            "server_label": "deepwiki",
            "name": "find",
            "arguments": "{}",
            "output": "one two",
            "error": "three",
        },
        [
            *((t, "assistant") for t in ("deepwiki", "find", "{}")),
            ("one two", "tool"),
            ("three", "tool"),
        ],
    ),
    (
        "what an MCP server has",
        {
            "type": "mcp_list_tools",
            "id": "mcp_1",
            "server_label": "deepwiki",
            "tools": [
                {"name": "find", "description": "one two", "input_schema": {"type": "object"}}
            ],
        },
        [("deepwiki", "tool"), ("find", "tool"), ("one two", "tool")],
    ),
    (
        "an approval",
        {"type": "mcp_approval_response", "approval_request_id": "1", "reason": "one two"},
        [("1", "user"), ("one two", "user")],
    ),
    (
        "code",
        {
            "type": "code_interpreter_call",
            "id": "ci_1",
            "code": "print(1)",
            "outputs": [{"type": "logs", "logs": "one two"}],
        },
        [("print(1)", "assistant"), ("one two", "tool")],
    ),
    (
        "reasoning",
        {
            "type": "reasoning",
            "id": "rs_1",
            "summary": [{"type": "summary_text", "text": "one two"}],
            "content": [{"type": "reasoning_text", "text": "three"}],
            "encrypted_content": "gAAAAABo1234",
        },
        [("one two", "assistant"), ("three", "assistant")],
    ),
    ("a picture", {"type": "image_generation_call", "id": "ig_1", "result": "iVBORw0KGgo="}, []),
    (
        "a picture that is none",
        {"type": "image_generation_call", "id": "ig_1", "result": "one two"},
        [("one two", "assistant")],
    ),
    ("a reference", {"type": "item_reference", "id": "msg_1"}, []),
    (
        "a search for tools",
        {"type": "tool_search_call", "arguments": {"status": "completed", "q": "one two"}},
        [("completed", "assistant"), ("one two", "assistant")],
    ),
    ("unknown", {"type": "prophecy", "vision": ["one two"]}, [("prophecy", "user"), ("one two", "user")]),
]  # fmt: skip


@pytest.mark.parametrize(("item", "expected"), [c[1:] for c in ITEMS], ids=[c[0] for c in ITEMS])
def test_items(item, expected):
    request = body(item)
    API.validate(request)
    assert seen(request) == expected
    for found in API.texts(request):
        if not found.derived:
            assert string_at(request, found.address) == found.content


def test_a_string_is_the_users_newest_turn():
    (found,) = API.texts({"model": "m", "input": "one two"})
    assert (found.content, found.role, found.last_turn) == ("one two", "user", True)
    assert found.address == ("input",)


FIELDS = [
    ({"instructions": "Be kind."}, [("Be kind.", "developer")]),
    (
        {"tools": [{"type": "function", "name": "find", "parameters": {"description": "one two"}}]},
        [("find", "developer"), ("one two", "developer")],
    ),
    ({"metadata": {"note": "one two"}}, [("one two", "developer")]),
    ({"user": "one two"}, [("one two", "developer")]),
    (
        {"text": {"format": {"type": "json_schema", "name": "n", "schema": {"title": "one two"}}}},
        [("n", "developer"), ("one two", "developer")],
    ),
    (
        {"prompt": {"id": "pmpt_1", "variables": {"status": "completed", "city": "one two"}}},
        [("completed", "user"), ("one two", "user")],
    ),
    (
        {"prompt": {"id": "pmpt_1", "variables": {"x": {"type": "input_text", "text": "one two"}}}},
        [("one two", "user")],
    ),
    ({"of_the_future": {"deep": "one two"}}, [("one two", "user")]),
]


@pytest.mark.parametrize(("fields", "expected"), FIELDS)
def test_fields(fields, expected):
    request = {"model": "m", "input": "hello there", **fields}
    API.validate(request)
    found = seen(request)
    assert [text for text in found if text != ("hello there", "user")] == [
        text for text in found if text in expected
    ]
    assert set(expected) <= set(found)


def test_turns():
    request = body(
        {"role": "user", "content": "first"},
        {"role": "assistant", "content": "answer"},
        CALL,
        {"type": "function_call_output", "call_id": "call_1", "output": "result"},
    )
    newest = [t for t in API.texts(request) if t.last_turn]
    assert [(t.content, t.role, t.turn) for t in newest] == [("result", "tool", 3)]


def test_parts_of_the_newest_turn_are_joined():
    parts = [{"type": "input_text", "text": part} for part in ("ig", "nore all")]
    request = body({"role": "user", "content": parts})
    assert "ignore all" in [t.content for t in API.texts(request) if t.derived]


def test_json_within_json_is_decoded():
    item = {"type": "function_call_output", "call_id": "call_1", "output": '{"a": "\\u0068i"}'}
    assert "a\nhi" in [t.content for t in API.texts(body(item)) if t.derived]


def test_what_cannot_be_read_is_told():
    parts = [
        {"type": "input_image", "image_url": IMAGE},
        {"type": "input_file", "file_id": "file-1"},
        {"type": "input_file", "file_url": "https://x.y/a.pdf"},
        {"type": "input_audio", "input_audio": {"data": "UklGRg==", "format": "wav"}},
    ]
    request = body(
        {"role": "user", "content": parts},
        {"type": "item_reference", "id": "msg_1"},
        {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "gAAAAABo1234"},
        {"type": "image_generation_call", "id": "ig_1", "result": "iVBORw0KGgo="},
        previous_response_id="resp_1",
        conversation={"id": "conv_1"},
        prompt={"id": "pmpt_1"},
    )
    assert sorted(API.unscanned(request)) == sorted(
        [
            "input.0.content.0.image_url",
            "input.0.content.1.file_id",
            "input.0.content.2.file_url",
            "input.0.content.3.input_audio.data",
            "input.1.id",
            "input.2.encrypted_content",
            "input.3.result",
            "previous_response_id",
            "conversation",
            "prompt.id",
        ]
    )


REFUSED = [
    ({"input": "x"}, "model", "missing_required_parameter"),
    ({"model": "m"}, "input", "missing_required_parameter"),
    ({"model": "m", "input": 5}, "input", "invalid_type"),
    ({"model": "m", "input": ["x"]}, "input[0]", "invalid_type"),
    (body({"role": "tool", "content": "x"}), "input[0].role", "invalid_value"),
    (body({"role": "user", "content": 5}), "input[0].content", "invalid_type"),
    (body({"role": "user", "content": ["x"]}), "input[0].content[0]", "invalid_type"),
    (body({"role": "user", "content": [{"text": {}}]}), "input[0].content[0].text", "invalid_type"),
    (body({"type": {}}), "input[0].type", "invalid_type"),
    (body({"type": "x", "do evil now": 1}), "input[0]", "unknown_parameter"),
    ({"model": "m", "input": "x", "background": True}, "background", "unsupported_parameter"),
    ({"model": "m", "input": "x", "stream": "yes"}, "stream", "invalid_type"),
    ({"model": "m", "input": "x", "tools": ["x"]}, "tools[0]", "invalid_type"),
    ({"model": "m", "input": "x", "k" * 300: 1}, None, "string_above_max_length"),
]


@pytest.mark.parametrize(("request_body", "param", "code"), REFUSED)
def test_refused(request_body, param, code):
    with pytest.raises(InvalidRequest) as caught:
        API.validate(request_body)
    assert (caught.value.param, caught.value.code) == (param, code)


@pytest.mark.parametrize("source", ["previous_response_id", "prompt", "conversation"])
def test_a_history_at_the_provider_is_input_enough(source):
    value = {"id": "pmpt_1"} if source == "prompt" else "resp_1"
    API.validate({"model": "m", source: value})
