"""Promises: the exact binomial bounds and the thresholds that follow from them."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from classifiers import calibration
from classifiers.types import UnknownLabel


def binomial_cdf(k: int, n: int, p: float) -> float:
    return sum(math.comb(n, i) * p**i * (1 - p) ** (n - i) for i in range(k + 1))


@pytest.mark.parametrize(
    ("rate", "total", "allowed"),
    [
        (0.01, 298, -1),  # 0.99 ** 298 = 0.0500...: one text too few
        (0.01, 299, 0),
        (0.005, 597, -1),
        (0.005, 598, 0),
        (0.01, 2000, 12),
        (0.05, 100, 1),
        (0.01, 0, -1),
    ],
)
def test_known_bounds(rate: float, total: int, allowed: int) -> None:
    assert calibration.allowed(rate, total) == allowed


@given(st.integers(1, 400), st.floats(0.002, 0.5))
@settings(max_examples=60)
def test_the_bound_is_the_largest_that_holds(total: int, rate: float) -> None:
    k = calibration.allowed(rate, total)
    if k >= 0:
        assert binomial_cdf(k, total, rate) <= 0.05 + 1e-9
    if k + 1 <= total:
        assert binomial_cdf(k + 1, total, rate) > 0.05 - 1e-9


def test_the_upper_bound_of_no_failures_is_the_rule_of_three() -> None:
    assert calibration.upper_bound(0, 1000) == pytest.approx(3 / 1000, rel=0.01)
    assert calibration.upper_bound(5, 5) == 1.0


def test_the_threshold_is_the_lowest_that_keeps_the_promise() -> None:
    benign = np.linspace(0, 1, 2000)
    cut = calibration.false_positive_threshold(benign, 0.01)
    assert (benign >= cut).sum() == 12
    assert (benign >= np.nextafter(cut, 0)).sum() == 13


def test_equal_scores_are_never_split() -> None:
    benign = np.concatenate([np.zeros(1000), np.full(100, 0.9)])
    assert (benign >= calibration.false_positive_threshold(benign, 0.01)).sum() == 0


def test_missing_rows_are_counted_in_the_message() -> None:
    with pytest.raises(UnknownLabel, match=r"from 100 benign texts; 199 more are needed"):
        calibration.false_positive_threshold(np.zeros(100), 0.01, "spam")


def test_a_promised_rate_holds_on_unseen_rows() -> None:
    random = np.random.default_rng(0)
    kept = 0
    for _ in range(200):
        cut = calibration.false_positive_threshold(random.normal(size=1500), 0.01)
        # The true rate of a normal score above the cut.
        kept += 0.5 * math.erfc(cut / math.sqrt(2)) <= 0.01
    # At 95 % each, fewer than 181 of 200 would be a rarer than one in a thousand event.
    assert kept >= 181


def test_recall_is_promised_the_other_way_round() -> None:
    positive = np.linspace(0, 1, 500)
    cut = calibration.recall_threshold(positive, 0.9)
    missed = int((positive < cut).sum())
    assert missed == calibration.allowed(0.1, 500) > 0


@pytest.mark.parametrize(
    ("hits", "of"),
    [(0, 1), (1, 1), (0, 300), (3, 1000), (40, 90), (89, 90), (500, 1000), (2, 200_000), (0, 0)],
)
def test_the_interval_is_that_of_scipy(hits: int, of: int) -> None:
    metrics = pytest.importorskip("classifiers.training.metrics", reason="needs the extra train")
    ours, theirs = calibration.interval(hits, of), metrics.proportion(hits, of)
    assert ours.low == pytest.approx(theirs.low, abs=1e-9)
    assert ours.high == pytest.approx(theirs.high, abs=1e-9)
    assert (ours.hits, ours.of, ours.share) == (hits, of, theirs.value or 0.0)


def test_an_interval_needs_a_share() -> None:
    with pytest.raises(ValueError, match="hits"):
        calibration.interval(3, 2)
