"""Scores and truth in, an :class:`~classifiers.training.evaluation.Evaluation` out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from classifiers.heads import OUT_OF_SCOPE
from classifiers.training import figures, metrics
from classifiers.training.data import Row
from classifiers.training.evaluation import Evaluation, Slice
from classifiers.training.fit import truth_table
from classifiers.training.metrics import Scores, Truth
from classifiers.training.robustness import robustness
from classifiers.types import Batch, Classifier, OperatingPoint, Prediction

HARDEST = 20
"""So many mistakes are listed."""
HELD_OUT = "texts that it was not trained on"
HANDED = "the rows that were given (if it was trained on some of them, they flatter it)"


@dataclass(frozen=True, slots=True)
class Given:
    """What an evaluation shows but does not measure itself; all of it may be left out.

    Attributes:
        judged_on: which texts the rows are, as part of a sentence.
        points: operating points by label, as in a pack's manifest: what they promise is checked.
        sizes: rows by split.
        train_rows: positive training rows by label.
        learning_curve: (training rows, figure), ascending.
        learning_figure: what the figure is.
        left_out: source -> figures of a classifier trained without it.
        robustness: from :func:`classifiers.training.robustness.robustness`.
        slices: from :func:`judge_slice`.
        out_of_scope: scores of texts in scope ``[n]`` and outside ``[m]``; the higher, the more in.
        with_texts: list the texts of mistakes, not their places alone.
    """

    judged_on: str = HELD_OUT
    points: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    sizes: Mapping[str, int] = field(default_factory=dict)
    train_rows: Mapping[str, int] | None = None
    learning_curve: Sequence[tuple[int, float]] = ()
    learning_figure: str = "macro F1"
    left_out: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    robustness: Mapping[str, Mapping[str, float | int | None]] = field(default_factory=dict)
    slices: Sequence[Slice] = ()
    out_of_scope: tuple[Scores, Scores] | None = None
    with_texts: bool = False


def evaluate(
    scores: Scores,
    truth: Truth,
    rows: Sequence[Row],
    labels: Sequence[str],
    decision: str,
    thresholds: Mapping[str, float],
    given: Given | None = None,
) -> Evaluation:
    """Measure a classifier on rows it was not trained on.

    Args:
        scores: ``[n, labels]`` calibrated probabilities.
        truth: ``[n, labels]`` as in :func:`classifiers.training.fit.truth_table`.
        rows: ``[n]`` the rows themselves: sources, places, which are ordinary texts.
        labels: the columns.
        decision: ``one_of`` or ``any_of``.
        thresholds: the lowest score that counts, by label.
        given: what else the evaluation shows.

    Raises:
        ValueError: no rows, shapes that do not fit, scores that are no probabilities, a label
            without a threshold, another decision.
    """
    given = given or Given()
    case = figures.make_case(scores, truth, rows, labels, decision, thresholds)
    by_label = tuple(
        figures.label_figures(case, column, given.train_rows) for column in range(len(case.labels))
    )
    matters = figures.matters(by_label)
    quiet = figures.ordinary(case)
    stopped = case.flagged.any(axis=1) & quiet
    return Evaluation(
        decision=decision,
        judged_on=given.judged_on,
        labels=by_label,
        overall=figures.overall(case, by_label),
        budgets=tuple(
            promise
            for column, label in enumerate(case.labels)
            if (promise := figures.budget(case, column, given.points.get(label, {})))
        ),
        recalls=tuple(
            target
            for one in by_label
            if (target := figures.recall_target(one, given.points.get(one.label, {})))
        ),
        any_flagged=metrics.proportion(int(stopped.sum()), int(quiet.sum())),
        false_positives=figures.false_positives(case),
        found=figures.found(case),
        confusion=figures.confusion(case),
        reliability=figures.reliability(case),
        matters=matters,
        curves=figures.curves(case, matters),
        histograms={
            label: metrics.histogram(case.scores[:, column], case.truth[:, column])
            for column, label in enumerate(case.labels)
        },
        slices=tuple(given.slices),
        out_of_scope=figures.out_of_scope(*given.out_of_scope) if given.out_of_scope else None,
        robustness=given.robustness,
        left_out=given.left_out,
        learning_curve=tuple((int(n), float(value)) for n, value in given.learning_curve),
        learning_figure=given.learning_figure,
        sizes=given.sizes,
        hardest=figures.mistakes(case, given.with_texts)[:HARDEST],
        with_texts=given.with_texts,
    )


def evaluate_classifier(
    classifier: Classifier,
    rows: Sequence[Row],
    *,
    slices: Mapping[str, Sequence[Row]] | None = None,
    robust_rows: int = 0,
    seed: int = 0,
    given: Given | None = None,
) -> Evaluation:
    """Measure a finished classifier as it is served, at its default thresholds.

    Args:
        classifier: of kind ``spans`` it is judged by whether it finds a label anywhere in the text.
        rows: labelled rows of any split; those it was trained on flatter it.
        slices: name -> rows that should pass, listed apart.
        robust_rows: so many rows are disguised in every way and scored again; 0: none. It costs
            this many texts a family, see :data:`classifiers.training.robustness.FAMILIES`.
        seed: of the disguises.
        given: what else the evaluation shows. ``points`` and ``train_rows`` come from the manifest of
            the pack where they are not given.

    Raises:
        ValueError: no rows, or none that holds a label of the classifier.
    """
    given = given or Given()
    labels = task_labels(classifier)
    truth = truth_table(rows, labels)
    if not (truth == 1).any():
        raise ValueError(
            f"none of the {len(rows)} rows holds a label of {classifier.name}; "
            f"its labels are {', '.join(labels)}"
        )
    decision = "one_of" if classifier.kind == "one_of" else "any_of"
    thresholds = classifier.thresholds(labels, OperatingPoint())
    manifest: Mapping[str, Any] = getattr(classifier, "manifest", {})
    if not given.points:
        given = replace(given, points=manifest.get("operating_points", {}))
    if given.train_rows is None:
        given = replace(given, train_rows=manifest.get("train_rows"))
    if given.judged_on == HELD_OUT:
        given = replace(given, judged_on=HANDED)
    checks = tuple(
        judge_slice(
            name, own, score(classifier, [row.text for row in own], labels), labels, decision,
            thresholds, with_texts=given.with_texts,
        )
        for name, own in (slices or {}).items()
    )  # fmt: skip
    if robust_rows:
        disguised = robustness(
            lambda texts: score(classifier, texts, labels), rows, labels, decision, thresholds,
            limit=robust_rows, seed=seed,
        )  # fmt: skip
        given = replace(given, robustness=disguised)
    given = replace(given, slices=(*given.slices, *checks))
    scores = score(classifier, [row.text for row in rows])
    if OUT_OF_SCOPE in classifier.labels and OUT_OF_SCOPE not in labels and not given.out_of_scope:
        inside = 1 - scores[:, classifier.labels.index(OUT_OF_SCOPE)]
        held, bare = (truth == 1).any(axis=1), (truth == 0).all(axis=1)
        if bare.any():
            given = replace(given, out_of_scope=(inside[held], inside[bare]))
    scores = scores[:, [classifier.labels.index(label) for label in labels]]
    return evaluate(scores, truth, rows, labels, decision, thresholds, given)


def task_labels(classifier: Classifier) -> tuple[str, ...]:
    """The labels it was trained for: without ``out_of_scope``, which a one-of pack adds by itself.

    Its score is no share of the others' probability and cannot be compared with them.
    """
    manifest: Mapping[str, Any] = getattr(classifier, "manifest", {})
    return tuple(manifest.get("labels", classifier.labels))


def score(
    classifier: Classifier,
    texts: Sequence[str],
    labels: Sequence[str] | None = None,
    batch: int = 32,
) -> Scores:
    """``[texts, labels]``: each label's greatest score in each text, 0 where it was not found.

    Args:
        labels: the columns; by default all of the classifier's.
        batch: so many texts at a time.
    """
    columns = {label: at for at, label in enumerate(labels or classifier.labels)}
    scores = np.zeros((len(texts), len(columns)))
    for first in range(0, len(texts), batch):
        found = classifier.predict(Batch(texts[first : first + batch]))
        scores[first : first + batch] = scores_of(found, columns)
    return scores


def scores_of(found: Sequence[Sequence[Prediction]], columns: Mapping[str, int]) -> Scores:
    """The same of what was predicted: ``columns`` is label -> column."""
    scores = np.zeros((len(found), len(columns)))
    for index, predictions in enumerate(found):
        for one in predictions:
            if (column := columns.get(one.label)) is not None:
                scores[index, column] = max(scores[index, column], one.score)
    return scores


def judge_slice(
    name: str,
    rows: Sequence[Row],
    scores: Scores,
    labels: Sequence[str],
    decision: str,
    thresholds: Mapping[str, float],
    *,
    with_texts: bool = False,
) -> Slice:
    """Which of the named cases pass, by :func:`classifiers.training.metrics.right_rows`.

    Raises:
        ValueError: as :func:`evaluate`.
    """
    truth = truth_table(rows, labels)
    case = figures.make_case(scores, truth, rows, labels, decision, thresholds)
    failures = figures.mistakes(case, with_texts)
    return Slice(name, len(rows) - len(failures), len(failures), failures)
