"""Sources left out of training, and how far the shipped packs' probabilities can be believed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from benchmarks.judging import scores, spread
from benchmarks.report import Check, Table, number
from benchmarks.trainer_bench import Bench, Part, Wide
from classifiers.heads import HeadClassifier, load_heads
from classifiers.packs import MANIFEST, SHIPPED
from classifiers.training.data import Row, group_key
from classifiers.training.fit import truth_table
from classifiers.training.methods.head import HeadMethod
from classifiers.training.metrics import auroc, calibration_error, reliability
from classifiers.training.recipes import RECIPES, Recipe

AUROC, ERROR = 0.93, 0.03
ROWS = 8_000
FEWEST = 20
"""Rows of a label in a source; with fewer the area says little."""
MOST_OWN, BENIGN, DEV_ROWS = 400, 1_500, 2_000
TRIAL_ROWS = 1_500


def sources(bench: Bench) -> Part:
    """Leave one source out, for the packs safety and jailbreak; calibration of all shipped heads."""
    tables: list[Table] = []
    checks: list[Check] = []
    notes: list[str] = []
    for name in ("safety", "jailbreak"):
        try:
            table, found = _left_out(bench, RECIPES[name])
        except FileNotFoundError as error:
            notes.append(f"{name}: {error.filename} is missing, so no source was left out.")
            continue
        tables.append(table)
        checks.append(found)
    table, more = _calibration(bench, notes)
    return [*tables, table], [*checks, *more], notes


def _left_out(bench: Bench, recipe: Recipe) -> tuple[Table, Check]:
    """For each public source with the recipe's labels, heads that were trained without it."""
    every = recipe.rows(bench.options.data)
    train = [row for row in every if row.split == "train"]
    benign = spread([row for row in every if row.split == "dev" and row.benign], BENIGN)
    names = sorted({row.source for row in train if row.labels and "ours" not in row.source})
    size = TRIAL_ROWS if bench.options.quick else ROWS
    lines, areas, within = [], [], []
    for name in names[:2] if bench.options.quick else names:
        own = [row for row in every if row.source == name]
        labels = tuple(c for c in recipe.labels if sum(c in row.labels for row in own) >= FEWEST)
        rest = _others(train, own, size)
        labels = tuple(c for c in labels if sum(c in row.labels for row in rest) >= FEWEST)
        if not labels:
            continue
        learned = bench.learn(
            rest, labels, recipe.decision, recipe.pooling, HeadMethod(strengths=(10.0,))
        )
        judged = spread([row for row in own if row.labels & set(labels)], MOST_OWN)
        clean = spread([row for row in own if not row.labels], MOST_OWN)
        rows = [*judged, *benign, *clean]
        found = bench.logits(learned, rows)
        truth = truth_table(rows, labels)
        kinds = np.repeat([0, 1, 2], [len(judged), len(benign), len(clean)])
        against = [_area(truth[:, c], found[:, c], kinds != 2) for c in range(len(labels))]
        inside = [_area(truth[:, c], found[:, c], kinds != 1) for c in range(len(labels))]
        mean, own_mean = _mean(against), _mean(inside if len(clean) >= FEWEST else [])
        areas.append(mean)
        lines.append(
            (name, str(len(labels)), str(len(judged)), number(mean, 4), number(own_mean, 4))
        )
        within.append(own_mean)
    mean = _mean(areas)
    lines.append(("**mean**", "", "", number(mean, 4), number(_mean(within), 4)))
    table = Table(
        f"One source left out, recipe `{recipe.name}`: area under the ROC curve",
        (
            "left out",
            "labels",
            "rows",
            "against held-out benign rows",
            "against its own rows without",
        ),
        tuple(lines),
        f"Trained on {size} rows of the others: all of ours that carry a label, the rest drawn with a "
        "seed; rows that share their group with a row of the source, such as documents made from it, "
        "are left out too. Mean over the labels with at least "
        f"{FEWEST} rows on both sides; at most {MOST_OWN} rows of the source, against {len(benign)} "
        "benign dev rows of all sources.",
    )
    what = f"{recipe.name}, one source left out, mean AUROC"
    return table, Check(what, f"{mean:.4f}", f">= {AUROC}", mean >= AUROC)


