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

import re
from collections import deque
from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass, field

import orjson

from classifiers.lookalikes import ends_in_word, visible_tail, without_padding
from classifiers.types import Text
from policies.decision import Decision, Redaction
from proxy.endpoints.base import Address, Body, Delta, Endpoint, put_string
from proxy.sse import DONE, Event, encode

_MAX_HELD_CHARS = 1 << 16
"""A find that grows and grows is redacted as far as it is known rather than held for ever."""

_MAX_UNCHECKED_CHARS = 8_000
"""Padding makes no check due, up to here."""

_MAX_TORN_CHARS = 2_000
"""How much may wait behind a word that another channel has interrupted."""

_KEEP_ALIVE = b":\n\n"

_WORD_CHARS = 64
"""How far a border is moved so that it does not tear a word."""

_NUMBER = re.compile(r"\d+(?=\D*$)")


@dataclass(frozen=True, slots=True)
class _Find:
    """A stretch of a channel that is to be replaced, in characters from the channel's start."""

    start: int
    end: int
    placeholder: str
    label: str
    value: str = field(repr=False)


@dataclass(slots=True)
class _Edit:
    """A find that will be replaced; by what is known when it leaves, so numbers follow the reader."""

    find: _Find
    new: str | None = None


@dataclass(slots=True)
class _Channel:
    ordinal: int
    first: Delta
    text: str = field(default="", repr=False)
    base: int = 0  # where ``text`` starts; what stood before has left
    before: str = field(default="", repr=False)  # the last of it, without padding
    checked: int = 0
    settled: int = 0
    found: list[_Find] = field(default_factory=list)  # by the latest check, not settled yet
    edits: list[_Edit] = field(default_factory=list)  # settled replacements
    last: int = 0  # number of the latest event that added to it
    quiet: int = 0  # checks since then
    opening: str = ""  # its first two visible characters

    @property
    def json(self) -> bool:
        """It is JSON source: a tool call's arguments, or a text that begins as a document does."""
        return self.first.json or self.opening in ('{"', '["', "[{", "[[")

    @property
    def end(self) -> int:
        return self.base + len(self.text)

    @property
    def choice(self) -> Hashable:
        return self.first.channel[0]


