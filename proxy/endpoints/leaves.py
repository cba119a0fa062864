"""Every string of a JSON value with its address, and which of them are no text.

The rule is the other way round from most gateways: a string is text unless it is known to be
something else, so a field that an API gains tomorrow is classified today.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING, Any

from proxy.endpoints import media, words

if TYPE_CHECKING:
    from proxy.endpoints.base import Address

PROTOCOL_KEYS = frozenset(
    {
        "$ref", "$schema", "call_id", "created", "detail", "effort", "encrypted_content",
        "encoding_format", "file_id", "finish_reason", "format", "generation_id", "id", "item_id",
        "media_type", "mime_type", "modalities", "mode", "model", "native_finish_reason",
        "obfuscation", "object", "previous_response_id", "prompt_cache_retention", "provider",
        "reasoning_effort", "response_id", "role", "search_context_size", "service_tier",
        "signature", "status", "stop_reason", "system_fingerprint", "tool_call_id", "tool_choice",
        "tool_use_id", "ttl", "type", "verbosity", "voice",
    }
)  # fmt: skip
"""Keys of the protocol. Their value is no text if it is one of the API's own words
(``words.VALUES``) or an identifier without a word in it; everything else is read."""

ID_KEYS = frozenset(
    {
        "call_id", "encrypted_content", "file_id", "generation_id", "id", "item_id", "obfuscation",
        "previous_response_id", "response_id", "signature", "system_fingerprint", "tool_call_id",
        "tool_use_id",
    }
)  # fmt: skip
"""Those of identifiers: random letters and numbers."""

KNOWN_KEYS = (
    PROTOCOL_KEYS
    | media.MEDIA_KEYS
    | media.REFERENCE_KEYS
    | frozenset(
        {
            # the request
            "messages", "suffix", "frequency_penalty", "logit_bias", "logprobs", "max_completion_tokens",
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
            # Anthropic's messages and their blocks
            "allowed_callers", "allowed_domains", "blocked_domains", "caller", "citation",
            "cited_text", "container", "content_block", "context", "context_management",
            "defer_loading", "document_index", "document_title", "eager_input_streaming",
            "encrypted_index", "encrypted_stdout", "end_block_index", "end_char_index",
            "end_page_number", "error_code", "file_type", "input_examples", "input_schema",
            "is_error", "is_file_update", "lines", "max_content_tokens", "max_uses",
            "new_lines", "new_start", "num_lines", "old_lines", "old_start", "output_config",
            "output_format", "page_age", "partial_json", "retrieved_at", "return_code",
            "search_result_index", "server_name", "skill_id", "skills", "source",
            "start_block_index", "start_char_index", "start_line", "start_page_number", "stderr",
            "stdout", "stop_sequence", "stop_sequences", "system", "tool_id", "total_lines",
            "user_id",
            # the responses API
            "acknowledged_safety_checks", "action", "actions", "annotation", "approval_request_id",
            "approve", "attributes", "background", "code", "command", "commands", "container_id",
            "conversation", "created_at", "diff", "environment", "error", "exit_code", "filters",
            "include", "instructions", "keys", "max_num_results", "max_output_length",
            "max_output_tokens", "max_tool_calls", "operation", "outcome", "outputs", "path",
            "pending_safety_checks", "prompt", "queries", "query", "ranking_options", "reason",
            "require_approval", "result", "results", "server_description", "server_label",
            "server_url", "sources", "timeout_ms", "truncation", "variables", "working_directory",
            # replies
            "choices", "citations", "delta", "message", "url_citation", "usage",
        }
    )
)  # fmt: skip
"""Keys that APIs give a meaning to. Every other key is the sender's own word: it is read as text,
and it stands in no record."""

decoded = media.decoded

_PERHAPS_NO_TEXT = PROTOCOL_KEYS | media.MEDIA_KEYS | media.BLOB_KEYS
"""Keys whose strings may be no text; those of all others are."""
_NO_MEDIA = KNOWN_KEYS - media.MEDIA_KEYS - media.BLOB_KEYS
"""Keys whose strings are no encoded data."""

_PERHAPS_UNREAD = media.UNREAD_KEYS | {"id"}

_MOST_STEPS = 16
_NODES = frozenset({str, dict, list})
"""What a walk goes on into; a list of a million numbers costs no memory. Parsed JSON has exactly these
types, and asking a set for one takes half the time of ``isinstance``."""

_IDENTIFIER = re.compile(r"[A-Za-z0-9_.:/+=$#-]{0,64}")
_SMALL_NUMBER = re.compile(r"[0-9]{1,7}")


def strings(value: Any, address: Address = ()) -> Iterator[tuple[Address, str]]:
    """Every string below a value, in document order. Iterative: depth is the sender's choice."""
    stack: list[tuple[Address, Any]] = [(address, value)]
    while stack:
        address, value = stack.pop()
        kind = value.__class__
        if kind is str:
            yield address, value
        elif kind is dict:
            for key in reversed(value):
                item = value[key]
                if item.__class__ in _NODES:
                    stack.append(((*address, key), item))
        elif kind is list:
            stack.extend(
                ((*address, i), value[i])
                for i in range(len(value) - 1, -1, -1)
                if value[i].__class__ in _NODES
            )


