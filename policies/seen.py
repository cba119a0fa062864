"""What the rules saw of a stage: the highest scores of its texts, by kind of text.

A rule looks at texts of some kinds, so these numbers say which rules another threshold would have
made fire. They hold no text.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

LEAST = 0.01
"""Lower scores are left out."""
DIGITS = 4
"""Digits of a score that are kept."""


class Kind(NamedTuple):
    """What decides which rules look at a text; the fields are those of ``classifiers.types.Text``.

    A tuple, for one is made of every text of every request.
    """

    role: str
    last_turn: bool
    across: bool
    derived: bool


@dataclass(frozen=True, slots=True)
class Seen:
    """The texts of one kind.

    Attributes:
        kind: what they have in common.
        texts: how many there are; for a stream, how many pieces of it were checked.
        scores: by ``classifier@version`` the highest score of each label over the texts, rounded, if
            it is 0.01 or more; None where the classifier failed on one of them.
    """

    kind: Kind
    texts: int
    scores: Mapping[str, Mapping[str, float] | None]


def rounded(highest: Mapping[str, float] | None) -> dict[str, float] | None:
    """The scores that are kept, rounded."""
    if highest is None:
        return None
    return {label: round(score, DIGITS) for label, score in highest.items() if score >= LEAST}


def together(earlier: Sequence[Seen], later: Sequence[Seen]) -> tuple[Seen, ...]:
    """What two checks of one stage have seen."""
    found = {seen.kind: seen for seen in earlier}
    for seen in later:
        before = found.get(seen.kind)
        found[seen.kind] = seen if before is None else _joined(before, seen)
    return tuple(found.values())


def _joined(one: Seen, other: Seen) -> Seen:
    scores: dict[str, Mapping[str, float] | None] = {}
    for name in {**one.scores, **other.scores}:
        # A classifier that only one of them has asked was not failing.
        mine, theirs = one.scores.get(name, {}), other.scores.get(name, {})
        if mine is None or theirs is None:
            scores[name] = None
            continue
        labels = {**mine, **theirs}
        scores[name] = {n: max(mine.get(n, 0.0), theirs.get(n, 0.0)) for n in labels}
    return Seen(one.kind, one.texts + other.texts, scores)
