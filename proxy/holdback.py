"""What is held back of a stream, and what of it may leave: the bookkeeping, without any waiting.

Events stand in one queue and leave in the order they came. Their texts join to channels (the
content of choice 0, the arguments of its second tool call). Each channel knows how far it is
*checked* (a decision has seen it) and how far it is *settled* (nothing that is still to come can
change what becomes of it). An event leaves when all its texts are settled.

Between the two stays a tail, because a find at the end of a text may still grow: ``j.doe@exam`` is
no address yet. The tail goes when its choice finishes, when another channel of its choice goes on
instead, or when a channel has had nothing new for some checks; a word that may go on stays then too,
while little else has to wait for it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, replace

import orjson

from classifiers.types import Text
from policies.decision import Decision, Redaction
from proxy.endpoints.base import Address, Body, Delta, Endpoint, put_string
from proxy.holdback_channel import Channel, Find, Reach, Window
from proxy.holdback_names import Names
from proxy.sse import BYTE_ORDER_MARK, DONE, Event, encode

_MAX_HELD_CHARS = 1 << 16
"""A find that grows and grows is redacted as far as it is known rather than held for ever."""

_MAX_TORN_CHARS = 2_000
"""How much may wait behind a word that another channel has interrupted."""

_REMEMBERED_EVENTS = 64
"""After so many events without it, a string that is whole in itself is forgotten; one that comes with
every event is checked once."""

_KEEP_ALIVE = b":\n\n"


@dataclass(slots=True)
class _Held:
    event: Event
    pieces: list[tuple[Channel, int, Delta]]  # channel, where the piece starts in it, the piece
    ends: frozenset[Hashable]  # choices that the event finishes


class HoldBack:
    """The events that wait, and the texts they make up.

    Args:
        endpoint: knows the shape of the events.
        hold_chars: a channel is due for a check when it has this much new text.
        overlap_chars: how much text that has left already is checked again with what follows it.
            Padding does not count, here and for ``tail_chars``: invisible characters, long runs.
        tail_chars: how much checked text stays behind in case that a find grows.
        whole_chars: texts up to this length are checked in full each time.
        first_chars: in place of ``hold_chars`` at the beginning of a channel; each check doubles it.
        first_tail: in place of ``tail_chars`` there; it grows to half of the text.
        restorations: placeholder -> original, to be put back after the check.
        patience: checks without news after which a channel's tail is let go.
        strict: every event is written anew from what was parsed, without comments, fields of the
            protocol or copies of the text that no check has seen.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        hold_chars: int,
        overlap_chars: int,
        tail_chars: int = 64,
        whole_chars: int = 800,
        first_chars: int | None = None,
        first_tail: int | None = None,
        restorations: Mapping[str, str] | None = None,
        patience: int = 2,
        strict: bool = False,
    ) -> None:
        self.strict = strict
        self._endpoint = endpoint
        self.progress = endpoint.progress()
        self._hold = hold_chars
        self._names = Names(restorations)
        self._restores = bool(restorations)
        self._first = hold_chars if first_chars is None else min(first_chars, hold_chars)
        first_tail = tail_chars if first_tail is None else min(first_tail, tail_chars)
        self._reach = Reach(max(overlap_chars, tail_chars), tail_chars, whole_chars, first_tail)
        self._patience = patience
        self._queue: deque[_Held] = deque()
        self._channels: dict[tuple[Hashable, ...], Channel] = {}
        self._flows: dict[Hashable, Channel] = {}  # the latest channel of each
        self._opened_channels = 0
        self._news: dict[int, Channel] = {}  # channels with unchecked text, by ordinal
        self._windows: list[Window] = []
        self._seen: dict[int, int] | None = None  # where each channel ended when they were made
        self._waiting = 0  # characters in the queue
        self._events = 0
        self._ending = False  # a choice finished since the latest settling
        self.choices: set[Hashable] = set()
        """Choices that were seen; those that the upstream finished are ``finished``."""
        self.finished: set[Hashable] = set()
        self.shown: set[Hashable] = set()
        """Choices of which some text has left; whose role has: ``opened``, whose finish: ``closed``."""
        self.opened: set[Hashable] = set()
        self.closed: set[Hashable] = set()
        self.text_chars = 0
        self.exposed_chars = 0
        self.redactions: list[Redaction] = []
        """What was replaced; ``text`` is the number of the channel, in order of appearance."""

    # -- in ---------------------------------------------------------------------------------------

    def add(self, event: Event) -> None:
        """Take an event in."""
        self._events += 1
        if event.json is None:
            self._queue.append(_Held(event, [], frozenset()))
            return
        found = [*self._endpoint.deltas(event.json), *self._endpoint.names(event.json)]
        pieces = [self._join(delta) for delta in found]
        ends = frozenset(self._endpoint.finished(event.json))
        self.finished |= ends
        self.choices |= ends
        self._ending = self._ending or bool(ends)
        self._queue.append(_Held(event, pieces, ends))

    @property
    def passing(self) -> bool:
        """Nothing waits for anything: no check, nothing to be put back, no text that is said again."""
        return (
            self._hold == 1
            and not self.strict
            and not self._restores
            and self.progress is None
            and not self._endpoint.repeats
            and not self._queue
        )

    def passed(self, event: Event) -> bytes:
        """An event on its way while :attr:`passing`: the bytes that came, and what is known by it."""
        if event.json is not None:
            for delta in self._endpoint.deltas(event.json):
                choice, size = delta.channel[0], len(delta.text)
                if isinstance(choice, int):
                    self.choices.add(choice)
                if size:
                    self.shown.add(choice)
                self.text_chars += 0 if delta.whole else size
                self.exposed_chars += size
            ends = self._endpoint.finished(event.json)
            self.finished.update(ends)
            self.choices.update(ends)
            self.closed.update(ends)
            self.opened.update(self._endpoint.opened(event.json))
        return event.raw.removeprefix(BYTE_ORDER_MARK)

    def _join(self, delta: Delta) -> tuple[Channel, int, Delta]:
        if delta.repeats:
            said = self._channels.get(delta.channel)
            if said is not None and said.is_said(delta.text):
                said.over = True
                self._ending = self._ending or said.settled < said.end
                self._waiting += len(delta.text)
                return said, 0, delta
            delta = replace(delta, whole=True, repeats=False)
        key = (*delta.channel, delta.text) if delta.whole else delta.channel
        channel = self._channels.get(key)
        known = channel is not None
        if channel is None:
            channel = self._channels[key] = Channel(self._opened_channels, delta, self._reach)
            self._opened_channels += 1
            if delta.flow is not None:
                if (previous := self._flows.get(delta.flow)) is not None:
                    channel.neighbour = previous.last_said()
                self._flows[delta.flow] = channel
        channel.last = self._events
        self._waiting += len(delta.text)
        if isinstance(channel.choice, int):
            self.choices.add(channel.choice)
        if delta.whole and known:
            return channel, 0, delta
        start = channel.end
        channel.over = False
        channel.append(delta.text)
        if self._endpoint.repeats:
            channel.say(delta.text)
        self.text_chars += 0 if delta.name else len(delta.text)
        self._news[channel.ordinal] = channel
        return channel, start, delta

    # -- check ------------------------------------------------------------------------------------

    @property
    def heard(self) -> bool:
        """Some text of an answer has left."""
        return any(isinstance(choice, int) for choice in self.shown)

    @property
    def unchecked(self) -> bool:
        """Some text waits for a check."""
        return bool(self._news)

    @property
    def due(self) -> bool:
        """Enough text waits, or a choice has finished."""
        return self._ending or any(
            channel.much(min(self._hold, max(self._first, channel.checked)))
            for channel in self._news.values()
        )

    @property
    def ending(self) -> bool:
        """A choice has finished since the latest check."""
        return self._ending

    @property
    def behind(self) -> int:
        """Characters that wait for a check."""
        return sum(channel.end - channel.checked for channel in self._news.values())

    def windows(self) -> list[Text]:
        """The texts to be checked now: what is new, with what stands before it."""
        self._windows = [window for c in self._news.values() for window in c.windows()]
        self._seen = {channel.ordinal: channel.end for channel in self._news.values()}
        self._ending = False
        return [
            Text(
                window.text,
                channel.first.role,
                channel.first.address,
                "output",
                derived=channel.first.name,
            )
            for window in self._windows
            for channel in (window.channel,)
        ]

    def apply(self, decision: Decision) -> None:
        """Take in what the check of :meth:`windows` has found."""
        for window in self._windows:
            window.channel.found = []
        for redaction in decision.redactions:
            window = self._windows[redaction.text]
            window.channel.find(window, redaction)

    def settle(self, *, final: bool = False) -> None:
        """After a check of :meth:`windows`: what they held has been seen; decide how much of it can
        leave. Without one, for streams that nobody checks, that is everything."""
        patient = self._waiting <= max(_MAX_TORN_CHARS, 4 * self._hold)
        latest: dict[Hashable, int] = {}
        for channel in self._channels.values():
            latest[channel.choice] = max(latest.get(channel.choice, 0), channel.last)
        seen, self._seen = self._seen, None
        if seen is None:
            self._ending = False
        for channel in self._channels.values():
            channel.quiet += channel.ordinal not in self._news
            if seen is None:
                channel.checked = channel.end
            channel.checked = (seen or {}).get(channel.ordinal, channel.checked)
            if channel.settled < channel.checked:
                over = (
                    final
                    or channel.first.whole
                    or channel.over
                    or channel.choice in self.finished
                    or channel.end - channel.settled > _MAX_HELD_CHARS
                )
                paused = channel.last < latest[channel.choice] or channel.quiet >= self._patience
                if over or (paused and not patient):
                    border = channel.end
                else:
                    border = channel.border(paused=paused)
                    border = min(border, channel.end - self._names.begun(channel.held))
                channel.advance(min(border, channel.checked), self._names.within(channel))
        self._news = {
            n: channel for n, channel in self._news.items() if channel.checked < channel.end
        }
        self._forget_channels()

    def _forget_channels(self) -> None:
        """Let go of what is whole and settled; events that wait keep what they need of it."""
        old = self._events - _REMEMBERED_EVENTS
        gone = [
            key
            for key, channel in self._channels.items()
            if channel.first.whole and channel.last < old and channel.settled == channel.end
        ]
        for key in gone:
            del self._channels[key]

    def forget(self) -> None:
        """Let go of what waits without sending it, where only the checks are wanted."""
        self._queue.clear()
        self._waiting = 0

    def _replacement(self, channel: Channel, find: Find) -> str:
        original = self._names.original(channel, find)
        if original is not None:
            return original
        placeholder = self._names.placeholder(find)
        self.redactions.append(
            Redaction(channel.ordinal, find.start, find.end, placeholder, find.label)
        )
        if not channel.json:
            return placeholder
        written = orjson.dumps(placeholder).decode()
        return written if find.quoted else written[1:-1]

    # -- out --------------------------------------------------------------------------------------

    def release(self) -> list[bytes]:
        """The events that may leave now, in order."""
        out: list[bytes] = []
        while self._queue and all(
            start + len(delta.text) <= channel.settled
            for channel, start, delta in self._queue[0].pieces
        ):
            held = self._queue.popleft()
            self._waiting -= sum(len(delta.text) for _, _, delta in held.pieces)
            if held.event.json is not None:
                self.opened.update(self._endpoint.opened(held.event.json))
            out.append(self._encoded(held))
            self.closed |= held.ends
        return out

    def _encoded(self, held: _Held) -> bytes:
        changes: list[tuple[Address, str]] = []
        for channel, start, delta in held.pieces:
            if delta.name:
                continue
            if delta.repeats:
                text = channel.sent
            else:
                text = self._edited(channel, start, delta.text)
                channel.sent += text if self._endpoint.repeats else ""
            if text != delta.text:
                changes.append((delta.address, text))
            if text:
                self.shown.add(channel.choice)
            self.exposed_chars += 0 if delta.repeats else len(text)
            if not delta.whole:
                end = start + len(delta.text)
                channel.edits = [edit for edit in channel.edits if edit.find.end > end]
        # The SDKs take a byte order mark for a part of the first field's name.
        raw = held.event.raw.removeprefix(BYTE_ORDER_MARK)
        body: Body | None = held.event.json
        if body is None:
            return raw if not self.strict else DONE if held.event.done else _KEEP_ALIVE
        for address, text in changes:
            put_string(body, address, text)
            self._endpoint.scrub(body, address)
        if self.strict:
            self._endpoint.strip(body)
        if not changes and not self.strict:
            out = raw
        else:
            given = held.event.name
            name = self._endpoint.event_name(body, given) if self.strict else given
            out = encode(body, name=name)
        if self.progress is not None:
            self.progress.note(body)
        return out

    def _edited(self, channel: Channel, start: int, text: str) -> str:
        """A piece after the channel's edits: a replacement stands in the piece that its stretch
        begins in, the pieces that it goes on in lose their part."""
        out: list[str] = []
        at = start
        end = start + len(text)
        for edit in channel.edits:
            find = edit.find
            if find.start >= end or find.end <= start:
                continue
            if find.start >= start:
                if edit.new is None:
                    edit.new = self._replacement(channel, find)
                out += (text[at - start : find.start - start], edit.new)
            at = min(find.end, end)
        return "".join((*out, text[at - start :]))
