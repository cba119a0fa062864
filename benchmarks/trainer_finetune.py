"""A tuned encoder beside the shared one: Banking77 with all its rows, and with ten of each label."""

from __future__ import annotations

import importlib.util
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.judging import check
from benchmarks.report import Table, number, percent
from benchmarks.trainer_bench import (
    THREADS,
    Bench,
    Part,
    first_of_each,
    head_logits,
    labelled,
    labels_of,
    right,
)
from classifiers.encoder import Encoder
from classifiers.training.data import FOLDS, Row, group_key
from classifiers.training.features import FeatureCache
from classifiers.training.fit import truth_table
from classifiers.training.methods.base import Context
from classifiers.training.methods.finetune import FinetuneMethod
from classifiers.training.split import folds as folds_of
from classifiers.training.windows import make_windows

SOURCE = "intent/banking77"
FINETUNE = 0.94
FEW, DRAWS = 10, 3
"""Rows a label, and how many such sets: the first ones of the file, and others drawn with a seed."""
TRIAL_LABELS = 4


def finetune(bench: Bench) -> Part:
    """Accuracy on the official test split, and seconds from texts to pack, of `finetune` and `head`."""
    missing = [
        one for one in ("torch", "transformers", "onnx") if not importlib.util.find_spec(one)
    ]
    train = labelled(bench.options.data, SOURCE, "train")
    test = labelled(bench.options.data, SOURCE, "test")
    if missing or not train:
        return [], [], [f"finetune: {', '.join(missing) or SOURCE} is missing, so not measured."]
    if bench.options.quick:
        labels = frozenset(labels_of(train)[:TRIAL_LABELS])
        train, test = ([row for row in rows if row.labels <= labels] for rows in (train, test))
    sets = [("banking77", train)]
    for draw in range(1 if bench.options.quick else DRAWS):
        order = np.random.default_rng(draw).permutation(len(train)) if draw else range(len(train))
        what = f"drawn with seed {draw}" if draw else "the first"
        rows = first_of_each([train[i] for i in order], FEW)
        sets.append((f"banking77, {FEW} a label, {what}", rows))
    lines: list[tuple[str, ...]] = []
    reached: dict[str, list[float]] = {"finetune": [], "head": []}
    for name, rows in sets:
        for method, measured in (("finetune", _tuned), ("head", _head)):
            hits, seconds = measured(bench, rows, test)
            reached[method].append(hits / len(test))
            size = str(len(rows))
            lines.append((name, method, size, percent(hits, len(test)), number(seconds, 0)))
    few, head = (float(np.mean(reached[method][1:])) for method in ("finetune", "head"))
    checks = [
        check("banking77, finetune, test split, accuracy", reached["finetune"][0], FINETUNE),
        check(f"banking77, {FEW} a label, finetune, mean, at least the head's", few, head),
    ]
    columns = ("set", "method", "train rows", "accuracy", "seconds")
    note = (
        f"{len(test)} test rows. Seconds of finetune hold everything, those of head fitting alone."
    )
    return [Table("A tuned encoder", columns, tuple(lines), note)], checks, []


def _head(bench: Bench, rows: Sequence[Row], test: Sequence[Row]) -> tuple[int, float]:
    labels = labels_of(rows)
    learned = bench.learn(rows, labels, "one_of", "mean")
    return right(bench.logits(learned, test), test, labels), learned.seconds


def _tuned(bench: Bench, rows: Sequence[Row], test: Sequence[Row]) -> tuple[int, float]:
    labels = labels_of(rows)
    groups = [row.group or group_key(row.text) for row in rows]
    folds = folds_of(groups, truth_table(rows, labels), FOLDS, seed=0)
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch)
        context = Context(bench.encoder, bench.cache, "mean", folds, place, threads=THREADS)
        started = time.perf_counter()
        trained = FinetuneMethod().train(rows, labels, "one_of", context)
        seconds = time.perf_counter() - started
        assert trained.encoder is not None  # this method always makes one
        encoder = Encoder(trained.encoder, threads=THREADS)
        with FeatureCache(encoder, place / "test") as cache:
            windows = make_windows(test, encoder, cache, "mean")
        logits = head_logits(trained, windows, len(test))
    return right(logits, test, labels), seconds
