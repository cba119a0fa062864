"""What OpenAI's Responses API sends, for a scripted upstream: whole responses and their events."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

import httpx
from gateway_kit import Door, Script, ScriptedUpstream, events, respond

USAGE = {
    "input_tokens": 1000,
    "input_tokens_details": {"cached_tokens": 0},
    "output_tokens": 100,
    "output_tokens_details": {"reasoning_tokens": 0},
    "total_tokens": 1100,
}
Json = dict[str, Any]


def response(*items: Json, status: str = "completed", **more: Any) -> Json:
    """A response with these output items."""
    return {
        "id": "resp_67ccd2bed1ec8190b14f964abc05",
        "object": "response",
        "created_at": 1741476542,
        "status": status,
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "metadata": {},
        "model": "gpt-4o-2024-08-06",
        "output": list(items),
        "parallel_tool_calls": True,
        "previous_response_id": None,
        "text": {"format": {"type": "text"}},
        "tool_choice": "auto",
        "tools": [],
        "usage": USAGE if status == "completed" else None,
        **more,
    }


def message(*parts: str | Json, id: str = "msg_67ccd2bf17f0819081ff3bb2") -> Json:
    """A message of the assistant; strings are its ``output_text`` parts."""
    return {
        "id": id,
        "type": "message",
        "status": "completed",
        "role": "assistant",
        "content": [text(part) if isinstance(part, str) else part for part in parts],
    }


def text(content: str) -> Json:
    return {"type": "output_text", "text": content, "annotations": [], "logprobs": []}


def refusal(content: str) -> Json:
    return {"type": "refusal", "refusal": content}


def call(arguments: str, name: str = "find") -> Json:
    return {
        "id": "fc_67ccd2bf17f0819081ff3bb2",
        "type": "function_call",
        "status": "completed",
        "call_id": "call_9x7y",
        "name": name,
        "arguments": arguments,
    }


def reasoning(*summaries: str, content: Sequence[str] = ()) -> Json:
    item: Json = {
        "id": "rs_67ccd2bf17f0819081ff3bb2",
        "type": "reasoning",
        "summary": [{"type": "summary_text", "text": summary} for summary in summaries],
    }
    if content:
        item["content"] = [{"type": "reasoning_text", "text": part} for part in content]
    return item


def answered(*items: Json, **more: Any) -> Script:
    """Answer with a whole response."""
    return respond(200, response(*items, **more))


def encoded(event: Json) -> bytes:
    return f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode()


def streamed(*items: Json, size: int = 7, **more: Any) -> Script:
    """The same response as a stream, texts in pieces of ``size`` characters."""
    return events(*map(encoded, stream_events(*items, size=size, **more)), done=False)


def stream_events(*items: Json, size: int = 7, **more: Any) -> list[Json]:
    """The events of a stream, numbered, up to and with the last one."""
    open_response = response(status="in_progress", **more)
    found: list[Json] = [
        {"type": "response.created", "response": open_response},
        {"type": "response.in_progress", "response": open_response},
    ]
    for number, item in enumerate(items):
        found += ({**event, "output_index": number} for event in _item_events(item, size))
    found.append({"type": "response.completed", "response": response(*items, **more)})
    return [{**event, "sequence_number": number} for number, event in enumerate(found)]


_TEXTS = {
    "function_call": ("function_call_arguments", "arguments"),
    "mcp_call": ("mcp_call_arguments", "arguments"),
    "custom_tool_call": ("custom_tool_call_input", "input"),
    "code_interpreter_call": ("code_interpreter_call_code", "code"),
}
_PARTS = {
    "output_text": ("output_text", "text"),
    "refusal": ("refusal", "refusal"),
    "reasoning_text": ("reasoning_text", "text"),
    "summary_text": ("reasoning_summary_text", "text"),
}


def _item_events(item: Json, size: int) -> Iterator[Json]:
    kind, key = _TEXTS.get(item["type"], ("", ""))
    lists = [
        (name, item[name]) for name in ("summary", "content") if isinstance(item.get(name), list)
    ]
    begun = {**item, "status": "in_progress", **({key: ""} if key else {})}
    yield {"type": "response.output_item.added", "item": begun | {name: [] for name, _ in lists}}
    at = {"item_id": item["id"]}
    if key:
        yield from _pieces(kind, key, item[key], at, size)
    for name, parts in lists:
        counter, event = ("summary_index", "reasoning_summary_part") if name == "summary" else (
            "content_index", "content_part",
        )  # fmt: skip
        for position, part in enumerate(parts):
            kind, key = _PARTS[part["type"]]
            here = {**at, counter: position}
            yield {"type": f"response.{event}.added", **here, "part": {**part, key: ""}}
            yield from _pieces(kind, key, part[key], here, size)
            yield {"type": f"response.{event}.done", **here, "part": part}
    yield {"type": "response.output_item.done", "item": item}


def _pieces(kind: str, key: str, text: str, at: Json, size: int) -> Iterator[Json]:
    copies: Json = {"logprobs": []} if kind == "output_text" else {}
    for start in range(0, len(text), size):
        piece = text[start : start + size]
        yield {"type": f"response.{kind}.delta", **at, "delta": piece, **copies}
    yield {"type": f"response.{kind}.done", **at, key: text, **copies}


ASK = "What is a heap?"
EVERYONE = "roles: [system, developer, user, assistant, tool]"
GUARD = f"""rules:
  - {{name: in, when: {{guard: attack}}, {EVERYONE}, do: {{block: "No, sorry."}}}}
  - {{name: out, check: output, when: {{guard: secret}}, do: {{block: "Withheld."}}}}
