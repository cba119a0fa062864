"""Fit a linear head: two logistic regressions, one on the encoder's features and one on the n-grams,
averaged, calibrated on folds that neither has seen.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_matrix

from classifiers import lexical
from classifiers.training.data import FOLDS, Row, bucket, group_key
from classifiers.training.platt import calibrate
from classifiers.training.regress import (
    ABSENT,
    Part,
    balanced,
    binary,
    multinomial,
    regress,
    side_by_side,
    thinned,
)
from classifiers.training.windows import Windows, pool_max
from classifiers.types import Kind

Array = npt.NDArray[np.float32]
Wide = npt.NDArray[np.float64]
SENTENCE_WORTH = 0.3
"""Weight of a sentence of an innocent text, beside 1 for a window of it."""
SENTENCES_READ, MANY_SENTENCES = 3, 20_000
"""Of the sentences and pieces of innocent texts one in so many teaches, for all of them, where there are
many: they are most of the windows then, and what they say is said by a part of them."""
MIXES = (0.0, 0.3, 0.5, 0.7, 0.85, 1.0)
"""Shares of the encoder in the averaged logit that are tried; the rest is the n-grams'."""


@dataclass(frozen=True, slots=True)
class Linear:
    """Weights of a head: ``logit = features @ encoder + grams @ lexical + bias``."""

    encoder: Wide
    lexical: Wide
    bias: Wide


@dataclass(frozen=True, slots=True)
class Fitted:
    """A head and what it said of texts it had not seen.

    Attributes:
        head: calibrated weights.
        held_out: ``[rows, labels]`` pooled calibrated logits, each from a model fitted without the row.
        mix: share of the encoder in the logit, by label.
        strength: the inverse penalties (C) of both models that were chosen, by label.
    """

    head: Linear
    held_out: Wide
    mix: tuple[float, ...]
    strength: tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True)
class Settings:
    """What is tried.

    Attributes:
        strengths: inverse strengths (C) of the L2 penalty; of several, cross-validation takes the
            best, for each label and model on its own.
        folds: cross-fitting folds.
        mixes: shares of the encoder in the logit; of several, cross-validation takes the best.
        negatives: at most this many negative windows train the n-grams of a label.
        threads: labels that are fitted at once; the result does not depend on it.
    """

    strengths: tuple[float, ...] = (10.0,)
    folds: int = FOLDS
    mixes: tuple[float, ...] = MIXES
    negatives: int = 20_000
    iterations: int = 200
    threads: int = 2


def fit(
    rows: Sequence[Row],
    labels: Sequence[str],
    decision: Kind,
    windows: Windows,
    settings: Settings | None = None,
    folds: npt.NDArray[np.int64] | None = None,
    given: Part | None = None,
    unseen: Windows | None = None,
) -> Fitted:
    """Fit and calibrate a head.

    Args:
        rows: training rows; their order is the windows' ``owner``.
        labels: the head's labels.
        decision: ``one_of`` or ``any_of``.
        windows: from :func:`make_windows`.
        folds: ``[rows]`` the fold in which each row is held out; by default by its group. Rows of
            fold -1 always train and are never judged: what is said of them here means nothing.
        given: another model on the features, which has not seen the rows that are held out; taken
            where it judges them better. Its strength is told as 0.
        unseen: the same windows as an encoder reads them that was not tuned on the rows that are
            held out: they are judged by these, and the head is fitted on ``windows``.

    Raises:
        ValueError: a label has no positive row.
    """
    settings = settings or Settings()
    truth = truth_table(rows, labels)
    for column, label in enumerate(labels):
        if not (truth[:, column] == 1).any():
            raise ValueError(f"label {label!r} has no row; add examples or drop the label")
    if folds is None:
        groups = (row.group or group_key(row.text) for row in rows)
        folds = np.asarray([bucket(group, settings.folds) for group in groups])
    weights = np.asarray([row.weight for row in rows])
    make = _fit_any if decision == "any_of" else _fit_one
    # What each window's logits are when its row was held out, by both models and each strength.
    seen = unseen or windows
    shape = (len(settings.strengths), len(seen.owner), len(labels))
    by_meaning, by_spelling = np.zeros(shape), np.zeros(shape)
    for number, strength in enumerate(settings.strengths):
        for fold in range(int(folds.max()) + 1):
            encoder, words = make(seen, truth, weights, folds != fold, settings, strength)
            own = np.flatnonzero((folds == fold)[seen.owner])
            by_meaning[number, own] = seen.features[own] @ encoder.weight + encoder.bias
            by_spelling[number, own] = seen.grams[own] @ words.weight + words.bias
    if given is not None:
        by_meaning = np.concatenate([by_meaning, [windows.features @ given.weight + given.bias]])
    judged = folds >= 0
    known = np.where(judged[:, None], truth, np.int8(-1))
    worth = weights * judged
    choice = _choose(by_meaning, by_spelling, seen, known, worth, decision, settings.mixes)
    whole = np.ones(len(rows), dtype=bool)
    strength_of = (*settings.strengths, 0.0)

    def made(number: int) -> tuple[Part, Part]:
        if given is not None and number == len(settings.strengths):
            return given, given  # no label takes its n-grams from it
        return make(windows, truth, weights, whole, settings, strength_of[number])

    encoder, words = _best_parts([choice.meaning, choice.spelling], made)
    mix, scale = choice.mix, choice.scale
    head = Linear(
        encoder.weight * mix * scale,
        words.weight * (1 - mix) * scale,
        (encoder.bias * mix + words.bias * (1 - mix)) * scale + choice.shift,
    )
    strengths = tuple(
        (strength_of[one], strength_of[two])
        for one, two in zip(choice.meaning, choice.spelling, strict=True)
    )
    return Fitted(head, choice.held_out, tuple(float(m) for m in mix), strengths)


