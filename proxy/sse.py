"""Server-sent events: an incremental parser that loses no byte, and an encoder.

The grammar is the one of the HTML standard (section 9.2): lines end with CRLF, LF or CR, a blank
line ends an event, ``data`` lines join with a newline, a line that starts with a colon is a comment.
The bytes of an event are kept as they came, so that what needs no change can be passed on untouched:
the ``raw`` of all events, joined, is the input.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

DEFAULT_MAX_EVENT_BYTES = 1 << 20
DONE = b"data: [DONE]\n\n"
"""The event that ends a stream of the OpenAI APIs."""

_LINE_END = re.compile(rb"\r\n|\n|\r")
BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class SseError(ValueError):
    """The bytes are no event stream that can be handled."""


@dataclass(frozen=True, slots=True)
class Event:
    """One event, or one block of comments between two blank lines.

    Attributes:
        data: the joined ``data`` lines, empty for a block without any.
        json: the data as a JSON object, None where it is anything else.
        done: the data is ``[DONE]``.
        raw: the bytes as they came, the blank line included.
        name: the ``event`` field, empty if there is none.
    """

    data: bytes = field(repr=False)
    json: dict[str, Any] | None = field(repr=False)
    done: bool
    raw: bytes = field(repr=False)
    name: str = ""

    @property
    def malformed(self) -> bool:
        """There is data, and it is neither a JSON object nor ``[DONE]``."""
        return bool(self.data) and self.json is None and not self.done


class Parser:
    """Turns chunks of bytes, split anywhere, into events.

    Args:
        max_event_bytes: the largest event, in bytes on the wire.
    """

    def __init__(self, max_event_bytes: int = DEFAULT_MAX_EVENT_BYTES) -> None:
        self._max = max_event_bytes
        self._buffer = bytearray()
        self._line = 0  # where the current line starts
        self._scan = 0  # up to here there is no line end
        self._data: list[bytes] = []
        self._name = b""
        self._first_line = True

    def feed(self, chunk: bytes) -> list[Event]:
        """The events that this chunk completes.

        Raises:
            SseError: an event is larger than the limit.
        """
        self._buffer += chunk
        events = self._take(final=False)
        if len(self._buffer) > self._max:
            raise SseError(f"an event is larger than {self._max} bytes")
        return events

    def close(self) -> list[Event]:
        """What is left when the stream ends.

        The standard drops an event without its blank line; it is returned all the same because
        servers exist that leave the last blank line out, and the SDKs read it. An event that was
        cut in the middle shows as malformed.
        """
        events = self._take(final=True)
        if self._buffer:
            if self._line < len(self._buffer):
                self._read(bytes(self._buffer[self._line :]))
            events.append(self._event(len(self._buffer)))
        return events

    def _take(self, *, final: bool) -> list[Event]:
        events: list[Event] = []
        while match := _LINE_END.search(self._buffer, self._scan):
            start, end = match.span()
            if end == len(self._buffer) and self._buffer[start:end] == b"\r" and not final:
                self._scan = start  # the LF of a CRLF may still come
                return events
            line = bytes(self._buffer[self._line : start])
            self._line = self._scan = end
            if line:
                self._read(line)
                continue
            if end > self._max:
                raise SseError(f"an event is larger than {self._max} bytes")
            events.append(self._event(end))
        self._scan = len(self._buffer)
        return events

    def _read(self, line: bytes) -> None:
        if self._first_line:
            self._first_line = False
            line = line.removeprefix(BYTE_ORDER_MARK)
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"data":
            self._data.append(value)
        elif name == b"event":
            self._name = value

    def _event(self, end: int) -> Event:
        raw = bytes(self._buffer[:end])
        del self._buffer[:end]
        self._line = self._scan = 0
        event = parse_event(b"\n".join(self._data), raw, self._name.decode("utf-8", "replace"))
        self._data, self._name = [], b""
        return event


def parse_event(data: bytes, raw: bytes, name: str = "") -> Event:
    """An event from its data; what is no JSON object has ``json`` None."""
    done = data.strip() == b"[DONE]"
    body: Any = None
    if data and not done:
        try:
            body = orjson.loads(data)
        except orjson.JSONDecodeError:
            body = None
    return Event(data, body if isinstance(body, dict) else None, done, raw, name)


def encode(data: Mapping[str, Any] | str, *, name: str = "") -> bytes:
    """One event.

    JSON holds no raw line ends and a string is split at its own, so no content can end the event
    and start another.

    Raises:
        ValueError: the event name holds a line end or a NUL.
    """
    if re.search(r"[\r\n\0]", name):
        raise ValueError("the name of an event must not hold a line end or a NUL")
    payload = data.encode("utf-8") if isinstance(data, str) else orjson.dumps(data)
    head = b"event: " + name.encode("utf-8") + b"\n" if name else b""
    lines = b"".join(b"data: " + line + b"\n" for line in _LINE_END.split(payload))
    return head + lines + b"\n"
