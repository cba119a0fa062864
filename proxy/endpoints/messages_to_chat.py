"""A request to Anthropic's messages API as a chat completion, for models that speak nothing else.

A table of what goes over, and no more: a field that is not in it stays here. What a chat cannot say
(files at Anthropic, tools that Anthropic's servers run) is refused rather than dropped.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import orjson

from proxy.endpoints.base import Body
from proxy.errors import InvalidRequest

SAME_FIELDS = ("model", "temperature", "top_p", "top_k")
"""Fields that both APIs have."""

_REASONING_MODEL = re.compile(r"(?:openai/)?(?:o\d|gpt-[5-9])")
"""OpenAI's models that know ``max_completion_tokens`` only; other servers know ``max_tokens``."""

_CHOICES: Mapping[str, str] = {"auto": "auto", "any": "required", "none": "none"}

_DROPPED = frozenset({"thinking", "redacted_thinking"})
"""Blocks of a conversation that a chat has no place for, and that no answer depends on."""


def to_chat(body: Body, *, thinks: bool = False) -> Body:
    """The chat completion request.

    Args:
        body: a valid request of the messages API; not changed.
        thinks: whoever gets it knows Anthropic's ``thinking`` in a chat, as litellm does.

    Raises:
        InvalidRequest: there is something in it that a chat cannot say.
    """
    chat: Body = {name: body[name] for name in SAME_FIELDS if body.get(name) is not None}
    limit = "max_completion_tokens" if _REASONING_MODEL.match(str(body["model"])) else "max_tokens"
    chat[limit] = body["max_tokens"]
    chat["messages"] = _messages(body, thinks)
    if body.get("stop_sequences"):
        chat["stop"] = body["stop_sequences"]
    if body.get("tools"):
        chat["tools"] = [_tool(i, tool) for i, tool in enumerate(body["tools"])]
        if isinstance(choice := body.get("tool_choice"), dict):
            chat |= _tool_choice(choice)
    metadata = body.get("metadata")
    if isinstance(metadata, dict) and isinstance(metadata.get("user_id"), str):
        chat["user"] = metadata["user_id"]
    if thinks and body.get("thinking") is not None:
        chat["thinking"] = body["thinking"]
    chat |= _output(body)
    if body.get("stream") is True:
        chat |= {"stream": True, "stream_options": {"include_usage": True}}
    return chat


def _output(body: Body) -> Body:
    config = body.get("output_config")
    config = config if isinstance(config, dict) else {}
    chat: Body = {}
    if isinstance(effort := config.get("effort"), str):
        chat["reasoning_effort"] = effort
    form = config.get("format") or body.get("output_format")
    if isinstance(form, dict) and form.get("type") == "json_schema":
        schema = {"name": "output", "schema": form.get("schema"), "strict": True}
        chat["response_format"] = {"type": "json_schema", "json_schema": schema}
    return chat


def _tool(index: int, tool: Mapping[str, Any]) -> Body:
    if tool.get("type") not in (None, "custom"):
        raise InvalidRequest(
            f"tools.{index}: a tool that Anthropic defines can be used with Anthropic's models "
            "only; give one with an input_schema of your own",
            f"tools.{index}",
            "unsupported_parameter",
        )
    function = {"name": tool.get("name"), "parameters": tool.get("input_schema") or {}}
    if tool.get("description"):
        function["description"] = tool["description"]
    return {"type": "function", "function": function}


def _tool_choice(choice: Mapping[str, Any]) -> Body:
    kind = choice.get("type")
    chat: Body = {}
    if kind == "tool":
        chat["tool_choice"] = {"type": "function", "function": {"name": choice.get("name")}}
    elif isinstance(kind, str) and kind in _CHOICES:
        chat["tool_choice"] = _CHOICES[kind]
    if choice.get("disable_parallel_tool_use") is True:
        chat["parallel_tool_calls"] = False
    return chat


def _messages(body: Body, thinks: bool) -> list[Body]:
    found: list[Body] = []
    if system := body.get("system"):
        found.append({"role": "system", "content": _plain(system, "system")})
    for turn, message in enumerate(body["messages"]):
        where = f"messages.{turn}.content"
        role, content = message["role"], message["content"]
        if isinstance(content, str) or role == "system":
            found.append({"role": role, "content": _plain(content, where)})
        elif role == "assistant":
            found.append(_assistant(content, where, thinks))
        else:
            found += _user(content, where)
    return found


