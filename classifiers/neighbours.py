"""The training rows of a pack that are nearest to a text, to see what a verdict leans on.

A pack remembers of its rows what the encoder made of them and their labels, and no text.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from classifiers.encoder import Array
from classifiers.heads import HeadClassifier
from classifiers.nearest import NearestClassifier
from classifiers.packs import REPLAY, PackError, read_tensors
from classifiers.types import Batch, Classifier
from classifiers.views import Reader

CORRECTED = -2
"""The ``index`` there of a row that came as a correction."""


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A training row.

    Attributes:
        similarity: cosine to the nearest part of the text, -1..1.
        labels: those it has; none for an ordinary text.
        corrected: it came as a correction.
    """

    similarity: float
    labels: tuple[str, ...]
    corrected: bool = False


def neighbours(classifier: Classifier, text: str, most: int = 8) -> list[Neighbour] | None:
    """The nearest rows that a classifier remembers, the nearest first. Blocking.

    Returns:
        None where it remembers none: it was not trained, or its pack has no ``replay.safetensors``.

    Raises:
        PackError: what the pack remembers is damaged.
    """
    if isinstance(classifier, HeadClassifier):
        file = classifier.head.folder / REPLAY
        if not file.is_file():
            return None
        tensors = read_tensors(file)
        rows, truth, index = tensors["features"], tensors["truth"], tensors["index"]
        labels = classifier.head.labels
        if rows.ndim != 2 or truth.shape != (len(rows), len(labels)) or index.shape != (len(rows),):
            raise PackError(f"{file}: its tensors do not fit together; rebuild the pack")
        found = _cosines(classifier.reader, text, rows.astype(np.float32))
        return _nearest(found, truth, labels, index == CORRECTED, most)
    if isinstance(classifier, NearestClassifier):
        rows, truth = classifier.examples
        found = _cosines(classifier.reader, text, rows)
        labels = tuple(classifier.manifest["labels"])
        return _nearest(found, truth, labels, np.zeros(len(rows), dtype=bool), most)
    return None


def _cosines(reader: Reader, text: str, rows: Array) -> Array:
    """``[rows]`` the cosine of each row to that window of the text that is nearest to it."""
    features = reader.views(Batch([text])).encoded.features
    return (_unit(rows) @ _unit(features).T).max(axis=1)  # type: ignore[no-any-return]


def _unit(rows: Array) -> Array:
    unit: Array = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
    return unit


def _nearest(
    cosines: Array,
    truth: npt.NDArray[np.generic],
    labels: tuple[str, ...],
    corrected: npt.NDArray[np.bool_],
    most: int,
) -> list[Neighbour]:
    order = np.argsort(-cosines, kind="stable")[:most]
    return [
        Neighbour(
            float(cosines[row]),
            tuple(label for label, has in zip(labels, truth[row], strict=True) if has == 1),
            bool(corrected[row]),
        )
        for row in order
    ]
