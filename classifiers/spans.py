"""What classifiers of kind ``spans`` share: thresholds of fixed scores, overlaps, context words."""

from __future__ import annotations

import difflib
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

    Linear in the number of finds after sorting: each find is compared with the cluster it falls in.
    """
    kept: list[Find] = []
    cluster: list[Find] = []
    reach = -1
    for find in sorted(finds, key=lambda f: (f.start, -f.end)):
        if cluster and find.start >= reach:
            kept += _best_of(cluster)
            cluster = []
        cluster.append(find)
        reach = find.end if len(cluster) == 1 else max(reach, find.end)
    return kept + _best_of(cluster)


def _best_of(cluster: list[Find]) -> list[Find]:
    if len(cluster) < 2:
        return cluster
    chosen: list[Find] = []
    for find in sorted(cluster, key=lambda f: (-f.score, f.start - f.end, f.start)):
        if all(find.end <= other.start or find.start >= other.end for other in chosen[:_CROWD]):
            chosen.append(find)
    return sorted(chosen, key=lambda f: f.start)


_CROWD = 200
"""Overlapping finds are few; in a text built to have many, comparing all pairs would be quadratic."""
