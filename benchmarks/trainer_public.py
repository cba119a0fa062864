"""Heads trained on the train split of public sets and judged on the official test split."""

from __future__ import annotations

import numpy as np

from benchmarks.judging import check, rate
from benchmarks.report import Check, Table, number, percent
from benchmarks.trainer_bench import Bench, Part, Wide, first_of_each, labelled, labels_of, right
from classifiers.heads import energy
from classifiers.nearest import similarities
from classifiers.pooled import probabilities
from classifiers.training.data import Row
from classifiers.training.fit import truth_table
from classifiers.training.methods.base import Trained
from classifiers.training.methods.examples import ExamplesMethod
from classifiers.training.pack import Promise, operating_points

BANKING77, BANKING77_FEW, CLINC150, OUT_OF_SCOPE, SPAM_F1 = 0.935, 0.86, 0.963, 0.88, 0.96
FEW = 10
KEPT = 0.95
"""Share of the texts in scope that the out-of-scope cut lets pass."""
RATE = 0.01
"""False-positive rate that a task promises where it says nothing."""
TRIAL_LABELS = 8


def public(bench: Bench) -> Part:
    """Banking77, CLINC150, HWU64 and SMS spam."""
    lines: list[tuple[str, ...]] = []
    checks: list[Check] = []
    tables: list[Table] = []
    notes: list[str] = []
    for name, promised in (("banking77", BANKING77), ("clinc150", CLINC150), ("hwu64", None)):
        train, test, outside = _split(bench, name)
        if not train or not test:
            notes.append(f"{name}: not in the folder of data sets, so not measured.")
            continue
        labels = labels_of(train)
        learned = bench.learn(train, labels, "one_of", "mean")
        logits = bench.logits(learned, test)
        hits = right(logits, test, labels)
        lines.append(_line(name, "head", train, test, labels, hits, learned.seconds))
        if promised is not None:
            checks.append(check(f"{name}, test split, accuracy", hits / len(test), promised))
        if outside:
            table, found = _outside(bench.logits(learned, outside), logits, learned.trained)
            tables.append(table)
            checks.append(found)
        if name == "banking77":
            few_lines, few_check = _few(bench, train, test)
            lines += few_lines
            checks.append(few_check)
    columns = ("set", "method", "labels", "train rows", "test rows", "accuracy", "fitting, s")
    tables.insert(0, Table("One of many labels, official test splits", columns, tuple(lines)))
    spam_table, spam_check = _spam(bench)
    if spam_table is not None and spam_check is not None:
        tables.append(spam_table)
        checks.append(spam_check)
    return tables, checks, notes


def _split(bench: Bench, name: str) -> tuple[list[Row], list[Row], list[Row]]:
    """Rows to train on, test rows, and test rows that no label holds for."""
    source = f"intent/{name}"
    train = labelled(bench.options.data, source, "train")
    test = labelled(bench.options.data, source, "test")
    outside = [row for row in test if "oos" in row.labels]
    labels = set(labels_of(train)) - {"oos"}
    if bench.options.quick:
        labels = set(sorted(labels)[:TRIAL_LABELS])
    train, test = ([row for row in rows if row.labels <= labels] for rows in (train, test))
    return train, test, outside


def _few(bench: Bench, train: list[Row], test: list[Row]) -> tuple[list[tuple[str, ...]], Check]:
    """Ten examples a label, the first of the file: a head, and the nearest example."""
    rows = first_of_each(train, FEW)
    labels = labels_of(rows)
    learned = bench.learn(rows, labels, "one_of", "mean")
    hits = right(bench.logits(learned, test), test, labels)
    name = f"banking77, first {FEW} a label"
    near = bench.learn(rows, labels, "one_of", "mean", ExamplesMethod())
    tensors = near.trained.tensors["examples.safetensors"]
    windows = bench.windows(test, "mean")
    logits = similarities(windows.features, tensors["examples"], tensors["truth"] > 0.5)
    near_hits = right(logits.astype(np.float64), test, labels)
    lines = [
        _line(name, "head", rows, test, labels, hits, learned.seconds),
        _line(name, "examples", rows, test, labels, near_hits, near.seconds),
    ]
    what = f"banking77, {FEW} examples a label, test split, accuracy"
    return lines, check(what, hits / len(test), BANKING77_FEW)


def _line(
    name: str,
    method: str,
    train: list[Row],
    test: list[Row],
    labels: tuple[str, ...],
    hits: int,
    seconds: float,
) -> tuple[str, ...]:
    sizes = [str(len(part)) for part in (labels, train, test)]
    return (name, method, *sizes, percent(hits, len(test)), number(seconds, 1))


def _outside(outside: Wide, inside: Wide, trained: Trained) -> tuple[Table, Check]:
    """How many texts out of scope are found, by energy and by the highest logit.

    The cut is the value that 95 % of texts in scope exceed: of the test rows, as figures in the
    literature have it, and of the held-out training rows, as a pack has it.
    """
    lines = []
    recall = {}
    for name, measure in (("energy", energy), ("highest logit", _highest)):
        for where, ranked in (("test rows", inside), ("held-out training rows", trained.held_out)):
            cut = float(np.quantile(measure(ranked), 1 - KEPT))
            found = int((measure(outside) < cut).sum())
            kept = int((measure(inside) >= cut).sum())
            recall[name, where] = found / len(outside)
            shares = percent(kept, len(inside)), percent(found, len(outside))
            lines.append((name, where, *shares))
    table = Table(
        "CLINC150, texts out of scope",
        ("measure", "cut from", "in scope kept", "out of scope found"),
        tuple(lines),
        f"{len(outside)} test rows out of scope, {len(inside)} in scope; no text out of scope was "
        "trained on. Packs use energy and a cut from held-out training rows.",
    )
    what = "CLINC150, out-of-scope recall, 95 % of in-scope test rows kept"
    return table, check(what, recall["energy", "test rows"], OUT_OF_SCOPE)


def _highest(logits: Wide) -> Wide:
    highest: Wide = logits.max(axis=1)
    return highest


def _spam(bench: Bench) -> tuple[Table | None, Check | None]:
    """SMS spam alone, as a task with one label: train and dev rows train, test rows judge."""
    train, test = (
        [
            Row(row.text, row.labels & {"spam"}, split=row.split, benign="ham" in row.labels)
            for row in labelled(bench.options.data, "spam/sms_spam", *splits)
        ]
        for splits in (("train", "dev"), ("test",))
    )
    if not train or not test:
        return None, None
    labels = ("spam",)
    learned = bench.learn(train, labels, "any_of", "max")
    held_out = learned.trained.held_out
    truth = truth_table(train, labels)
    point = operating_points("sms", labels, "any_of", held_out, truth, Promise(RATE))["spam"]
    scores = probabilities(bench.logits(learned, test), "any_of")[:, 0]
    is_spam = [bool(row.labels) for row in test]
    lines = []
    for name, cut in (("the task's own", float(point["threshold"])), ("0.5", 0.5)):
        rated = rate(scores >= cut, is_spam)
        lines.append((name, number(cut, 4), *rated.cells()))
    table = Table(
        "SMS spam, a head trained on its train and dev rows",
        ("threshold", "value", "precision", "recall", "F1"),
        tuple(lines),
        f"{len(train)} training rows, {len(test)} test rows, {sum(is_spam)} of them spam. The "
        f"task's own threshold keeps a promised false-positive rate of {RATE:.0%}.",
    )
    own = rate(scores >= float(point["threshold"]), is_spam)
    return table, check("SMS spam, test split, F1 at the task's own threshold", own.f1, SPAM_F1)
