"""What classifiers of kind ``spans`` share: thresholds of fixed scores, overlaps, context words."""

from __future__ import annotations

import difflib
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from classifiers.types import OperatingPoint, UnknownLabel

DEFAULT_THRESHOLD = 0.5
"""Every find of a built-in detector scores above it; a policy asks for more with ``at:``."""


@dataclass(frozen=True, slots=True)
class Find:
    """A find before it becomes a prediction: ``text[start:end]``, in characters."""

    start: int
    end: int
    label: str
    score: float


def fixed_thresholds(
    name: str, known: Sequence[str], labels: Sequence[str], point: OperatingPoint
) -> Mapping[str, float]:
    """Thresholds of a classifier whose scores are fixed grades of certainty, not calibrated.

    Raises:
        UnknownLabel: a label it does not have, or a promise about rates.
    """
    for label in labels:
        if label not in known:
            near = difflib.get_close_matches(label.upper(), [k.upper() for k in known], n=1)
            hint = next((k for k in known if near and k.upper() == near[0]), None)
            mean = f"did you mean {hint!r}? " if hint else ""
            raise UnknownLabel(
                f"classifier {name!r} has no label {label!r}; {mean}it has: {', '.join(known)}"
            )
    if point.kind in ("max_false_positive_rate", "min_recall"):
        raise UnknownLabel(
            f"classifier {name!r} cannot promise {point.kind}: it matches patterns, so its scores are "
            "fixed grades of certainty and no benign set calibrates them; use `at:` with a score "
            "(1.0 = checksum verified)"
        )
    cut = DEFAULT_THRESHOLD if point.value is None else point.value
    return dict.fromkeys(labels, cut)


def without_overlaps(finds: Iterable[Find]) -> list[Find]:
    """Of finds that overlap the most certain stays, among equals the longest, then the first.

    Returns:
        Finds in the order of the text, none of which overlap.
    """
    starts: list[int] = []
    kept: list[Find] = []
    for find in sorted(finds, key=lambda f: (-f.score, f.start - f.end, f.start)):
        place = bisect_right(starts, find.start)
        after_previous = place == 0 or kept[place - 1].end <= find.start
        before_next = place == len(kept) or find.end <= kept[place].start
        if after_previous and before_next:
            starts.insert(place, find.start)
            kept.insert(place, find)
    return kept
