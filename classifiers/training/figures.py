"""The parts of an evaluation, each worked out from one case: scores, truth, thresholds and rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from classifiers.training import metrics
from classifiers.training.data import Row
from classifiers.training.evaluation import (
    Budget,
    Confusion,
    Kept,
    LabelCurves,
    LabelFigures,
    Mistake,
    OutOfScope,
    Overall,
    RecallTarget,
)
from classifiers.training.metrics import Mask, Proportion, Reliability, Scores, Truth, proportion

DECISIONS = ("one_of", "any_of")
TEXT = 200
"""Characters of a listed text."""
MATTER = 6
"""So many labels have curves."""
IN_SCOPE_KEPT = 0.95
NO_LABEL = "no label"


@dataclass(frozen=True, slots=True)
class Case:
    """Everything the figures are made of; ``flagged [n, labels]`` are scores at or over the threshold."""

    scores: Scores
    truth: Truth
    flagged: Mask
    rows: Sequence[Row]
    labels: tuple[str, ...]
    decision: str
    cuts: tuple[float, ...]


def make_case(
    scores: Scores,
    truth: Truth,
    rows: Sequence[Row],
    labels: Sequence[str],
    decision: str,
    thresholds: Mapping[str, float],
) -> Case:
    """Check what was handed over; raises ValueError as :func:`classifiers.training.evaluate.evaluate`."""
    if decision not in DECISIONS:
        raise ValueError(f"decision {decision!r} cannot be evaluated; take one_of or any_of")
    shape = (len(rows), len(labels))
    if not all(shape):
        raise ValueError(f"nothing to evaluate: {shape[0]} rows, {shape[1]} labels")
    if scores.shape != shape or truth.shape != shape:
        raise ValueError(
            f"scores {scores.shape} and truth {truth.shape} must both be rows x labels, {shape}"
        )
    # A softmax of float32 may pass 1 by a rounding.
    if not (np.isfinite(scores).all() and (scores >= 0).all() and (scores <= 1 + 1e-6).all()):
        raise ValueError("scores must be probabilities in 0..1; calibrate them first")
    if missing := [label for label in labels if label not in thresholds]:
        raise ValueError(f"no threshold for {', '.join(missing)}; give one for each label")
    cuts = tuple(float(thresholds[label]) for label in labels)
    exact = np.asarray(scores, dtype=np.float64)
    return Case(
        np.minimum(exact, 1.0),
        truth,
        exact >= np.asarray(cuts),
        rows,
        tuple(labels),
        decision,
        cuts,
    )


def label_figures(case: Case, column: int, train_rows: Mapping[str, int] | None) -> LabelFigures:
    """Figures of one label, on the rows where its truth is known."""
    known = case.truth[:, column] >= 0
    truth = case.truth[known, column] == 1
    scores, flagged = case.scores[known, column], case.flagged[known, column]
    hits, half = int((truth & flagged).sum()), scores >= 0.5
    label, positives = case.labels[column], int(truth.sum())
    precision = proportion(hits, int(flagged.sum()))
    recall = proportion(hits, positives)
    return LabelFigures(
        label=label,
        positives=positives,
        negatives=len(truth) - positives,
        unknown=int((~known).sum()),
        train_rows=None if train_rows is None else train_rows.get(label, 0),
        threshold=case.cuts[column],
        precision=precision,
        recall=recall,
        false_positive_rate=proportion(int((flagged & ~truth).sum()), int((~truth).sum())),
        f1=metrics.f1(precision, recall),
        f1_at_half=metrics.f1(
            proportion(int((truth & half).sum()), int(half.sum())),
            proportion(int((truth & half).sum()), positives),
        ),
        auroc=metrics.auroc(truth, scores),
        average_precision=metrics.average_precision(truth, scores),
        calibration_error=metrics.calibration_error(metrics.reliability(scores, truth)),
        brier=float(((scores - truth) ** 2).mean()) if len(truth) else None,
    )


def overall(case: Case, labels: Sequence[LabelFigures]) -> Overall:
    """Figures of all labels together."""
    right = metrics.right_rows(case.scores, case.truth, case.flagged, case.decision)
    judged = (case.truth >= 0).any(axis=1)
    single = case.decision == "one_of"
    if single:
        judged = (case.truth == 1).any(axis=1)
    scored = [one for one in labels if one.positives]
    errors = [one.calibration_error for one in labels if one.calibration_error is not None]
    known = case.truth >= 0
    best = None
    if single and judged.any():
        counts = np.asarray(metrics.confusion(case.scores, case.truth, case.flagged, "one_of"))
        counts = counts[:-1, :-1]
        total = counts.sum(axis=0) + counts.sum(axis=1)
        own = counts.sum(axis=1) > 0
        best = float((2 * np.diag(counts)[own] / total[own]).mean())
    weights = [one.positives for one in scored]
    return Overall(
        rows=len(case.rows),
        accuracy=proportion(int(right[judged].sum()), int(judged.sum())),
        macro_f1=float(np.mean([one.f1 for one in scored])) if scored else None,
        weighted_f1=float(np.average([one.f1 for one in scored], weights=weights))
        if scored
        else None,
        best_label_macro_f1=best,
        calibration_error=metrics.calibration_error(reliability(case)),
        classwise_calibration_error=float(np.mean(errors)) if errors else None,
        brier=metrics.brier(case.scores, case.truth, case.decision),
        micro_average_precision=metrics.average_precision(
            case.truth[known] == 1, case.scores[known]
        ),
    )


def matters(labels: Sequence[LabelFigures]) -> tuple[str, ...]:
    """The labels that have curves: all of a few, else the three weakest and the three most frequent."""
    scored = [one for one in labels if one.positives and one.negatives]
    if len(scored) <= MATTER:
        return tuple(one.label for one in scored)
    weakest = sorted(scored, key=lambda one: (one.f1, one.label))[: MATTER // 2]
    rest = [one for one in scored if one not in weakest]
    frequent = sorted(rest, key=lambda one: (-one.positives, one.label))[: MATTER // 2]
    chosen = {one.label for one in (*weakest, *frequent)}
    return tuple(one.label for one in labels if one.label in chosen)


def ordinary(case: Case) -> Mask:
    """Rows that no policy should stop: the benign ones, or, without any, those no label holds for."""
    bare = (case.truth == 0).all(axis=1)
    benign = np.asarray([row.benign for row in case.rows])
    if case.decision == "one_of":  # an ordinary text may well have a label here
        return np.asarray(bare)
    return np.asarray(benign if benign.any() else bare)


def budget(case: Case, column: int, point: Mapping[str, Any]) -> Budget | None:
    """What the rows say of the false-positive rate that an operating point promises, if any.

    Of ``one_of``, the ordinary texts of a label are those of all other labels.

    Args:
        point: as in a pack's manifest, see :func:`classifiers.training.pack.operating_points`.
    """
    rate = point.get("max_false_positive_rate")
    if rate is None:
        return None
    quiet = case.truth[:, column] == 0
    if case.decision == "any_of":
        quiet &= ordinary(case)
    flagged = int(case.flagged[quiet, column].sum())
    achieved = proportion(flagged, int(quiet.sum()))
    upper = metrics.upper_bound(flagged, achieved.of)
    kept: Kept = "yes" if upper <= rate else "no" if achieved.low > rate else "unclear"
    return Budget(
        label=case.labels[column],
        rate=float(rate),
        proven=bool(point.get("promised", True)),
        calibration_rows=point.get("benign_rows"),
        needed=point.get("benign_rows_needed"),
        achieved=achieved,
        upper=upper,
        kept=kept,
    )


def recall_target(one: LabelFigures, point: Mapping[str, Any]) -> RecallTarget | None:
    """What the rows say of the recall that was asked for, if any."""
    rate = point.get("min_recall")
    if rate is None:
        return None
    missed = one.recall.of - one.recall.hits
    lowest = 1 - metrics.upper_bound(missed, one.recall.of)
    kept: Kept = "yes" if lowest >= rate else "no" if one.recall.high < rate else "unclear"
    return RecallTarget(
        one.label, float(rate), bool(point.get("recall_promised", True)), one.recall, kept
    )


def false_positives(case: Case) -> dict[str, Proportion]:
    """By source, texts without a label that some label was flagged for; near misses apart."""
    flagged: Mask = np.asarray(case.flagged.any(axis=1))
    groups: dict[str, list[int]] = {}
    for index, row in enumerate(case.rows):
        if case.decision == "one_of" and row.labels:
            continue
        if row.benign:
            groups.setdefault(row.source, []).append(index)
        elif not row.labels and row.known is None:
            groups.setdefault(f"{row.source}, near misses", []).append(index)
    return _shares(flagged, groups)


def found(case: Case) -> dict[str, Proportion]:
    """By source, texts with a label for which one that holds was flagged (``one_of``: was best)."""
    hits: Mask = np.asarray((case.flagged & (case.truth == 1)).any(axis=1))
    if case.decision == "one_of":
        hits = metrics.right_rows(case.scores, case.truth, case.flagged, "one_of")
    groups: dict[str, list[int]] = {}
    for index, row in enumerate(case.rows):
        if row.labels:
            groups.setdefault(row.source, []).append(index)
    return _shares(hits, groups)


def confusion(case: Case) -> Confusion:
    """See :func:`classifiers.training.metrics.confusion`; "no label" only where it occurs."""
    counts = metrics.confusion(case.scores, case.truth, case.flagged, case.decision)
    names = (*case.labels, NO_LABEL)
    held = names if any(counts[-1]) else case.labels
    said = names if case.decision == "any_of" else case.labels
    rows = tuple(tuple(row[: len(said)]) for row in counts[: len(held)])
    return Confusion(held, said, rows)


def reliability(case: Case) -> tuple[Reliability, ...]:
    """Of ``one_of``, how often the best label is right; of ``any_of``, all known labels pooled."""
    if case.decision == "one_of":
        own = (case.truth == 1).any(axis=1)
        best = case.scores[own].argmax(axis=1)
        lines = np.arange(len(best))
        right = case.truth[own][lines, best] == 1
        return metrics.reliability(case.scores[own][lines, best], right)
    known = case.truth >= 0
    return metrics.reliability(case.scores[known], case.truth[known] == 1)


def curves(case: Case, labels: Sequence[str]) -> tuple[LabelCurves, ...]:
    """Curves of the labels; before them, where there are several, of all scores in one list."""
    known = case.truth >= 0
    parts = [("", known)] if len(case.labels) > 1 else []
    for label in labels:
        own = np.zeros_like(known)
        column = case.labels.index(label)
        own[:, column] = known[:, column]
        parts.append((label, own))
    made = []
    for name, own in parts:
        truth, scores = case.truth[own] == 1, case.scores[own]
        if truth.any() and not truth.all():
            pair = metrics.pr_curve(truth, scores), metrics.roc(truth, scores)
            made.append(LabelCurves(name, *pair))
    return tuple(made)


def out_of_scope(inside: Scores, outside: Scores) -> OutOfScope:
    """How well texts outside are told apart, from scores that are higher for texts inside.

    Raises:
        ValueError: one of the two is empty.
    """
    if not len(inside) or not len(outside):
        raise ValueError(
            f"out of scope: {len(inside)} texts inside and {len(outside)} outside; both are needed"
        )
    scores = np.concatenate((inside, outside)).astype(np.float64)
    truth = np.arange(len(scores)) < len(inside)
    ordered = np.sort(inside)
    threshold = float(ordered[int(np.floor((1 - IN_SCOPE_KEPT) * len(ordered)))])
    refused = proportion(int((outside < threshold).sum()), len(outside))
    area = metrics.auroc(truth, scores)
    return OutOfScope(len(inside), len(outside), area, threshold, refused)


def mistakes(case: Case, with_texts: bool) -> tuple[Mistake, ...]:
    """Rows decided wrong, the most confident mistake first; each row once, by its worst label."""
    wrong = np.flatnonzero(
        ~metrics.right_rows(case.scores, case.truth, case.flagged, case.decision)
    )
    listed = []
    for index in wrong.tolist():
        truth, scores, flagged = case.truth[index], case.scores[index], case.flagged[index]
        if case.decision == "one_of":
            column = int(scores.argmax())
            sure = float(scores[column])
        else:
            bad = (flagged != (truth == 1)) & (truth >= 0)
            each = np.where(bad, np.where(flagged, scores, 1 - scores), -1.0)
            column = int(each.argmax())
            sure = float(each[column])
        row = case.rows[index]
        listed.append(
            Mistake(
                row.place,
                row.source,
                _named(case, truth == 1),
                said(case, index),
                case.labels[column],
                float(scores[column]),
                sure,
                cut(row.text) if with_texts else "",
            )
        )
    return tuple(sorted(listed, key=lambda one: -one.confidence))


def said(case: Case, index: int) -> tuple[str, ...]:
    """What was said of a row: the best label, or all that were flagged."""
    if case.decision == "one_of":
        return (case.labels[int(case.scores[index].argmax())],)
    return _named(case, case.flagged[index])


def cut(text: str) -> str:
    """The text as it is listed."""
    return text if len(text) <= TEXT else text[: TEXT - 1] + "…"


def _named(case: Case, chosen: Mask) -> tuple[str, ...]:
    return tuple(label for label, own in zip(case.labels, chosen, strict=True) if own)


def _shares(hits: Mask, groups: Mapping[str, Sequence[int]]) -> dict[str, Proportion]:
    return {
        name: proportion(int(hits[list(own)].sum()), len(own))
        for name, own in sorted(groups.items())
    }
