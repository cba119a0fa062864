"""Named groups of test cases that must hold: the "training points" of a pack."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from classifiers.packs import PackError
from classifiers.training.evaluate import scores_of, task_labels
from classifiers.training.metrics import right_rows
from classifiers.types import Batch, Classifier, OperatingPoint

SLICES = "slices.json"


@dataclass(frozen=True, slots=True)
class Point:
    """One case: the labels that must match, and those that must not. In a pack of kind one_of the best
    label matches.

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
    """How many cases of each slice hold, by :func:`classifiers.training.metrics.right_rows`, at the
    default thresholds: name -> (held, all).

    Args:
        batches: from :func:`batches_of`; by default made anew.
    """
    batches = batches_of(slices) if batches is None else batches
    labels = task_labels(classifier)
    columns = {label: at for at, label in enumerate(labels)}
    cuts = classifier.thresholds(labels, OperatingPoint())
    floors = np.asarray([cuts[label] for label in labels])
    decision = "one_of" if classifier.kind == "one_of" else "any_of"
    found: dict[str, tuple[int, int]] = {}
    for name, points in slices.items():
        if not points:
            continue
        scores = scores_of(classifier.predict(batches[name]), columns)
        truth = np.stack([_truth(point, labels) for point in points])
        right = right_rows(scores, truth, scores >= floors, decision)
        found[name] = (int(right.sum()), len(points))
    return found


def _truth(point: Point, labels: Sequence[str]) -> npt.NDArray[np.int8]:
    """``[labels]`` as in :func:`classifiers.training.fit.truth_table`."""
    nothing = not point.labels and not point.without
    said = [1 if n in point.labels else 0 if nothing or n in point.without else -1 for n in labels]
    return np.asarray(said, dtype=np.int8)