"""
MAIL = """rules:
  - {name: mail, when: {pii: EMAIL}, do: {redact: {as: "<{label}_{n}>", restore: true}}}
  - {name: theirs, check: output, when: {pii: EMAIL}, do: {redact: {as: "<{label}_{n}>"}}}
"""
RESTORE = """rules:
  - {name: mail, when: {pii: EMAIL}, do: {redact: {as: "<{label}_{n}>", restore: true}}}
"""
ANSWER = """rules:
  - {name: hi, when: {intent: greeting}, do: {answer: "Hello yourself."}}
"""
ERROR = """rules:
  - {name: in, when: {guard: attack}, do: {block: {message: "No, sorry.", as: error}}}
  - {name: out, check: output, when: {guard: secret}, do: {block: {message: "Withheld.", as: error}}}
"""


def ask(door: Door, **fields: Any) -> Any:
    return door.client().responses.create(**{"model": "default", "input": ASK, **fields})


def stream(door: Door, **fields: Any) -> list[Any]:
    """All events of a stream, which are numbered without a gap."""
    found = list(ask(door, stream=True, **fields))
    assert [event.sequence_number for event in found] == list(range(len(found)))
    return found


def raw_stream(door: Door) -> list[tuple[str, Any]]:
    """Names and data of all events as they are on the wire."""
    body = {"model": "default", "input": ASK, "stream": True}
    reply = httpx.post(f"{door.url}/v1/responses", json=body, timeout=10)
    blocks = [block for block in reply.text.split("\n\n") if block.startswith("event")]
    lines = [block.split("\n") for block in blocks]
    return [(name[len("event: ") :], json.loads(data[len("data: ") :])) for name, data in lines]


def told(found: list[Any]) -> dict[str, set[str]]:
    """What each of the texts of a stream is, in every way that it is told."""
    pieces: dict[str, str] = {}
    whole: dict[str, set[str]] = {}

    def say(at: str, text: str) -> None:
        whole.setdefault(at, set()).add(text)

    for event in (item.model_dump(exclude_none=True) for item in found):
        kind = event["type"].removeprefix("response.")
        at = f"{event.get('output_index')}"
        counter = event.get("content_index", event.get("summary_index"))
        if kind.endswith(".delta"):
            pieces[f"{at}.{counter}"] = pieces.get(f"{at}.{counter}", "") + event["delta"]
        elif kind in ("content_part.done", "reasoning_summary_part.done"):
            say(f"{at}.{counter}", event["part"].get("text", event["part"].get("refusal")))
        elif kind == "output_item.done":
            _say_item(say, at, event["item"])
        elif kind in ("completed", "incomplete"):
            for number, item in enumerate(event["response"]["output"]):
                _say_item(say, str(number), item)
        elif kind.endswith(".done"):
            texts = [event[key] for key in ("text", "refusal", "arguments") if key in event]
            say(f"{at}.{counter}", texts[0])
    for at, text in pieces.items():
        say(at, text)
    return whole


def _say_item(say: Any, at: str, item: Any) -> None:
    if "arguments" in item:
        say(f"{at}.None", item["arguments"])
    for parts in (item.get("content"), item.get("summary")):
        for position, part in enumerate(parts or ()):
            say(f"{at}.{position}", part.get("text", part.get("refusal")))


def ask_blocked(door: Door, upstream: ScriptedUpstream, script: Any) -> bool:
    upstream.script = script
    reply = ask(door)
    return bool(reply.status == "incomplete" and reply.output_text == "Withheld.")
