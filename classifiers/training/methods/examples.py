"""The method `examples`: nearest examples with fitted thresholds, for one to five examples a label."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from classifiers.normalize import plain
from classifiers.training.data import Row
from classifiers.training.fit import truth_table
from classifiers.training.methods.base import Context, Trained, Wide
from classifiers.training.platt import calibrate
from classifiers.training.windows import make_windows, pool_max
from classifiers.types import Kind

PRIOR = (20.0, 0.45)
"""Scale of a cosine, and the cosine at which a label is as likely as not, where the examples are too few
to fit them: what they came to on CLINC150, Banking77 and HWU64 with five examples a label."""
FEWEST = 8
"""Held-out examples from which scale and shift are fitted."""


@dataclass(frozen=True, slots=True)
class ExamplesMethod:
    """Every row is an example; each is judged by the others, but for those of its own group, on its windows
    as they are served."""

    name: str = "examples"

    def train(
        self, rows: Sequence[Row], labels: Sequence[str], decision: Kind, context: Context
    ) -> Trained:
        """See :meth:`classifiers.training.methods.base.Method.train`."""
        context.say(f"reading {len(rows):,} examples")
        truth = truth_table(rows, labels)
        held = truth == 1
        for column, label in enumerate(labels):
            if not held[:, column].any():
                raise ValueError(f"label {label!r} has no example; add one or drop the label")
        whole = make_windows(rows, context.encoder, context.cache, "mean")
        features = _unit(whole.features)
        windows, owner = _as_served(rows, context)
        _, groups = np.unique(
            [f"group {row.group}" if row.group else f"row {at}" for at, row in enumerate(rows)],
            return_inverse=True,
        )
        near, honest = left_out(windows, owner, features, held, groups)
        weights = np.asarray([row.weight for row in rows])
        scale, shift = _fitted(near, truth, weights, honest, decision)
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
    windows: npt.NDArray[np.float32],
    owner: npt.NDArray[np.int64],
    examples: npt.NDArray[np.float32],
    held: npt.NDArray[np.bool_],
    groups: npt.NDArray[np.int64],
) -> tuple[Wide, npt.NDArray[np.bool_]]:
    """Similarity of each row to the nearest example of each label, but for those of its own group.

    Args:
        windows: ``[windows, features]`` of unit length, as served; of a row's windows the nearest
            counts.
        owner: ``[windows]`` the row of each.
        examples: ``[rows, features]`` of unit length.
        held: ``[rows, labels]`` which labels a row has.
        groups: ``[rows]`` near copies share one.

    Returns:
        ``[rows, labels]`` cosines, 0 where the other groups hold no example of a label; ``[rows]``
        False for rows with such a label, of which nothing can be said.
    """
    similar = windows @ examples.T
    similar[groups[owner][:, None] == groups[None, :]] = -np.inf
    best = np.stack([similar[:, own].max(axis=1) for own in held.T], axis=1)
    near = pool_max(best.astype(np.float64), owner, len(held))
    there = np.isfinite(near)
    honest = np.asarray(there.all(axis=1), dtype=np.bool_)
    return np.where(there, near, 0.0).astype(np.float64), honest


def _as_served(
    rows: Sequence[Row], context: Context
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """Unit features of all windows of all forms of the rows, as :class:`classifiers.views.Reader` gives
    them, and the row of each."""
    owners, forms = list(range(len(rows))), list(rows)
    for index, row in enumerate(rows):
        if (normal := plain(row.text)).changed and normal.text.strip():
            owners.append(index)
            forms.append(replace(row, text=normal.text, focus=None, spans=()))
    windows = make_windows(forms, context.encoder, context.cache, "max")
    return _unit(windows.features), np.asarray(owners)[windows.owner]


def _unit(features: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    lengths = np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)
    unit: npt.NDArray[np.float32] = (features / lengths).astype(np.float32)
    return unit


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
