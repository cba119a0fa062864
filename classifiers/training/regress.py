"""One logistic regression: fitted, its weights in one form, and which rows it is fitted on."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.sparse import issparse
from sklearn.linear_model import LogisticRegression

Wide = npt.NDArray[np.float64]
ABSENT = -8.0
"""Logit of a label that a fold has no row of."""
_ONE_AT_A_TIME = threading.Lock()
"""liblinear keeps state of its own between the steps of a fit: two at once were seen to end the process."""


@dataclass(frozen=True, slots=True)
class Part:
    """One of the two models: ``weight [inputs, labels]``, ``bias [labels]``."""

    weight: Wide
    bias: Wide


def regress(
    matrix: Any, target: npt.NDArray[Any], sample: Wide, strength: float, iterations: int
) -> LogisticRegression:
    """Fit one model.

    Args:
        matrix: ``[n, inputs]``, dense or sparse.
        target: ``[n]`` labels by number, or whether the label holds.
        sample: ``[n]`` weights; only their relation counts.
        strength: the inverse penalty (C).
        iterations: at most, where the solver counts them.
    """
    if issparse(matrix) and target.max() == 1:
        # Trust-region Newton: on n-grams ten times as fast as L-BFGS to the same weights.
        model = LogisticRegression(C=strength, tol=1e-3, solver="liblinear", intercept_scaling=10.0)
        with _ONE_AT_A_TIME:
            model.fit(matrix, target.astype(int), sample_weight=sample / sample.mean())
        return model
    model = LogisticRegression(C=strength, tol=1e-4, max_iter=iterations)
    model.fit(matrix, target.astype(int), sample_weight=sample / sample.mean())
    return model


def binary(model: LogisticRegression) -> Part:
    """Weights of a model of one label."""
    return Part(model.coef_.T, model.intercept_)


def multinomial(model: LogisticRegression, labels: int) -> Part:
    """Weights for every label; scikit-learn gives one column for two labels, none for absent ones."""
    weight = np.zeros((model.coef_.shape[1], labels))
    bias = np.full(labels, ABSENT)
    if len(model.classes_) == 2:
        weight[:, model.classes_] = np.hstack([-model.coef_.T, model.coef_.T]) / 2
        bias[model.classes_] = np.concatenate([-model.intercept_, model.intercept_]) / 2
    else:
        weight[:, model.classes_] = model.coef_.T
        bias[model.classes_] = model.intercept_
    return Part(weight, bias)


def balanced(target: npt.NDArray[np.bool_], weights: Wide) -> Wide:
    """``[n]`` weights by which the rarer side counts for more, by the root of how rare it is."""
    counts = np.maximum(np.bincount(target.astype(int), minlength=2), 1)
    sample: Wide = weights * np.sqrt(len(target) / counts)[target.astype(int)]
    return sample


def thinned(target: npt.NDArray[np.bool_], negatives: int) -> npt.NDArray[np.int64]:
    """Indexes of all positives and of at most so many negatives, seeded."""
    spare = np.random.default_rng(0).permutation(np.flatnonzero(~target))[:negatives]
    return np.sort(np.concatenate((np.flatnonzero(target), spare)))


def side_by_side(parts: Sequence[Part]) -> Part:
    """Models of some labels each as one of all of them."""
    return Part(
        np.hstack([part.weight for part in parts]), np.concatenate([part.bias for part in parts])
    )
