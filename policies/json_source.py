"""Texts that are JSON source: what their strings mean, and placeholders that keep them valid.

Arguments of tool calls, and often their results, are JSON within JSON. ``"\\u0066alcon"`` is a word
to the model and none to a classifier that reads the source, and a placeholder that swallows a
quotation mark leaves source that nobody can parse.
"""

from __future__ import annotations

import json
import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from policies.decision import Redaction

_TOKEN = re.compile(r'"(?P<string>[^"\\]*+(?:\\.[^"\\]*+)*+)"|(?P<number>-?[0-9][0-9.eE+-]*+)')
_UNIT = re.compile(
    r"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|\\u[0-9a-fA-F]{4}|\\.|[^\\]++"
)
"""What is decoded together: a pair of surrogates, an escape, a run of characters without one."""

_HALF = re.compile("[\ud800-\udfff]")


def is_document(text: str) -> bool:
    """Whether a text is the source of a JSON object or array."""
    if text.lstrip()[:1] not in ("{", "["):
        return False
    try:
        # Numbers are kept as text: nothing is made of them here.
        json.loads(text, parse_int=str, parse_float=str)
    except (ValueError, RecursionError):
        return False
    return True


def strings(document: str) -> Iterator[tuple[int, int, str]]:
    """Start, end and meaning of what stands between the quotation marks of every string."""
    for token in _TOKEN.finditer(document):
        if token.lastgroup == "string":
            source = token["string"]
            yield *token.span("string"), _decoded(source) if "\\" in source else source


@dataclass(frozen=True, slots=True)
class Units:
    """Where the characters of a decoded string stand in its source, unit by unit.

    Attributes:
        at: where each unit begins in the decoded string, one more for the end.
        spans: where it stands in the source.
    """

    at: tuple[int, ...]
    spans: tuple[tuple[int, int], ...]

    @classmethod
    def of(cls, source: str) -> Units:
        """Those of what stands between the quotation marks of a string."""
        at, spans = [0], []
        for unit in _UNIT.finditer(source):
            escape = unit.group()[0] == "\\"
            spans.append(unit.span())
            at.append(at[-1] + len(_decoded(unit.group()) if escape else unit.group()))
        return cls(tuple(at), tuple(spans))

    def source(self, start: int, end: int) -> tuple[int, int]:
        """The stretch of the source that means ``start:end``, ``start < end``; whole escapes."""
        return self._edge(start, start, 0), self._edge(end - 1, end, 1)

    def _edge(self, within: int, edge: int, side: int) -> int:
        unit = bisect_right(self.at, within) - 1
        begin, end = self.spans[unit]
        if self.at[unit + 1] - self.at[unit] == end - begin:  # a run: one character, one character
            return begin + edge - self.at[unit]
        return (begin, end)[side]


def escapes(text: str) -> list[tuple[int, int]]:
    """Start and end of every escape of a document, in order; empty for a text that is none."""
    if "\\" not in text or not is_document(text):
        return []
    return [unit.span() for unit in _UNIT.finditer(text) if unit.group()[0] == "\\"]


def outside(spans: Sequence[tuple[int, int]], start: int, end: int) -> tuple[int, int]:
    """A stretch without the halves of escapes at its ends: the ``n`` of a line break is no letter.

    Args:
        spans: of :func:`escapes`.
    """
    before = bisect_left(spans, (start,)) - 1
    if before >= 0 and spans[before][1] > start:
        start = spans[before][1]
    before = bisect_left(spans, (end,)) - 1
    if before >= 0 and spans[before][1] > end:
        end = spans[before][0]
    return start, end


def meaning(source: str) -> str:
    """What a stretch of a document means, itself where it is no part of one string."""
    try:
        return _decoded(source)
    except ValueError:
        return source


def apply_redactions(document: str, redactions: Iterable[Redaction]) -> str:
    """The source of a document with placeholders in its strings; it stays a document.

    A number of which a part is replaced becomes a string, and a find that reaches over several
    strings leaves its placeholder in each. One that covers all of the document replaces it.

    Args:
        document: as in :func:`is_document`.
        redactions: those of this text, not overlapping, ``start`` and ``end`` in the source
            and cutting no escape (:func:`outside`).
    """
    wanted = sorted(redactions, key=lambda r: r.start)
    if any(r.start == 0 and r.end >= len(document) for r in wanted):
        return wanted[0].placeholder
    pieces: list[str] = []
    done = first = 0
    for token in _TOKEN.finditer(document):
        start, end = token.span(token.lastgroup or 0)
        while first < len(wanted) and wanted[first].end <= start:
            first += 1
        beyond = first
        while beyond < len(wanted) and wanted[beyond].start < end:
            beyond += 1
        mine = wanted[first:beyond]
        if mine:
            new = _replaced(document[start:end], start, mine)
            pieces += (document[done:start], new if token.lastgroup == "string" else f'"{new}"')
            done = end
    return "".join((*pieces, document[done:]))


def _replaced(source: str, offset: int, redactions: Sequence[Redaction]) -> str:
    """A string's source with placeholders in it."""
    pieces: list[str] = []
    done = 0
    for redaction in redactions:
        start, end = redaction.start - offset, min(len(source), redaction.end - offset)
        pieces += (source[done : max(0, start)], json.dumps(redaction.placeholder)[1:-1])
        done = end
    return "".join((*pieces, source[done:]))


def _decoded(source: str) -> str:
    # A half of a pair without the other is no character, and cannot be encoded.
    return _HALF.sub("\N{REPLACEMENT CHARACTER}", json.loads(f'"{source}"', strict=False))
