"""The shapes of replies and stream events of the guarded APIs, as ``coverage_shapes``."""

from __future__ import annotations

from typing import Any

from benchmarks.coverage_bodies import Maker
from benchmarks.coverage_shapes import Shape


def _call(m: Maker) -> dict[str, Any]:
    return m.object(
        id_=m.string,
        type="function",
        index=0,
        function_=lambda: m.object(name_=m.string, arguments_=m.string),
    )


def _said(m: Maker) -> dict[str, Any]:
    return m.object(
        role_="assistant",
        content_=m.string,
        refusal=m.string,
        reasoning_content=m.string,
        tool_calls=lambda: m.some(lambda: _call(m)),
        annotations=lambda: m.some(lambda: {"type": "url_citation", "url_citation": m.anything()}),
        audio=lambda: m.object(data=m.string, transcript=m.string),
        images=lambda: [{"type": "image_url", "image_url": {"url": m.string()}}],
    )


def _head(kind: str) -> dict[str, Any]:
    return {"id_": "chatcmpl-1", "object_": kind, "created_": 1, "model_": "some-model"}


def _choices(m: Maker, holder: str) -> list[dict[str, Any]]:
    own: dict[str, Any] = {
        "index_": 0,
        "finish_reason_": "stop",
        "logprobs": lambda: {"content": [{"token": m.string()}]},
    }
    own[f"{holder}_"] = m.string if holder == "text" else lambda: _said(m)
    made = m.object(**own)
    made["index"] = 0
    return [made]


def _chat(m: Maker) -> dict[str, Any]:
    more = {"citations": lambda: m.some(m.string), "service_tier": "default"}
    head = _head("chat.completion")
    return m.object(**head, choices_=lambda: _choices(m, "message"), **more)


def _chunk(m: Maker) -> dict[str, Any]:
    head = _head("chat.completion.chunk")
    return m.object(**head, choices_=lambda: _choices(m, "delta"), citations=[m.string()])


def _completion(m: Maker) -> dict[str, Any]:
    return m.object(**_head("text_completion"), choices_=lambda: _choices(m, "text"))


def _embedding(m: Maker) -> dict[str, Any]:
    item = {"object": "embedding", "index": 0, "embedding": [0.5]}
    return m.object(object_="list", model_="some-model", data_=[item], note=m.string)


def _output(m: Maker) -> list[dict[str, Any]]:
    text = {"type_": "output_text", "text_": m.string, "annotations": lambda: [m.anything()]}
    items: tuple[dict[str, Any], ...] = (
        {
            "type_": "message",
            "id_": "msg_1",
            "role_": "assistant",
            "status": "completed",
            "content_": lambda: m.some(lambda: m.object(**text), least=1),
        },
        {"type_": "function_call", "name_": m.string, "arguments_": m.string, "call_id_": "call_1"},
        {"type_": "reasoning", "id_": "rs_1", "summary_": lambda: [{"text": m.string()}]},
        {"type_": "image_generation_call", "id_": "ig_1", "result_": "iVBORw0KGgo="},
    )
    return m.some(lambda: m.object(**m.rng.choice(items)), least=1)


def _response(m: Maker) -> dict[str, Any]:
    return m.object(
        id_="resp_1", object_="response", status_="completed", model_="m", output_=_output(m)
    )


def _response_event(m: Maker) -> dict[str, Any]:
    place = {"item_id_": "msg_1", "output_index_": 0, "content_index_": 0, "sequence_number_": 1}
    events: tuple[dict[str, Any], ...] = (
        {"type_": "response.output_text.delta", "delta_": m.string},
        {"type_": "response.refusal.delta", "delta_": m.string},
        {"type_": "response.function_call_arguments.delta", "delta_": m.string},
        {"type_": "response.audio.delta", "delta_": "UklGRiQA/w=="},
        {"type_": "response.completed", "response_": lambda: _response(m)},
    )
    return m.object(**m.rng.choice(events), **place)


def _content(m: Maker) -> list[dict[str, Any]]:
    blocks: tuple[dict[str, Any], ...] = (
        {"type_": "text", "text_": m.string},
        {"type_": "thinking", "thinking_": m.string},
        {"type_": "tool_use", "id_": "toolu_1", "name_": m.string, "input_": m.anything},
    )
    return m.some(lambda: m.object(**m.rng.choice(blocks)), least=1)


def _message(m: Maker) -> dict[str, Any]:
    return m.object(
        id_="msg_1",
        type_="message",
        role_="assistant",
        model_="some-model",
        content_=lambda: _content(m),
        stop_reason_="end_turn",
        stop_sequence=m.string,
    )


def _message_event(m: Maker) -> dict[str, Any]:
    events: tuple[dict[str, Any], ...] = (
        {
            "type_": "content_block_delta",
            "delta_": lambda: {"type": "text_delta", "text": m.string()},
        },
        {
            "type_": "content_block_delta",
            "delta_": lambda: {"type": "input_json_delta", "partial_json": m.string()},
        },
        {"type_": "content_block_start", "content_block_": lambda: _content(m)[0]},
    )
    return m.object(**m.rng.choice(events), index_=0)


REPLIES: dict[str, Shape] = {
    "/v1/chat/completions": _chat,
    "/v1/completions": _completion,
    "/v1/embeddings": _embedding,
    "/v1/responses": _response,
    "/v1/messages": _message,
}
"""Path -> shape of a complete reply."""

EVENTS: dict[str, Shape] = {
    "/v1/chat/completions": _chunk,
    "/v1/completions": _completion,
    "/v1/responses": _response_event,
    "/v1/messages": _message_event,
}
"""Path -> shape of an event, for the APIs that stream."""
