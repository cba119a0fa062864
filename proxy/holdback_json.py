"""JSON source that comes in pieces: what its strings mean so far, and where each of it stands.

``"\\u0049gnore"`` is a word to whoever parses it and none to a check that reads the source; and a
placeholder that swallows a quotation mark leaves source that nobody can parse.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from dataclasses import dataclass

from classifiers.lookalikes import visible_tail, without_padding
from policies.json_source import meaning

_HEX = "[0-9a-fA-F]"
_UNIT = re.compile(
    rf"\\u[dD][89abAB]{_HEX}{{2}}\\u[dD][c-fC-F]{_HEX}{{2}}|\\u{_HEX}{{4}}|\\[^u]|\\(?=u)"
    r'|[^\\"]++|"',
    re.DOTALL,
)
"""What is decoded together, or the quotation mark that ends a string."""
_UNFINISHED = re.compile(
    rf"\\(?:u(?:{_HEX}{{0,3}}|[dD][89abAB]{_HEX}{{2}}(?:\\(?:u(?:[dD](?:[c-fC-F]{_HEX}?)?)?)?)?)?)?\Z"
)
"""An escape, or a pair of them, that the next piece may finish."""
_NUMBER = re.compile(r"-?[0-9][0-9.eE+-]*+")
_WORD = re.compile(r"(?!(?:true|false|null)\b)\w")


@dataclass(frozen=True, slots=True)
class Mark:
    """A run of plain characters, or one escape: where it stands, and where what it means stands."""

    at: int
    until: int
    start: int
    end: int
    plain: bool


@dataclass(frozen=True, slots=True)
class Part:
    """A stretch of source that can be replaced; ``number``: by a string with quotation marks."""

    start: int
    end: int
    number: bool = False


class Meaning:
    """The strings of a source, one a line, decoded as they come.

    Positions ``at`` and ``until`` are in the decoded text, ``start`` and ``end`` in the source, all
    in characters from the beginning.

    Args:
        start: where the source begins.
    """

    def __init__(self, start: int = 0) -> None:
        self.escaped = False
        """The source has held an escape: the decoded text is not in it letter by letter."""
        self._text = ""
        self._base = 0
        self._before = ""
        self._marks: list[Mark] = []
        self._in_string = False
        self._fed = start
        self._unfinished = ""

    @property
    def until(self) -> int:
        """The end of the decoded text."""
        return self._base + len(self._text)

    @property
    def end(self) -> int:
        """How far the source is decoded; an escape may have begun there."""
        return self._fed

    def feed(self, source: str) -> None:
        """More source has come."""
        data = self._unfinished + source
        at = 0
        self._unfinished = ""
        while at < len(data):
            if not self._in_string:
                opened = data.find('"', at)
                at = len(data) if opened < 0 else opened + 1
                if opened >= 0:
                    self._in_string = True
                    self._text += "\n" if self.until else ""
                continue
            if data[at] == "\\" and _UNFINISHED.match(data, at):
                self._unfinished = data[at:]
                break
            unit = _UNIT.match(data, at)
            assert unit is not None
            if unit.group() == '"':
                self._in_string = False
            else:
                self._add(unit.group(), self._fed + at)
            at = unit.end()
        self._fed += at

    def _add(self, unit: str, start: int) -> None:
        escape = unit[0] == "\\"
        self.escaped = self.escaped or escape
        means = meaning(unit) if escape else unit
        at = self.until
        self._marks.append(Mark(at, at + len(means), start, start + len(unit), not escape))
        self._text += means

    def from_source(self, start: int) -> str:
        """What the source means from a position on."""
        return self._text[self.decoded(start) - self._base :]

    def decoded(self, start: int) -> int:
        """Where in the decoded text a position of the source is; the start of an escape's meaning."""
        index = bisect_right(self._marks, start, key=lambda mark: mark.end)
        if index == len(self._marks):
            return self.until
        mark = self._marks[index]
        return mark.at + max(0, start - mark.start) if mark.plain else mark.at

    def source(self, at: int, until: int) -> tuple[int, int]:
        """The stretch of source that means ``at:until``, ``at < until``; whole escapes."""
        first = bisect_right(self._marks, at, key=lambda mark: mark.until)
        last = bisect_left(self._marks, until, key=lambda mark: mark.at) - 1
        if first == len(self._marks) or last < 0:
            return self._fed, self._fed
        begin, stop = self._marks[first], self._marks[last]
        start = begin.start + max(0, at - begin.at) if begin.plain else begin.start
        end = stop.end - max(0, stop.until - until) if stop.plain else stop.end
        return start, end

    def whole(self, border: int) -> int:
        """A border of the source, moved before the escape that it would cut."""
        border = min(border, self._fed)
        index = bisect_right(self._marks, border, key=lambda mark: mark.end)
        if index < len(self._marks):
            mark = self._marks[index]
            if not mark.plain and mark.start < border:
                return mark.start
        return border

    def parts(self, start: int, end: int, source: str) -> Iterator[Part]:
        """A stretch of source as pieces of strings, numbers, and what else holds a word.

        Args:
            source: the text of the stretch.
        """
        offset = start
        start, end = self._after(start), self.whole(end)  # half of an escape is no letter
        at = start
        for inner in self._strings(start, end):
            yield from _outer(source, offset, at, inner.start)
            yield inner
            at = inner.end
        yield from _outer(source, offset, at, end)

    def _after(self, start: int) -> int:
        """A border of the source, moved behind the escape that it would cut."""
        before = self.whole(start)
        return (
            start
            if before == start
            else self.source(self.decoded(before), self.decoded(before) + 1)[1]
        )

    def _strings(self, start: int, end: int) -> Iterator[Part]:
        begun: Part | None = None
        index = bisect_right(self._marks, start, key=lambda mark: mark.end)
        for mark in self._marks[index:]:
            if mark.start >= end:
                break
            piece = Part(max(mark.start, start), min(mark.end, end))
            if begun is not None and begun.end == piece.start:
                begun = Part(begun.start, piece.end)
                continue
            if begun is not None:
                yield begun
            begun = piece
        if begun is not None:
            yield begun

    def forget(self, start: int, keep: int) -> None:
        """What the source means before a position is not asked for any more, but for its last
        ``keep`` characters, padding not counted."""
        at = self.decoded(start)
        left = without_padding(self.before(start))
        self._before = left[visible_tail(left, keep) :]
        self._text = self._text[at - self._base :]
        self._base = at
        del self._marks[: bisect_right(self._marks, start, key=lambda mark: mark.end)]

    def before(self, start: int) -> str:
        """What is still known of the meaning before a position of the source."""
        return self._before + self._text[: self.decoded(start) - self._base]


def _outer(source: str, offset: int, start: int, end: int) -> Iterator[Part]:
    """What is to be replaced between strings."""
    at = start
    for number in _NUMBER.finditer(source, start - offset, end - offset):
        yield from _words(source, offset, at, number.start() + offset)
        yield Part(number.start() + offset, number.end() + offset, number=True)
        at = number.end() + offset
    yield from _words(source, offset, at, end)


def _words(source: str, offset: int, start: int, end: int) -> Iterator[Part]:
    if _WORD.search(source, start - offset, end - offset):
        yield Part(start, end)