def _assistant(blocks: list[Body], where: str, thinks: bool) -> Body:
    texts: list[str] = []
    calls: list[Body] = []
    for index, block in enumerate(blocks):
        kind = block.get("type")
        if kind == "text":
            texts.append(str(block.get("text", "")))
        elif kind == "tool_use":
            arguments = orjson.dumps(block.get("input") or {}).decode()
            function = {"name": block.get("name"), "arguments": arguments}
            calls.append({"id": block.get("id"), "type": "function", "function": function})
        elif kind not in _DROPPED:
            raise _unknown(kind, f"{where}.{index}")
    message: Body = {"role": "assistant", "content": "".join(texts) or None}
    if calls:
        message["tool_calls"] = calls
    thoughts = [block for block in blocks if block.get("type") in _DROPPED]
    if thinks and thoughts:
        message["thinking_blocks"] = thoughts
    return message


def _user(blocks: list[Body], where: str) -> list[Body]:
    """A user's message: what tools have said becomes messages of its own, before the rest."""
    said: list[Body] = []
    parts: list[Body] = []
    for index, block in enumerate(blocks):
        at = f"{where}.{index}"
        if block.get("type") != "tool_result":
            parts += _parts(block, at)
            continue
        content = block.get("content") or ""
        inner = [{"type": "text", "text": content}] if isinstance(content, str) else content
        held = [part for i, item in enumerate(inner) for part in _parts(item, f"{at}.content.{i}")]
        text = "\n".join(part["text"] for part in held if part["type"] == "text")
        said.append({"role": "tool", "tool_call_id": block.get("tool_use_id"), "content": text})
        # A chat takes pictures from users only.
        parts += [part for part in held if part["type"] != "text"]
    if parts:
        said.append({"role": "user", "content": parts})
    return said


def _plain(content: Any, where: str) -> str:
    if isinstance(content, str):
        return content
    texts = []
    for index, block in enumerate(content):
        if block.get("type") != "text":
            raise _unknown(block.get("type"), f"{where}.{index}")
        texts.append(str(block.get("text", "")))
    return "\n".join(texts)


def _parts(block: Any, where: str) -> list[Body]:
    """A block of content as parts of a chat message."""
    kind = block.get("type") if isinstance(block, dict) else None
    make = _PARTS.get(kind) if isinstance(kind, str) else None
    made = None if make is None else make(block, where)
    if made is None:
        raise _unknown(kind, where)
    return made


def _text(block: Body, where: str) -> list[Body]:
    return [{"type": "text", "text": str(block.get("text", ""))}]


def _image(block: Body, where: str) -> list[Body] | None:
    url = _url(block.get("source"))
    return None if url is None else [{"type": "image_url", "image_url": {"url": url}}]


def _document(block: Body, where: str) -> list[Body] | None:
    source = block.get("source")
    if not isinstance(source, dict):
        return None
    heads = [str(block[key]) for key in ("title", "context") if block.get(key)]
    parts: list[Body] = [{"type": "text", "text": head} for head in heads]
    content = source.get("content")
    if source.get("type") == "text":
        return [*parts, {"type": "text", "text": str(source.get("data", ""))}]
    if source.get("type") == "content" and isinstance(content, str):
        return [*parts, {"type": "text", "text": content}]
    if source.get("type") == "content" and isinstance(content, list):
        return parts + [p for i, b in enumerate(content) for p in _parts(b, f"{where}.source.{i}")]
    url = _url(source) if source.get("type") == "base64" else None
    if url is None:
        return None
    return [*parts, {"type": "file", "file": {"filename": "document.pdf", "file_data": url}}]


def _search_result(block: Body, where: str) -> list[Body]:
    heads = [str(block[key]) for key in ("title", "source") if block.get(key)]
    content = block.get("content")
    inner = content if isinstance(content, list) else []
    held = [part for i, item in enumerate(inner) for part in _parts(item, f"{where}.content.{i}")]
    return [*({"type": "text", "text": head} for head in heads), *held]


_PARTS: Mapping[str, Callable[[Body, str], list[Body] | None]] = {
    "text": _text,
    "image": _image,
    "document": _document,
    "search_result": _search_result,
}
"""Type of a block -> its parts, or None where a chat cannot say it."""


def _url(source: Any) -> str | None:
    if not isinstance(source, dict):
        return None
    if source.get("type") == "url" and isinstance(source.get("url"), str):
        return str(source["url"])
    if source.get("type") == "base64":
        return f"data:{source.get('media_type')};base64,{source.get('data')}"
    return None


def _unknown(kind: object, where: str) -> InvalidRequest:
    shown = kind if isinstance(kind, str) and re.fullmatch(r"[a-z0-9_]{1,64}", kind) else "this"
    return InvalidRequest(
        f"{where}: a block of type {shown} cannot be sent to this model; use one of Anthropic's",
        where,
        "unsupported_parameter",
    )
