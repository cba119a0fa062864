"""The request of the Responses API: is it well formed, and which texts does it hold."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from classifiers.types import Text
from policies.turns import newest_turn
from proxy.endpoints import derived, leaves, media, prompts
from proxy.endpoints.base import Address, Body
from proxy.endpoints.responses_leaves import is_image
from proxy.endpoints.responses_made import origin
from proxy.errors import InvalidRequest

ROLES = frozenset({"assistant", "developer", "system", "user"})

FIELD_ROLES: Mapping[str, str] = dict.fromkeys(
    (
        "context_management", "include", "instructions", "metadata", "moderation",
        "prompt_cache_key", "prompt_cache_options", "reasoning", "safety_identifier", "text",
        "tool_choice", "tools", "truncation", "user",
    ),
    "developer",
)  # fmt: skip
"""Fields that the application's code writes. All others count as the user's, as in a chat."""

ITEM_ROLES: Mapping[str, str] = {
    **dict.fromkeys(
        (
            "apply_patch_call", "code_interpreter_call", "compaction", "computer_call",
            "custom_tool_call", "file_search_call", "function_call", "image_generation_call",
            "local_shell_call", "mcp_approval_request", "mcp_call", "program", "reasoning",
            "shell_call", "tool_search_call", "web_search_call",
        ),
        "assistant",
    ),
    **dict.fromkeys(
        (
            "apply_patch_call_output", "computer_call_output", "custom_tool_call_output",
            "function_call_output", "local_shell_call_output", "mcp_list_tools", "program_output",
            "shell_call_output", "tool_search_output",
        ),
        "tool",
    ),
    "additional_tools": "developer",
}  # fmt: skip
"""Whose text an item is, by its type; messages say it themselves, and all others are the user's."""

RESULT_KEYS = frozenset({"error", "output", "outputs", "results", "sources"})
"""What a tool has found, within the item of the model that called it."""

STORED_KEYS = ("previous_response_id", "conversation")
"""Histories that the upstream keeps. They reach the model, and cannot be read here."""

SOURCES = ("input", "previous_response_id", "prompt", "conversation")
"""Where what is to be answered may stand; one of them must be there."""


def validate(body: Body) -> None:
    """Refuse what cannot be understood; what the upstream alone can judge is left to it.

    Raises:
        InvalidRequest: in the words that OpenAI's API uses.
        NotFound: the model is one of the gateway's classifiers.
    """
    prompts.validate_model(body, "a response")
    for name in ("stream", "store", "background", "parallel_tool_calls"):
        prompts.expect(body.get(name), bool, name)
    for name in ("metadata", "text", "reasoning", "prompt", "stream_options"):
        prompts.expect(body.get(name), dict, name)
    for name in ("tools", "include"):
        prompts.expect(body.get(name), list, name)
    for name in ("instructions", "previous_response_id"):
        prompts.expect(body.get(name), str, name)
    for index, tool in enumerate(body.get("tools") or ()):
        if not isinstance(tool, dict):
            raise prompts.wrong_type(f"tools[{index}]", "an object", tool)
        _refuse_server(tool, f"tools[{index}]")
    if body.get("background"):
        raise InvalidRequest(
            "Background responses are not available here: their text would be fetched without "
            "having been checked. Leave 'background' out, or use 'stream'.",
            "background",
            "unsupported_parameter",
        )
    _validate_input(body)
    prompts.validate_names(body)


def texts(body: Body) -> list[Text]:
    """Every text of the request: fields in the body's order, items of the input with their turn.

    Each is followed by what it means where it is JSON source; after a field or an item come the
    names in it that the API does not know, and its parts joined.
    """
    found: list[Text] = []
    for name, value in body.items():
        if name == "input":
            found.extend(_input_texts(value))
            continue
        own = Text("", FIELD_ROLES.get(name, "user"), (name,), turn=-1, last_turn=False)
        found.extend(_below(value, own))
        if name not in leaves.KNOWN_KEYS:
            found += (replace(own, content=it, derived=True) for it in leaves.spelled(name))
    return found


def unread(body: Body) -> list[Address]:
    """Addresses of what no classifier can read: media, stored files, items and histories, what is
    encrypted."""
    found: list[Address] = [*leaves.unreadable(body)]
    items = body.get("input")
    for index, item in enumerate(items if isinstance(items, list) else ()):
        if not isinstance(item, dict):
            continue
        if is_image(item):
            found.append(("input", index, "result"))
        if item.get("type") == "item_reference" or _is_reference(item):
            found.append(("input", index, "id"))
    tools = body.get("tools")
    for index, tool in enumerate(tools if isinstance(tools, list) else ()):
        if isinstance(tool, dict) and tool.get("container") and isinstance(tool["container"], str):
            found.append(("tools", index, "container"))
    found += [(name,) for name in STORED_KEYS if body.get(name) and not _is_empty(body[name])]
    if isinstance(body.get("prompt"), dict):
        found.append(("prompt", "id"))
    return list(dict.fromkeys(found))


def _is_reference(item: Body) -> bool:
    """Whether an item is known by its id alone: it has nothing of its own to say."""
    said = {name for name, value in item.items() if value is not None}
    return (
        "id" in said
        and said <= {"id", "type", "role", "status"}
        and (item.get("type") in (None, "message"))
    )


def _is_empty(history: Any) -> bool:
    """Whether a history is that of replies made here, of which the upstream keeps nothing."""
    return isinstance(history, str) and origin(history) is None


