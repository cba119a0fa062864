"""Nearest examples: a classifier for one to five examples a label.

A label is as likely as its nearest example is similar. Similarity is the cosine of the shared
encoder's features, those of an example averaged over its windows, those of a text by the window that
is nearest; the scale and the threshold that make it a probability were fitted on the examples
themselves, each left out in its turn.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from classifiers import calibration
from classifiers.heads import (
    OUT_OF_SCOPE,
    POOLINGS,
    check_recall,
    energy,
    strangeness,
)
from classifiers.packs import PackError, made_for_another, read_pack, read_tensors
from classifiers.pooled import Scores, owned_rows, probabilities
from classifiers.types import (
    Batch,
    ClassifierError,
    Kind,
    OperatingPoint,
    Prediction,
    UnknownLabel,
)
from classifiers.views import Reader

Array = npt.NDArray[np.float32]
NEEDS = ("name", "labels", "decision", "pooling", "encoder", "operating_points")
FILES = ("examples.safetensors", "calibration.safetensors")


class NearestClassifier:
    """An examples pack, verified.

    Raises:
        PackError: the pack is damaged, or was made for another encoder.
    """

    def __init__(self, folder: Path, reader: Reader) -> None:
        encoder = reader.encoder
        manifest = read_pack(folder, kind="examples", needs=NEEDS, files=FILES)
        if manifest["encoder"] != encoder.hash:
            raise made_for_another(folder, manifest, encoder.folder, encoder.name, encoder.hash)
        self.manifest: Mapping[str, Any] = manifest
        self.name = str(manifest["name"])
        self.labels: tuple[str, ...] = tuple(manifest["labels"])
        self.kind: Kind = manifest["decision"]
        self.version = str(manifest["hash"])[:12]
        if self.kind not in ("one_of", "any_of") or manifest["pooling"] not in POOLINGS:
            raise PackError(f"{folder}: decision {self.kind!r}, pooling {manifest['pooling']!r}")
        if missing := set(self.labels) - set(manifest["operating_points"]):
            raise PackError(f"{folder}: no operating point for {', '.join(sorted(missing))}")
        self._reader = reader
        tensors, held_out = (read_tensors(folder / name) for name in FILES)
        count, labels = len(tensors.get("examples", ())), len(self.labels)
        self._examples = _shaped(folder, tensors, "examples", (count, encoder.features))
        self._truth = _shaped(folder, tensors, "truth", (count, labels)) > 0.5
        self._scale = _shaped(folder, tensors, "scale", (labels,))
        self._shift = _shaped(folder, tensors, "shift", (labels,))
        if not self._truth.any(axis=0).all():
            raise PackError(f"{folder}: a label has no example; train it anew")
        rows = len(held_out.get("logits", ()))
        logits = _shaped(folder, held_out, "logits", (rows, labels))
        self._scores = probabilities(logits, self.kind)
        self._calibration_truth = _shaped(folder, held_out, "truth", (rows, labels))
        self._energies: Scores | None = None
        if manifest.get(OUT_OF_SCOPE) and self.kind == "one_of" and rows:
            self._energies = np.sort(energy(logits))
            outside = strangeness(logits, self._energies)
            self._scores = np.column_stack([self._scores, outside])
            none = np.zeros((rows, 1), dtype=np.float32)
            self._calibration_truth = np.hstack([self._calibration_truth, none])
            self.labels = (*self.labels, OUT_OF_SCOPE)

    @property
    def reader(self) -> Reader:
        """The encoder's work."""
        return self._reader

    @property
    def examples(self) -> tuple[Array, npt.NDArray[np.bool_]]:
        """``[examples, features]`` of unit length, and ``[examples, labels]`` which labels they have."""
        return self._examples, self._truth

    def predict(self, batch: Batch) -> list[tuple[Prediction, ...]]:
        """See :meth:`classifiers.types.Classifier.predict`. Of a long text the nearest window
        counts."""
        views = self._reader.views(batch)
        near = similarities(views.encoded.features, self._examples, self._truth)
        pooled = np.stack([near[own].max(axis=0) for own in owned_rows(views, len(batch.texts))])
        logits = pooled * self._scale + self._shift
        scores = probabilities(logits, self.kind)
        if self._energies is not None:
            scores = np.column_stack([scores, strangeness(logits, self._energies)])
        if not np.isfinite(scores).all():
            raise ClassifierError(f"classifier {self.name} gave scores that are not finite")
        return [
            tuple(
                Prediction(self.name, label, float(score))
                for label, score in zip(self.labels, line, strict=True)
            )
            for line in scores
        ]

    def thresholds(self, labels: Sequence[str], point: OperatingPoint) -> Mapping[str, float]:
        """See :meth:`classifiers.types.ClassifierInfo.thresholds`."""
        columns = [self._column(label) for label in labels]
        value, name = float(point.value or 0.0), f"{self.name}: {', '.join(labels)}"
        if point.kind == "at":
            return dict.fromkeys(labels, value)
        if point.kind == "default":
            points = self.manifest["operating_points"]
            return {label: float(points[label]["threshold"]) for label in labels}
        scores = calibration.joint(self._scores, columns)
        truth = self._calibration_truth[:, columns]
        if point.kind == "max_false_positive_rate":
            quiet = self._calibration_truth if self.kind == "any_of" else truth
            benign = scores[(quiet == 0).all(axis=1)]
            return dict.fromkeys(labels, calibration.false_positive_threshold(benign, value, name))
        check_recall(self.name, labels, self.labels[len(self.manifest["labels"]) :])
        positive = scores[(truth == 1).any(axis=1)]
        return dict.fromkeys(labels, calibration.recall_threshold(positive, value, name))

    def _column(self, label: str) -> int:
        try:
            return self.labels.index(label)
        except ValueError:
            raise UnknownLabel(
                f"classifier {self.name} has no label {label!r}; it has {', '.join(self.labels)}"
            ) from None


def similarities(features: Array, examples: Array, truth: npt.NDArray[np.bool_]) -> Array:
    """``[n, labels]`` the greatest cosine to an example of each label.

    Args:
        features: ``[n, features]``.
        examples: ``[examples, features]`` of unit length.
        truth: ``[examples, labels]`` which labels an example has.
    """
    unit = features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)
    near = unit @ examples.T
    found = np.empty((len(features), truth.shape[1]), dtype=np.float32)
    for column in range(truth.shape[1]):
        found[:, column] = near[:, truth[:, column]].max(axis=1)
    return found


def _shaped(
    folder: Path, tensors: Mapping[str, npt.NDArray[Any]], name: str, shape: tuple[int, ...]
) -> Array:
    array = tensors.get(name)
    if array is None or array.shape != shape or not np.isfinite(array).all():
        found = "missing" if array is None else f"of shape {array.shape} or not finite"
        raise PackError(f"{folder}: tensor {name!r} is {found}, {shape} is needed")
    return array.astype(np.float32, copy=False)
