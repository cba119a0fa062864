"""A head trained from scratch by the trainer, judged on a public benchmark's official split."""

from __future__ import annotations

import time

from benchmarks.judging import Bench, Part, check
from benchmarks.report import Table, number, percent
from benchmarks.rows import requests
from classifiers.training.data import Row
from classifiers.training.features import FeatureCache
from classifiers.training.fit import fit, truth_table
from classifiers.training.windows import make_windows

ACCURACY = 0.96
TRIAL_LABELS = 8


def clinc150(bench: Bench) -> Part:
    """A head trained here, by the trainer, on CLINC150's train split; judged on its test split."""
    rows = [
        Row(request.user_texts[0], frozenset({request.label}), split=request.split)
        for request in requests(bench.options.data, "intent/clinc150", lambda r: r.label != "oos")
    ]
    labels = sorted({label for row in rows for label in row.labels})
    if bench.options.limit:
        labels = labels[:TRIAL_LABELS]
        rows = [row for row in rows if row.labels <= set(labels)]
    train = [row for row in rows if row.split == "train"]
    test = [row for row in rows if row.split == "test"]
    if not train or not test:
        return [], []
    cache = FeatureCache(bench.encoder, bench.options.cache)
    windows = make_windows(train, bench.encoder, cache, "mean")
    started = time.perf_counter()
    fitted = fit(train, labels, "one_of", windows)
    seconds = time.perf_counter() - started
    held, head = make_windows(test, bench.encoder, cache, "mean"), fitted.head
    logits = held.features @ head.encoder + held.grams @ head.lexical + head.bias
    right = int((logits.argmax(axis=1) == truth_table(test, labels).argmax(axis=1)).sum())
    sizes = [str(len(part)) for part in (labels, train, test)]
    table = Table(
        "CLINC150, a head trained on the train split",
        ("intents", "train rows", "test rows", "in-scope accuracy", "share of the encoder"),
        ((*sizes, percent(right, len(test)), number(fitted.mix[0], 1)),),
        f"Out-of-scope rows are left out. Fitting took {seconds:.0f} s, not counting the features.",
    )
    return [table], [check("CLINC150, test split, in-scope accuracy", right / len(test), ACCURACY)]
