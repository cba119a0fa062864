"""What the client has seen of a response's stream, so that it can be ended in the middle."""

from __future__ import annotations

from typing import Any

from proxy.endpoints.base import Body
from proxy.endpoints.responses_events import PARTS, STREAMED, index, streamed_place

_SPOKEN = ("output_text", "refusal")
_MOST_PARTS = 10_000
"""A server that counts its parts in billions gets no list of that length."""


class Sent:
    """The response as far as it has left.

    Attributes:
        next: the number of the next event.
        response: the latest state of the response that an event has told; None before the first.
        items: output items by their number, as the client knows them.
        open: numbers of those that are not done.
        parts: ``(item, "content" or "summary", position)`` of parts that are not done.
        heard: some text of a message has left.
    """

    def __init__(self) -> None:
        self.next = 0
        self.response: Body | None = None
        self.items: dict[int, Body] = {}
        self.open: set[int] = set()
        self.parts: set[tuple[int, str, int]] = set()
        self.heard = False

    def note(self, event: Body) -> None:
        """See :class:`proxy.endpoints.base.Progress`."""
        number = event.get("sequence_number")
        self.next = max(self.next, number + 1) if type(number) is int else self.next + 1
        if isinstance(response := event.get("response"), dict):
            self.response = response
        kind, _, state = str(event.get("type", "")).removeprefix("response.").rpartition(".")
        item = index(event, "output_index")
        if kind == "output_item":
            self._item(item, event.get("item"), done=state == "done")
        elif kind in PARTS:
            self._part(item, kind, event, done=state == "done")
        elif kind in STREAMED and state in ("delta", "done"):
            self._text(item, kind, event, done=state == "done")

    def silent_part(self) -> tuple[int, int] | None:
        """Item and position of an open part of a message in which a text could stand."""
        for item, name, position in sorted(self.parts):
            message = self.items[item]
            is_message = message.get("type") == "message" and isinstance(message.get("id"), str)
            if not is_message or name != "content":
                continue
            if message[name][position].get("type") == "output_text":
                return item, position
        return None

    def _item(self, number: int, item: Any, *, done: bool) -> None:
        if not isinstance(item, dict):
            return
        self.items[number] = item
        if done:
            self.open.discard(number)
            self.parts = {place for place in self.parts if place[0] != number}
        else:
            self.open.add(number)
        if item.get("type") == "message":
            parts = item.get("content")
            for part in parts if isinstance(parts, list) else ():
                if isinstance(part, dict):
                    self.heard = self.heard or bool(part.get("text") or part.get("refusal"))

    def _part(self, number: int, kind: str, event: Body, *, done: bool) -> None:
        name, counter = PARTS[kind]
        position, part = index(event, counter), event.get("part")
        slot = self._slot(number, name, position)
        if slot is None or not isinstance(part, dict):
            return
        slot[position] = part
        if self.items[number].get("type") == "message":
            self.heard = self.heard or bool(part.get("text") or part.get("refusal"))
        if done:
            self.parts.discard((number, name, position))
        else:
            self.parts.add((number, name, position))

    def _text(self, number: int, kind: str, event: Body, *, done: bool) -> None:
        place = streamed_place(event, kind)
        assert place is not None
        text = event.get(str(place[-1])) if done else event.get("delta")
        if not isinstance(text, str):
            return
        self.heard = self.heard or (kind in _SPOKEN and bool(text))
        node: Any = self.items.get(number)
        if len(place) == 3:
            slot = self._slot(number, str(place[0]), int(place[1]))
            node = None if slot is None else slot[int(place[1])]
        if isinstance(node, dict):
            before = node.get(str(place[-1]))
            given = before if isinstance(before, str) and not done else ""
            node[str(place[-1])] = given + text

    def _slot(self, number: int, name: str, position: int) -> list[Any] | None:
        """The list of an item, long enough to have the position."""
        item = self.items.get(number)
        if item is None or not 0 <= position < _MOST_PARTS:
            return None
        parts = item.get(name)
        if not isinstance(parts, list):
            parts = item[name] = []
        while len(parts) <= position:
            parts.append({})
        return parts
