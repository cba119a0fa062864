"""The request of the chat completions API: is it well formed, and which texts does it hold."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from classifiers.types import Text
from policies.turns import newest_turn
from proxy.endpoints import derived, leaves, prompts
from proxy.endpoints.base import Address, Body
from proxy.errors import InvalidRequest

ROLES = frozenset({"system", "developer", "user", "assistant", "tool", "function"})

FIELD_ROLES: Mapping[str, str] = {
    "function_call": "developer",
    "functions": "developer",
    "metadata": "developer",
    "moderation": "developer",
    "prompt_cache_key": "developer",
    "response_format": "developer",
    "safety_identifier": "developer",
    "stop": "developer",
    "tool_choice": "developer",
    "tools": "developer",
    "user": "developer",
    "web_search_options": "developer",
    "prediction": "user",
}
"""Fields beside ``messages`` and whose text they are: what the application's code writes is the
operator's, a prediction is content. Fields that are not in the table count as the user's, because
default policies scan that role: what is not known must not be a way around them."""

_BOOLEANS = ("stream", "store", "logprobs", "parallel_tool_calls")
_LISTS = ("tools", "functions", "modalities")
_OBJECTS = ("stream_options", "metadata", "response_format", "prediction", "audio", "logit_bias")
_TYPES: Mapping[str, type] = {
    **dict.fromkeys(_BOOLEANS, bool),
    **dict.fromkeys(_OBJECTS, dict),
    **dict.fromkeys(_LISTS, list),
}
_KINDS = {dict: "an object", list: "an array", str: "a string", bool: "a boolean"}
MAX_CHOICES = 128
_NAME = re.compile(r"[^\s<|\\/>]{1,64}")
"""What OpenAI's API takes as the name of a speaker."""


def validate(body: Body) -> None:
    """Refuse what cannot be understood; what the upstream alone can judge is left to it.

    Raises:
        InvalidRequest: in the words that OpenAI's API uses.
        NotFound: the model is one of the gateway's classifiers.
    """
    prompts.validate_model(body, "a chat")
    for name, value in body.items():
        if (kind := _TYPES.get(name)) is not None:
            _expect(value, kind, name)
    for index, tool in enumerate(body.get("tools") or ()):
        _expect(tool, dict, f"tools[{index}]", optional=False)
    if isinstance(options := body.get("stream_options"), dict):
        _expect(options.get("include_usage"), bool, "stream_options.include_usage")
    _validate_n(body.get("n"))
    _validate_messages(body)
    prompts.validate_names(body)


def texts(body: Body) -> list[Text]:
    """Every text of the request: fields in the body's order, messages with their turn.

    Each is followed by what it means where it is JSON source; after a field or a message come the
    names in it that the API does not know, and its parts joined.
    """
    found: list[Text] = []
    for name, value in body.items():
        if name == "messages":
            found.extend(_message_texts(value if isinstance(value, list) else [value]))
        else:
            own = Text("", FIELD_ROLES.get(name, "user"), (name,), turn=-1, last_turn=False)
            if value.__class__ in (str, dict, list):
                found.extend(_below(value, own))
            if name not in leaves.KNOWN_KEYS:
                found += (replace(own, content=it, derived=True) for it in leaves.spelled(name))
    return found


def _message_texts(messages: Sequence[Any]) -> Iterator[Text]:
    roles = [_role(message) for message in messages]
    last = newest_turn(roles)
    newest: list[Text] = []  # the model reads the messages of a turn one after the other
    for turn, message in enumerate(messages):
        if is_plain(message):
            if not message["content"]:
                continue
            place = ("messages", turn, "content")
            said = Text(message["content"], roles[turn], place, turn=turn, last_turn=turn in last)
            texts = [said, *derived.decoded(said)]
        else:
            own = Text("", roles[turn], ("messages", turn), turn=turn, last_turn=turn in last)
            texts = list(_below(message, own))
        yield from texts
        parts = [text for text in texts if _is_part(text)]
        if turn in last:
            newest += parts
        elif len(parts) > 1:
            yield from derived.joined(parts)
    if len(newest) > 1:
        yield from derived.joined(newest)


def is_plain(message: Any) -> bool:
    """Whether a message is a role and a string and nothing else, as nearly all are: there is one text
    in it, and it needs no walk to find it."""
    return (
        message.__class__ is dict
        and len(message) == 2
        and message.get("content").__class__ is str
        and message.get("role").__class__ is str
        and message["role"] in ROLES
    )


def unread(body: Body) -> list[Address]:
    """Addresses of what no classifier can read."""
    messages = body.get("messages")
    if messages.__class__ is not list:
        return list(leaves.unreadable(body))
    found: list[Address] = []
    for name, value in body.items():
        if name != "messages":
            if value.__class__ is str or value.__class__ is dict or value.__class__ is list:
                found += leaves.unreadable(value, (name,))
            continue
        for turn, message in enumerate(messages):
            if not is_plain(message):
                found += leaves.unreadable(message, ("messages", turn))
    return found


