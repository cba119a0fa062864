"""How a head does on what a pack must not forget: corrections, slices, remembered rows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from classifiers.heads import HeadClassifier, load_heads
from classifiers.neighbours import CORRECTED
from classifiers.packs import read_tensors
from classifiers.training.corrected import Subject, Wide, logits_of
from classifiers.training.delta import Points
from classifiers.training.pack import manifest_of
from classifiers.training.slices import passed

TOLERATED = 0.005
"""Share of the remembered rows of a label that may be lost; slices that a person wrote may lose none."""
CORRECTIONS, EARLIER = "corrections", "earlier corrections"


@dataclass(frozen=True, slots=True)
class Held:
    """How many cases of a slice hold, and how many may be lost to a correction."""

    cases: int
    right: int
    may_lose: int = 0


@dataclass(frozen=True, slots=True)
class Scored:
    """A head of the subject's pack, before or after a correction, with what it says.

    Attributes:
        classifier: for the slices, whose texts are read.
        given: ``[corrections, labels]`` its logits.
        anchors: ``[remembered, labels]`` its logits.
        points: its operating points.
    """

    classifier: HeadClassifier
    given: Wide
    anchors: Wide
    points: dict[str, Any]


def standing(subject: Subject, given: Points, head: Scored) -> dict[str, Held]:
    """The corrections, the slices that a person wrote, and the remembered rows by label."""
    return dict(_standing(subject, given, head))


def _standing(subject: Subject, given: Points, head: Scored) -> Iterator[tuple[str, Held]]:
    cuts = subject.cuts(head.points)
    whole = np.all(subject.right(head.given, given.truth, cuts), axis=1)
    yield CORRECTIONS, Held(len(given.truth), int(whole.sum()))
    for name, (passing, cases) in passed(head.classifier, subject.slices, subject.batches).items():
        yield name, Held(cases, passing)
    truth = subject.anchors.truth
    right = subject.right(head.anchors, truth, cuts)
    earlier = subject.replay.index == CORRECTED
    if earlier.any():
        yield EARLIER, Held(int(earlier.sum()), int(right[earlier].all(axis=1).sum()))
    for column, label in enumerate(subject.labels):
        own = truth[:, column] == 1
        if own.any():
            yield f"remembered: {label}", _remembered(right[own, column])
    quiet = subject.replay.benign
    if subject.decision == "any_of" and quiet.any():
        yield "remembered: none of them", _remembered(right[quiet].all(axis=1))


def _remembered(right: Any) -> Held:
    return Held(len(right), int(right.sum()), int(np.ceil(TOLERATED * len(right))))


def scored(subject: Subject, given: Points, pack: Path) -> Scored:
    """Another head of the subject's labels, from its pack: one that was corrected earlier."""
    tensors = read_tensors(pack / "head.safetensors")
    return Scored(
        load_heads([pack], subject.reader)[0],
        logits_of(tensors, given.features, given.grams),
        logits_of(tensors, subject.anchors.features, subject.anchors.grams),
        dict(manifest_of(pack)["operating_points"]),
    )
