"""Every string of a JSON value with its address, and which of them are no text.

The rule is the other way round from most gateways: a string is text unless it is known to be
something else, so a field that an API gains tomorrow is classified today.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from typing import Any

from proxy.endpoints.base import Address

PROTOCOL_KEYS = frozenset(
    {
        "$ref", "$schema", "created", "detail", "effort", "encrypted_content", "file_id",
        "finish_reason", "format", "generation_id", "id", "media_type", "mime_type", "modalities",
        "mode", "model", "native_finish_reason", "obfuscation", "object", "prompt_cache_retention",
        "provider", "reasoning_effort", "required", "role", "search_context_size", "service_tier",
        "signature", "status", "system_fingerprint", "tool_call_id", "tool_choice", "ttl", "type",
        "verbosity", "voice",
    }
)  # fmt: skip
"""Keys of names, identifiers and signatures. Their value counts as such only if it looks like one."""

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
"""Keys of images, audio and files: base64 below them is no text."""

REFERENCE_KEYS = frozenset({"file_id"})
"""Keys of things that are stored at the provider and cannot be read here."""

_IDENTIFIER = re.compile(r"[A-Za-z0-9_.:/@+=$#-]*")
_DATA_URL = re.compile(r"data:[\w.+/-]*(?:;[\w.+=-]+)*;base64,[A-Za-z0-9+/=_-]*", re.ASCII)
_BASE64 = re.compile(r"[A-Za-z0-9+/_-]*={0,2}")
_WEB = re.compile(r"https?://\S+", re.IGNORECASE)


def strings(value: Any, address: Address = ()) -> Iterator[tuple[Address, str]]:
    """Every string below a value, in document order. Iterative: depth is the sender's choice."""
    stack: list[tuple[Address, Any]] = [(address, value)]
    while stack:
        address, value = stack.pop()
        if isinstance(value, str):
            yield address, value
        elif isinstance(value, dict):
            stack.extend(((*address, key), item) for key, item in reversed(value.items()))
        elif isinstance(value, list):
            stack.extend(((*address, i), value[i]) for i in range(len(value) - 1, -1, -1))


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
            if not all(len(key) <= 64 and _IDENTIFIER.fullmatch(key) for key in value):
                yield address
            stack.extend(((*address, key), item) for key, item in value.items())
        elif isinstance(value, list):
            stack.extend(((*address, i), item) for i, item in enumerate(value))


def without(body: dict[str, Any], keys: Collection[str]) -> dict[str, Any]:
    """A body without some of its keys, not copied below."""
    return {key: item for key, item in body.items() if key not in keys}


def _key(address: Address) -> str:
    """The last name in an address; elements of a list go by the name of the list."""
    return next((part for part in reversed(address) if isinstance(part, str)), "")


def _is_protocol(address: Address, string: str) -> bool:
    return _key(address) in PROTOCOL_KEYS and _IDENTIFIER.fullmatch(string) is not None


def _is_media(address: Address, string: str) -> bool:
    key = _key(address)
    if key not in MEDIA_KEYS:
        return False
    if string.startswith("data:"):
        return _DATA_URL.fullmatch(string) is not None
    return key in ("data", "file_data", "b64_json") and _BASE64.fullmatch(string) is not None