def _input_texts(value: Any) -> Iterator[Text]:
    if not isinstance(value, list):
        yield from _below(value, Text("", "user", ("input",), turn=0, last_turn=True))
        return
    roles = [_role(item) for item in value]
    last = newest_turn(roles)
    newest: list[Text] = []  # the model reads the items of a turn one after the other
    for turn, item in enumerate(value):
        own = Text("", roles[turn], ("input", turn), turn=turn, last_turn=turn in last)
        found = list(_below(item, own))
        yield from found
        parts = [text for text in found if _is_part(text)]
        if turn in last:
            newest += parts
        elif len(parts) > 1:
            yield from derived.joined(parts)
    if len(newest) > 1:
        yield from derived.joined(newest)


def _below(value: Any, own: Text) -> Iterator[Text]:
    """Every text below a value; ``own`` has its address and what all of them share."""
    for address, string in _strings(value, own.address):
        is_result = own.role == "assistant" and not RESULT_KEYS.isdisjoint(address[2:])
        role = "tool" if is_result and own.address[:1] == ("input",) else own.role
        # An odd word of protocol is no part of what was said: it makes no question of a greeting.
        newest = own.last_turn and media.last_name(address) not in leaves.PROTOCOL_KEYS
        text = replace(own, content=string, address=address, role=role, last_turn=newest)
        yield text
        yield from derived.decoded(text)
    for address, name in leaves.names(value, own.address):
        yield replace(own, content=name, address=address, derived=True)


def _strings(value: Any, address: Address) -> Iterator[tuple[Address, str]]:
    """What of the strings below a value is text."""
    image = isinstance(value, dict) and address[:1] == ("input",) and is_image(value)
    for where, string in leaves.strings(value, address):
        # Names that the sender chose himself: no rule of the API says what stands below them.
        free = where[:2] == ("prompt", "variables") and len(where) == 3
        free = free or (where[2:3] == ("arguments",) and len(where) > 3)
        if image and where[2:] == ("result",):
            continue
        if string and (free or next(leaves.texts(string, where), None) is not None):
            yield where, string


def _is_part(text: Text) -> bool:
    at = text.address
    content = at[2:3] in (("content",), ("output",))
    return not text.derived and content and (at[-1] in derived.PART_KEYS or at[-1] == "output")


def _role(item: Any) -> str:
    """The role of an item; one that is not known counts as the user's, see ITEM_ROLES."""
    if not isinstance(item, dict):
        return "user"
    kind, role = item.get("type"), item.get("role")
    if kind in (None, "message"):
        return role if isinstance(role, str) and role in ROLES else "user"
    return ITEM_ROLES.get(kind, "user") if isinstance(kind, str) else "user"


def _refuse_server(tool: Any, where: str) -> None:
    """Refuse a server that the model's side would call: nothing here could read what it says."""
    if isinstance(tool, dict) and tool.get("type") == "mcp":
        raise InvalidRequest(
            f"'{where}' is a remote MCP server, and this gateway cannot check what it sends to the "
            "model. Call it yourself and send what it says as function_call_output items.",
            where,
            "unsupported_parameter",
        )


def _validate_input(body: Body) -> None:
    value = body.get("input")
    if value is None:
        if any(body.get(name) for name in SOURCES):
            return
        raise InvalidRequest(
            "Missing required parameter: one of 'input', 'previous_response_id', 'prompt' or "
            "'conversation' must be provided.",
            "input",
            "missing_required_parameter",
        )
    if isinstance(value, list):
        for index, item in enumerate(value):
            _validate_item(item, f"input[{index}]")
    elif not isinstance(value, str):
        raise prompts.wrong_type("input", "one of a string or array of input items", value)


def _validate_item(item: Any, where: str) -> None:
    if not isinstance(item, dict):
        raise prompts.wrong_type(where, "an object", item)
    prompts.expect(item.get("type"), str, f"{where}.type")
    prompts.expect(item.get("role"), str, f"{where}.role")
    tools = item.get("tools")
    for index, tool in enumerate(tools if isinstance(tools, list) else ()):
        if item.get("type") == "additional_tools":
            _refuse_server(tool, f"{where}.tools[{index}]")
    if item.get("type") in (None, "message") and item.get("role") is not None:
        if item["role"] not in ROLES:
            known = ", ".join(f"'{role}'" for role in sorted(ROLES))
            raise InvalidRequest(
                f"Invalid value for '{where}.role'. Supported values are: {known}.",
                f"{where}.role",
                "invalid_value",
            )
        _validate_content(item.get("content"), f"{where}.content")
    # Values are classified wherever they stand; a key cannot be, so a sentence as a key is refused.
    # What a tool's server lists was named by nobody here.
    if item.get("type") != "mcp_list_tools" and next(leaves.odd_keys(item), None) is not None:
        raise InvalidRequest(
            f"Unknown parameter in '{where}': a key is not an identifier of at most 64 characters.",
            where,
            "unknown_parameter",
        )


def _validate_content(content: Any, where: str) -> None:
    if isinstance(content, list):
        parts: Sequence[Any] = content
        for index, part in enumerate(parts):
            if not isinstance(part, dict):
                raise prompts.wrong_type(f"{where}[{index}]", "an object", part)
            for name in ("text", "refusal"):
                prompts.expect(part.get(name), str, f"{where}[{index}].{name}")
    elif content is not None and not isinstance(content, str):
        raise prompts.wrong_type(where, "one of a string or array of objects", content)
