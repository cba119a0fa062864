"""The request of Anthropic's messages API: is it well formed, and which texts does it hold."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from classifiers.types import Text
from policies.turns import newest_turn
from proxy.endpoints import leaves, prompts
from proxy.endpoints.base import Body
from proxy.endpoints.messages_blocks import is_part, joined, odd, texts
from proxy.errors import InvalidRequest

ROLES = ("user", "assistant", "system")

FIELD_ROLES: Mapping[str, str] = {
    "system": "system",
    "container": "developer",
    "context_management": "developer",
    "metadata": "developer",
    "output_config": "developer",
    "output_format": "developer",
    "stop_sequences": "developer",
    "tool_choice": "developer",
    "tools": "developer",
}
"""Fields beside ``messages`` and whose text they are. One that is not in the table counts as the
user's, because default policies scan that role: what is not known must not be a way around them."""

_KINDS: Mapping[str, tuple[type, str]] = {
    "max_tokens": (int, "a valid integer"),
    "metadata": (dict, "a valid dictionary"),
    "stop_sequences": (list, "a valid list"),
    "stream": (bool, "a valid boolean"),
    "thinking": (dict, "a valid dictionary"),
    "tool_choice": (dict, "a valid dictionary"),
    "tools": (list, "a valid list"),
}
"""Fields and what they have to be, if they are there."""

_STRINGS = ("text", "thinking", "signature", "id", "name", "tool_use_id")
"""Fields of content blocks that are strings."""


def validate(body: Body) -> None:
    """Refuse what cannot be understood; what the upstream alone can judge is left to it.

    Raises:
        InvalidRequest: in the words that Anthropic's API uses.
        NotFound: the model is one of the gateway's classifiers.
    """
    for name in ("model", "messages", "max_tokens"):
        if body.get(name) is None:
            raise InvalidRequest(f"{name}: Field required", name, "missing_required_parameter")
    if not isinstance(body["model"], str) or not body["model"]:
        raise _wrong("model", "a valid string")
    prompts.refuse_classifier(body["model"], "a message")
    if body.get("mcp_servers"):
        # The model's server would fetch text from wherever the client says, and the model would
        # read it before anything here could.
        raise InvalidRequest(
            "mcp_servers: not accepted by this gateway, which cannot check what they send to the "
            "model. Call them yourself and send what they say as tool_result blocks.",
            "mcp_servers",
            "unsupported_parameter",
        )
    for name, (kind, words) in _KINDS.items():
        value = body.get(name)
        if value is not None and (not isinstance(value, kind) or (kind is int and value is True)):
            raise _wrong(name, words)
    for index, tool in enumerate(body.get("tools") or ()):
        if not isinstance(tool, dict):
            raise _wrong(f"tools.{index}", "a valid dictionary")
    if body.get("system") is not None:
        _validate_content(body["system"], "system")
    _validate_messages(body["messages"])
    prompts.validate_names(body)


def request_texts(body: Body) -> list[Text]:
    """Every text of the request: fields in the body's order, messages with their turn.

    Each is followed by what it means where it is JSON source; after a message or the system prompt
    come the names in it that the API does not know, and its parts joined.
    """
    found: list[Text] = []
    for name, value in body.items():
        if name == "messages":
            found.extend(_message_texts(value if isinstance(value, list) else [value]))
            continue
        own = Text("", FIELD_ROLES.get(name, "user"), (name,), turn=-1, last_turn=False)
        below = list(texts(value, own))
        found.extend(below)
        if name == "system":
            found.extend(
                joined([text for text in below if is_part(text) or text.address == own.address])
            )
        if name not in leaves.KNOWN_KEYS:
            found += (replace(own, content=it, derived=True) for it in leaves.spelled(name))
    return found


def _message_texts(messages: Sequence[Any]) -> Iterator[Text]:
    roles = [_role(message) for message in messages]
    for turn in range(len(messages) - 1, -1, -1):
        # The client writes how the answer begins: its own words, put into the model's mouth.
        if roles[turn] != "assistant":
            break
        roles[turn] = "user"
    last = newest_turn([_speaker(*pair) for pair in zip(messages, roles, strict=True)])
    newest: list[Text] = []  # the model reads the messages of a turn one after the other
    for turn, message in enumerate(messages):
        own = Text("", roles[turn], ("messages", turn), turn=turn, last_turn=turn in last)
        below = list(texts(message, own))
        yield from below
        parts = [text for text in below if is_part(text)]
        if turn in last:
            newest += parts
        else:
            yield from joined(parts)
    yield from joined(newest)


def _role(message: Any) -> str:
    """The role of a message; one that is not known counts as the user's, see FIELD_ROLES."""
    role = message.get("role") if isinstance(message, dict) else None
    return role if isinstance(role, str) and role in ROLES else "user"


def _speaker(message: Any, role: str) -> str:
    """Who speaks: a user's message that holds nothing but results of tools is the tools'."""
    content = message.get("content") if isinstance(message, dict) else None
    blocks = content if isinstance(content, list) else []
    if role == "user" and blocks and all(_is_result(block) for block in blocks):
        return "tool"
    return role


def _is_result(block: Any) -> bool:
    return isinstance(block, dict) and block.get("type") == "tool_result"


def _validate_messages(messages: Any) -> None:
    if not isinstance(messages, list):
        raise _wrong("messages", "a valid list")
    if not messages:
        raise InvalidRequest(
            "messages: at least one message is required", "messages", "empty_array"
        )
    for index, message in enumerate(messages):
        where = f"messages.{index}"
        if not isinstance(message, dict):
            raise _wrong(where, "a valid dictionary")
        for name in ("role", "content"):
            if message.get(name) is None:
                raise InvalidRequest(
                    f"{where}.{name}: Field required",
                    f"{where}.{name}",
                    "missing_required_parameter",
                )
        if message["role"] not in ROLES:
            known = "'user', 'assistant' or 'system'"
            raise InvalidRequest(
                f"{where}.role: Input should be {known}", f"{where}.role", "invalid_value"
            )
        _validate_content(message["content"], f"{where}.content")
        # Values are classified wherever they stand, keys only where tools have their own.
        if odd(message):
            raise InvalidRequest(
                f"{where}: Extra inputs are not permitted: a key is not an identifier of at most "
                "64 characters",
                where,
                "unknown_parameter",
            )


_HOLDERS = frozenset({"tool_result", "mcp_tool_result", "search_result"})
"""Types of blocks whose ``content`` is a string or blocks again."""


def _validate_content(content: Any, where: str) -> None:
    if isinstance(content, str):
        return
    if not isinstance(content, list):
        raise _wrong(where, "a valid string or a list of content blocks")
    for index, block in enumerate(content):
        if not isinstance(block, dict):
            raise _wrong(f"{where}.{index}", "a valid dictionary")
        if not isinstance(block.get("type"), str):
            raise InvalidRequest(
                f"{where}.{index}.type: Field required",
                f"{where}.{index}.type",
                "missing_required_parameter",
            )
        if block["type"] in _HOLDERS and block.get("content") is not None:
            _validate_content(block["content"], f"{where}.{index}.content")
        for name in _STRINGS:
            if block.get(name) is not None and not isinstance(block[name], str):
                raise _wrong(f"{where}.{index}.{name}", "a valid string")


def _wrong(where: str, expected: str) -> InvalidRequest:
    return InvalidRequest(f"{where}: Input should be {expected}", where, "invalid_type")
