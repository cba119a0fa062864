"""What is measured of a pack that was just trained."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from classifiers.heads import OUT_OF_SCOPE
from classifiers.pooled import probabilities
from classifiers.training.data import Row
from classifiers.training.evaluate import HELD_OUT, Given, evaluate, judge_slice, score
from classifiers.training.evaluation import Evaluation, Slice
from classifiers.training.figures import IN_SCOPE_KEPT
from classifiers.training.fit import Settings, fit, truth_table
from classifiers.training.gather import Gathered, labels_of
from classifiers.training.methods.base import Context, Trained, Wide
from classifiers.training.methods.spans import Find
from classifiers.training.metrics import auroc
from classifiers.training.robustness import robustness
from classifiers.training.task import Task
from classifiers.training.teacher import TeacherReport, teacher_report
from classifiers.training.windows import make_windows, pool_max
from classifiers.types import Classifier, Kind, OperatingPoint

FEWEST_TEST = 30
"""With fewer test rows the held-out training rows are judged instead."""
ROBUST_ROWS = 40
CURVE = (0.1, 0.25, 0.5)
MOST_CURVE = 2_000
"""Rows of the largest point of the learning curve: it is fitted anew for each."""
FEWEST_SOURCE = 20
MOST_SOURCE = 4_000
"""Rows that train in place of all, for each source that is left out."""
CROSS_FITTED = "its training rows, each judged by a model that had not seen it"
Judged = tuple[str, Sequence[Row], Wide]
"""What is judged: in words, the rows, and their ``[n, labels]`` scores."""


@dataclass(frozen=True, slots=True)
class Study:
    """A pack and the rows to measure it on.

    Attributes:
        train, test: rows; the dev rows stand among the former.
        trained: what the method made.
        classifier: the pack as it is served.
        cases: slice -> rows that should pass.
        context: what the method worked with.
    """

    train: Sequence[Row]
    test: Sequence[Row]
    labels: tuple[str, ...]
    decision: Kind
    trained: Trained
    classifier: Classifier
    cases: Mapping[str, Sequence[Row]]
    context: Context

    def judged(self) -> Judged:
        """The rows of the test split as served, or held-out training rows where they are too few."""
        if len(self.test) >= FEWEST_TEST:
            return HELD_OUT, self.test, self.scores([row.text for row in self.test])
        honest = np.flatnonzero(self.trained.honest)
        scores = probabilities(self.trained.held_out[honest], self.decision)
        return CROSS_FITTED, [self.train[int(index)] for index in honest], scores

    def scores(self, texts: Sequence[str]) -> Wide:
        """``[texts, labels]`` as served, without the label out_of_scope."""
        found: Wide = score(self.classifier, texts)[:, : len(self.labels)]
        return found

    def evaluation(
        self, judged: Judged, sizes: Mapping[str, int], *, with_texts: bool, method: str, full: bool
    ) -> Evaluation:
        """All figures.

        Args:
            judged: from :meth:`judged`.
            sizes: rows by split.
            with_texts: show the texts of mistakes.
            method: learning curve and sources left out are measured for ``head`` alone.
            full: measure also what only the report shows.
        """
        cuts = dict(self.classifier.thresholds(self.labels, OperatingPoint()))
        judged_on, rows, scores = judged
        points = getattr(self.classifier, "manifest")["operating_points"]  # noqa: B009
        slow = full and method == "head"
        given = Given(
            judged_on=judged_on,
            points={label: points[label] for label in self.labels},
            sizes=sizes,
            train_rows={
                label: sum(label in row.labels for row in self.train) for label in self.labels
            },
            slices=self._slices(cuts, with_texts),
            robustness=self._robustness(rows, cuts) if full else {},
            learning_curve=self._learning_curve(rows, scores) if slow else (),
            left_out=self._left_out() if slow else {},
            with_texts=with_texts,
        )
        truth = truth_table(rows, self.labels)
        return evaluate(scores, truth, rows, self.labels, self.decision, cuts, given)

    # -- inside -----------------------------------------------------------------------------------

    def _slices(self, cuts: Mapping[str, float], with_texts: bool) -> list[Slice]:
        return [
            judge_slice(
                name,
                rows,
                self.scores([row.text for row in rows]),
                self.labels,
                self.decision,
                cuts,
                with_texts=with_texts,
            )
            for name, rows in self.cases.items()
        ]

    def _robustness(
        self, rows: Sequence[Row], cuts: Mapping[str, float]
    ) -> Mapping[str, Mapping[str, float | int | None]]:
        return robustness(
            self.scores,
            rows,
            self.labels,
            self.decision,
            cuts,
            limit=ROBUST_ROWS,
            seed=self.context.seed,
        )

    def _fitted_on(self, rows: Sequence[Row], others: Sequence[Row]) -> Wide | None:
        """``[others, labels]`` scores by a head of some of the rows; None if a label has none there."""
        if (truth_table(rows, self.labels) != 1).all(axis=0).any():
            return None
        encoder, cache, pooling = self.context.encoder, self.context.cache, self.context.pooling
        windows = make_windows(rows, encoder, cache, pooling)
        settings = Settings(threads=self.context.threads)
        head = fit(rows, self.labels, self.decision, windows, settings).head
        own = make_windows(others, encoder, cache, pooling)
        logits = own.features @ head.encoder + own.grams @ head.lexical + head.bias
        return probabilities(pool_max(logits, own.owner, len(others)), self.decision)

    def _learning_curve(self, rows: Sequence[Row], scores: Wide) -> list[tuple[int, float]]:
        """Macro F1 by number of training rows, the whole last."""
        truth = truth_table(rows, self.labels)
        if rows is not self.test:  # cross-fitted: a part of the rows would be judged on themselves
            return []
        order = np.random.default_rng(self.context.seed).permutation(len(self.train))
        curve: list[tuple[int, float]] = []
        for share in CURVE:
            count = int(share * len(self.train))
            if not 2 * len(self.labels) <= count <= MOST_CURVE:
                continue
            found = self._fitted_on([self.train[index] for index in order[:count]], rows)
            if found is not None:
                curve.append((count, macro_f1(found, truth, self.decision)))
        return [*curve, (len(self.train), macro_f1(scores, truth, self.decision))] if curve else []

    def _left_out(self) -> dict[str, dict[str, float]]:
        """For each source, a head trained on all others, judged on it."""
        sources = sorted({row.source for row in self.train})
        result: dict[str, dict[str, float]] = {}
        if len(sources) < 2:
            return result
        order = np.random.default_rng(self.context.seed).permutation(len(self.train))
        for source in sources:
            own = [row for row in self.train if row.source == source]
            rest = [self.train[i] for i in order if self.train[i].source != source][:MOST_SOURCE]
            if len(own) < FEWEST_SOURCE or len(rest) < FEWEST_SOURCE:
                continue
            found = self._fitted_on(rest, own)
            if found is None:
                continue
            truth = truth_table(own, self.labels)
            areas = [
                auroc(truth[known, c] == 1, found[known, c])
                for c in range(len(self.labels))
                for known in [truth[:, c] >= 0]
            ]
            measured = [area for area in areas if area is not None]
            figures = {"rows": float(len(own)), "macro_f1": macro_f1(found, truth, self.decision)}
            if measured:
                figures["auroc"] = round(float(np.mean(measured)), 4)
            result[source] = figures
        return result


def macro_f1(scores: Wide, truth: npt.NDArray[np.int8], decision: Kind) -> float:
    """Mean F1 of the labels that have rows: of the best label, or at one half."""
    said = (
        np.eye(scores.shape[1], dtype=bool)[scores.argmax(axis=1)]
        if decision == "one_of"
        else scores >= 0.5
    )
    values = []
    for column in range(scores.shape[1]):
        known = truth[:, column] >= 0
        right, own = truth[known, column] == 1, said[known, column]
        if right.any():
            hits = float((right & own).sum())
            values.append(2 * hits / float(right.sum() + own.sum()))
    return round(float(np.mean(values)), 4) if values else 0.0


def of_spans(
    classifier: Classifier,
    train: tuple[Sequence[Row], Sequence[Sequence[Find]]],
    test: Sequence[Row],
    cases: Mapping[str, Sequence[Row]],
    sizes: Mapping[str, int],
    with_texts: bool,
) -> Evaluation:
    """Figures of a token head: by text, whether a label is found anywhere in it.

    The figures by span stand in the manifest, from held-out training rows.

    Args:
        train: the rows, and of each the finds of a head fitted without it.
    """
    labels = classifier.labels
    cuts = dict(classifier.thresholds(labels, OperatingPoint()))
    if len(test) >= FEWEST_TEST:
        rows, judged_on = test, HELD_OUT
        scores = score(classifier, [row.text for row in rows])
    else:
        rows, judged_on = train[0], CROSS_FITTED
        scores = np.zeros((len(rows), len(labels)))
        for line, finds in zip(scores, train[1], strict=True):
            for _, _, label, value in finds:
                line[labels.index(label)] = max(line[labels.index(label)], value)
    slices = [
        judge_slice(
            name,
            own,
            score(classifier, [row.text for row in own]),
            labels,
            "any_of",
            cuts,
            with_texts=with_texts,
        )
        for name, own in cases.items()
    ]
    given = Given(judged_on=judged_on, sizes=sizes, slices=slices, with_texts=with_texts)
    return evaluate(scores, truth_table(rows, labels), rows, labels, "any_of", cuts, given)


def out_of_scope(
    decision: Kind, logits: Wide, honest: npt.NDArray[np.bool_], labels: Sequence[str]
) -> dict[str, Any] | None:
    """What the manifest says of texts that are about none of the labels; None where it says nothing.

    A one-of head has no label for them. Their energy (Liu et al. 2020, arXiv:2010.03759), compared
    with that of held-out texts in scope, tells them apart.
    """
    if decision != "one_of" or OUT_OF_SCOPE in labels or int(honest.sum()) < 20:
        return None
    return {"method": "energy", "in_scope_kept": IN_SCOPE_KEPT, "rows": int(honest.sum())}


def doubts(manifest: Mapping[str, Any]) -> list[str]:
    """What the pack does not promise, a line each."""
    points: Mapping[str, Mapping[str, Any]] = manifest["operating_points"]
    lines = []
    doubted = {k: p for k, p in points.items() if "promise_fault" in p}
    if doubted:
        some = next(iter(doubted.values()))
        lines.append(
            f"a false-positive rate of {_rate(some['max_false_positive_rate'])} is not promised for "
            f"{_few(doubted)}: {some['promise_fault']}"
        )
    weak = {k: p for k, p in points.items() if "benign_rows_needed" in p}
    if weak:
        some = next(iter(weak.values()))
        least, needed = (
            min(int(p["benign_rows"]) for p in weak.values()),
            some["benign_rows_needed"],
        )
        single = manifest["decision"] == "one_of"
        lines.append(
            f"a false-positive rate of {_rate(some['max_false_positive_rate'])} is not promised for "
            f"{_few(weak)}: it takes {needed:,} held-out rows "
            f"{'of other labels' if single else 'without any label'} and there are {least:,}; add "
            f"{needed - least:,} more {'as data' if single else 'under benign: or as data'}, or allow "
            "a larger rate"
        )
    unsure = [k for k, p in points.items() if p.get("recall_promised") is False]
    if unsure:
        some = points[unsure[0]]
        lines.append(
            f"a recall of {_rate(some['min_recall'])} is not proven at the threshold for {_few(unsure)}; "
            "add rows of these labels, allow more false positives, or ask for less"
        )
    return lines


def agreement_with(
    gathered: Gathered, task: Task, study: Study, judged: Judged
) -> TeacherReport | None:
    """How far the head says what its teacher said, and from when on it was worth its price."""
    if gathered.taught is None:
        return None
    _, rows, scores = judged
    texts = set(gathered.taught.texts)
    own = [index for index, row in enumerate(rows) if row.text in texts]
    rows, scores = [rows[index] for index in own], scores[own]
    cuts = study.classifier.thresholds(study.labels, OperatingPoint())
    if study.decision == "one_of":
        said = [frozenset({study.labels[best]}) for best in scores.argmax(axis=1)]
    else:
        limits = np.asarray([cuts[label] for label in study.labels])
        said = [frozenset(np.asarray(study.labels)[line].tolist()) for line in scores >= limits]
    sample = [row.text for row in rows[:50]]
    before = time.process_time()
    study.scores(sample)
    milliseconds = (time.process_time() - before) * 1e3 / max(len(sample), 1)
    written = gathered.bills.get("synthesize", {"dollars": 0.0})["dollars"]
    return teacher_report(
        gathered.taught,
        said,
        [row.labels for row in rows],
        labels_of(task),
        head_cpu_ms=round(milliseconds, 3),
        also_dollars=written,
    )


def _rate(share: float) -> str:
    """A share in percent, without zeros that say nothing."""
    return f"{100 * share:.4f}".rstrip("0").rstrip(".") + "%"


def _few(names: Mapping[str, Any] | Sequence[str]) -> str:
    listed = list(names)
    more = f" and {len(listed) - 4} more" if len(listed) > 4 else ""
    return ", ".join(listed[:4]) + more
