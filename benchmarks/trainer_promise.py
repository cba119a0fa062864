"""Does a promised false-positive rate hold on texts that neither training nor the threshold has seen?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
from scipy.stats import hypergeom

from benchmarks.report import Check, Table, number
from benchmarks.trainer_bench import Bench, Part, labelled, labels_of
from classifiers import calibration
from classifiers.pooled import probabilities
from classifiers.training.data import Row, without_duplicates
from classifiers.training.fit import truth_table
from classifiers.training.methods.head import HeadMethod
from classifiers.training.metrics import upper_bound
from classifiers.training.recipes import RECIPES
from classifiers.types import Kind

RATE = 0.01
SHARES = (0.2, 0.5)
"""Of the benign rows, for the threshold; the rest judges. With the first, the unseen rows are so many that
their own luck adds little to that of the threshold, which is what the promise is about."""
SPLITS, HOLDS = 1_000, 950
"""Splits of one set of scores are drawn independently, so that of 100 a right threshold whose misses are 3.7
to be expected shows 7 or more one time in thirteen."""
REFITS, REFITS_HOLD = 20, 19
CLINC_LABELS, CLINC_ASKED = 20, 10
JAILBREAK_ROWS = 5_000
Wide = npt.NDArray[np.float64]


@dataclass(slots=True)
class Tally:
    """Splits that were judged.

    Attributes:
        rates: false-positive rate on the unseen rows, by split.
        luck: chance that it exceeds the promise for a threshold that is right, by split.
        proven: splits whose unseen rows alone prove, at 95 % confidence, a rate over the promise.
        calibrated, unseen: benign rows of the last split that gave the threshold, and that judged.
    """

    rates: list[float] = field(default_factory=list)
    luck: list[float] = field(default_factory=list)
    proven: int = 0
    calibrated: int = 0
    unseen: int = 0

    def judge(self, calibrated: Wide, unseen: Wide) -> None:
        """A threshold from some scores of benign rows, judged by the scores of others."""
        cut = calibration.false_positive_threshold(calibrated, RATE)
        wrong = int((unseen >= cut).sum())
        self.rates.append(wrong / len(unseen))
        self.luck.append(_luck(len(calibrated), len(unseen)))
        # Held the other way round: the rate of right verdicts is proven to be under 1 - RATE.
        self.proven += upper_bound(len(unseen) - wrong, len(unseen)) < 1 - RATE
        self.calibrated, self.unseen = len(calibrated), len(unseen)

    @property
    def holding(self) -> int:
        """Splits in which at most the promised share of the unseen rows matched."""
        return sum(rate <= RATE for rate in self.rates)

    def cells(self) -> tuple[str, ...]:
        shares = [number(100 * value, 2) for value in (float(np.mean(self.rates)), max(self.rates))]
        return (
            str(self.calibrated),
            str(self.unseen),
            str(len(self.rates)),
            str(len(self.rates) - self.holding),
            number(sum(self.luck), 1),
            str(self.proven),
            *shares,
        )


def _luck(calibrated: int, unseen: int) -> float:
    """Chance that more than the promised share of the unseen rows match if all rows are alike.

    The threshold lies just over the highest calibration row but ``allowed``; at least u unseen rows
    exceed it if of the highest ``allowed + u`` rows of both parts at most ``allowed`` are calibration
    rows: hypergeometric.
    """
    may_match = calibration.allowed(RATE, calibrated)
    least = int(RATE * unseen) + 1
    both = calibrated + unseen
    return float(hypergeom.cdf(may_match, both, calibrated, may_match + least))


def promise(bench: Bench) -> Part:
    """A promised 1 % on random splits of held-out scores, and on heads that are fitted anew."""
    lines: list[tuple[str, ...]] = []
    checks: list[Check] = []
    notes: list[str] = []
    for name, make in (
        ("SMS, ham rows", _sms_scores),
        (f"CLINC150, {CLINC_ASKED} labels against the rest", _clinc_scores),
        ("jailbreak, benign rows", _jailbreak_scores),
    ):
        columns = make(bench)
        if not columns:
            notes.append(f"{name}: not in the folder of data sets, so not measured.")
            continue
        for share in SHARES:
            tally = Tally()
            for split in range(SPLITS):
                benign = columns[split % len(columns)]
                order = np.random.default_rng(split).permutation(len(benign))
                cut = int(len(benign) * share)
                tally.judge(benign[order[:cut]], benign[order[cut:]])
            lines.append((name, "threshold", *tally.cells()))
            if share == SHARES[0]:
                checks.append(_check(f"1 % promised, {name}: splits that hold", tally, HOLDS))
    refitted = _refitted(bench)
    if refitted is not None:
        lines.append(("SMS, ham rows", "head and threshold", *refitted.cells()))
        what = "1 % promised, SMS, head fitted anew: splits that hold"
        checks.append(_check(what, refitted, REFITS_HOLD * len(refitted.rates) // REFITS))
    table = Table(
        f"A promised false-positive rate of {RATE:.0%} on unseen benign rows",
        (
            "rows", "made anew in each split", "calibration rows", "unseen rows", "splits", "over 1 %",
            "expected by luck", "proven over 1 %", "mean rate, %", "highest rate, %",
        ),
        tuple(lines),
        "A split is a random fifth (or half) of the benign rows for the threshold; the others judge. "
        "Over 1 %: splits in which more than that share of the unseen rows matched. This includes the "
        "luck of the unseen rows, so it is not 5 of 100 for a threshold that is right; expected by luck "
        "is what it would be if all rows were alike (hypergeometric). Proven: the unseen rows alone "
        "prove a rate over 1 % at 95 % confidence. Scores are those of models that had not seen the "
        "row. With the head made anew, a fifth of all rows trains it and gives the threshold by its "
        "held-out scores; the others are judged by the finished head.",
    )  # fmt: skip
    return [table], checks, notes


def _check(what: str, tally: Tally, least: int) -> Check:
    total = len(tally.rates)
    return Check(what, f"{tally.holding} of {total}", f">= {least}", tally.holding >= least)


def _held_out(
    bench: Bench, rows: Sequence[Row], labels: Sequence[str], decision: Kind, pooling: str
) -> Wide:
    """``[rows, labels]`` scores by models that had not seen the row."""
    method = HeadMethod(strengths=(10.0,))
    learned = bench.learn(rows, labels, decision, pooling, method)
    return probabilities(learned.trained.held_out, decision)


def _sms(bench: Bench) -> list[Row]:
    rows = labelled(bench.options.data, "spam/sms_spam", "train", "dev", "test")
    return [replace(row, labels=row.labels & {"spam"}) for row in rows]


def _sms_scores(bench: Bench) -> list[Wide]:
    rows = _sms(bench)
    if not rows:
        return []
    scores = _held_out(bench, rows, ("spam",), "any_of", "max")[:, 0]
    return [scores[[not row.labels for row in rows]]]


def _clinc_scores(bench: Bench) -> list[Wide]:
    """For some labels, the scores of all rows with another label."""
    rows = labelled(bench.options.data, "intent/clinc150", "train")
    labels = labels_of([row for row in rows if "oos" not in row.labels])[:CLINC_LABELS]
    rows = [row for row in rows if row.labels <= set(labels)]
    if not rows:
        return []
    scores = _held_out(bench, rows, labels, "one_of", "mean")
    truth = truth_table(rows, labels)
    return [scores[truth[:, c] == 0, c] for c in range(CLINC_ASKED)]


def _jailbreak_scores(bench: Bench) -> list[Wide]:
    """Benign rows of the recipe; a seeded sample of its rows trains."""
    recipe = RECIPES["jailbreak"]
    try:
        rows = [row for row in recipe.rows(bench.options.data) if row.split == "train"]
    except FileNotFoundError:
        return []
    order = np.random.default_rng(0).permutation(len(rows))
    rows = without_duplicates([rows[i] for i in order[:JAILBREAK_ROWS]])
    scores = _held_out(bench, rows, recipe.labels, recipe.decision, recipe.pooling)[:, 0]
    return [scores[[row.benign for row in rows]]]


def _refitted(bench: Bench) -> Tally | None:
    """A fifth of the rows trains a head and gives its threshold by held-out scores; the others judge."""
    rows = _sms(bench)
    if not rows:
        return None
    tally = Tally()
    for seed in range(2 if bench.options.quick else REFITS):
        order = np.random.default_rng(seed).permutation(len(rows))
        cut = int(len(rows) * SHARES[0])
        train, rest = ([rows[i] for i in part] for part in (order[:cut], order[cut:]))
        learned = bench.learn(
            train, ("spam",), "any_of", "max", HeadMethod(strengths=(10.0,)), seed
        )
        held = probabilities(learned.trained.held_out, "any_of")[:, 0]
        quiet = [row for row in rest if not row.labels]
        unseen = probabilities(bench.logits(learned, quiet), "any_of")[:, 0]
        tally.judge(held[[not row.labels for row in train]], unseen)
    return tally
