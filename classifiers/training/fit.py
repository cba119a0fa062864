"""Fit a linear head: two logistic regressions, one on the encoder's features and one on the n-grams,
averaged, calibrated on folds that neither has seen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize
from scipy.sparse import csr_matrix, issparse
from sklearn.linear_model import LogisticRegression

from classifiers import lexical
from classifiers.encoder import Encoder
from classifiers.training.data import FOLDS, Row, bucket, group_key
from classifiers.training.features import FeatureCache
from classifiers.types import Kind

Array = npt.NDArray[np.float32]
Wide = npt.NDArray[np.float64]
SENTENCE_WORTH = 0.3
"""Weight of a sentence of an innocent text, beside 1 for a window of it."""
ABSENT = -8.0
"""Logit of a label that a fold has no row of."""
MIXES = (0.3, 0.5, 0.7, 1.0)
"""Shares of the encoder in the averaged logit that are tried; the rest is the n-grams'."""


@dataclass(frozen=True, slots=True)
class Windows:
    """Training texts as windows.

    Attributes:
        features: ``[windows, features]`` of the encoder.
        grams: ``[windows, BUCKETS]`` sparse.
        owner: ``[windows]`` index of the row.
        focus: ``[windows]`` False where the window lies outside of its row's focus.
        sentence: ``[windows]`` True where the window is a single sentence of a longer text.
    """

    features: Array
    grams: csr_matrix
    owner: npt.NDArray[np.int64]
    focus: npt.NDArray[np.bool_]
    sentence: npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Linear:
    """Weights of a head: ``logit = features @ encoder + grams @ lexical + bias``."""

    encoder: Wide
    lexical: Wide
    bias: Wide


@dataclass(frozen=True, slots=True)
class Part:
    """One of the two models: ``weight [inputs, labels]``, ``bias [labels]``."""

    weight: Wide
    bias: Wide


@dataclass(frozen=True, slots=True)
class Fitted:
    """A head and what it said of texts it had not seen.

    Attributes:
        head: calibrated weights.
        held_out: ``[rows, labels]`` pooled calibrated logits, each from a model fitted without the row.
        mix: share of the encoder in the logit, by label.
    """

    head: Linear
    held_out: Wide
    mix: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Settings:
    """What is tried.

    Attributes:
        c_encoder, c_lexical: inverse strength of the L2 penalty.
        folds: cross-fitting folds.
        negatives: at most this many negative windows train the n-grams of a label.
    """

    c_encoder: float = 10.0
    c_lexical: float = 10.0
    folds: int = FOLDS
    negatives: int = 20_000
    iterations: int = 200


def make_windows(
    rows: Sequence[Row], encoder: Encoder, cache: FeatureCache, pooling: str
) -> Windows:
    """Windows of all rows; with ``mean`` pooling each row is one averaged window."""
    texts = [row.text for row in rows]
    encoded = cache.get(texts)
    cuts = encoder.windows(texts)
    owner = np.asarray([cut.text for cut in cuts])
    features = np.concatenate(encoded)
    parts = [lexical.features(texts[cut.text][cut.start : cut.end]) for cut in cuts]
    indptr = np.concatenate(([0], np.cumsum([len(buckets) for buckets, _ in parts])))
    grams = csr_matrix(
        (
            np.concatenate([values for _, values in parts]),
            np.concatenate([buckets for buckets, _ in parts]),
            indptr,
        ),
        shape=(len(cuts), lexical.BUCKETS),
    )
    if pooling == "mean":
        # As it is served: the windows that cover the text, not its sentences once more.
        kept = np.asarray([not cut.sentence for cut in cuts], dtype=np.float32)
        share = kept / np.bincount(owner, weights=kept, minlength=len(rows))[owner]
        average = csr_matrix((share, (owner, np.arange(len(owner)))), shape=(len(rows), len(owner)))
        own = np.arange(len(rows))
        pooled = np.asarray(average @ features, dtype=np.float32)
        return Windows(
            pooled,
            csr_matrix(average @ grams, dtype=np.float32),
            own,
            np.ones(len(rows), bool),
            np.zeros(len(rows), bool),
        )
    inside = np.ones(len(cuts), dtype=bool)
    for index, cut in enumerate(cuts):
        if (focus := rows[cut.text].focus) is not None:
            overlap = min(cut.end, focus[1]) - max(cut.start, focus[0])
            inside[index] = overlap >= 0.6 * min(cut.end - cut.start, focus[1] - focus[0])
    alone = np.asarray([cut.sentence for cut in cuts])
    return Windows(features, grams, owner, inside, alone)


