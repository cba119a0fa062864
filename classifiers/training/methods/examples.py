"""The method `examples`: nearest examples with fitted thresholds, for one to five examples a label."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from classifiers.nearest import similarities
from classifiers.training.data import Row
from classifiers.training.fit import truth_table
from classifiers.training.methods.base import Context, Trained, Wide
from classifiers.training.platt import calibrate
from classifiers.training.windows import make_windows
from classifiers.types import Kind

PRIOR = (20.0, 0.45)
"""Scale of a cosine, and the cosine at which a label is as likely as not, where the examples are too few
to fit them: what they came to on CLINC150, Banking77 and HWU64 with five examples a label."""
FEWEST = 8
"""Held-out examples from which scale and shift are fitted."""


@dataclass(frozen=True, slots=True)
class ExamplesMethod:
    """Every row is an example; each is judged by the others."""

    name: str = "examples"

    def train(
        self, rows: Sequence[Row], labels: Sequence[str], decision: Kind, context: Context
    ) -> Trained:
        """See :meth:`classifiers.training.methods.base.Method.train`."""
        context.say(f"reading {len(rows):,} examples")
        windows = make_windows(rows, context.encoder, context.cache, "mean")
        truth = truth_table(rows, labels)
        for column, label in enumerate(labels):
            if not (truth[:, column] == 1).any():
                raise ValueError(f"label {label!r} has no example; add one or drop the label")
        lengths = np.maximum(np.linalg.norm(windows.features, axis=1, keepdims=True), 1e-12)
        features = (windows.features / lengths).astype(np.float32)
        near, honest = left_out(features, truth == 1, np.asarray(context.folds))
        weights = np.asarray([row.weight for row in rows])
        scale, shift = _fitted(near, truth, weights, honest, decision)
        held = truth == 1
        keep = held.any(axis=1)
        return Trained(
            kind="examples",
            tensors={
                "examples.safetensors": {
                    "examples": features[keep],
                    "truth": held[keep].astype(np.float32),
                    "scale": scale.astype(np.float32),
                    "shift": shift.astype(np.float32),
                }
            },
            manifest={"examples": int(keep.sum())},
            held_out=near * scale + shift,
            honest=honest,
        )


def left_out(
    features: npt.NDArray[np.float32], held: npt.NDArray[np.bool_], folds: npt.NDArray[np.int64]
) -> tuple[Wide, npt.NDArray[np.bool_]]:
    """Similarity of each row to the nearest example of each label in the other folds.

    Returns:
        ``[rows, labels]`` cosines, 0 where the other folds hold no example of a label; ``[rows]``
        False where the row's own label has none there, so that nothing can be said of it.
    """
    near = np.zeros(held.shape)
    honest = np.ones(len(held), dtype=bool)
    for fold in range(int(folds.max(initial=0)) + 1):
        own, rest = folds == fold, folds != fold
        there = held[rest].any(axis=0)
        if own.any() and there.any():
            found = similarities(features[own], features[rest], held[rest][:, there])
            near[np.ix_(own, there)] = found
        honest[own] = ~(held[own] & ~there).any(axis=1)
    return near, honest


def _fitted(
    near: Wide,
    truth: npt.NDArray[np.int8],
    weights: Wide,
    honest: npt.NDArray[np.bool_],
    decision: Kind,
) -> tuple[Wide, Wide]:
    """``[labels]`` scale and shift: logit = cosine * scale + shift."""
    labels = truth.shape[1]
    scale = np.full(labels, PRIOR[0])
    shift = np.full(labels, -PRIOR[0] * PRIOR[1])
    if decision == "one_of":
        if honest.sum() >= FEWEST:
            start = near[honest] * PRIOR[0]
            _, factor, _ = calibrate(start, truth[honest], weights[honest], decision)
            scale = np.full(labels, PRIOR[0] * np.clip(factor, 0.2, 5.0))
        return scale, np.zeros(labels)
    for column in range(labels):
        positive = honest & (truth[:, column] == 1)
        negative = honest & (truth[:, column] == 0)
        if min(positive.sum(), negative.sum()) < FEWEST:
            continue
        own = positive | negative
        start = near[own][:, [column]] * PRIOR[0] - PRIOR[0] * PRIOR[1]
        _, factor, added = calibrate(start, truth[own][:, [column]], weights[own], decision)
        scale[column] *= factor
        shift[column] = shift[column] * factor + float(added[0])
    return scale, shift