@dataclass(frozen=True, slots=True)
class _Choice:
    """By label: which strength of each model, their mix, the calibration; and the held-out logits."""

    meaning: npt.NDArray[np.int64]
    spelling: npt.NDArray[np.int64]
    mix: Wide
    scale: Wide
    shift: Wide
    held_out: Wide


def _choose(
    by_meaning: Wide,
    by_spelling: Wide,
    windows: Windows,
    truth: npt.NDArray[np.int8],
    weights: Wide,
    decision: Kind,
    mixes_tried: tuple[float, ...],
) -> _Choice:
    """The strengths with the least held-out loss, then the mix, for each label (any of) or all (one of).

    Args:
        by_meaning, by_spelling: ``[strengths, windows, labels]`` held-out logits.
    """
    rows, labels = truth.shape
    meaning, spelling = np.zeros(labels, np.int64), np.zeros(labels, np.int64)
    scale, shift, mixes = np.ones(labels), np.zeros(labels), np.ones(labels)
    held_out = np.zeros((rows, labels))
    groups = [[c] for c in range(labels)] if decision == "any_of" else [list(range(labels))]
    for group in groups:

        def judged(logits: Wide, group: list[int] = group) -> tuple[float, float, Wide, Wide]:
            pooled = pool_max(logits[:, group], windows.owner, rows)
            return *calibrate(pooled, truth[:, group], weights, decision), pooled

        best = [
            min(range(len(logits)), key=lambda n: judged(logits[n])[0]) if len(logits) > 1 else 0
            for logits in (by_meaning, by_spelling)
        ]
        meaning[group], spelling[group] = best
        tried = []
        for mix in mixes_tried:
            mixed = by_meaning[best[0]] * mix + by_spelling[best[1]] * (1 - mix)
            tried.append((mix, *judged(mixed)))
        mixes[group], _, scale[group], shift[group], pooled = min(tried, key=lambda t: t[1])
        held_out[:, group] = pooled * scale[group] + shift[group]
    return _Choice(meaning, spelling, mixes, scale, shift, held_out)


def _best_parts(
    chosen: Sequence[npt.NDArray[np.int64]], make: Callable[[int], tuple[Part, Part]]
) -> tuple[Part, Part]:
    """Both models fitted on all rows, each label's column from the strength that was chosen for it."""
    made = {int(number): make(int(number)) for number in np.unique(np.concatenate(chosen))}
    parts = []
    for which, numbers in enumerate(chosen):
        columns = [(made[int(number)][which], label) for label, number in enumerate(numbers)]
        parts.append(
            Part(
                np.stack([part.weight[:, label] for part, label in columns], axis=1),
                np.asarray([part.bias[label] for part, label in columns]),
            )
        )
    return parts[0], parts[1]


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


def _fit_one(
    windows: Windows,
    truth: npt.NDArray[np.int8],
    weights: Wide,
    train: npt.NDArray[np.bool_],
    settings: Settings,
    strength: float,
) -> tuple[Part, Part]:
    chosen = np.flatnonzero(train[windows.owner])
    target = truth[windows.owner[chosen]].argmax(axis=1)
    counts = np.bincount(target, minlength=truth.shape[1])
    sample = weights[windows.owner[chosen]] * np.sqrt(len(target) / np.maximum(counts, 1))[target]
    # On n-grams one label against the rest: as good as all at once, and many times as fast.
    grams = windows.grams[chosen]

    def of_label(label: int) -> Part:
        return _one_against_rest(grams, target == label, sample, settings, strength)

    with ThreadPoolExecutor(settings.threads, "fit") as pool:
        words = list(pool.map(of_label, range(truth.shape[1])))
    if len(np.unique(target)) == 1:
        bias = np.where(np.arange(truth.shape[1]) == target[0], 0.0, ABSENT)
        part = Part(np.zeros((windows.features.shape[1], truth.shape[1])), bias)
        return part, side_by_side(words)
    model = regress(windows.features[chosen], target, sample, strength, settings.iterations)
    return multinomial(model, truth.shape[1]), side_by_side(words)