def texts(value: Any, address: Address = ()) -> Iterator[tuple[Address, str]]:
    """Every non-empty string below a value that a model or a user could read."""
    for where, string in strings(value, address):
        if not string:
            continue
        if media.last_name(where) in _PERHAPS_NO_TEXT and (
            is_protocol(where, string) or media.is_media(where, string)
        ):
            continue
        yield where, string


def is_protocol(address: Address, string: str) -> bool:
    """Whether a string says nothing but what the API has words for."""
    key = media.last_name(address)
    if key not in PROTOCOL_KEYS:
        return False
    if media.is_signature(address, string):
        return True
    if key in ID_KEYS and words.opaque(string):
        return True
    return string in words.VALUES or address == ("model",)


def unreadable(value: Any, address: Address = ()) -> Iterator[Address]:
    """Addresses of what holds no text: inline media, media behind a link, stored files.

    A link is reported here and is a text as well: what it leads to cannot be read, its own
    characters can.
    """
    for where, string in strings(value, address):
        if string and media.last_name(where) in _PERHAPS_UNREAD and media.unread(where, string):
            yield where


def generated(reply: Any) -> Iterator[Address]:
    """Addresses of what a reply holds that no classifier can read: audio, images, links to them.

    A citation is a link and no more, and encrypted reasoning is not for the client's eyes.
    """
    for where, string in strings(reply):
        if media.last_name(where) in media.MEDIA_KEYS and string and media.generated(where, string):
            yield where


def odd_keys(value: Any, address: Address = ()) -> Iterator[Address]:
    """Addresses of objects with keys that are no identifiers: text could hide in them."""
    stack: list[tuple[Address, Any]] = [(address, value)]
    while stack:
        address, value = stack.pop()
        if isinstance(value, dict):
            if not KNOWN_KEYS.issuperset(value) and not all(map(_IDENTIFIER.fullmatch, value)):
                yield address
            stack.extend(
                ((*address, key), item)
                for key, item in value.items()
                if item.__class__ is dict or item.__class__ is list
            )
        elif isinstance(value, list):
            stack.extend(
                ((*address, i), item)
                for i, item in enumerate(value)
                if item.__class__ is dict or item.__class__ is list
            )


def names(value: Any, address: Address = ()) -> Iterator[tuple[Address, str]]:
    """Every text below a value that stands nowhere as a string of its own.

    That is every key that the API does not know, for whoever chose it could write in it, once more
    with its words apart where it has several; and what encoded data decodes to, such as a text file
    sent as base64. Numbers as short as those of tokens (``logit_bias``) say nothing.
    """
    stack: list[tuple[Address, Any]] = [(address, value)]
    while stack:
        address, value = stack.pop()
        kind = value.__class__
        if kind is str:
            if media.is_media(address, value):
                yield from ((address, text) for text in media.held(value))
        elif kind is dict:
            for key, item in value.items():
                if key not in KNOWN_KEYS and key and not _SMALL_NUMBER.fullmatch(key):
                    yield from (((*address, key), form) for form in spelled(key))
                kind = item.__class__
                if kind is dict or kind is list or (kind is str and key not in _NO_MEDIA):
                    stack.append(((*address, key), item))
        elif kind is list:
            stack.extend(
                ((*address, i), item) for i, item in enumerate(value) if item.__class__ in _NODES
            )


def spelled(name: str) -> Iterator[str]:
    """A name as it is, and with its words apart."""
    yield name
    if (apart := words.words(name)) is not None:
        yield apart


def longest_key(value: Any) -> int:
    """Characters of the longest key of all objects below a value; those that APIs know are short."""
    longest = 0
    stack = [value]
    while stack:
        value = stack.pop()
        if isinstance(value, dict):
            if not KNOWN_KEYS.issuperset(value):
                longest = max(longest, *map(len, value))
            value = value.values()
        stack += [item for item in value if item.__class__ is dict or item.__class__ is list]
    return longest


def shown(address: Address) -> list[str | int]:
    """An address for records: ``?`` in place of keys that the API does not know."""
    known = [part if isinstance(part, int) or part in KNOWN_KEYS else "?" for part in address]
    return known if len(known) <= _MOST_STEPS else [*known[:_MOST_STEPS], "..."]


def without(body: dict[str, Any], keys: Collection[str]) -> dict[str, Any]:
    """A body without some of its keys, not copied below."""
    return {key: item for key, item in body.items() if key not in keys}
