"""Every string of a JSON value with its address, and which of them are no text.

The rule is the other way round from most gateways: a string is text unless it is known to be
something else, so a field that an API gains tomorrow is classified today.
"""

from __future__ import annotations

import re
from base64 import b64decode
from collections.abc import Collection, Iterator
from typing import Any
from urllib.parse import unquote

from proxy.endpoints.base import Address

PROTOCOL_KEYS = frozenset(
    {
        "$ref", "$schema", "created", "detail", "effort", "encrypted_content", "file_id",
        "finish_reason", "format", "generation_id", "id", "media_type", "mime_type", "modalities",
        "mode", "model", "native_finish_reason", "obfuscation", "object", "prompt_cache_retention",
        "provider", "reasoning_effort", "role", "search_context_size", "service_tier",
        "signature", "status", "system_fingerprint", "tool_call_id", "tool_choice", "ttl", "type",
        "verbosity", "voice",
    }
)  # fmt: skip
"""Keys of names, identifiers and signatures. Their value counts as such only if it looks like one
and is as short as one."""

ID_KEYS = frozenset({"id", "tool_call_id"})
"""Those that a client makes up. One of letters alone is a word and is read as one."""

BLOB_KEYS = frozenset({"encrypted_content", "signature"})
"""Those that only the provider can read: base64 of any length."""

MEDIA_KEYS = frozenset(
    {
        "url",
        "data",
        "file_data",
        "b64_json",
        "image_url",
        "audio_url",
        "video_url",
        "image",
        "audio",
    }
)
"""Keys of images, audio and files."""

BASE64_KEYS = {
    "data": frozenset({"input_audio", "audio", "source", "inline_data"}),
    "file_data": frozenset({"file", "input_file"}),
    "b64_json": frozenset({"data", "images", "image"}),
}
"""Keys of plain base64, and below which keys: elsewhere they are the client's own, and text."""

REFERENCE_KEYS = frozenset({"file_id"})
"""Keys of things that are stored at the provider and cannot be read here."""

KNOWN_KEYS = (
    PROTOCOL_KEYS
    | MEDIA_KEYS
    | frozenset(
        {
            # the request
            "messages", "frequency_penalty", "logit_bias", "logprobs", "max_completion_tokens",
            "max_tokens", "metadata", "min_p", "moderation", "n", "parallel_tool_calls",
            "prediction", "presence_penalty", "prompt_cache_key", "reasoning", "repetition_penalty",
            "response_format", "safety_identifier", "seed", "stop", "store", "stream",
            "stream_options", "temperature", "thinking", "tools", "top_k", "top_logprobs", "top_p",
            "user", "web_search_options", "functions", "function_call",
            # messages and their parts
            "annotations", "arguments", "cache_control", "content", "custom", "file", "filename",
            "function", "index", "input", "input_audio", "input_text", "name", "output",
            "output_text", "reasoning_content", "refusal", "summary", "text", "tool_calls",
            "transcript", "expires_at", "budget_tokens", "include_usage", "include_obfuscation",
            "policy", "score", "user_location", "approximate", "city", "country", "region",
            "timezone", "allowed_tools", "grammar", "definition", "syntax",
            # JSON schemas
            "$defs", "additionalProperties", "allOf", "anyOf", "const", "default", "definitions",
            "description", "enum", "examples", "exclusiveMaximum", "exclusiveMinimum", "items",
            "json_schema", "maxItems", "maxLength", "maximum", "minItems", "minLength", "minimum",
            "multipleOf", "not", "nullable", "oneOf", "parameters", "pattern", "prefixItems",
            "properties", "schema", "strict", "title", "uniqueItems",
            # replies
            "choices", "citations", "delta", "message", "url_citation", "usage",
        }
    )
)  # fmt: skip
"""Keys that APIs give a meaning to. Every other key is the sender's own word: it is read as text,
and it stands in no record."""

_MOST_STEPS = 16
_NODES = (str, dict, list)
"""What a walk goes on into; a list of a million numbers costs no memory."""

_IDENTIFIER = re.compile(r"[A-Za-z0-9_.:/+=$#-]{0,64}")
_ID = re.compile(r"(?=[A-Za-z_-]*[0-9])[A-Za-z0-9_-]{1,64}|[A-Za-z]{1,3}")
_DATA_URL = re.compile(
    r"data:(?:(?:image|audio|video|font|model)/[\w.+-]{1,64}"
    r"|application/(?:pdf|octet-stream|zip|msword|vnd\.[\w.+-]{1,80}))"
    r"(?:;(?:charset|codecs)=[\w.-]{1,32})*;base64,[A-Za-z0-9+/_-]*={0,2}",
    re.ASCII,
)
"""Data that is no text. ``data:text/plain`` is text, however it is encoded."""
_BASE64 = re.compile(r"(?:[A-Za-z0-9+/_-]{4})*(?:[A-Za-z0-9+/_-]{2}==|[A-Za-z0-9+/_-]{3}=)?")
_SMALL_NUMBER = re.compile(r"[0-9]{1,7}")
_ENCODED_URL = re.compile(r"data:[^,]*?(?P<base64>;base64)?,", re.IGNORECASE)
_WEB = re.compile(r"https?://\S+", re.IGNORECASE)


