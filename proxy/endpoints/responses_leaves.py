"""Every string of a reply of the Responses API, or of one of its events, and which of them are text.

As everywhere a string is text unless it is known to be something else. A reply repeats most of its
request (``instructions``, ``tools``, ``metadata``); what the client has said itself is not checked
as if the model had.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from itertools import pairwise
from typing import Any

from proxy.endpoints import leaves, responses_names
from proxy.endpoints.base import Address, Body
from proxy.endpoints.media import in_clear

OUTPUT = "output"
"""The field of a response that the model has written; all others are protocol or said before."""

PROTOCOL_KEYS = frozenset(
    {
        "approval_request_id", "call_id", "container_id", "file_id", "id", "item_id", "model",
        "obfuscation", "object", "previous_response_id", "role", "status", "type",
    }
)  # fmt: skip
"""Keys of names that the provider gives. The model writes none of them, so that in a reply, other
than in a request, a value of the usual form is no text."""

_BASE64 = re.compile(
    r"(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{4}|[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)"
)
_MEDIA_EVENTS = {
    "response.audio.delta": "delta",
    "response.image_generation_call.partial_image": "partial_image_b64",
}
"""Events whose one string is base64 of something else than text."""


def is_image(item: Any) -> bool:
    """Whether an item is a generated image with its data."""
    return (
        isinstance(item, dict)
        and item.get("type") == "image_generation_call"
        and isinstance(result := item.get("result"), str)
        and _is_data(result)
    )


def _is_data(string: str) -> bool:
    return _BASE64.fullmatch(string) is not None and not in_clear(string)


def said(body: Body) -> frozenset[str]:
    """What a request says beside its input: every string and every name."""
    fields = {name: value for name, value in body.items() if name != "input"}
    found = {string for _, string in leaves.strings(fields)}
    return frozenset(found | {str(name) for name in _keys(fields)})


def texts(body: Body, known: Collection[str]) -> Iterator[tuple[Address, str]]:
    """Every text of a reply or an event, in document order.

    Log probabilities are left out: they repeat the text of their own event token by token, and are
    dropped when it is rewritten or any rule looks at replies.

    Args:
        known: see :func:`said`.
    """
    media = _MEDIA_EVENTS.get(str(body.get("type")))
    for address, string in leaves.texts(body):
        if (is_echo(body, address) and string in known) or _is_name(address, string):
            continue
        if in_logprobs(address) or (address == (media,) and _is_data(string)):
            continue
        if address[-1] == "result" and is_image(_around(body, address)):
            continue
        yield address, string


def generated(body: Body, known: Collection[str]) -> Iterator[Address]:
    """Addresses of what the model has made that is no text: images, sounds, links to them.

    Args:
        known: see :func:`said`.
    """
    media = _MEDIA_EVENTS.get(str(body.get("type")))
    for address, string in leaves.strings(body):
        if (address == (media,) and _is_data(string)) or (
            address[-1] == "result" and is_image(_around(body, address))
        ):
            yield address
    for address in leaves.generated(body):
        if not (is_echo(body, address) and _at(body, address) in known):
            yield address


def is_echo(body: Body, address: Address) -> bool:
    """Whether an address is of a response, and not of what the model has written."""
    within = address[1:] if address[:1] == ("response",) else address
    is_event = "type" in body
    return bool(within) and within[0] != OUTPUT and (len(within) < len(address) or not is_event)


def _is_name(address: Address, string: str) -> bool:
    free = "arguments" in address[:-1] or "attributes" in address
    key = str(address[-1])
    return not free and key in PROTOCOL_KEYS and responses_names.is_name(key, string)


def in_logprobs(address: Address) -> bool:
    """Whether an address stands in a list of log probabilities."""
    return any(a == "logprobs" and isinstance(b, int) for a, b in pairwise(address))


def drop_logprobs(value: Any) -> None:
    """Empty all lists of log probabilities below a value, in place."""
    stack = [value]
    while stack:
        node = stack.pop()
        if isinstance(node, dict):
            if isinstance(node.get("logprobs"), list):
                node["logprobs"] = []
            stack.extend(item for item in node.values() if isinstance(item, dict | list))
        elif isinstance(node, list):
            stack.extend(item for item in node if isinstance(item, dict | list))


def sound(body: Body, known: Collection[str]) -> bool:
    """Whether a reply or an event has a shape in which all of its text is found."""
    response: Any = body
    if "type" in body:
        if not isinstance(body["type"], str) or not all(map(_sound_index, body.items())):
            return False
        response = body.get("response", {OUTPUT: []})
    if not isinstance(response, dict):
        return False
    items = response.get(OUTPUT, [] if response is not body else None)
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        return False
    for address in leaves.odd_keys(body):
        # Attributes of stored files are named by whoever stored them.
        if "attributes" not in address and not set(_around(body, (*address, ""))) <= set(known):
            return False
    return True


def _sound_index(field: tuple[str, Any]) -> bool:
    name, value = field
    return not name.endswith("_index") or (type(value) is int and value >= 0)


def _at(body: Any, address: Address) -> Any:
    for key in address:
        body = body[key]
    return body


def _around(body: Any, address: Address) -> Any:
    """What holds the value at an address."""
    return _at(body, address[:-1])


def _keys(value: Any) -> Iterator[str]:
    stack = [value]
    while stack:
        node = stack.pop()
        if isinstance(node, dict):
            yield from node
            node = list(node.values())
        stack.extend(item for item in node if isinstance(item, dict | list))
