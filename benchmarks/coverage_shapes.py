"""The shapes of the guarded APIs, for ``coverage_bodies``: requests, replies and events."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

from benchmarks.coverage_bodies import Maker

Shape = Callable[[Maker], dict[str, Any]]


def made(shape: Shape, rng: Random) -> tuple[dict[str, Any], dict[str, str]]:
    """A body of a shape, and the words in its strings and keys."""
    make = Maker(rng)
    return shape(make), make.words


# -- what several APIs have


def _schema(m: Maker, depth: int = 1) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "type": "object",
        "description": m.string,
        "enum": lambda: m.some(m.string),
        "required": lambda: m.some(m.string),
        "title": m.string,
        "default": m.anything,
        "const": m.string,
        "pattern": m.string,
        "$ref": m.string,
    }
    if depth:
        fields["properties"] = lambda: {m.key(): _schema(m, depth - 1) for _ in range(2)}
        fields["items"] = lambda: _schema(m, depth - 1)
        fields["anyOf"] = lambda: [_schema(m, depth - 1)]
    return m.object(**fields)


def _function(m: Maker) -> dict[str, Any]:
    return m.object(
        name_=m.string, description=m.string, parameters=lambda: _schema(m), strict=True
    )


def _tool(m: Maker) -> dict[str, Any]:
    kind = m.rng.choice(("function", "custom"))
    return m.object(type_=kind, function=lambda: _function(m), custom=lambda: _function(m))


def _format(m: Maker) -> dict[str, Any]:
    schema = {"name_": m.string, "description": m.string, "schema": lambda: _schema(m)}
    return m.object(type_="json_schema", json_schema=lambda: m.object(**schema))


def _metadata(m: Maker) -> dict[str, Any]:
    return {m.key(): m.string() for _ in range(m.rng.randint(0, 3))}


def _file(m: Maker) -> dict[str, Any]:
    return m.object(filename=m.string, file_data=m.string, file_id=m.string, file_url=m.string)


# -- chat completions


def _part(m: Maker) -> dict[str, Any]:
    shapes: tuple[dict[str, Any], ...] = (
        {"type_": "text", "text_": m.string, "cache_control": {"type": "ephemeral"}},
        {"type_": "refusal", "refusal_": m.string},
        {"type_": "input_text", "input_text": m.string, "text": m.string},
        {
            "type_": "image_url",
            "image_url_": lambda: m.object(url_=m.string, detail=m.string, alt=m.string),
        },
        {
            "type_": "input_audio",
            "input_audio_": lambda: m.object(data_=m.string, format=m.string, transcript=m.string),
        },
        {"type_": "file", "file_": lambda: _file(m)},
        {"type_": m.string, "future": m.anything},
    )
    return m.object(**m.rng.choice(shapes))


def _content(m: Maker) -> Any:
    return m.string() if m.chance(0.5) else m.some(lambda: _part(m), least=1)


def _call(m: Maker) -> dict[str, Any]:
    return m.object(
        id_=m.string,
        type="function",
        function=lambda: m.object(name_=m.string, arguments_=m.string),
        custom=lambda: m.object(name_=m.string, input_=m.string),
    )


def _message(m: Maker) -> dict[str, Any]:
    role = m.rng.choice(("system", "developer", "user", "user", "assistant", "tool", "function"))
    fields: dict[str, Any] = {"role_": role, "content_": lambda: _content(m), "name": m.string}
    if role == "assistant":
        fields["tool_calls"] = lambda: m.some(lambda: _call(m))
        fields["refusal"] = m.string
        fields["reasoning_content"] = m.string
        fields["audio"] = lambda: {"id": m.string()}
    if role == "tool":
        fields["tool_call_id_"] = m.string
    return m.object(**fields)


def _chat(m: Maker) -> dict[str, Any]:
    return m.object(
        model_="m",
        messages_=lambda: m.some(lambda: _message(m), most=5, least=1),
        tools=lambda: m.some(lambda: _tool(m)),
        functions=lambda: m.some(lambda: _function(m)),
        tool_choice=m.string,
        response_format=lambda: _format(m),
        metadata=lambda: _metadata(m),
        prediction=lambda: {"type": "content", "content": _content(m)},
        stop=lambda: m.some(m.string),
        user=m.string,
        safety_identifier=m.string,
        prompt_cache_key=m.string,
        reasoning_effort=m.string,
        service_tier=m.string,
        audio=lambda: m.object(voice=m.string, format=m.string),
        web_search_options=m.anything,
        logit_bias={"1234": 1},
        temperature=0.5,
        stream=False,
    )


# -- completions and embeddings


def _completions(m: Maker) -> dict[str, Any]:
    return m.object(
        model_="m",
        prompt_=lambda: m.string() if m.chance(0.5) else m.some(m.string, least=1),
        suffix=m.string,
        stop=lambda: m.some(m.string),
        user=m.string,
        metadata=lambda: _metadata(m),
        response_format=lambda: _format(m),
        guided_choice=lambda: m.some(m.string),
    )


def _embeddings(m: Maker) -> dict[str, Any]:
    return m.object(
        model_="m",
        input_=lambda: m.string() if m.chance(0.5) else m.some(m.string, least=1),
        user=m.string,
        encoding_format="float",
        input_type=m.string,
        metadata=lambda: _metadata(m),
    )


# -- responses


def _input_part(m: Maker) -> dict[str, Any]:
    shapes: tuple[dict[str, Any], ...] = (
        {"type_": "input_text", "text_": m.string},
        {"type_": "output_text", "text_": m.string, "annotations": lambda: m.some(m.anything)},
        {"type_": "refusal", "refusal_": m.string},
        {"type_": "input_image", "image_url": m.string, "file_id": m.string, "detail": "auto"},
        {"type_": "input_file", "filename": m.string, "file_data": m.string, "file_url": m.string},
        {"type_": m.string, "future": m.anything},
    )
    return m.object(**m.rng.choice(shapes))


def _item(m: Maker) -> dict[str, Any]:
    parts = m.string() if m.chance(0.4) else m.some(lambda: _input_part(m), least=1)
    role = m.rng.choice(("user", "user", "assistant", "system", "developer"))
    shapes: tuple[dict[str, Any], ...] = (
        {"role_": role, "content_": parts, "type": "message", "status": m.string},
        {"type_": "function_call", "call_id_": m.string, "name_": m.string, "arguments_": m.string},
        {"type_": "function_call_output", "call_id_": m.string, "output_": parts},
        {
            "type_": "reasoning",
            "id_": m.string,
            "summary_": lambda: [{"type": "summary_text", "text": m.string()}],
            "encrypted_content": m.string,
        },
        {"type_": "image_generation_call", "id_": m.string, "result": m.string},
        {"type_": "item_reference", "id_": m.string},
        {"type_": "web_search_call", "action_": m.anything, "status": m.string},
        {"type_": m.string, "future": m.anything},
    )
    return m.object(**m.rng.choice(shapes))


def _responses(m: Maker) -> dict[str, Any]:
    tool = {"type_": "function", "name_": m.string, "description": m.string}
    schema = {"name": m.string, "schema": lambda: _schema(m)}
    return m.object(
        model_="m",
        input_=lambda: m.string() if m.chance(0.3) else m.some(lambda: _item(m), 4, 1),
        instructions=m.string,
        tools=lambda: m.some(lambda: m.object(**tool, parameters=lambda: _schema(m))),
        tool_choice=m.string,
        text=lambda: {"format": m.object(type_="json_schema", **schema)},
        metadata=lambda: _metadata(m),
        previous_response_id=m.string,
        prompt=lambda: m.object(id_=m.string, variables=lambda: _metadata(m)),
        reasoning=lambda: m.object(effort=m.string, summary=m.string),
        include=lambda: m.some(m.string),
        user=m.string,
        safety_identifier=m.string,
    )


# -- messages


def _source(m: Maker) -> dict[str, Any]:
    kind = m.rng.choice(("base64", "text", "url", "file"))
    return m.object(type_=kind, media_type=m.string, data=m.string, url=m.string, file_id=m.string)


def _block(m: Maker) -> dict[str, Any]:
    inner = lambda: m.some(lambda: m.object(type_="text", text_=m.string), least=1)  # noqa: E731
    shapes: tuple[dict[str, Any], ...] = (
        {"type_": "text", "text_": m.string, "cache_control": {"type": "ephemeral"}},
        {"type_": "image", "source_": lambda: _source(m)},
        {
            "type_": "document",
            "source_": lambda: _source(m),
            "title": m.string,
            "context": m.string,
        },
        {"type_": "tool_use", "id_": m.string, "name_": m.string, "input_": m.anything},
        {"type_": "tool_result", "tool_use_id_": m.string, "content_": inner},
        {"type_": "thinking", "thinking_": m.string, "signature": m.string},
        {"type_": "redacted_thinking", "data_": m.string},
        {
            "type_": "search_result",
            "source": m.string,
            "title": m.string,
            "content": inner,
        },
        {"type_": m.string, "future": m.anything},
    )
    return m.object(**m.rng.choice(shapes))


def _messages(m: Maker) -> dict[str, Any]:
    def message() -> dict[str, Any]:
        content = m.string() if m.chance(0.4) else m.some(lambda: _block(m), least=1)
        return m.object(role_=m.rng.choice(("user", "user", "assistant")), content_=content)

    tool = {"name_": m.string, "description": m.string}
    return m.object(
        model_="m",
        max_tokens_=100,
        messages_=lambda: m.some(message, 4, 1),
        system=lambda: m.string() if m.chance(0.5) else [{"type": "text", "text": m.string()}],
        tools=lambda: m.some(lambda: m.object(**tool, input_schema=lambda: _schema(m))),
        tool_choice=lambda: m.object(type_="tool", name=m.string),
        stop_sequences=lambda: m.some(m.string),
        metadata=lambda: m.object(user_id=m.string),
        container=m.string,
        service_tier=m.string,
    )


REQUESTS: dict[str, Shape] = {
    "/v1/chat/completions": _chat,
    "/v1/completions": _completions,
    "/v1/embeddings": _embeddings,
    "/v1/responses": _responses,
    "/v1/messages": _messages,
}
"""Path -> shape of a request. An endpoint without one fails its tests."""