def strings(value: Any, address: Address = ()) -> Iterator[tuple[Address, str]]:
    """Every string below a value, in document order. Iterative: depth is the sender's choice."""
    stack: list[tuple[Address, Any]] = [(address, value)]
    while stack:
        address, value = stack.pop()
        if isinstance(value, str):
            yield address, value
        elif isinstance(value, dict):
            stack.extend(
                ((*address, key), item)
                for key, item in reversed(value.items())
                if isinstance(item, _NODES)
            )
        elif isinstance(value, list):
            stack.extend(
                ((*address, i), value[i])
                for i in range(len(value) - 1, -1, -1)
                if isinstance(value[i], _NODES)
            )


def texts(value: Any, address: Address = ()) -> Iterator[tuple[Address, str]]:
    """Every non-empty string below a value that a model or a user could read."""
    for where, string in strings(value, address):
        if string and not _is_protocol(where, string) and not _is_media(where, string):
            yield where, string


def unreadable(value: Any, address: Address = ()) -> Iterator[Address]:
    """Addresses of what holds no text: inline media, media behind a link, stored files.

    A link is reported here and is a text as well: what it leads to cannot be read, its own
    characters can.
    """
    for where, string in strings(value, address):
        key = _key(where)
        if (
            _is_media(where, string)
            or (key in MEDIA_KEYS and _WEB.fullmatch(string))
            or key in REFERENCE_KEYS
        ):
            yield where


def odd_keys(value: Any, address: Address = ()) -> Iterator[Address]:
    """Addresses of objects with keys that are no identifiers: text could hide in them."""
    stack: list[tuple[Address, Any]] = [(address, value)]
    while stack:
        address, value = stack.pop()
        if isinstance(value, dict):
            if not all(_IDENTIFIER.fullmatch(key) for key in value):
                yield address
            stack.extend(
                ((*address, key), item)
                for key, item in value.items()
                if isinstance(item, dict | list)
            )
        elif isinstance(value, list):
            stack.extend(
                ((*address, i), item)
                for i, item in enumerate(value)
                if isinstance(item, dict | list)
            )


def names(value: Any, address: Address = ()) -> Iterator[tuple[Address, str]]:
    """Every key below a value that the API does not know: whoever chose it could write in it.

    Numbers as short as those of tokens (``logit_bias``) say nothing.
    """
    stack: list[tuple[Address, Any]] = [(address, value)]
    while stack:
        address, value = stack.pop()
        if isinstance(value, dict):
            for key, item in value.items():
                if key and key not in KNOWN_KEYS and not _SMALL_NUMBER.fullmatch(key):
                    yield (*address, key), key
                if isinstance(item, dict | list):
                    stack.append(((*address, key), item))
        elif isinstance(value, list):
            stack.extend(
                ((*address, i), item)
                for i, item in enumerate(value)
                if isinstance(item, dict | list)
            )


def longest_key(value: Any) -> int:
    """Characters of the longest key of all objects below a value."""
    longest = 0
    stack = [value]
    while stack:
        value = stack.pop()
        if isinstance(value, dict):
            longest = max(longest, max(map(len, value), default=0))
            value = value.values()
        stack.extend(item for item in value if isinstance(item, dict | list))
    return longest


def shown(address: Address) -> list[str | int]:
    """An address for records: ``?`` in place of keys that the API does not know."""
    known = [part if isinstance(part, int) or part in KNOWN_KEYS else "?" for part in address]
    return known if len(known) <= _MOST_STEPS else [*known[:_MOST_STEPS], "..."]


def decoded(value: str) -> str | None:
    """The text of a data URL that holds some in a code; None for anything else."""
    found = _ENCODED_URL.match(value)
    if found is None:
        return None
    source = value[found.end() :]
    try:
        if found["base64"]:
            meant = source.replace("-", "+").replace("_", "/") + "=" * (-len(source) % 4)
            return b64decode(meant).decode() or None
        return unquote(source) if "%" in source else None
    except ValueError:
        return None


def without(body: dict[str, Any], keys: Collection[str]) -> dict[str, Any]:
    """A body without some of its keys, not copied below."""
    return {key: item for key, item in body.items() if key not in keys}


def _key(address: Address) -> str:
    """The last name in an address; elements of a list go by the name of the list."""
    return next((part for part in reversed(address) if isinstance(part, str)), "")


def _is_protocol(address: Address, string: str) -> bool:
    key = _key(address)
    if key in BLOB_KEYS:
        return _BASE64.fullmatch(string) is not None
    if key in ID_KEYS:
        return _ID.fullmatch(string) is not None
    return key in PROTOCOL_KEYS and _IDENTIFIER.fullmatch(string) is not None


def _is_media(address: Address, string: str) -> bool:
    key = _key(address)
    if key not in MEDIA_KEYS:
        return False
    if string.startswith("data:"):
        return _DATA_URL.fullmatch(string) is not None
    around = [part for part in address if isinstance(part, str)]
    return (
        len(around) > 1
        and around[-2] in BASE64_KEYS.get(key, ())
        and _BASE64.fullmatch(string) is not None
    )
