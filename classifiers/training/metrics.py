"""Figures of scores against the truth: pure functions of arrays, with exact intervals.

Truth is 1 (holds), 0 (does not) or -1 (unknown); what is unknown is left out of every figure.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import beta
from sklearn.metrics import (
    average_precision_score,
    precision_recall_curve,
    roc_auc_score,
    roc_curve,
)

from classifiers import calibration

Scores = npt.NDArray[np.float64]
Truth = npt.NDArray[np.int8]
Mask = npt.NDArray[np.bool_]

CONFIDENCE = 0.95
"""Two-sided confidence of the intervals."""
BINS = 15
"""Bins of the calibration error (Guo et al. 2017)."""
POINTS = 200
"""At most this many points of a curve are kept."""
HISTOGRAM_BINS = 20


@dataclass(frozen=True, slots=True)
class Proportion:
    """A share with its exact two-sided 95 % binomial interval (Clopper and Pearson 1934).

    Attributes:
        hits, of: what was counted.
        value: ``hits / of``, None where nothing was counted.
        low, high: ends of the interval, 0 and 1 where nothing was counted.
    """

    hits: int
    of: int
    value: float | None
    low: float
    high: float


def proportion(hits: int, of: int) -> Proportion:
    """The share ``hits / of`` with its interval."""
    if not 0 <= hits <= of:
        raise ValueError(f"a share needs 0 <= hits <= of, got {hits} of {of}")
    tail = (1 - CONFIDENCE) / 2
    low = 0.0 if hits == 0 else float(beta.ppf(tail, hits, of - hits + 1))
    high = 1.0 if hits == of else float(beta.ppf(1 - tail, hits + 1, of - hits))
    return Proportion(hits, of, hits / of if of else None, low, high)


def upper_bound(hits: int, of: int) -> float:
    """One-sided 95 % exact upper bound of a rate; the quantile form of ``calibration.upper_bound``."""
    return 1.0 if hits >= of else float(beta.ppf(CONFIDENCE, hits + 1, of - hits))


@dataclass(frozen=True, slots=True)
class Curve:
    """A thinned curve: ``y`` over ``x``, at most 200 points."""

    x: tuple[float, ...]
    y: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Reliability:
    """One bin of a calibration diagram: what was claimed, and how often it was true."""

    low: float
    high: float
    claimed: float
    true: Proportion


@dataclass(frozen=True, slots=True)
class Histogram:
    """How the scores of a label lie: counts in 20 equal bins of 0..1."""

    positives: tuple[int, ...]
    negatives: tuple[int, ...]


def f1(precision: Proportion, recall: Proportion) -> float:
    """Their harmonic mean; 0 where nothing was found or flagged, as scikit-learn has it."""
    wrong = (precision.of - precision.hits) + (recall.of - recall.hits)
    total = 2 * recall.hits + wrong
    return 2 * recall.hits / total if total else 0.0


def auroc(truth: Mask, scores: Scores) -> float | None:
    """Chance that a positive scores above a negative; None where one of them is missing."""
    if truth.all() or not truth.any():
        return None
    return float(roc_auc_score(truth, scores))


def average_precision(truth: Mask, scores: Scores) -> float | None:
    """Area under the precision-recall curve as a step sum; None without a positive."""
    return float(average_precision_score(truth, scores)) if truth.any() else None


def reliability(scores: Scores, right: Mask) -> tuple[Reliability, ...]:
    """The bins of equal width that have scores in them.

    Args:
        scores: ``[n]`` claimed probabilities.
        right: ``[n]`` whether the claim was true.
    """
    bins = np.minimum((scores * BINS).astype(int), BINS - 1)
    found = []
    for index in range(BINS):
        own = bins == index
        if own.any():
            share = proportion(int(right[own].sum()), int(own.sum()))
            claimed = float(scores[own].mean())
            found.append(Reliability(index / BINS, (index + 1) / BINS, claimed, share))
    return tuple(found)


def calibration_error(bins: Sequence[Reliability]) -> float | None:
    """Expected calibration error: mean gap of claim and truth, weighted by the bins' counts."""
    total = sum(one.true.of for one in bins)
    if not total:
        return None
    gaps = (abs((one.true.value or 0.0) - one.claimed) * one.true.of for one in bins)
    return sum(gaps) / total


