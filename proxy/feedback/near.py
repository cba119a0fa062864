"""How near a score came to the threshold of a rule, in log-odds. Pure.

In probability, 0.9993 is as near to 0.95 as 0.55 is to 0.5, though the classifier is as good as sure of
the one and of two minds about the other. Log-odds, ``ln(p / (1 - p))``, are what a head adds up, and the
same distance means the same wherever the threshold lies.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import log
from typing import Any

from classifiers.types import Stage
from policies.schema import BoundPolicy
from policies.seen import DIGITS, LEAST

MOST = 1 - 0.5 * 10**-DIGITS
"""Higher scores are recorded as 1."""
Cuts = Mapping[str, Mapping[str, tuple[float, ...]]]
"""Classifier@version -> label -> thresholds of the rules in force."""


@dataclass(frozen=True, slots=True)
class Near:
    """The score that came nearest to a threshold of a rule.

    Attributes:
        score: 0.01 stands for all that are too low to be recorded.
        known: the record holds the score; else it may be any that is too low to be recorded, or so high
            that it was rounded to 1, and nobody can say how near it came.
        stage: whose texts have it.
        role, newest, alone: of the texts that have it: who spoke, whether in the last turn, and whether it
            is a text of the request as it was sent, neither put together nor decoded.
    """

    classifier: str
    label: str
    score: float
    threshold: float
    known: bool = True
    stage: Stage = "input"
    role: str = ""
    newest: bool = True
    alone: bool = True

    @property
    def margin(self) -> float:
        """How near, in log-odds."""
        return abs(log_odds(self.score) - log_odds(self.threshold))


def log_odds(probability: float) -> float:
    """``ln(p / (1 - p))``, of 0 and 1 that of the last probability before them that a record can tell."""
    p = min(max(probability, 1 - MOST), MOST)
    return log(p / (1 - p))


def thresholds(policies: Sequence[BoundPolicy], names: Sequence[str]) -> Cuts:
    """Where the rules in force cut, of these classifiers."""
    cuts: dict[str, dict[str, set[float]]] = {}
    for policy in policies:
        for bound in policy.rules:
            for leaf, _ in bound.condition.leaves():
                if leaf.classifier in names:
                    for label, threshold in leaf.thresholds:
                        cuts.setdefault(leaf.id, {}).setdefault(label, set()).add(threshold)
    return {id: {n: tuple(sorted(c)) for n, c in own.items()} for id, own in cuts.items()}


def nearest(record: Mapping[str, Any], cuts: Cuts) -> Near | None:
    """The score of a record that came nearest to a threshold, of those that it holds, if it holds any;
    None where no rule in force looked."""
    best: Near | None = None
    for name, stage in record["stages"].items():
        for seen in stage.get("seen", ()):
            for id, scores in seen["scores"].items():
                if scores is None:
                    continue
                for label, points in cuts.get(id, {}).items():
                    for point in points:
                        one = _near(name, seen, id, label, scores.get(label), point)
                        if best is None or _order(one) < _order(best):
                            best = one
    return best


def _near(
    stage: Stage, seen: Mapping[str, Any], id: str, label: str, score: float | None, point: float
) -> Near:
    return Near(
        id.partition("@")[0],
        label,
        LEAST if score is None else score,
        point,
        score is not None and score <= MOST,
        stage,
        seen["role"],
        seen.get("last_turn", True),
        not (seen.get("across") or seen.get("derived")),
    )


def _order(one: Near) -> tuple[bool, float]:
    return not one.known, one.margin