def fit(
    rows: Sequence[Row],
    labels: Sequence[str],
    decision: Kind,
    windows: Windows,
    settings: Settings | None = None,
) -> Fitted:
    """Fit and calibrate a head on rows of the split ``train``.

    Args:
        rows: training rows; their order is the windows' ``owner``.
        labels: the head's labels.
        decision: ``one_of`` or ``any_of``.
        windows: from :func:`make_windows`.

    Raises:
        ValueError: a label has no positive row.
    """
    settings = settings or Settings()
    truth = truth_table(rows, labels)
    for column, label in enumerate(labels):
        if not (truth[:, column] == 1).any():
            raise ValueError(f"label {label!r} has no row; add examples or drop the label")
    folds = np.asarray([bucket(row.group or group_key(row.text), settings.folds) for row in rows])
    weights = np.asarray([row.weight for row in rows])
    make = _fit_any if decision == "any_of" else _fit_one
    # What each window's logits are when its row was held out, by both models.
    by_meaning = np.zeros((len(windows.owner), len(labels)))
    by_spelling = np.zeros_like(by_meaning)
    for fold in range(settings.folds):
        encoder, words = make(windows, truth, weights, folds != fold, settings)
        own = np.flatnonzero((folds == fold)[windows.owner])
        by_meaning[own] = windows.features[own] @ encoder.weight + encoder.bias
        by_spelling[own] = windows.grams[own] @ words.weight + words.bias
    encoder, words = make(windows, truth, weights, np.ones(len(rows), dtype=bool), settings)
    single = [[c] for c in range(len(labels))]
    groups = single if decision == "any_of" else [list(range(len(labels)))]
    scale, shift, mixes = np.ones(len(labels)), np.zeros(len(labels)), np.ones(len(labels))
    held_out = np.zeros((len(rows), len(labels)))
    for group in groups:
        tried = []
        for mix in MIXES:
            mixed = by_meaning[:, group] * mix + by_spelling[:, group] * (1 - mix)
            pooled = pool_max(mixed, windows.owner, len(rows))
            loss, a, b = calibrate(pooled, truth[:, group], weights, decision)
            tried.append((loss, mix, a, b, pooled))
        _, mixes[group], scale[group], shift[group], pooled = min(tried, key=lambda t: t[0])
        held_out[:, group] = pooled * scale[group] + shift[group]
    head = Linear(
        encoder.weight * mixes * scale,
        words.weight * (1 - mixes) * scale,
        (encoder.bias * mixes + words.bias * (1 - mixes)) * scale + shift,
    )
    return Fitted(head, held_out, tuple(float(mix) for mix in mixes))


def truth_table(rows: Sequence[Row], labels: Sequence[str]) -> npt.NDArray[np.int8]:
    """``[rows, labels]``: 1 holds, 0 does not, -1 unknown."""
    table = np.zeros((len(rows), len(labels)), dtype=np.int8)
    for index, row in enumerate(rows):
        for column, label in enumerate(labels):
            if label in row.labels:
                table[index, column] = 1
            elif row.known is not None and label not in row.known:
                table[index, column] = -1
    return table


def pool_max(logits: Wide, owner: npt.NDArray[np.int64], rows: int) -> Wide:
    """``[rows, labels]`` the greatest logit among each row's windows."""
    pooled = np.full((rows, logits.shape[1]), -np.inf)
    np.maximum.at(pooled, owner, logits)
    return pooled


def calibrate(
    logits: Wide, truth: npt.NDArray[np.int8], weights: Wide, decision: Kind
) -> tuple[float, float, Wide]:
    """Scale and shift that make held-out logits probabilities: Platt 1999, with his smoothed targets, so
    that separable rows do not claim certainty; for ``one_of`` a temperature alone (Guo et al. 2017).

    Returns:
        The weighted mean log loss, the scale (> 0) and the shift by label.
    """
    if decision == "one_of":
        right, doubt = truth.argmax(axis=1), 1 / (len(truth) + 2)

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


def _fit_one(
    windows: Windows,
    truth: npt.NDArray[np.int8],
    weights: Wide,
    train: npt.NDArray[np.bool_],
    settings: Settings,
) -> tuple[Part, Part]:
    chosen = np.flatnonzero(train[windows.owner])
    target = truth[windows.owner[chosen]].argmax(axis=1)
    counts = np.bincount(target, minlength=truth.shape[1])
    sample = weights[windows.owner[chosen]] * np.sqrt(len(target) / np.maximum(counts, 1))[target]
    # On n-grams one label against the rest: as good as all at once, and many times as fast.
    grams = windows.grams[chosen]
    words = [
        _one_against_rest(grams, target == label, sample, settings)
        for label in range(truth.shape[1])
    ]
    model = _regress(windows.features[chosen], target, sample, settings.c_encoder, settings)
    return _multinomial(model, truth.shape[1]), _side_by_side(words)


