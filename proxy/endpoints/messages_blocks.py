"""Every string of Anthropic's messages and content blocks: whose it is, and whether it is text.

As everywhere a string is text unless it is known to be something else. What a block's type adds to
the rules of ``proxy.endpoints.leaves``: the arguments of a tool are the sender's own JSON and text
down to the last leaf, a document's ``data`` may be plain text, and what a tool has returned counts
as the tool's, whoever sends it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from classifiers.types import Text
from proxy.endpoints import derived, leaves
from proxy.endpoints.base import Address

INPUT_KEY = "input"
"""The key of a tool's arguments, whose keys and values are the model's or the client's own."""

_ALIASES = {
    "encrypted_index": "signature",
    "encrypted_stdout": "encrypted_content",
}
"""Keys that go by the rule of another one in ``leaves``."""

_ENCRYPTED = frozenset({"encrypted_content", "encrypted_stdout"})
"""Text that only the provider can read."""

TYPES = frozenset(
    {
        # events and what they add
        "citations_delta", "content_block_delta", "content_block_start", "content_block_stop",
        "error", "input_json_delta", "message_delta", "message_start", "message_stop", "ping",
        "signature_delta", "text_delta", "thinking_delta",
        # blocks, and what tools of the provider return
        "bash_code_execution_output", "bash_code_execution_result",
        "bash_code_execution_tool_result", "bash_code_execution_tool_result_error",
        "code_execution_output", "code_execution_result", "code_execution_tool_result",
        "code_execution_tool_result_error", "container_upload",
        "encrypted_code_execution_result", "mcp_tool_result", "mcp_tool_use",
        "text_editor_code_execution_create_result",
        "text_editor_code_execution_str_replace_result",
        "text_editor_code_execution_tool_result",
        "text_editor_code_execution_tool_result_error",
        "text_editor_code_execution_view_result", "tool_reference", "tool_search_tool_result",
        "tool_search_tool_search_result", "web_fetch_result", "web_fetch_tool_result",
        "web_fetch_tool_result_error", "web_search_result", "web_search_tool_result_error",
        # citations
        "char_location", "content_block_location", "page_location", "search_result_location",
        "web_search_result_location",
        # why a tool has failed
        "execution_time_exceeded", "invalid_tool_input", "max_uses_exceeded", "query_too_long",
        "too_many_requests", "unavailable", "url_not_accessible",
    }
)  # fmt: skip
"""Names of the API itself: nobody can write a sentence with these."""

_SOURCES = frozenset({"web_fetch_result", "web_search_result", "web_search_result_location"})
"""Objects whose ``url`` nobody follows any more."""

_RESULT = re.compile(r"(?:[a-z0-9_]*_)?tool_result")
_PARTS = re.compile(r"text|content|data")
"""Keys of the strings that a model reads as the content of a message."""


@dataclass(frozen=True, slots=True)
class Leaf:
    """One string.

    Attributes:
        role: whose text it is.
        free: no rule of the API says what it may hold, so it is text whatever it looks like.
        secret: it is the data of a block that only the provider can read.
        cited: it says where a text comes from that stands beside it.
    """

    address: Address
    text: str
    role: str
    free: bool = False
    secret: bool = False
    cited: bool = False

    @property
    def readable(self) -> bool:
        """Whether it is text."""
        if self.free:
            return bool(self.text)
        if self.text in TYPES and self.key in ("type", "error_code"):
            return False
        return next(leaves.texts(self.text, self._place), None) is not None

    @property
    def unread(self) -> bool:
        """Whether it stands for something that no classifier can read. A link does and is text, too."""
        if self.free or self.cited:
            return False
        if self.secret or self.key in _ENCRYPTED:
            return bool(self.text)
        return next(leaves.unreadable(self.text, self._place), None) is not None

    @property
    def key(self) -> str:
        """The last name in the address."""
        return next((part for part in reversed(self.address) if isinstance(part, str)), "")

    @property
    def _place(self) -> Address:
        if self.secret:
            return (*self.address[:-1], "encrypted_content")
        return (*self.address[:-1], _ALIASES.get(self.key, self.key))


