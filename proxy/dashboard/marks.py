"""A text in pieces, each marked by how much it speaks for a label or against it. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import ceil

from classifiers.heads import TokenShare
from classifiers.types import Prediction

LEVELS = 5
_FAINT = 0.04
"""Shares below this part of the largest are not marked."""


@dataclass(frozen=True, slots=True)
class Segment:
    """A piece of a text.

    Attributes:
        mark: class of the style sheet: ``m1`` to ``m5`` for, ``u1`` to ``u5`` against, ``span`` for a
            find; empty for none.
        told: what is said of it when it is pointed at.
    """

    text: str
    mark: str = ""
    told: str = ""


def by_share(text: str, shares: Iterable[TokenShare]) -> list[Segment]:
    """A text marked by the tokens' shares of a logit; where tokens overlap they add up."""
    placed = [share for share in shares if share.start < share.end]
    borders = sorted({0, len(text), *(s.start for s in placed), *(s.end for s in placed)})
    places = {at: index for index, at in enumerate(borders)}
    values = [0.0] * len(borders)
    for share in placed:
        for index in range(places[share.start], places[share.end]):
            size = borders[index + 1] - borders[index]
            values[index] += share.share * size / (share.end - share.start)
    largest = max(map(abs, values), default=0.0)
    pieces = [
        Segment(text[start:end], *_marked(value, largest))
        for start, end, value in zip(borders, borders[1:], values, strict=False)
    ]
    return _joined(pieces)


def by_span(text: str, finds: Iterable[Prediction]) -> list[Segment]:
    """A text with what was found in it; of finds that overlap, the first and longest."""
    spans = sorted((f.span.start, -f.span.end, f.label, f.score) for f in finds if f.span)
    pieces, at = [], 0
    for start, negative_end, label, score in spans:
        if start < at:
            continue
        pieces.append(Segment(text[at:start]))
        pieces.append(Segment(text[start:-negative_end], "span", f"{label} {score:.3f}"))
        at = -negative_end
    return _joined([*pieces, Segment(text[at:])])


def strongest(shares: Iterable[TokenShare], most: int = 10) -> list[TokenShare]:
    """The tokens with the largest shares, for or against."""
    return sorted(shares, key=lambda share: -abs(share.share))[:most]


def _marked(value: float, largest: float) -> tuple[str, str]:
    if not largest or abs(value) < _FAINT * largest:
        return "", ""
    level = max(1, ceil(LEVELS * abs(value) / largest))
    return f"{'m' if value > 0 else 'u'}{level}", f"{value:+.3f}"


def _joined(pieces: Sequence[Segment]) -> list[Segment]:
    """Without empty pieces, and with those that are not marked in one where they touch."""
    found: list[Segment] = []
    for piece in pieces:
        if not piece.text:
            continue
        if found and not piece.mark and not found[-1].mark:
            found[-1] = Segment(found[-1].text + piece.text)
        else:
            found.append(piece)
    return found
