"""The figures of a classifier as values: frozen, and plain JSON on demand."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from classifiers.training.metrics import Curve, Histogram, Proportion, Reliability

FORMAT = 1
Kept = Literal["yes", "unclear", "no"]


@dataclass(frozen=True, slots=True)
class LabelFigures:
    """What one label is worth at its threshold.

    Attributes:
        positives, negatives, unknown: rows by what is known of the label.
        train_rows: positive rows it was trained on, None where that is not known.
        threshold: the lowest score that counts.
        precision: of the texts that were flagged, those that are right.
        recall: of the texts that hold the label, those that were flagged.
        false_positive_rate: of the texts that do not hold it, those that were flagged.
        f1_at_half: F1 at the threshold 0.5.
        auroc, average_precision: of the scores, whatever the threshold; None without both kinds.
        calibration_error, brier: of the label's probabilities.
    """

    label: str
    positives: int
    negatives: int
    unknown: int
    train_rows: int | None
    threshold: float
    precision: Proportion
    recall: Proportion
    false_positive_rate: Proportion
    f1: float
    f1_at_half: float
    auroc: float | None
    average_precision: float | None
    calibration_error: float | None
    brier: float | None


@dataclass(frozen=True, slots=True)
class Overall:
    """Figures of all labels together.

    Attributes:
        accuracy: rows decided right, see :func:`classifiers.training.metrics.right_rows`.
        macro_f1: mean F1 of the labels with positive rows, at their thresholds.
        weighted_f1: the same, weighted by the positive rows.
        best_label_macro_f1: for ``one_of``, macro F1 when the best label is always taken.
        calibration_error: 15 bins. ``one_of``: of the best label's probability; ``any_of``: of all
            known labels.
        classwise_calibration_error: mean of the labels' own.
        micro_average_precision: of all scores in one list.
    """

    rows: int
    accuracy: Proportion
    macro_f1: float | None
    weighted_f1: float | None
    best_label_macro_f1: float | None
    calibration_error: float | None
    classwise_calibration_error: float | None
    brier: float | None
    micro_average_precision: float | None


@dataclass(frozen=True, slots=True)
class LabelCurves:
    """Curves of a label, or of all labels together (``label`` empty)."""

    label: str
    pr: Curve
    roc: Curve


@dataclass(frozen=True, slots=True)
class Confusion:
    """``counts[held][said]``; the last name of each side is "no label"."""

    held: tuple[str, ...]
    said: tuple[str, ...]
    counts: tuple[tuple[int, ...], ...]


@dataclass(frozen=True, slots=True)
class Budget:
    """A promised false-positive rate, and what the held-out ordinary texts say of it.

    Attributes:
        rate: the budget, a fraction of ordinary texts.
        proven: the threshold was proven to keep it when it was set; False: there were too few rows.
        calibration_rows: ordinary texts it was to be proven on, None where not known.
        needed: where it was not proven, how many ordinary texts that takes; else None.
        achieved: ordinary texts of this evaluation that were flagged.
        upper: one-sided 95 % exact upper bound of that rate.
        kept: ``yes`` proven by these texts, ``no`` refuted, ``unclear`` neither: too few to tell.
    """

    label: str
    rate: float
    proven: bool
    calibration_rows: int | None
    needed: int | None
    achieved: Proportion
    upper: float
    kept: Kept


@dataclass(frozen=True, slots=True)
class RecallTarget:
    """A recall that was asked for beside the budget, and what the held-out texts say of it.

    Attributes:
        rate: the share of the label's texts that should be found.
        proven: it was proven to hold at the threshold when that was set.
        achieved: of this evaluation.
        kept: as in :class:`Budget`.
    """

    label: str
    rate: float
    proven: bool
    achieved: Proportion
    kept: Kept


@dataclass(frozen=True, slots=True)
class Mistake:
    """A text that was decided wrong; ``text`` is empty unless texts were asked for."""

    place: str
    source: str
    expected: tuple[str, ...]
    said: tuple[str, ...]
    label: str
    score: float
    confidence: float
    text: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class Slice:
    """Named cases that should pass, and those that did not."""

    name: str
    passed: int
    failed: int
    failures: tuple[Mistake, ...]


@dataclass(frozen=True, slots=True)
class OutOfScope:
    """How well texts that are about none of the labels are told apart.

    Attributes:
        auroc: chance that a text in scope scores above one out of scope.
        threshold: the score that 95 % of the texts in scope reach.
        refused: texts out of scope under that threshold.
    """

    in_scope: int
    outside: int
    auroc: float | None
    threshold: float
    refused: Proportion


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Everything that was measured of a classifier; see :func:`classifiers.training.evaluate.evaluate`.

    Attributes:
        judged_on: which texts these are, as part of a sentence.
        with_texts: the mistakes carry the users' texts.
        matters: at most six labels, the weakest and the most frequent: those that have curves.
        curves: of these labels, and of all together (label empty).
        reliability: bins of the calibration diagram.
        any_flagged: ordinary texts that some label was flagged for.
        false_positives: the same by source, near misses apart.
        found: by source, texts with a label for which one that holds was flagged (``one_of``: best).
        left_out: by source, figures of a classifier trained without it.
        learning_curve: (training rows, figure); ``learning_figure`` says which.
        sizes: rows by split.
    """

    decision: str
    judged_on: str
    labels: tuple[LabelFigures, ...]
    overall: Overall
    budgets: tuple[Budget, ...]
    recalls: tuple[RecallTarget, ...]
    any_flagged: Proportion
    false_positives: Mapping[str, Proportion]
    found: Mapping[str, Proportion]
    confusion: Confusion
    reliability: tuple[Reliability, ...]
    matters: tuple[str, ...]
    curves: tuple[LabelCurves, ...]
    histograms: Mapping[str, Histogram]
    slices: tuple[Slice, ...]
    out_of_scope: OutOfScope | None
    robustness: Mapping[str, Mapping[str, float | int | None]]
    left_out: Mapping[str, Mapping[str, float]]
    learning_curve: tuple[tuple[int, float], ...]
    learning_figure: str
    sizes: Mapping[str, int]
    hardest: tuple[Mistake, ...]
    with_texts: bool

    def to_json(self) -> dict[str, Any]:
        """Plain values in a stable order; fractions have six digits, what is not finite is None."""
        plain: dict[str, Any] = plain_json({"format": FORMAT, **_fields(self)})
        return plain

    def metrics(self) -> dict[str, Any]:
        """The part that a pack's manifest carries and its card shows, in their form."""
        by_label = {
            one.label: {
                "rows": one.positives,
                "precision": round(one.precision.value or 0.0, 4),
                "recall": round(one.recall.value or 0.0, 4),
                "f1": round(one.f1, 4),
                "f1_at_half": round(one.f1_at_half, 4),
                "average_precision": round(one.average_precision or 0.0, 4),
            }
            for one in self.labels
            if one.positives
        }
        overall: dict[str, float] = {"rows": self.overall.rows}
        single = self.decision == "one_of"
        if single and self.overall.accuracy.value is not None:
            overall["accuracy"] = round(self.overall.accuracy.value, 4)
        if by_label:  # of the rounded ones, so that a reader can work it out
            overall["macro_f1"] = round(sum(o["f1"] for o in by_label.values()) / len(by_label), 4)
        counts = {} if single else self.false_positives
        found = {} if single else self.found
        return {
            "overall": overall,
            "by_label": by_label,
            "false_positives": {name: f"{one.hits} of {one.of}" for name, one in counts.items()},
            "found": {name: f"{one.hits} of {one.of}" for name, one in found.items()},
        }


def json_text(value: Any) -> str:
    """JSON with line breaks, strict: no NaN."""
    return json.dumps(plain_json(value), indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _fields(value: Any) -> dict[str, Any]:
    return {one.name: getattr(value, one.name) for one in dataclasses.fields(value)}


def plain_json(value: Any) -> Any:
    """Values as JSON has them: six digits, None for what is not finite."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return plain_json(_fields(value))
    if isinstance(value, Mapping):
        return {str(key): plain_json(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [plain_json(one) for one in value]
    if isinstance(value, float):
        return round(value, 6) if math.isfinite(value) else None
    return value
