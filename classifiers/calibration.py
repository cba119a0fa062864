"""Thresholds that keep a promise, from scores of texts the classifier was not trained on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from classifiers.types import UnknownLabel

CONFIDENCE = 0.95
"""One-sided confidence of every promise."""

Scores = npt.NDArray[np.float64]


def allowed(rate: float, total: int) -> int:
    """How many of ``total`` independent trials may fail while the rate is proven to be under ``rate``.

    The largest k whose one-sided 95 % exact binomial upper bound stays under the rate
    (Clopper and Pearson 1934): P(Binomial(total, rate) <= k) <= 0.05. -1 where even none will do.
    """
    if not 0 < rate < 1:
        raise ValueError(f"a rate must lie between 0 and 1, got {rate}")
    limit = 1 - CONFIDENCE
    cumulative, k = 0.0, -1
    log_rate, log_rest = math.log(rate), math.log1p(-rate)
    for failures in range(total + 1):
        cumulative += math.exp(
            math.lgamma(total + 1)
            - math.lgamma(failures + 1)
            - math.lgamma(total - failures + 1)
            + failures * log_rate
            + (total - failures) * log_rest
        )
        if cumulative > limit:
            return k
        k = failures
    return k


def upper_bound(failures: int, total: int) -> float:
    """One-sided 95 % exact binomial upper bound of a rate seen as ``failures`` of ``total``."""
    low, high = 0.0, 1.0
    if total == 0 or failures >= total:
        return 1.0
    for _ in range(60):
        middle = (low + high) / 2
        if allowed(middle, total) >= failures:
            high = middle
        else:
            low = middle
    return high


@dataclass(frozen=True, slots=True)
class Interval:
    """A share ``hits / of`` and the ends of its exact two-sided 95 % interval."""

    hits: int
    of: int
    low: float
    high: float

    @property
    def share(self) -> float:
        """0 where nothing was counted."""
        return self.hits / self.of if self.of else 0.0


def interval(hits: int, of: int) -> Interval:
    """The share of ``hits`` in ``of`` trials, with its exact interval (Clopper and Pearson 1934).

    The same as ``classifiers.training.metrics.proportion``, without scipy.

    Raises:
        ValueError: ``hits`` is not in 0..of.
    """
    if not 0 <= hits <= of:
        raise ValueError(f"a share needs 0 <= hits <= of, got {hits} of {of}")
    if 2 * hits > of:  # the sums are over the fewer of the two
        mirrored = interval(of - hits, of)
        return Interval(hits, of, 1.0 - mirrored.high, 1.0 - mirrored.low)
    tail = (1 - CONFIDENCE) / 2
    low = 0.0 if hits == 0 else _rate_at(hits - 1, of, 1 - tail)
    return Interval(hits, of, low, 1.0 if of == 0 else _rate_at(hits, of, tail))


def _rate_at(most: int, total: int, probability: float) -> float:
    """The rate at which at most ``most`` of ``total`` trials are hits with this probability."""
    counts = np.arange(most + 1)
    ways = np.asarray(
        [
            math.lgamma(total + 1) - math.lgamma(k + 1) - math.lgamma(total - k + 1)
            for k in range(most + 1)
        ]
    )
    low, high = 0.0, 1.0
    for _ in range(60):
        rate = (low + high) / 2
        logs = ways + counts * math.log(rate) + (total - counts) * math.log1p(-rate)
        if np.exp(logs).sum() > probability:
            low = rate
        else:
            high = rate
    return (low + high) / 2


def benign_needed(rate: float) -> int:
    """The fewest benign texts that can prove a false-positive rate: with none of them matching."""
    return math.ceil(math.log(1 - CONFIDENCE) / math.log1p(-rate))


def false_positive_threshold(benign: Scores, rate: float, name: str = "") -> float:
    """The lowest threshold whose false-positive rate is proven to stay under ``rate``.

    Args:
        benign: ``[n]`` scores of texts that must not match.
        rate: the promise, a fraction.
        name: what is being promised, for the error.

    Raises:
        UnknownLabel: too few benign texts; the message says how many more are needed.
    """
    may_match = allowed(rate, len(benign))
    if may_match < 0:
        needed = benign_needed(rate)
        raise UnknownLabel(
            f"{name}: max_false_positive_rate {rate:.4%} cannot be promised from {len(benign)} benign "
            f"texts; {needed - len(benign)} more are needed, or take a larger rate"
        )
    ordered = np.sort(benign)[::-1]
    if may_match >= len(ordered):
        return 0.0
    return float(np.nextafter(ordered[may_match], np.inf))


def recall_threshold(positive: Scores, recall: float, name: str = "") -> float:
    """The highest threshold whose recall is proven to be at least ``recall``.

    Args:
        positive: ``[n]`` scores of texts that must match.
        recall: the promise, a fraction.
        name: what is being promised, for the error.

    Raises:
        UnknownLabel: too few positive texts; the message says how many more are needed.
    """
    if recall >= 1:
        raise UnknownLabel(f"{name}: min_recall 100% cannot be promised; take 99% or less")
    may_miss = allowed(1 - recall, len(positive))
    if may_miss < 0:
        needed = math.ceil(math.log(1 - CONFIDENCE) / math.log(recall))
        raise UnknownLabel(
            f"{name}: min_recall {recall:.2%} cannot be promised from {len(positive)} texts; "
            f"{needed - len(positive)} more are needed, or take a smaller recall"
        )
    return float(np.sort(positive)[min(may_miss, len(positive) - 1)])


def joint(scores: Scores, columns: Sequence[int]) -> Scores:
    """``[n]`` the greatest score among the columns: what a rule on several labels compares."""
    result: Scores = scores[:, list(columns)].max(axis=1)
    return result
