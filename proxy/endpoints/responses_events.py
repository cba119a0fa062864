"""Which text of a response a string of a stream event belongs to.

A stream of this API says everything several times: in pieces, as a whole when a text is done, again
when its part and its item are done, and once more in the last event. A text has one channel, named
by where it stands in the finished response: ``(0, 2, "content", 0, "text")`` is the first part of
item 2. Pieces join there; whatever says the whole again goes by what has become of them.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

from proxy.endpoints.base import Address, Body, Delta
from proxy.endpoints.responses_leaves import PROTOCOL_KEYS

CHOICE = 0
"""A response is one answer; what belongs to it has this as the first element of its channel."""

STREAMED: dict[str, tuple[str, ...]] = {
    "output_text": ("content", "content_index", "text"),
    "refusal": ("content", "content_index", "refusal"),
    "reasoning_text": ("content", "content_index", "text"),
    "reasoning_summary_text": ("summary", "summary_index", "text"),
    "reasoning_summary": ("summary", "summary_index", "text"),
    "function_call_arguments": ("arguments",),
    "mcp_call_arguments": ("arguments",),
    "mcp_call.arguments": ("arguments",),
    "custom_tool_call_input": ("input",),
    "code_interpreter_call_code": ("code",),
    "code_interpreter_call.code": ("code",),
    "audio.transcript": ("transcript",),
}
"""Texts that come in pieces, by the name between ``response.`` and ``.delta``: their place in the
item, where ``..._index`` stands for that field of the event."""

PARTS: dict[str, tuple[str, str]] = {
    "content_part": ("content", "content_index"),
    "reasoning_summary_part": ("summary", "summary_index"),
}
"""Parts that come as objects: the list of the item that they are in, and which field counts them."""

_SHAPES = {
    tuple("*" if key.endswith("_index") else key for key in path) for path in STREAMED.values()
}
_SNAPSHOTS = ("done", "completed", "in_progress", "failed", "searching", "interpreting")
"""Last words of the names of events that do not go on a text."""


def delta(event: Body, address: Address, text: str) -> Delta:
    """A string of an event with its channel."""
    kind, _, state = str(event.get("type", "")).removeprefix("response.").rpartition(".")
    channel, joins = _channel(event, address, kind, state)
    json = channel[-1] == "arguments"
    if address[-1] in PROTOCOL_KEYS:
        return Delta(("name",), text, address, whole=True)
    if channel[0] != CHOICE:
        return Delta(channel, text, address, json=json, whole=True)
    flow = "said" if is_said(channel[1:]) else None
    return Delta(channel, text, address, json=json, repeats=not joins, flow=flow)


def is_said(place: Sequence[Hashable]) -> bool:
    """Whether a place in ``output`` is of a part that is read next to its neighbours."""
    return place[1:2] == ("content",) and len(place) == 4 and place[3] in ("text", "refusal")


def streamed_place(event: Body, kind: str) -> Address | None:
    """Where in its item a text stands that comes in pieces, None for one that is not known."""
    path = STREAMED.get(kind)
    if path is None:
        return None
    return tuple(index(event, key) if key.endswith("_index") else key for key in path)


def index(event: Body, name: str) -> int:
    """A number of an event, 0 where it has none."""
    value = event.get(name)
    return value if type(value) is int else 0


def _channel(
    event: Body, address: Address, kind: str, state: str
) -> tuple[tuple[Hashable, ...], bool]:
    """The channel of a string, and whether it goes on the text there."""
    first, rest = address[0], address[1:]
    item = index(event, "output_index")
    if first == "response":
        if rest[:1] == ("output",) and len(rest) > 1:
            return (CHOICE, *rest[1:]), False
        return ("response", *rest), False
    if first == "item":
        return (CHOICE, item, *rest), state == "added" and _grows(rest)
    if first == "part" and kind in PARTS:
        name, counter = PARTS[kind]
        place: Address = (name, index(event, counter), *rest)
        return (CHOICE, item, *place), state == "added" and _grows(place)
    if first == "annotation":
        at: Address = ("content", index(event, "content_index"), "annotations")
        return (CHOICE, item, *at, index(event, "annotation_index"), *rest), False
    known = streamed_place(event, kind)
    if state == "delta" and first == "delta":
        return (CHOICE, item, *(known or _unknown(event, kind)), *rest), True
    if known is not None and address == known[-1:]:
        return (CHOICE, item, *known), False
    if known is not None or state in _SNAPSHOTS:
        return (CHOICE, item, *address), False
    # Of an event that is not known, strings of one name may be pieces of one text.
    return (CHOICE, item, *_unknown(event, f"{kind}.{state}"), *address), True


def _grows(place: Address) -> bool:
    """Whether pieces may follow a text that an item or a part begins with."""
    return tuple("*" if isinstance(key, int) else key for key in place) in _SHAPES


def _unknown(event: Body, kind: str) -> tuple[Any, ...]:
    """A place of its own for each text of an event that is not known."""
    numbers = [(name, index(event, name)) for name in sorted(event) if name.endswith("_index")]
    return (kind, *(part for number in numbers for part in number))