def walk(value: Any, address: Address, role: str) -> Iterator[Leaf]:
    """Every string below a value, in document order. Iterative: depth is the sender's choice."""
    stack = [(value, Leaf(address, "", role))]
    while stack:
        value, here = stack.pop()
        if isinstance(value, str):
            yield replace(here, text=value)
        elif isinstance(value, list):
            stack.extend(
                (value[i], replace(here, address=(*here.address, i)))
                for i in range(len(value) - 1, -1, -1)
                if isinstance(value[i], str | list | dict)
            )
        elif isinstance(value, dict):
            kind = value.get("type")
            inner = "tool" if isinstance(kind, str) and _RESULT.fullmatch(kind) else here.role
            for key, item in reversed(value.items()):
                below = replace(here, address=(*here.address, key), role=inner)
                if isinstance(item, str | list | dict):
                    stack.append((item, below if here.free else _marked(below, key, value)))


def _marked(leaf: Leaf, key: str, around: dict[str, Any]) -> Leaf:
    """What the object around a value says about it."""
    kind = around.get("type")
    if key == INPUT_KEY:
        return replace(leaf, free=True)
    if key == "url" and isinstance(kind, str) and kind in _SOURCES:
        return replace(leaf, cited=True)
    if key == "data" and kind == "redacted_thinking":
        return replace(leaf, secret=True)
    if key == "data" and kind == "text":
        return replace(leaf, free=True)
    return leaf


def texts(value: Any, own: Text) -> Iterator[Text]:
    """Every text below a value, each followed by what it means where it is JSON source; then the
    arguments of each tool as one text, the names that the API does not know, and encoded text.

    Args:
        own: the address of the value, whose it is, its turn and its stage.
    """
    arguments: dict[Address, list[Text]] = {}
    for leaf in walk(value, own.address, own.role):
        if not leaf.readable:
            continue
        text = replace(own, content=leaf.text, address=leaf.address, role=leaf.role)
        yield text
        yield from derived.decoded(text)
        if leaf.free and INPUT_KEY in leaf.address:
            cut = leaf.address.index(INPUT_KEY) + 1
            arguments.setdefault(leaf.address[:cut], []).append(text)
    for values in arguments.values():
        if len(values) > 1:
            yield from derived.joined(values)
    for address, name in leaves.names(value, own.address):
        yield replace(own, content=name, address=address, derived=True)


def is_part(text: Text) -> bool:
    """Whether a text is content that a model reads next to its neighbours."""
    key = next((part for part in reversed(text.address) if isinstance(part, str)), "")
    inside = INPUT_KEY in text.address or "citations" in text.address
    return not text.derived and not inside and _PARTS.fullmatch(key) is not None


def joined(parts: list[Text]) -> Iterator[Text]:
    """Neighbours of one role as one text."""
    run: list[Text] = []
    for part in parts:
        if run and run[-1].role != part.role:
            if len(run) > 1:
                yield from derived.joined(run)
            run = []
        run.append(part)
    if len(run) > 1:
        yield from derived.joined(run)


def unread(value: Any, address: Address) -> list[Address]:
    """Addresses of what no classifier can read: media, stored files, encrypted text."""
    return [leaf.address for leaf in walk(value, address, "user") if leaf.unread]


def odd(value: Any) -> bool:
    """Whether an object has keys that are no identifiers, beside the arguments of tools."""
    stack = [value]
    while stack:
        value = stack.pop()
        if isinstance(value, list):
            stack.extend(value)
        elif isinstance(value, dict):
            if next(leaves.odd_keys(dict.fromkeys(value)), None) is not None:
                return True
            stack.extend(item for key, item in value.items() if key != INPUT_KEY)
    return False