def _below(value: Any, own: Text) -> Iterator[Text]:
    """Every text below a value; ``own`` has its address and what all of them share."""
    for address, string in leaves.texts(value, own.address):
        newest = own.last_turn and not _is_name(address, string)
        text = Text(string, own.role, address, turn=own.turn, last_turn=newest)
        yield text
        yield from derived.decoded(text)
    for address, name in leaves.names(value, own.address):
        yield replace(own, content=name, address=address, derived=True)


def _is_part(text: Text) -> bool:
    at = text.address
    return not text.derived and at[2:3] == ("content",) and at[-1] in derived.PART_KEYS


def _is_name(address: Address, string: str) -> bool:
    """Whether a string is the name of who speaks, or an odd word of protocol: classified, but no
    part of what was said, so it does not make a question of a greeting."""
    if address[-1] in leaves.PROTOCOL_KEYS:
        return _NAME.fullmatch(string) is not None
    return len(address) == 3 and address[2] == "name" and _NAME.fullmatch(string) is not None


def _role(message: Any) -> str:
    """The role of a message; one that is not known counts as the user's, see FIELD_ROLES."""
    role = message.get("role") if isinstance(message, dict) else None
    return role if isinstance(role, str) and role in ROLES else "user"


def _validate_n(n: Any) -> None:
    if n is None:
        return
    if isinstance(n, bool) or not isinstance(n, int):
        raise _wrong_type("n", "an integer", n)
    if n < 1:
        raise InvalidRequest(
            f"Invalid 'n': integer below minimum value. Expected a value >= 1, but got {n} instead.",
            "n",
            "integer_below_min_value",
        )
    if n > MAX_CHOICES:
        raise InvalidRequest(
            f"Invalid 'n': integer above maximum value. Expected a value <= {MAX_CHOICES}, "
            f"but got {n} instead.",
            "n",
            "integer_above_max_value",
        )


def _validate_messages(body: Body) -> None:
    if body.get("messages") is None:
        raise InvalidRequest(
            "Missing required parameter: 'messages'.", "messages", "missing_required_parameter"
        )
    messages = body["messages"]
    if not isinstance(messages, list):
        raise _wrong_type("messages", "an array of objects", messages)
    if not messages:
        raise InvalidRequest(
            "Invalid 'messages': empty array. Expected an array with minimum length 1, "
            "but got an empty array instead.",
            "messages",
            "empty_array",
        )
    for index, message in enumerate(messages):
        if not is_plain(message):
            _validate_message(message, f"messages[{index}]")


def _validate_message(message: Any, where: str) -> None:
    if not isinstance(message, dict):
        raise _wrong_type(where, "an object", message)
    if message.get("role") is None:
        raise InvalidRequest(
            f"Missing required parameter: '{where}.role'.",
            f"{where}.role",
            "missing_required_parameter",
        )
    _expect(message["role"], str, f"{where}.role")
    if message["role"] not in ROLES:
        known = ", ".join(f"'{role}'" for role in sorted(ROLES))
        raise InvalidRequest(
            f"Invalid value for '{where}.role'. Supported values are: {known}.",
            f"{where}.role",
            "invalid_value",
        )
    for name in ("name", "refusal", "tool_call_id"):
        _expect(message.get(name), str, f"{where}.{name}")
    _expect(message.get("tool_calls"), list, f"{where}.tool_calls")
    content = message.get("content")
    if isinstance(content, list):
        for index, part in enumerate(content):
            _expect(part, dict, f"{where}.content[{index}]", optional=False)
            for name in ("text", "refusal", "input_text"):
                _expect(part.get(name), str, f"{where}.content[{index}].{name}")
    elif content is not None and not isinstance(content, str):
        raise _wrong_type(f"{where}.content", "one of a string or array of objects", content)
    # Values are classified wherever they stand; a key cannot be, so a sentence as a key is refused.
    if next(leaves.odd_keys(message), None) is not None:
        raise InvalidRequest(
            f"Unknown parameter in '{where}': a key is not an identifier of at most 64 characters.",
            where,
            "unknown_parameter",
        )


def _expect(value: Any, kind: type, where: str, *, optional: bool = True) -> None:
    if not isinstance(value, kind) and not (optional and value is None):
        raise _wrong_type(where, _KINDS[kind], value)


def _wrong_type(where: str, expected: str, value: Any) -> InvalidRequest:
    names = {bool: "a boolean", int: "an integer", float: "a decimal", str: "a string"}
    names |= {list: "an array", dict: "an object", type(None): "null"}
    got = names.get(type(value), "something else")
    return InvalidRequest(
        f"Invalid type for '{where}': expected {expected}, but got {got} instead.",
        where,
        "invalid_type",
    )
