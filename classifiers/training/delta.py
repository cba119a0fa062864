"""Move a head just so far that it gets some texts right, and stays what it was elsewhere.

The change of the weights is fitted by regularised logistic regression on the corrected texts, with
the rows that the pack remembers as anchors: for these the head's own former probabilities are the
target, which keeps it from forgetting (learning without forgetting, Li and Hoiem 2016).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize
from scipy.sparse import csr_matrix, vstack

from classifiers.pooled import probabilities
from classifiers.types import Kind

Wide = npt.NDArray[np.float64]
LOW, HIGH = 0.05, 0.95
PENALTY = 0.1
"""Half of it times the squared change is added to the loss."""
PARTS = 3
"""Of the anchors; each part is left out once, to see how far texts move that hold nothing in place."""


@dataclass(frozen=True, slots=True)
class Points:
    """Texts as one vector each.

    Attributes:
        features: ``[n, features]`` of the encoder.
        grams: ``[n, BUCKETS]`` sparse.
        logits: ``[n, labels]`` what the head says of them now.
        truth: ``[n, labels]`` 1, 0 or -1 for unknown.
    """

    features: npt.NDArray[np.float32]
    grams: csr_matrix
    logits: Wide
    truth: npt.NDArray[np.int8]

    def take(self, chosen: npt.NDArray[np.bool_]) -> Points:
        """Some of them, ``[n]`` True for those."""
        return Points(
            self.features[chosen], self.grams[chosen], self.logits[chosen], self.truth[chosen]
        )

    def and_also(self, others: Points) -> Points:
        """These and the others."""
        return Points(
            np.vstack([self.features, others.features]),
            vstack([self.grams, others.grams], format="csr"),
            np.vstack([self.logits, others.logits]),
            np.vstack([self.truth, others.truth]),
        )

    def spelling(self) -> list[bytes]:
        """A key for each: texts with one key have the same n-grams. Empty where there are none."""
        grams = self.grams
        return [
            np.sort(grams.indices[first:last]).astype(np.int32).tobytes()
            for first, last in zip(grams.indptr[:-1], grams.indptr[1:], strict=True)
        ]


@dataclass(frozen=True, slots=True)
class Delta:
    """Change of the weights.

    ``encoder [features, labels]``, ``lexical [BUCKETS, labels]``, ``bias [labels]``.
    """

    encoder: Wide
    lexical: Wide
    bias: Wide

    def of(self, points: Points) -> Wide:
        """``[n, labels]`` what it adds to the logits."""
        added: Wide = points.features @ self.encoder + points.grams @ self.lexical + self.bias
        return added


def fit_delta(anchors: Points, corrected: Points, decision: Kind, weight: float) -> Delta:
    """The change that makes the corrected texts right.

    Args:
        anchors: remembered rows, to stay as they are.
        corrected: texts whose truth a person gave.
        weight: of a corrected text, in anchors.
    """
    inputs, buckets, dense, sparse = _inputs(anchors, corrected)
    labels = anchors.logits.shape[1]
    offset = np.vstack([anchors.logits, corrected.logits])
    known = np.vstack([np.ones_like(anchors.truth), corrected.truth >= 0]).astype(float)
    target = np.vstack([probabilities(anchors.logits, decision), corrected.truth == 1])
    counts = np.concatenate([np.ones(len(anchors.logits)), np.full(len(corrected.logits), weight)])

    def loss(flat: Wide) -> tuple[float, Wide]:
        change = flat.reshape(inputs, labels)
        logits = offset + dense @ change[: dense.shape[1]] + sparse @ change[dense.shape[1] :]
        if decision == "one_of":
            top = logits.max(axis=1, keepdims=True)
            log_sum = top + np.log(np.exp(logits - top).sum(axis=1, keepdims=True))
            value = -(target * (logits - log_sum)).sum(axis=1)
            slope = np.exp(logits - log_sum) - target
        else:
            value = (known * (np.logaddexp(0, logits) - target * logits)).sum(axis=1)
            slope = known * (probabilities(logits, "any_of") - target)
        slope = slope * counts[:, None]
        grad = np.vstack([dense.T @ slope, sparse.T @ slope]) + PENALTY * change
        return float(counts @ value) + PENALTY / 2 * float((change**2).sum()), grad.ravel()

    found = minimize(
        loss,
        np.zeros(inputs * labels),
        jac=True,
        method="L-BFGS-B",
        options={"maxiter": 60, "ftol": 1e-7},
    )
    change = found.x.reshape(inputs, labels)
    width = anchors.features.shape[1]
    lexical = np.zeros((anchors.grams.shape[1], labels))
    lexical[buckets] = change[width + 1 :]
    return Delta(change[:width], lexical, change[width])


def held_out_shifts(
    anchors: Points, corrected: Points, decision: Kind, weight: float, seed: int = 0
) -> Wide:
    """``[anchors, labels]`` how far each anchor moves where it is no anchor: its third is left out of a
    fit on the other two and the corrected texts."""
    count = len(anchors.logits)
    part = np.random.default_rng(seed).permutation(count) % PARTS
    shifts = np.zeros_like(anchors.logits)
    for own in range(min(PARTS, count)):
        left = part == own
        shifts[left] = fit_delta(anchors.take(~left), corrected, decision, weight).of(
            anchors.take(left)
        )
    return shifts


def bounded_shifts(
    shifts: Wide, truth: npt.NDArray[np.int8], others: npt.NDArray[np.int8], seed: int = 0
) -> Wide:
    """What to add to the logits of texts of which no vector is known.

    Where a label does not hold: the 95th percentile of the shifts seen there, at least 0, or a shift
    drawn from those seen there if that is greater, so that the few texts that move far are among
    them in their share. Where it holds: the 5th percentile of those, at most 0. Drawn shifts alone
    broke the promise in a trial (17 % where 5 % were promised).

    Args:
        shifts: ``[n, labels]`` of texts of which one is known.
        truth: ``[n, labels]`` of these.
        others: ``[m, labels]`` truth of the texts without.

    Returns:
        ``[m, labels]``.
    """
    added = np.zeros(others.shape)
    lot = np.random.default_rng(seed)
    for column in range(others.shape[1]):
        without, having = (shifts[truth[:, column] == value, column] for value in (0, 1))
        quiet = others[:, column] != 1
        if len(without):
            least = max(float(np.quantile(without, HIGH)), 0.0)
            added[quiet, column] = np.maximum(least, lot.choice(without, int(quiet.sum())))
        if len(having):
            added[~quiet, column] = min(float(np.quantile(having, LOW)), 0.0)
    return added


def _inputs(
    anchors: Points, corrected: Points
) -> tuple[int, npt.NDArray[np.int64], npt.NDArray[np.float64], csr_matrix]:
    """The numbers that may change: encoder features, bias, and the n-grams of the corrected texts (no
    other n-gram has a reason to)."""
    buckets = np.unique(corrected.grams.indices).astype(np.int64)
    features = np.vstack([anchors.features, corrected.features]).astype(np.float64)
    dense = np.hstack([features, np.ones((len(features), 1))])
    sparse = csr_matrix(
        np.vstack([anchors.grams[:, buckets].toarray(), corrected.grams[:, buckets].toarray()])
    )
    return dense.shape[1] + len(buckets), buckets, dense, sparse
