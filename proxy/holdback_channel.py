"""One channel of a stream: its text, how far it is checked and settled, and what is replaced in it."""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterable, Iterator
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

from classifiers.lookalikes import ends_in_word, visible_tail, without_padding
from policies.decision import Redaction
from proxy.endpoints.base import Delta
from proxy.holdback_json import Meaning, Part

MAX_UNCHECKED_CHARS = 8_000
"""Padding makes no check due, up to here."""

_NEIGHBOUR_CHARS = 200
"""How far a check reaches to either side of the border between two texts of one flow."""

_WORD_CHARS = 64
"""How far a border is moved so that it does not tear a word."""


@dataclass(frozen=True, slots=True)
class Find:
    """A stretch of a channel that is to be replaced, in characters from the channel's start."""

    start: int
    end: int
    placeholder: str
    label: str
    value: str = field(repr=False)
    quoted: bool = False  # a number of a document, which becomes a string


@dataclass(slots=True)
class Edit:
    """A find that will be replaced; by what is known when it leaves, so numbers follow the reader."""

    find: Find
    new: str | None = None


@dataclass(frozen=True, slots=True)
class Reach:
    """How far is looked back, in characters; padding does not count in the first two.

    Attributes:
        overlap: how much text that has left already is checked again with what follows it.
        tail: how much checked text stays behind in case that a find grows.
        whole: texts up to this length are checked in full each time.
        first_tail: the tail at the beginning of a text; it grows to half of the text, up to ``tail``.
    """

    overlap: int
    tail: int
    whole: int
    first_tail: int


@dataclass(frozen=True, slots=True)
class Window:
    """A text to be checked: what is held of a channel, with what stands before it.

    Attributes:
        left: how much of the text has left already.
        decoded: it is what the strings of the source mean.
    """

    channel: Channel
    text: str = field(repr=False)
    left: int
    decoded: bool = False