@dataclass(slots=True)
class _Held:
    event: Event
    pieces: list[tuple[_Channel, int, Delta]]  # channel, where the piece starts in it, the piece
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
        restorations: Mapping[str, str] | None = None,
        patience: int = 2,
        strict: bool = False,
    ) -> None:
        self.strict = strict
        self._endpoint = endpoint
        self._hold = hold_chars
        self._originals = dict(restorations or {})
        longest = max(map(len, self._originals), default=0)
        self._tail = max(tail_chars, longest)
        self._overlap = max(overlap_chars, self._tail)
        self._whole = whole_chars
        self._patience = patience
        names = sorted(self._originals, key=len, reverse=True)
        self._placeholder = re.compile("|".join(map(re.escape, names))) if names else None
        self._queue: deque[_Held] = deque()
        self._channels: dict[tuple[Hashable, ...], _Channel] = {}
        self._news: dict[int, _Channel] = {}  # channels with unchecked text, by ordinal
        self._windows: list[tuple[_Channel, str, int]] = []  # with how much of it has left
        self._waiting = 0  # characters in the queue
        self._names: dict[tuple[str, str], str] = {}
        self._taken = set(self._originals)
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
        pieces = [self._join(delta) for delta in self._endpoint.deltas(event.json)]
        ends = frozenset(self._endpoint.finished(event.json))
        self.finished |= ends
        self.choices |= ends
        self._ending = self._ending or bool(ends)
        self._queue.append(_Held(event, pieces, ends))

    def _join(self, delta: Delta) -> tuple[_Channel, int, Delta]:
        key = (*delta.channel, delta.text) if delta.whole else delta.channel
        channel = self._channels.get(key)
        known = channel is not None
        if channel is None:
            channel = self._channels[key] = _Channel(len(self._channels), delta)
        channel.last = self._events
        self._waiting += len(delta.text)
        if isinstance(channel.choice, int):
            self.choices.add(channel.choice)
        if delta.whole and known:
            return channel, 0, delta
        start = channel.end
        channel.text += delta.text
        if len(channel.opening) < 2:
            channel.opening = (channel.opening + "".join(delta.text.split()))[:2]
        channel.quiet = 0
        self.text_chars += len(delta.text)
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
        return self._ending or any(map(self._much, self._news.values()))

    def _much(self, channel: _Channel) -> bool:
        fresh = channel.end - channel.checked
        if not self._hold <= fresh < _MAX_UNCHECKED_CHARS:
            return fresh >= self._hold
        return len(without_padding(channel.text[-fresh:])) >= self._hold

    def windows(self) -> list[Text]:
        """The texts to be checked now: what is new, with what stands before it."""
        self._windows = []
        for channel in self._news.values():
            before = self._before(channel)
            held = channel.text[channel.settled - channel.base :]
            self._windows.append((channel, before + held, len(before)))
        return [Text(text, c.first.role, c.first.address, "output") for c, text, _ in self._windows]

    def apply(self, decision: Decision) -> None:
        """Take in what the check of :meth:`windows` has found."""
        for channel, _, _ in self._windows:
            channel.found = []
        for redaction in decision.redactions:
            channel, text, left = self._windows[redaction.text]
            if redaction.end > left:
                value = text[redaction.start : redaction.end]
                # The start may have left already if a find is longer than the tail.
                start = channel.settled + max(0, redaction.start - left)
                end = channel.settled + redaction.end - left
                channel.found.append(
                    _Find(start, end, redaction.placeholder, redaction.label, value)
                )

    def settle(self, *, final: bool = False) -> None:
        """After a check: everything held has been seen; decide how much of it can leave."""
        patient = self._waiting <= max(_MAX_TORN_CHARS, 4 * self._hold)
        latest: dict[Hashable, int] = {}
        for channel in self._channels.values():
            latest[channel.choice] = max(latest.get(channel.choice, 0), channel.last)
        for channel in self._channels.values():
            channel.quiet += channel.ordinal not in self._news
            channel.checked = channel.end
            if channel.settled < channel.end:
                over = (
                    final
                    or channel.first.whole
                    or channel.choice in self.finished
                    or channel.end - channel.settled > _MAX_HELD_CHARS
                )
                paused = channel.last < latest[channel.choice] or channel.quiet >= self._patience
                if over or (paused and not patient):
                    self._advance(channel, channel.end)
                else:
                    self._advance(channel, self._border(channel, paused=paused))
        self._news.clear()
        self._ending = False

    def _before(self, channel: _Channel) -> str:
        """What has left and is checked again with what is held."""
        left = channel.text[: channel.settled - channel.base]
        if channel.base == 0 and channel.end <= self._whole:
            return left
        left = without_padding(channel.before + left)
        start = visible_tail(left, self._overlap)
        start -= _after_blank(left[max(0, start - _WORD_CHARS) : start][::-1])
        return left[start:]

    def _border(self, channel: _Channel, *, paused: bool) -> int:
        """How far a channel that is to go on can be let go."""
        held = channel.text[channel.settled - channel.base :]
        if not paused:
            border = visible_tail(held, self._tail)
            border -= _after_blank(held[max(0, border - _WORD_CHARS) : border][::-1])
        elif ends_in_word(held):
            border = visible_tail(held, _WORD_CHARS)
            border = max(border, max(held.rfind(blank) for blank in " \n\t") + 1)
        else:
            border = len(held)
        return channel.settled + border

    def _advance(self, channel: _Channel, border: int) -> None:
        finds = sorted([*channel.found, *self._placeholders(channel)], key=lambda find: find.start)
        if border < channel.end:
            border = min([border, *(f.start for f in finds if f.start < border < f.end)])
        if border <= channel.settled:
            return
        for find in finds:
            if find.end <= border:
                channel.edits.append(_Edit(find))
        channel.found = [find for find in channel.found if find.end > border]
        channel.settled = border
        if channel.end > self._whole:
            channel.before = self._before(channel)
            channel.text = channel.text[border - channel.base :]
            channel.base = border

    def _placeholders(self, channel: _Channel) -> Iterator[_Find]:
        """Where originals are to be put back; what is redacted again stays redacted."""
        if self._placeholder is None:
            return
        for match in self._placeholder.finditer(channel.text, channel.settled - channel.base):
            start, end = (channel.base + border for border in match.span())
            if not any(find.start < end and start < find.end for find in channel.found):
                yield _Find(start, end, "", "", match.group())

    def _replacement(self, channel: _Channel, find: _Find) -> str:
        if not find.placeholder and not find.label and find.value in self._originals:
            original = self._originals[find.value]
            # Within JSON source it must stay one string.
            return orjson.dumps(original).decode()[1:-1] if channel.json else original
        placeholder = self._numbered(find)
        self.redactions.append(
            Redaction(channel.ordinal, find.start, find.end, placeholder, find.label)
        )
        return placeholder

    def _numbered(self, find: _Find) -> str:
        """One placeholder per value over the whole stream; each check has counted from one."""
        key, name = (find.label, find.value), find.placeholder
        if key not in self._names:
            while name in self._taken and _NUMBER.search(name):
                name = _NUMBER.sub(lambda match: str(int(match.group()) + 1), name, count=1)
            self._taken.add(name)
            self._names[key] = name
        return self._names[key]

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
            text = self._edited(channel, start, delta.text)
            if text != delta.text:
                changes.append((delta.address, text))
            if text:
                self.shown.add(channel.choice)
            self.exposed_chars += len(text)
            if not delta.whole:
                end = start + len(delta.text)
                channel.edits = [edit for edit in channel.edits if edit.find.end > end]
        body: Body | None = held.event.json
        if body is None:
            return held.event.raw if not self.strict else DONE if held.event.done else _KEEP_ALIVE
        if not changes and not self.strict:
            return held.event.raw
        for address, text in changes:
            put_string(body, address, text)
            self._endpoint.scrub(body, address)
        if not self.strict:
            return encode(body, name=held.event.name)
        self._endpoint.strip(body)
        return encode(body, name=held.event.name if held.event.name == body.get("type") else "")

    def _edited(self, channel: _Channel, start: int, text: str) -> str:
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


def _after_blank(backwards: str) -> int:
    """How many characters of a reversed text come before its first blank; 0 if it has none."""
    match = re.search(r"\s", backwards)
    return match.start() if match else 0
