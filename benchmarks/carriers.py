"""Where text can stand in each guarded API: a place by a name, and a body with a text there.

The docs' table of coverage and the tests go over these; a new endpoint or field is a line here.
"""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Callable
from typing import Any

Body = dict[str, Any]
Carrier = Callable[[str], Body]

CHAT, COMPLETIONS, EMBEDDINGS = "/v1/chat/completions", "/v1/completions", "/v1/embeddings"
RESPONSES, MESSAGES = "/v1/responses", "/v1/messages"


def snake(text: str) -> str:
    """A text as an identifier."""
    return "_".join(text.split())


def data(text: str, kind: str = "text/plain") -> str:
    """A text as a data URL."""
    return f"data:{kind};base64,{b64encode(text.encode()).decode()}"


def _chat(message: Body | None = None, **fields: Any) -> Body:
    return {"model": "default", "messages": [message or _HI], **fields}


def _user(**part: Any) -> Body:
    return _chat({"role": "user", "content": [{"type": "text", "text": "hi"}, part]})


def _call(name: str = "f", arguments: str = "{}", id: str = "call_1") -> Body:
    call = {"id": id, "type": "function", "function": {"name": name, "arguments": arguments}}
    return {"role": "assistant", "content": None, "tool_calls": [call]}


def _tool(**function: Any) -> Body:
    return _chat(tools=[{"type": "function", "function": {"name": "f", **function}}])


def _schema(**schema: Any) -> Body:
    return _tool(parameters={"type": "object", **schema})


_PNG, _PDF = "data:image/png;base64,iVBORw0KGgoAAA==", "data:application/pdf;base64,JVBERi0xLjcK"
_HI: Body = {"role": "user", "content": "hi"}

_CHAT: dict[str, Carrier] = {
    **{
        f"messages[].content ({role})": lambda t, role=role: _chat({"role": role, "content": t})
        for role in ("system", "developer", "user", "assistant", "tool", "function")
    },
    "messages[].content[].text": lambda t: _user(type="text", text=t),
    "messages[].content[].refusal": lambda t: _user(type="refusal", refusal=t),
    "messages[].content[].input_text": lambda t: _user(type="input_text", input_text=t),
    "image_url.url (link)": lambda t: _user(
        type="image_url", image_url={"url": f"https://x.y/{snake(t)}"}
    ),
    "image_url.url (text as data)": lambda t: _user(type="image_url", image_url={"url": data(t)}),
    "image_url.alt": lambda t: _user(type="image_url", image_url={"alt": t}),
    "input_audio.transcript": lambda t: _user(type="input_audio", input_audio={"transcript": t}),
    "file.filename": lambda t: _user(type="file", file={"filename": snake(t) + ".pdf"}),
    "file.file_data (data URL)": lambda t: _user(type="file", file={"file_data": data(t)}),
    "file.file_data (base64)": lambda t: _user(
        type="file", file={"file_data": b64encode(t.encode()).decode()}
    ),
    "a part of an unknown type": lambda t: _user(type="new", new={"deep": [[t]]}),
    "messages[].name": lambda t: _chat({**_HI, "name": snake(t)}),
    "messages[].tool_calls[].id": lambda t: _chat(_call(id=snake(t))),
    "messages[].tool_calls[].function.name": lambda t: _chat(_call(name=snake(t))),
    "messages[].tool_calls[].function.arguments": lambda t: _chat(
        _call(arguments=json.dumps({"q": f"{t}\n"}))
    ),
    "messages[].tool_call_id": lambda t: _chat(
        {"role": "tool", "tool_call_id": snake(t), "content": "x"}
    ),
    "tools[].function.name": lambda t: _tool(name=snake(t)),
    "tools[].function.description": lambda t: _tool(description=t),
    "parameters.description": lambda t: _schema(description=t),
    "parameters.properties (name)": lambda t: _schema(properties={snake(t): {}}),
    "parameters.enum": lambda t: _schema(enum=[snake(t)]),
    "parameters.required": lambda t: _schema(required=[snake(t)]),
    "functions[].description": lambda t: _chat(functions=[{"name": "f", "description": t}]),
    "response_format.json_schema.description": lambda t: _chat(
        response_format={"type": "json_schema", "json_schema": {"name": "n", "description": t}}
    ),
    "prediction.content": lambda t: _chat(prediction={"type": "content", "content": t}),
    "metadata (value)": lambda t: _chat(metadata={"a": t}),
    "metadata (name)": lambda t: _chat(metadata={snake(t): "a"}),
    "user": lambda t: _chat(user=snake(t)),
    "stop": lambda t: _chat(stop=[t]),
    "tool_choice": lambda t: _chat(tool_choice=snake(t)),
    "service_tier": lambda t: _chat(service_tier=snake(t)),
    "an unknown field": lambda t: _chat(future={"a": [t]}),
    "an unknown field (name)": lambda t: _chat(**{snake(t): 1}),
}