def _one_against_rest(
    grams: csr_matrix, target: npt.NDArray[np.bool_], sample: Wide, settings: Settings
) -> Part:
    if not target.any():  # a label whose few rows all lie in the fold that is held out
        return Part(np.zeros((grams.shape[1], 1)), np.full(1, ABSENT))
    return _binary(_regress(grams, target, sample, settings.c_lexical, settings))


def _fit_any(
    windows: Windows,
    truth: npt.NDArray[np.int8],
    weights: Wide,
    train: npt.NDArray[np.bool_],
    settings: Settings,
) -> tuple[Part, Part]:
    encoder, words = [], []
    for of_row in truth.T:
        usable = train[windows.owner] & (of_row[windows.owner] >= 0)
        # Which sentences of a harmful text are harmful is not known: none of them teaches. Those
        # of innocent texts are all innocent, but there are many, so each counts for less.
        positive = usable & (of_row[windows.owner] == 1) & windows.focus & ~windows.sentence
        negative = usable & ((of_row[windows.owner] == 0) | ~windows.focus)
        worth = np.where(windows.sentence, SENTENCE_WORTH, 1.0) * weights[windows.owner]
        # Which window of a long positive text carries the label is not known: first all of them,
        # each with its share; then the one that the first model finds most certain, and any other
        # it is sure of (multiple-instance learning, Andrews et al. 2002).
        per_row = np.bincount(windows.owner[positive], minlength=len(of_row))
        share = np.where(positive, 1.0 / np.maximum(per_row, 1)[windows.owner], 1.0)
        if (per_row > 1).any():
            chosen = np.flatnonzero(positive | negative)
            sample = _balanced(positive[chosen], (share * worth)[chosen])
            part = _binary(
                _regress(
                    windows.features[chosen], positive[chosen], sample, settings.c_encoder, settings
                )
            )
            score = windows.features @ part.weight[:, 0] + part.bias[0]
            best = np.full(len(of_row), -np.inf)
            np.maximum.at(best, windows.owner[positive], score[positive])
            positive &= (score >= best[windows.owner]) | (score > 0)
            share = np.where(positive & (score < best[windows.owner]), 0.5, 1.0)
        chosen = np.flatnonzero(positive | negative)
        sample = _balanced(positive[chosen], (share * worth)[chosen])
        target = positive[chosen]
        if not target.any():
            encoder.append(Part(np.zeros((windows.features.shape[1], 1)), np.full(1, ABSENT)))
            words.append(Part(np.zeros((lexical.BUCKETS, 1)), np.full(1, ABSENT)))
            continue
        model = _regress(windows.features[chosen], target, sample, settings.c_encoder, settings)
        encoder.append(_binary(model))
        keep = _thinned(target, settings.negatives)
        grams = windows.grams[chosen[keep]]
        model = _regress(grams, target[keep], sample[keep], settings.c_lexical, settings)
        words.append(_binary(model))
    return _side_by_side(encoder), _side_by_side(words)


def _regress(
    matrix: Any, target: npt.NDArray[Any], sample: Wide, c: float, settings: Settings
) -> LogisticRegression:
    if issparse(matrix) and target.max() == 1:
        # Trust-region Newton: on n-grams ten times as fast as L-BFGS to the same weights.
        model = LogisticRegression(C=c, tol=1e-3, solver="liblinear", intercept_scaling=10.0)
    else:
        model = LogisticRegression(C=c, tol=1e-4, max_iter=settings.iterations)
    model.fit(matrix, target.astype(int), sample_weight=sample / sample.mean())
    return model


def _binary(model: LogisticRegression) -> Part:
    return Part(model.coef_.T, model.intercept_)


def _multinomial(model: LogisticRegression, labels: int) -> Part:
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


def _balanced(target: npt.NDArray[np.bool_], weights: Wide) -> Wide:
    counts = np.maximum(np.bincount(target.astype(int), minlength=2), 1)
    sample: Wide = weights * np.sqrt(len(target) / counts)[target.astype(int)]
    return sample


def _thinned(target: npt.NDArray[np.bool_], negatives: int) -> npt.NDArray[np.int64]:
    """Indexes of all positives and of at most so many negatives, seeded."""
    spare = np.random.default_rng(0).permutation(np.flatnonzero(~target))[:negatives]
    return np.sort(np.concatenate((np.flatnonzero(target), spare)))


def _side_by_side(parts: Sequence[Part]) -> Part:
    return Part(
        np.hstack([part.weight for part in parts]), np.concatenate([part.bias for part in parts])
    )
