"""Whether texts have changed since a classifier was calibrated: the distribution of its scores. Pure.

The population stability index compares two distributions over fixed bins, ``sum((a - b) * ln(a / b))``
(N. Siddiqi, Credit Risk Scorecards, Wiley 2006, which also gives the usual reading: under 0.1 no
change to speak of, over 0.25 one to look into).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import log
from typing import Any

import numpy as np

from classifiers.heads import HeadClassifier

EDGES = (0.01, 0.05, 0.1, 0.2, 0.35, 0.5, 0.65, 0.8, 0.9, 0.95)
"""Between the bins; records leave out scores under the first."""
LEAST = 200
"""Scores that each of the two must have."""
SOME, MUCH = 0.1, 0.25
_SMOOTH = 0.5


@dataclass(frozen=True, slots=True)
class Drift:
    """How the scores of a label have moved.

    Attributes:
        label: that moved most.
        recent, earlier, calibrated: scores by bin, as shares.
        since_earlier, since_calibration: the index; None where there are too few scores.
        counts: of the recent and the earlier scores.
    """

    label: str
    recent: tuple[float, ...]
    earlier: tuple[float, ...]
    calibrated: tuple[float, ...]
    since_earlier: float | None
    since_calibration: float | None
    counts: tuple[int, int]

    @property
    def word(self) -> str:
        """What it comes to, in a word."""
        if self.since_earlier is None:
            return "too few"
        if self.since_earlier >= MUCH:
            return "much"
        return "some" if self.since_earlier >= SOME else "none"


def drift(classifier: HeadClassifier, records: Sequence[Mapping[str, Any]]) -> Drift:
    """Compare the newer half of some records with the older one, and with the calibration texts.

    Of a request, the highest score over its texts of one kind is recorded, so that long conversations
    stand higher than single texts; both halves have them alike, the calibration texts have not.

    Args:
        records: of the ledger, the newest first.
    """
    id = f"{classifier.name}@{classifier.version}"
    seen = [scores for record in records for scores in _scores(record, id)]
    half = len(seen) // 2
    found = []
    for column, label in enumerate(classifier.head.labels):
        values = [scores.get(label, 0.0) for scores in seen]
        recent, earlier = bins(values[:half]), bins(values[half:])
        known = bins(classifier.head.calibration_scores[:, column])
        found.append(
            Drift(
                label,
                shares(recent),
                shares(earlier),
                shares(known),
                psi(recent, earlier),
                psi(recent, known),
                (sum(recent), sum(earlier)),
            )
        )
    return max(found, key=lambda one: one.since_earlier or 0.0)


def bins(values: Iterable[float]) -> tuple[int, ...]:
    """How many values are in each bin."""
    places = np.searchsorted(EDGES, np.fromiter(values, dtype=np.float64), side="right")
    return tuple(int(n) for n in np.bincount(places, minlength=len(EDGES) + 1))


def shares(counts: Sequence[int]) -> tuple[float, ...]:
    """The parts of all."""
    total = sum(counts)
    return tuple(count / total if total else 0.0 for count in counts)


def psi(recent: Sequence[int], earlier: Sequence[int]) -> float | None:
    """The population stability index of two histograms; None where one has fewer than ``LEAST``."""
    if min(sum(recent), sum(earlier)) < LEAST:
        return None
    total = 0.0
    for one, other in zip(recent, earlier, strict=True):
        # Half a text more in each bin: an empty one would make it infinite.
        a = (one + _SMOOTH) / (sum(recent) + _SMOOTH * len(recent))
        b = (other + _SMOOTH) / (sum(earlier) + _SMOOTH * len(earlier))
        total += (a - b) * log(a / b)
    return total


def _scores(record: Mapping[str, Any], id: str) -> Iterable[Mapping[str, float]]:
    for stage in record["stages"].values():
        for seen in stage.get("seen", ()):
            scores = seen["scores"].get(id)
            if scores is not None:
                yield scores