def _one_against_rest(
    grams: csr_matrix,
    target: npt.NDArray[np.bool_],
    sample: Wide,
    settings: Settings,
    strength: float,
) -> Part:
    if target.all() or not target.any():  # the other rows all lie in the fold that is held out
        return Part(np.zeros((grams.shape[1], 1)), np.full(1, -ABSENT if target.all() else ABSENT))
    return binary(regress(grams, target, sample, strength, settings.iterations))


def _fit_any(
    windows: Windows,
    truth: npt.NDArray[np.int8],
    weights: Wide,
    train: npt.NDArray[np.bool_],
    settings: Settings,
    strength: float,
) -> tuple[Part, Part]:
    def of_label(of_row: npt.NDArray[np.int8]) -> tuple[Part, Part]:
        return _fit_label(windows, of_row, weights, train, settings, strength)

    with ThreadPoolExecutor(settings.threads, "fit") as pool:
        parts = list(pool.map(of_label, truth.T))
    return side_by_side([part for part, _ in parts]), side_by_side([part for _, part in parts])


def _fit_label(
    windows: Windows,
    of_row: npt.NDArray[np.int8],
    weights: Wide,
    train: npt.NDArray[np.bool_],
    settings: Settings,
    strength: float,
) -> tuple[Part, Part]:
    """Both models of one label of an any-of head."""
    if not (train & (of_row == 0)).any():
        return _always(windows)
    usable = train[windows.owner] & (of_row[windows.owner] >= 0)
    # Which sentences of a harmful text are harmful is not known, unless it has a focus: none of
    # them teaches. Those of innocent texts are all innocent, but there are many, so each counts
    # for less.
    in_focus = (windows.focus == 1) & ~windows.sentence
    positive = usable & (of_row[windows.owner] == 1) & in_focus
    negative = usable & ((of_row[windows.owner] == 0) | (windows.focus == -1))
    worth = np.where(windows.sentence, SENTENCE_WORTH, 1.0) * weights[windows.owner]
    if np.count_nonzero(windows.sentence) > MANY_SENTENCES:
        innocent = windows.sentence & (of_row[windows.owner] == 0)
        negative &= ~innocent | (np.arange(len(innocent)) % SENTENCES_READ == 0)
        worth = np.where(innocent, SENTENCES_READ * worth, worth)
    # Which window of a long positive text carries the label is not known: first all of them,
    # each with its share; then the one that the first model finds most certain, and any other
    # it is sure of (multiple-instance learning, Andrews et al. 2002).
    per_row = np.bincount(windows.owner[positive], minlength=len(of_row))
    share = np.where(positive, 1.0 / np.maximum(per_row, 1)[windows.owner], 1.0)
    if (per_row > 1).any():
        chosen = np.flatnonzero(positive | negative)
        sample = balanced(positive[chosen], (share * worth)[chosen])
        part = binary(
            regress(
                windows.features[chosen], positive[chosen], sample, strength, settings.iterations
            )
        )
        score = windows.features @ part.weight[:, 0] + part.bias[0]
        best = np.full(len(of_row), -np.inf)
        np.maximum.at(best, windows.owner[positive], score[positive])
        positive &= (score >= best[windows.owner]) | (score > 0)
        share = np.where(positive & (score < best[windows.owner]), 0.5, 1.0)
    chosen = np.flatnonzero(positive | negative)
    sample = balanced(positive[chosen], (share * worth)[chosen])
    target = positive[chosen]
    if not target.any():
        return (
            Part(np.zeros((windows.features.shape[1], 1)), np.full(1, ABSENT)),
            Part(np.zeros((lexical.BUCKETS, 1)), np.full(1, ABSENT)),
        )
    model = regress(windows.features[chosen], target, sample, strength, settings.iterations)
    keep = thinned(target, settings.negatives)
    grams = windows.grams[chosen[keep]]
    words = regress(grams, target[keep], sample[keep], strength, settings.iterations)
    return binary(model), binary(words)


def _always(windows: Windows) -> tuple[Part, Part]:
    """For a label that every row has but for those of the fold that is held out."""
    bias = np.full(1, -ABSENT)
    meaning = Part(np.zeros((windows.features.shape[1], 1)), bias)
    return meaning, Part(np.zeros((lexical.BUCKETS, 1)), bias)
