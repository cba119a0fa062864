"""Named groups of test cases that must hold: the "training points" of a pack."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from classifiers.packs import PackError
from classifiers.types import Batch, Classifier, OperatingPoint

SLICES = "slices.json"


@dataclass(frozen=True, slots=True)
class Point:
    """One case: the labels that must match at the default points, and those that must not.

    An empty ``labels`` with an empty ``without`` says that no label at all may match.
    """

    text: str = field(repr=False)
    labels: tuple[str, ...] = ()
    without: tuple[str, ...] = ()


Slices = Mapping[str, Sequence[Point]]


def write_slices(folder: Path, slices: Slices) -> None:
    """Put the cases into a pack; none, no file."""
    path = folder / SLICES
    if not slices:
        path.unlink(missing_ok=True)
        return
    content = {
        name: [{"text": p.text, "labels": p.labels, "without": p.without} for p in points]
        for name, points in slices.items()
    }
    path.write_text(json.dumps(content, ensure_ascii=False, indent=1) + "\n", "utf-8")


def read_slices(folder: Path) -> dict[str, list[Point]]:
    """The cases of a pack.

    Raises:
        PackError: the file is damaged.
    """
    path = folder / SLICES
    if not path.is_file():
        return {}
    try:
        content: dict[str, list[dict[str, Any]]] = json.loads(path.read_text("utf-8"))
        return {
            name: [Point(p["text"], tuple(p["labels"]), tuple(p["without"])) for p in points]
            for name, points in content.items()
        }
    except (ValueError, KeyError, TypeError) as error:
        raise PackError(f"{path}: cannot be read ({error}); rebuild the pack") from None


def batches_of(slices: Slices) -> dict[str, Batch]:
    """The texts of each slice; kept, they are encoded once for all packs on one reader."""
    return {name: Batch([point.text for point in points]) for name, points in slices.items()}


def passed(
    classifier: Classifier, slices: Slices, batches: Mapping[str, Batch] | None = None
) -> dict[str, tuple[int, int]]:
    """How many cases of each slice hold: name -> (held, all).

    Args:
        batches: from :func:`batches_of`; by default made anew.
    """
    batches = batches_of(slices) if batches is None else batches
    cuts = classifier.thresholds(classifier.labels, OperatingPoint())
    found: dict[str, tuple[int, int]] = {}
    for name, points in slices.items():
        if not points:
            continue
        predictions = classifier.predict(batches[name])
        held = 0
        for point, own in zip(points, predictions, strict=True):
            scores: dict[str, float] = {}
            for p in own:
                scores[p.label] = max(p.score, scores.get(p.label, 0.0))
            held += holds(point, {k for k, v in scores.items() if v >= cuts[k]})
        found[name] = (held, len(points))
    return found


def holds(point: Point, matched: set[str]) -> bool:
    """Whether a case is met by the labels that matched."""
    if not point.labels and not point.without:
        return not matched
    return matched.issuperset(point.labels) and matched.isdisjoint(point.without)
