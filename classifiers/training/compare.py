"""Two classifiers on the same labelled rows: which is better, and is the difference more than luck."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import binomtest

from classifiers.training import figures, metrics
from classifiers.training.data import Row
from classifiers.training.evaluate import score, task_labels
from classifiers.training.evaluation import plain_json
from classifiers.training.figures import Case
from classifiers.training.fit import truth_table
from classifiers.training.metrics import Proportion, proportion
from classifiers.training.verdict import percent
from classifiers.types import Classifier, OperatingPoint

RESAMPLES = 1000
"""Bootstrap resamples of an interval."""
BLOCK = 100
"""Resamples that are drawn at a time: they cost rows x this many numbers of memory."""
FEWEST = 10
"""With fewer texts that only one of the two decides right, an interval of F1 alone is no proof."""
SURE = 0.05
"""A p-value under this is called more than luck."""
DISAGREEMENTS = 200
"""At most so many texts are listed."""
FORMAT = 1

Counts = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Pair:
    """One figure of both: ``difference`` is b minus a, with its 95 % paired bootstrap interval."""

    a: float | None
    b: float | None
    difference: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True)
class McNemar:
    """Exact test of the rows that exactly one of the two decides right (McNemar 1947).

    Attributes:
        only_a, only_b: such rows.
        p: chance of a split at least as uneven if both were equally good; 1 without such rows.
    """

    only_a: int
    only_b: int
    p: float


@dataclass(frozen=True, slots=True)
class LabelPair:
    """One label in both."""

    label: str
    positives: int
    precision_a: Proportion
    precision_b: Proportion
    recall_a: Proportion
    recall_b: Proportion
    f1: Pair
    mcnemar: McNemar


@dataclass(frozen=True, slots=True)
class SourcePair:
    """Rows of one source that each decides right."""

    source: str
    right_a: Proportion
    right_b: Proportion


@dataclass(frozen=True, slots=True)
class Disagreement:
    """A text on which the two decide differently; ``text`` is empty unless texts were asked for."""

    place: str
    source: str
    expected: tuple[str, ...]
    said_a: tuple[str, ...]
    said_b: tuple[str, ...]
    right_a: bool
    right_b: bool
    text: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two classifiers side by side.

    Attributes:
        verdict: one plain sentence or two.
        labels: those that both have; the figures are of these alone.
        only_a, only_b: labels that one of them lacks.
        right_a, right_b: rows decided right.
        stopped_a, stopped_b: ordinary texts that some label was flagged for.
        disagree: rows decided differently, of which at most 200 are in ``disagreements``.
    """

    verdict: str
    a: str
    b: str
    rows: int
    labels: tuple[LabelPair, ...]
    only_a: tuple[str, ...]
    only_b: tuple[str, ...]
    right_a: Proportion
    right_b: Proportion
    stopped_a: Proportion
    stopped_b: Proportion
    macro_f1: Pair
    mcnemar: McNemar
    sources: tuple[SourcePair, ...]
    disagree: int
    disagreements: tuple[Disagreement, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain values in a stable order."""
        return {"format": FORMAT, **plain_json(self)}


def compare(
    a: Classifier,
    b: Classifier,
    rows: Sequence[Row],
    *,
    thresholds_a: Mapping[str, float] | None = None,
    thresholds_b: Mapping[str, float] | None = None,
    with_texts: bool = False,
    seed: int = 0,
) -> Comparison:
    """Judge two classifiers on the same rows, as they are served.

    Args:
        a, b: ``b`` is the one that would replace ``a``.
        rows: labelled rows that neither was trained on.
        thresholds_a, thresholds_b: by label; by default each one's own.
        with_texts: list the texts they disagree on, not their places alone.
        seed: of the bootstrap.

    Raises:
        ValueError: no label in common, one picks one label and the other any, or no row holds a
            common label.
    """
    labels = tuple(label for label in task_labels(a) if label in task_labels(b))
    kinds = {"one_of" if one.kind == "one_of" else "any_of" for one in (a, b)}
    if not labels:
        raise ValueError(
            f"{a.name} ({', '.join(a.labels)}) and {b.name} ({', '.join(b.labels)}) have no label "
            "in common; compare classifiers of the same task"
        )
    if len(kinds) > 1:
        raise ValueError(
            f"{a.name} is {a.kind}, {b.name} is {b.kind}: their decisions cannot be compared"
        )
    decision = kinds.pop()
    truth = truth_table(rows, labels)
    if not (truth == 1).any():
        raise ValueError(f"none of the {len(rows)} rows holds one of {', '.join(labels)}")
    texts = [row.text for row in rows]
    cases = []
    for one, own in ((a, thresholds_a), (b, thresholds_b)):
        cuts = own if own is not None else one.thresholds(labels, OperatingPoint())
        scores = score(one, texts, labels)
        cases.append(figures.make_case(scores, truth, rows, labels, decision, cuts))
    return _compared(_names(a, b), cases[0], cases[1], a, b, seed, with_texts)


def _compared(
    names: tuple[str, str],
    one: Case,
    two: Case,
    a: Classifier,
    b: Classifier,
    seed: int,
    with_texts: bool,
) -> Comparison:
    right_a, right_b = _right(one), _right(two)
    by_label, macro = _f1_pairs(one, two, seed)
    quiet = figures.ordinary(one)
    shares = [proportion(int(right.sum()), len(right)) for right in (right_a, right_b)]
    stopped = [
        proportion(int(case.flagged[quiet].any(axis=1).sum()), int(quiet.sum()))
        for case in (one, two)
    ]
    test = mcnemar(right_a, right_b)
    listed = _disagreements(one, two, right_a, right_b, with_texts)
    return Comparison(
        verdict=_verdict(names, len(one.rows), macro, test, stopped),
        a=names[0],
        b=names[1],
        rows=len(one.rows),
        labels=tuple(_label(one, two, column, pair) for column, pair in enumerate(by_label)),
        only_a=tuple(label for label in task_labels(a) if label not in task_labels(b)),
        only_b=tuple(label for label in task_labels(b) if label not in task_labels(a)),
        right_a=shares[0],
        right_b=shares[1],
        stopped_a=stopped[0],
        stopped_b=stopped[1],
        macro_f1=macro,
        mcnemar=test,
        sources=tuple(_sources(one.rows, right_a, right_b)),
        disagree=len(listed),
        disagreements=tuple(listed[:DISAGREEMENTS]),
    )


def mcnemar(right_a: metrics.Mask, right_b: metrics.Mask) -> McNemar:
    """Exact McNemar test of paired decisions, two-sided."""
    only_a = int((right_a & ~right_b).sum())
    only_b = int((right_b & ~right_a).sum())
    total = only_a + only_b
    return McNemar(only_a, only_b, float(binomtest(only_a, total).pvalue) if total else 1.0)


# -- inside ---------------------------------------------------------------------------------------


def _names(a: Classifier, b: Classifier) -> tuple[str, str]:
    if a.name != b.name:
        return a.name, b.name
    if a.version != b.version:
        return f"{a.name}@{a.version}", f"{b.name}@{b.version}"
    return f"{a.name} (first)", f"{b.name} (second)"


def _right(case: Case) -> metrics.Mask:
    return metrics.right_rows(case.scores, case.truth, case.flagged, case.decision)


def _label(one: Case, two: Case, column: int, f1: Pair) -> LabelPair:
    known = one.truth[:, column] >= 0
    truth = one.truth[known, column] == 1
    parts = []
    for case in (one, two):
        flagged = case.flagged[known, column]
        hits = int((flagged & truth).sum())
        parts.append((proportion(hits, int(flagged.sum())), proportion(hits, int(truth.sum()))))
    test = mcnemar(one.flagged[known, column] == truth, two.flagged[known, column] == truth)
    (precision_a, recall_a), (precision_b, recall_b) = parts
    return LabelPair(
        one.labels[column], int(truth.sum()), precision_a, precision_b, recall_a, recall_b, f1, test
    )


def _f1_pairs(one: Case, two: Case, seed: int) -> tuple[list[Pair], Pair]:
    """F1 by label and their mean, with paired bootstrap intervals of the differences.

    F1 is ``2 tp / (flagged + positives)``: sums over rows, so a resample is a product of row counts
    with them.
    """
    held = one.truth == 1
    known = one.truth >= 0
    scored = held.any(axis=0)
    parts = []
    for case in (one, two):
        flagged = case.flagged & known
        top = 2.0 * (flagged & held)
        bottom = flagged.astype(np.float64) + held
        parts.append(np.concatenate((top, bottom), axis=1))
    actual = [_f1_of(part.sum(axis=0)[None, :])[0] for part in parts]
    differences = []
    random, rows = np.random.default_rng(seed), len(held)
    for first in range(0, RESAMPLES, BLOCK):
        count = min(BLOCK, RESAMPLES - first)
        drawn = random.multinomial(rows, np.full(rows, 1 / rows), size=count).astype(np.float64)
        differences.append(_f1_of(drawn @ parts[1]) - _f1_of(drawn @ parts[0]))
    spread = np.concatenate(differences)
    ends = np.quantile(spread, (0.025, 0.975), axis=0)
    pairs = [
        _pair(actual[0][column], actual[1][column], ends[:, column])
        if scored[column]
        else Pair(None, None, None, None, None)
        for column in range(held.shape[1])
    ]
    whole = np.quantile(spread[:, scored].mean(axis=1), (0.025, 0.975))
    return pairs, _pair(actual[0][scored].mean(), actual[1][scored].mean(), whole)


def _f1_of(sums: Counts) -> Counts:
    half = sums.shape[1] // 2
    result: Counts = sums[:, :half] / np.maximum(sums[:, half:], 1)
    return result


def _pair(a: float, b: float, ends: Counts) -> Pair:
    return Pair(float(a), float(b), float(b - a), float(ends[0]), float(ends[1]))


def _sources(rows: Sequence[Row], right_a: metrics.Mask, right_b: metrics.Mask) -> list[SourcePair]:
    groups: dict[str, list[int]] = {}
    for index, row in enumerate(rows):
        groups.setdefault(row.source, []).append(index)
    return [
        SourcePair(
            name,
            proportion(int(right_a[own].sum()), len(own)),
            proportion(int(right_b[own].sum()), len(own)),
        )
        for name, own in sorted(groups.items())
    ]


def _disagreements(
    one: Case, two: Case, right_a: metrics.Mask, right_b: metrics.Mask, with_texts: bool
) -> list[Disagreement]:
    """Texts decided differently; first those that one of the two decides right."""
    listed = []
    for index, row in enumerate(one.rows):
        said_a, said_b = figures.said(one, index), figures.said(two, index)
        if said_a == said_b:
            continue
        expected = tuple(
            label for label, held in zip(one.labels, one.truth[index], strict=True) if held == 1
        )
        listed.append(
            Disagreement(
                row.place, row.source, expected, said_a, said_b,
                bool(right_a[index]), bool(right_b[index]),
                figures.cut(row.text) if with_texts else "",
            )
        )  # fmt: skip
    return sorted(listed, key=lambda found: found.right_a == found.right_b)


def _verdict(
    names: tuple[str, str], rows: int, macro: Pair, test: McNemar, stopped: Sequence[Proportion]
) -> str:
    low, high, gap = macro.low or 0.0, macro.high or 0.0, macro.difference or 0.0
    total = test.only_a + test.only_b
    split = (
        f"of the {_texts(total)} that only one decides right, {names[0]} has {test.only_a}, "
        f"{names[1]} {test.only_b} (p = {test.p:.2g})"
        if total
        else "both decide the same texts right"
    )
    numbers = (
        f"macro F1 {macro.a or 0:.3f} and {macro.b or 0:.3f}, difference {gap:+.3f} "
        f"(95\u00a0% interval {low:+.3f} to {high:+.3f}); {split}"
    )
    # Each measure votes if it is sure; F1 counts every label the same, McNemar every text.
    votes = {int(np.sign(gap)) if low > 0 or high < 0 else 0}
    votes.add(int(np.sign(test.only_b - test.only_a)) if test.p < SURE else 0)
    if votes == {0}:
        verdict = f"From {rows:,} rows no difference can be proven: {numbers}."
    elif 0 in votes and total < FEWEST:
        verdict = f"From {rows:,} rows it cannot be told: {numbers}."
    elif {1, -1} <= votes:
        verdict = f"Neither is better: one by label, the other by text. {numbers}."
    else:
        better, worse = names[::-1] if 1 in votes else names
        verdict = f"{better} is better than {worse}: {numbers}."
    before, after = stopped
    if before.of and before.hits != after.hits:
        verdict += (
            f" Of the ordinary texts, {names[0]} stops {percent(before.value)}, "
            f"{names[1]} {percent(after.value)}."
        )
    return verdict


def _texts(count: int) -> str:
    return "1 text" if count == 1 else f"{count:,} texts"