def _responses(*items: Body, **fields: Any) -> Body:
    return {"model": "default", "input": [*items] or "hi", **fields}


def _said(**part: Any) -> Body:
    return _responses({"role": "user", "content": [part]})


_RESPONSES: dict[str, Carrier] = {
    "input": lambda t: {"model": "default", "input": t},
    **{
        f"input[].content ({role})": lambda t, role=role: _responses({"role": role, "content": t})
        for role in ("system", "developer", "user", "assistant")
    },
    "input[].content[].text": lambda t: _said(type="input_text", text=t),
    "input[].content[].filename": lambda t: _said(type="input_file", filename=snake(t)),
    "input[].content[].file_data": lambda t: _said(type="input_file", file_data=data(t)),
    "function_call.arguments": lambda t: _responses(
        {"type": "function_call", "call_id": "call_1", "name": "f", "arguments": f'["{t}"]'}
    ),
    "function_call_output.output": lambda t: _responses(
        {"type": "function_call_output", "call_id": "call_1", "output": t}
    ),
    "reasoning.summary[].text": lambda t: _responses(
        {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": t}]}
    ),
    "an item of an unknown type": lambda t: _responses({"type": "new", "new": [t]}),
    "instructions": lambda t: _responses(instructions=t),
    "tools[].description": lambda t: _responses(
        tools=[{"type": "function", "name": "f", "description": t}]
    ),
    "metadata (value)": lambda t: _responses(metadata={"a": t}),
    "an unknown field": lambda t: _responses(future={"a": [t]}),
    "an unknown field (name)": lambda t: {**_responses(), snake(t): 1},
}


def _message(*blocks: Any, role: str = "user", **fields: Any) -> Body:
    messages = [{"role": role, "content": list(blocks) or "hi"}]
    return {"model": "default", "max_tokens": 9, "messages": messages, **fields}


_MESSAGES: dict[str, Carrier] = {
    "system": lambda t: _message(system=t),
    "system[].text": lambda t: _message(system=[{"type": "text", "text": t}]),
    **{
        f"messages[].content[].text ({role})": lambda t, role=role: _message(
            {"type": "text", "text": t}, role=role
        )
        for role in ("user", "assistant")
    },
    "tool_use.name": lambda t: _message(
        {"type": "tool_use", "id": "toolu_1", "name": snake(t), "input": {}}, role="assistant"
    ),
    "tool_use.input": lambda t: _message(
        {"type": "tool_use", "id": "toolu_1", "name": "f", "input": {"q": t}}, role="assistant"
    ),
    "tool_result.content": lambda t: _message(
        {"type": "tool_result", "tool_use_id": "toolu_1", "content": t}
    ),
    "document.source.data (text)": lambda t: _message(
        {
            "type": "document",
            "source": {"type": "text", "media_type": "text/plain", "data": t},
        }
    ),
    "document.title": lambda t: _message(
        {"type": "document", "title": t, "source": {"type": "text", "data": "x"}}
    ),
    "thinking": lambda t: _message(
        {"type": "thinking", "thinking": t, "signature": "EqQBCgIYAhIM"}, role="assistant"
    ),
    "a block of an unknown type": lambda t: _message({"type": "new", "new": [t]}),
    "tools[].description": lambda t: _message(
        tools=[{"name": "f", "description": t, "input_schema": {"type": "object"}}]
    ),
    "stop_sequences": lambda t: _message(stop_sequences=[t]),
    "metadata.user_id": lambda t: _message(metadata={"user_id": snake(t)}),
    "an unknown field": lambda t: _message(future={"a": [t]}),
    "an unknown field (name)": lambda t: {**_message(), snake(t): 1},
}

_COMPLETIONS: dict[str, Carrier] = {
    "prompt": lambda t: {"model": "default", "prompt": t},
    "prompt[]": lambda t: {"model": "default", "prompt": ["hi", t]},
    "suffix": lambda t: {"model": "default", "prompt": "hi", "suffix": t},
    "stop": lambda t: {"model": "default", "prompt": "hi", "stop": [t]},
    "user": lambda t: {"model": "default", "prompt": "hi", "user": snake(t)},
    "an unknown field": lambda t: {"model": "default", "prompt": "hi", "future": {"a": [t]}},
    "an unknown field (name)": lambda t: {"model": "default", "prompt": "hi", snake(t): 1},
}
_EMBEDDINGS: dict[str, Carrier] = {
    "input": lambda t: {"model": "default", "input": t},
    "input[]": lambda t: {"model": "default", "input": ["hi", t]},
    "user": lambda t: {"model": "default", "input": "hi", "user": snake(t)},
    "an unknown field": lambda t: {"model": "default", "input": "hi", "future": {"a": [t]}},
    "an unknown field (name)": lambda t: {"model": "default", "input": "hi", snake(t): 1},
}

CARRIERS: dict[str, dict[str, Carrier]] = {
    CHAT: _CHAT,
    COMPLETIONS: _COMPLETIONS,
    EMBEDDINGS: _EMBEDDINGS,
    RESPONSES: _RESPONSES,
    MESSAGES: _MESSAGES,
}
"""Path -> place -> body with a text there."""

UNREADABLE: dict[str, dict[str, Body]] = {
    CHAT: {
        "image_url.url (image)": _user(type="image_url", image_url={"url": _PNG}),
        "image_url.url (link)": _user(type="image_url", image_url={"url": "https://x.y/z.png"}),
        "input_audio.data": _user(type="input_audio", input_audio={"data": "UklGRiQA/w=="}),
        "file.file_data (PDF)": _user(type="file", file={"file_data": _PDF}),
        "file.file_id": _user(type="file", file={"file_id": "file-1"}),
        "audio.id (an earlier reply)": _chat({"role": "assistant", "audio": {"id": "audio_1"}}),
    },
    RESPONSES: {
        "input_image.image_url": _said(type="input_image", image_url="https://x.y/z.png"),
        "input_file.file_data (PDF)": _said(type="input_file", file_data=_PDF),
        "input_file.file_url": _said(type="input_file", file_url="https://x.y/z.pdf"),
        "reasoning.encrypted_content": _responses(
            {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "gAAAAABo7wZz"}
        ),
        "item_reference.id": _responses({"type": "item_reference", "id": "msg_1"}),
        "previous_response_id": _responses(previous_response_id="resp_1"),
    },
    MESSAGES: {
        "image.source.data": _message(
            {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="}}
        ),
        "document.source.url": _message(
            {"type": "document", "source": {"type": "url", "url": "https://x.y/z.pdf"}}
        ),
        "container": _message(container="container_011"),
        "container.id": _message(container={"id": "container_011"}),
        "container.skills[].skill_id": _message(
            container={"skills": [{"type": "anthropic", "skill_id": "xlsx", "version": "latest"}]}
        ),
        "redacted_thinking.data": _message(
            {"type": "redacted_thinking", "data": "EmwKAhgBEgy3va3pzix/LafPsn4="}, role="assistant"
        ),
    },
}  # fmt: skip
"""Path -> place -> body with something that no classifier can read."""