def brier(scores: Scores, truth: Truth, decision: str) -> float | None:
    """Mean squared error of the probabilities (Brier 1950).

    ``one_of``: summed over the labels, 0..2; ``any_of``: mean over all known labels, 0..1.
    """
    known = truth >= 0
    if not known.any():
        return None
    error = np.where(known, (scores - np.maximum(truth, 0)) ** 2, 0.0)
    if decision == "one_of":
        return float(error.sum(axis=1).mean())
    return float(error.sum() / known.sum())


def pr_curve(truth: Mask, scores: Scores) -> Curve:
    """Precision (y) over recall (x)."""
    precision, recall, _ = precision_recall_curve(truth, scores, drop_intermediate=True)
    return thinned(recall[::-1], precision[::-1])


def roc(truth: Mask, scores: Scores) -> Curve:
    """Share of positives found (y) over share of negatives flagged (x)."""
    wrong, found, _ = roc_curve(truth, scores)
    return thinned(wrong, found)


def thinned(x: npt.NDArray[Any], y: npt.NDArray[Any]) -> Curve:
    """At most 200 points of a curve, evenly along its length, both ends among them."""
    chosen = np.arange(len(x))
    if len(x) > POINTS:
        steps = np.abs(np.diff(x)) + np.abs(np.diff(y))
        length = np.concatenate(([0.0], np.cumsum(steps)))
        wanted = np.linspace(0, length[-1], POINTS - 1)
        chosen = np.unique(np.append(np.searchsorted(length, wanted), len(x) - 1))
        chosen = chosen[chosen < len(x)]
    return Curve(tuple(_short(x[chosen])), tuple(_short(y[chosen])))


def histogram(scores: Scores, truth: Truth) -> Histogram:
    """Counts of a label's scores, positives and negatives apart."""
    edges = np.linspace(0, 1, HISTOGRAM_BINS + 1)
    held, absent = (np.histogram(scores[truth == value], edges)[0] for value in (1, 0))
    return Histogram(tuple(held.tolist()), tuple(absent.tolist()))


def confusion(scores: Scores, truth: Truth, flagged: Mask, decision: str) -> list[list[int]]:
    """What was said of texts of each label: ``[labels + 1][labels + 1]`` counts.

    The last row are the texts that no label holds for; rows with an unknown label are not among
    them. ``one_of``: the column of the best label. ``any_of``: the label itself where it was
    flagged, and every label that was flagged but does not hold: a text may count several times.
    The last column are texts with nothing flagged.
    """
    holds = truth == 1
    held = np.column_stack((holds, (truth == 0).all(axis=1))).astype(np.int64)
    if decision == "one_of":
        said = np.zeros_like(held)
        said[np.arange(len(scores)), scores.argmax(axis=1)] = 1
        counts = held.T @ said
    else:
        wrong = np.column_stack((flagged & (truth == 0), ~flagged.any(axis=1)))
        counts = held.T @ wrong.astype(np.int64)
        own = np.arange(truth.shape[1])
        counts[own, own] = (holds & flagged).sum(axis=0)
    result: list[list[int]] = counts.tolist()
    return result


def right_rows(scores: Scores, truth: Truth, flagged: Mask, decision: str) -> Mask:
    """``[n]`` rows that were decided right.

    ``one_of``: the best label holds; where none is known to, no label that does not hold is flagged.
    ``any_of``: every known label is flagged if it holds and only then.
    """
    if decision == "one_of":
        best = truth[np.arange(len(truth)), scores.argmax(axis=1)] == 1
        quiet = ~(truth == 1).any(axis=1) & ~(flagged & (truth == 0)).any(axis=1)
        return np.asarray(best | quiet)
    return np.asarray(((flagged == (truth == 1)) | (truth < 0)).all(axis=1))


def rows_needed(rate: float, seen: float = 0.0) -> int:
    """How many texts it takes to prove a rate with 95 % confidence where ``seen`` of them fail.

    With ``seen`` 0 the least number, ln 0.05 / ln(1 - rate); else by the normal approximation of
    the one-sided bound, which is within a few percent of the exact one at these sizes.

    Raises:
        ValueError: ``seen`` is not under ``rate``: no number would do.
    """
    if not 0 <= seen < rate < 1:
        raise ValueError(f"0 <= seen < rate < 1 is needed, got seen {seen} and rate {rate}")
    least = calibration.benign_needed(rate)
    return (
        max(least, math.ceil(1.645**2 * rate * (1 - rate) / (rate - seen) ** 2)) if seen else least
    )


def _short(values: npt.NDArray[Any]) -> list[float]:
    return [round(float(value), 5) for value in values]
