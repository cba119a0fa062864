"""Held-out logits to probabilities: a scale and a shift that make them honest."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize

from classifiers.types import Kind

Wide = npt.NDArray[np.float64]


def calibrate(
    logits: Wide, truth: npt.NDArray[np.int8], weights: Wide, decision: Kind
) -> tuple[float, float, Wide]:
    """Scale and shift that make held-out logits probabilities: Platt 1999, with his smoothed targets, so
    that separable rows do not claim certainty; for ``one_of`` a temperature alone (Guo et al. 2017).

    Returns:
        The weighted mean log loss, the scale (> 0) and the shift by label.
    """
    if decision == "one_of":
        right, doubt = truth.argmax(axis=1), 1 / (np.count_nonzero(weights) + 2)

        def loss_one(p: Wide) -> float:
            scaled = logits * np.exp(p[0])
            top = scaled.max(axis=1)
            total = top + np.log(np.exp(scaled - top[:, None]).sum(axis=1))
            own = scaled[np.arange(len(right)), right] * (1 - doubt) + scaled.mean(axis=1) * doubt
            return float(np.average(total - own, weights=weights))

        found = minimize(loss_one, np.zeros(1), method="Nelder-Mead")
        return float(found.fun), float(np.exp(found.x[0])), np.zeros(logits.shape[1])
    known = truth[:, 0] >= 0
    x, w = logits[known, 0], weights[known]
    positive = truth[known, 0] == 1
    y = np.where(positive, 1 - 1 / (positive.sum() + 2), 1 / ((~positive).sum() + 2))

    def loss_any(p: Wide) -> float:
        z = x * np.exp(p[0]) + p[1]
        return float(np.average(np.logaddexp(0, z) - y * z, weights=w))

    found = minimize(loss_any, np.zeros(2), method="Nelder-Mead")
    return float(found.fun), float(np.exp(found.x[0])), np.asarray([found.x[1]])