@dataclass(slots=True)
class Channel:
    """The text that deltas of one channel join to. ``text`` starts at ``base``; what stood before
    has left, and ``before`` keeps the last of it."""

    ordinal: int
    first: Delta
    reach: Reach
    text: str = field(default="", repr=False)
    base: int = 0
    neighbour: str = field(default="", repr=False)  # the end of the text before it in its flow
    before: str = field(default="", repr=False)  # without padding
    checked: int = 0
    settled: int = 0
    found: list[Find] = field(default_factory=list)  # by the latest check, not settled yet
    edits: list[Edit] = field(default_factory=list)  # settled replacements
    last: int = 0  # number of the latest event that added to it
    quiet: int = 0  # checks since then
    opening: str = ""  # its first two visible characters
    meaning: Meaning | None = field(default=None, repr=False)  # of what may be JSON source
    over: bool = False  # its text was said again as a whole
    sent: str = field(default="", repr=False)  # what has left; kept where texts are said again
    _said: Any = None  # what has come, hashed; likewise

    @property
    def json(self) -> bool:
        """It is JSON source: a tool call's arguments, or a text that begins as a document does."""
        return self.first.json or self.opening in ('{"', '["', "[{", "[[")

    @property
    def end(self) -> int:
        """Where the text ends so far."""
        return self.base + len(self.text)

    @property
    def held(self) -> str:
        """What has not settled yet."""
        return self.text[self.settled - self.base :]

    @property
    def choice(self) -> Hashable:
        """The choice that it belongs to, or the name of a field that belongs to none."""
        return self.first.channel[0]

    def append(self, text: str) -> None:
        """More has come."""
        self.text += text
        if len(self.opening) < 2:
            self.opening = (self.opening + "".join(text.split()))[:2]
        self.quiet = 0
        if self.meaning is not None:
            self.meaning.feed(text)
        elif self.opening and (self.first.json or self.opening[0] in "{["):
            self.meaning = Meaning(self.base)
            self.meaning.feed(self.text)

    def say(self, text: str) -> None:
        """Remember what has come, for :meth:`is_said`."""
        if self._said is None:
            self._said = blake2b(digest_size=16)
        self._said.update(text.encode("utf-8", "surrogatepass"))

    def is_said(self, text: str) -> bool:
        """Whether a string is all that has come."""
        if self._said is None or len(text) != self.end:
            return False
        again = blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16)
        return bool(again.digest() == self._said.digest())

    def much(self, chars: int) -> bool:
        """Whether so much of it is new to the check, padding not counted."""
        fresh = self.end - self.checked
        if not chars <= fresh < MAX_UNCHECKED_CHARS:
            return fresh >= chars
        return len(without_padding(self.text[-fresh:])) >= chars

    def windows(self) -> list[Window]:
        """The texts to be checked now."""
        before = self.context()
        found = [Window(self, before + self.held, len(before))]
        if self.meaning is not None and self.meaning.escaped:
            before = self.meaning.before(self.settled)
            text = before + self.meaning.from_source(self.settled)
            # First: it says what a find is, the source may have half an escape in it.
            found.insert(0, Window(self, text, len(before), decoded=True))
        return [*found, *self._across()]

    def _across(self) -> Iterator[Window]:
        """The beginning of the text with the end of its neighbour: the word goes on, or a new one
        begins."""
        if not self.neighbour or self.base or self.settled >= _NEIGHBOUR_CHARS:
            return
        text = self.text[: max(_NEIGHBOUR_CHARS, self.settled)]
        apart = self.neighbour[-1].isspace() or text[:1].isspace()
        for between in ("",) if apart else ("", "\n"):
            before = self.neighbour + between
            yield Window(self, before + text, len(before) + self.settled)

    def last_said(self) -> str:
        """The end of the text, for the one that follows it."""
        before = self.before if self.base else self.neighbour
        return without_padding(before + self.text)[-_NEIGHBOUR_CHARS:]

    def find(self, window: Window, redaction: Redaction) -> None:
        """Take in what the check has found in a window."""
        if redaction.end <= window.left:
            return
        value = window.text[redaction.start : redaction.end]
        # The start may have left already if a find is longer than the tail.
        start = max(0, redaction.start - window.left)
        end = redaction.end - window.left
        if window.decoded and self.meaning is not None:
            at = self.meaning.decoded(self.settled)
            start, end = self.meaning.source(at + start, at + end)
            start = max(start, self.settled)
        else:
            start, end = self.settled + start, self.settled + end
        parts = [Part(start, end)]
        if self.json and self.meaning is not None:
            within = self.text[start - self.base : end - self.base]
            parts = list(self.meaning.parts(start, end, within))
        for part in parts:
            if any(find.start < part.end and part.start < find.end for find in self.found):
                continue  # the same find, in the source and in what it means
            if len(parts) > 1:
                value = self.text[part.start - self.base : part.end - self.base]
            self.found.append(
                Find(
                    part.start, part.end, redaction.placeholder, redaction.label, value, part.number
                )
            )

    def context(self) -> str:
        """What has left and is checked again with what is held."""
        left = self.text[: self.settled - self.base]
        if self.base == 0 and self.end <= self.reach.whole:
            return left
        left = without_padding(self.before + left)
        start = visible_tail(left, self.reach.overlap)
        start -= _after_blank(left[max(0, start - _WORD_CHARS) : start][::-1])
        return left[start:]

    def border(self, *, paused: bool) -> int:
        """How far a channel that is to go on can be let go."""
        border = self.settled + self._open(self.held, self.end, paused=paused)
        if self.meaning is None:
            return border
        if self.meaning.escaped:
            # An escape is many characters of source and one of what is said.
            at = self.meaning.decoded(self.settled)
            held = self.meaning.from_source(self.settled)
            at += self._open(held, self.meaning.until, paused=paused)
            if at < self.meaning.until:
                border = min(border, self.meaning.source(at, at + 1)[0])
        return max(self.settled, self.meaning.whole(border))

    def _open(self, held: str, so_far: int, *, paused: bool) -> int:
        """How much of a text that goes on nothing that is to come can change."""
        if not paused:
            tail = min(self.reach.tail, max(self.reach.first_tail, so_far // 2))
            border = visible_tail(held, tail)
            return border - _after_blank(held[max(0, border - _WORD_CHARS) : border][::-1])
        if ends_in_word(held):
            border = visible_tail(held, _WORD_CHARS)
            return max(border, max(held.rfind(blank) for blank in " \n\t") + 1)
        return len(held)

    def advance(self, border: int, more: Iterable[Find]) -> None:
        """Settle the text up to a border, or to where a find begins that the border would cut.

        Args:
            more: finds besides those of the check.
        """
        finds = sorted([*self.found, *more], key=lambda find: find.start)
        if border < self.end:
            border = min([border, *(f.start for f in finds if f.start < border < f.end)])
        if border <= self.settled:
            return
        self.edits += [Edit(find) for find in finds if find.end <= border]
        self.found = [find for find in self.found if find.end > border]
        self.settled = border
        if self.end > self.reach.whole:
            if self.meaning is not None:
                self.meaning.forget(border, self.reach.overlap)
            self.before = self.context()
            self.text = self.text[border - self.base :]
            self.base = border


def _after_blank(backwards: str) -> int:
    """How many characters of a reversed text come before its first blank; 0 if it has none."""
    match = re.search(r"\s", backwards)
    return match.start() if match else 0