def _others(train: Sequence[Row], own: Sequence[Row], size: int) -> list[Row]:
    """A seeded sample of the rows of other sources, our own labelled ones first."""
    groups = {group_key(row.text) for row in own}
    source = own[0].source
    rest = [
        row
        for row in train
        if row.source != source and (row.group or group_key(row.text)) not in groups
    ]
    order = np.random.default_rng(0).permutation(len(rest))
    first = [i for i in order if rest[i].source == "ours" and rest[i].labels]
    taken = set(first)
    chosen = [*first, *(i for i in order if i not in taken)][:size]
    return [rest[i] for i in chosen]


def _area(truth: npt.NDArray[np.int8], found: Wide, chosen: npt.NDArray[np.bool_]) -> float:
    own = chosen & (truth >= 0)
    area = auroc(truth[own] == 1, found[own])
    return float("nan") if area is None else area


def _mean(values: Sequence[float]) -> float:
    known = [value for value in values if value == value]
    return float(np.mean(known)) if known else float("nan")


def _calibration(bench: Bench, notes: list[str]) -> tuple[Table, list[Check]]:
    """Expected calibration error of each shipped head on its recipe's dev rows."""
    lines: list[tuple[str, ...]] = []
    checks: list[Check] = []
    wanted = [name for name, recipe in RECIPES.items() if recipe.decision != "spans"]
    there = [name for name in wanted if (SHIPPED / name / MANIFEST).is_file()]
    if missing := [name for name in wanted if name not in there]:
        notes.append(f"Not built, so without a calibration error: {', '.join(missing)}.")
    limit = 200 if bench.options.quick else DEV_ROWS
    for head in load_heads([SHIPPED / name for name in there], bench.encoder):
        recipe = RECIPES[head.name]
        rows = [row for row in recipe.rows(bench.options.data) if row.split == "dev"]
        rows = spread(rows, limit)
        found = scores(head, [row.text for row in rows])[:, : len(recipe.labels)]
        truth = truth_table(rows, recipe.labels)
        pooled, worst, label = _errors(head, found, truth)
        lines.append((head.name, head.kind, str(len(rows)), number(pooled, 4), worst, label))
        what = f"{head.name}, dev rows, expected calibration error"
        checks.append(Check(what, f"{pooled:.4f}", f"<= {ERROR}", pooled <= ERROR))
    table = Table(
        "Expected calibration error, 15 bins, shipped packs on dev rows",
        ("pack", "kind", "rows", "error", "of the worst label", "which"),
        tuple(lines),
        f"At most {limit} dev rows a pack, evenly spaced. one_of: whether the best label is right; "
        "any_of: all known labels of all rows pooled, and the worst label with at least "
        f"{FEWEST} rows by itself.",
    )
    return table, checks


def _errors(
    head: HeadClassifier, found: Wide, truth: npt.NDArray[np.int8]
) -> tuple[float, str, str]:
    if head.kind == "one_of":
        lines = np.arange(len(found))
        best = found.argmax(axis=1)
        error = calibration_error(reliability(found[lines, best], truth[lines, best] == 1))
        return _known(error), "-", "-"
    worst, name = -1.0, "-"
    for column, label in enumerate(head.labels[: truth.shape[1]]):
        own = truth[:, column] >= 0
        if (truth[own, column] == 1).sum() < FEWEST:
            continue
        error = _known(calibration_error(reliability(found[own, column], truth[own, column] == 1)))
        if error > worst:
            worst, name = error, label
    known = truth >= 0
    pooled = _known(calibration_error(reliability(found[known], truth[known] == 1)))
    return pooled, number(worst, 4) if worst >= 0 else "-", name


def _known(value: float | None) -> float:
    return float("nan") if value is None else value
