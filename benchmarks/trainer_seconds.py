"""From a file of 500 examples to a usable pack, and corrections: fresh processes, nothing cached."""

from __future__ import annotations

import csv
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.report import Check, Table, median, number
from benchmarks.trainer_bench import Bench, Part, labelled, labels_of
from classifiers.loading import load_packs
from classifiers.training.data import Row
from classifiers.types import Batch

EXAMPLES = 500
SPAM = 120
"""Of the examples of SMS spam; about twice its share in the set."""
LABELS = 5
CORRECTIONS = 10
SECONDS, UPDATE_SECONDS, MEMORY = 20.0, 3.0, 1024.0
ROUNDS = 3
_RUN = """
import resource, sys
from proxy.cli import main
status = main(sys.argv[1:])
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
heavy = sorted({"torch", "transformers", "sentence_transformers"} & set(sys.modules))
print("|".join([str(status), str(peak), ",".join(heavy)]))
"""


@dataclass(frozen=True, slots=True)
class Ran:
    """One command in a process of its own.

    Attributes:
        status: of the command.
        seconds: from the start of the process to its end.
        cpu: user and system seconds.
        memory: MiB, the most that was resident.
        heavy: packages that it imported and should not have.
    """

    status: int
    seconds: float
    cpu: float
    memory: float
    heavy: str


def seconds(bench: Bench) -> Part:
    """``doorman train`` and ``doorman train --update`` on two tasks."""
    lines: list[tuple[str, ...]] = []
    trained: list[Ran] = []
    updated: list[Ran] = []
    notes: list[str] = []
    for name, (train, rest) in _tasks(bench).items():
        if not train:
            notes.append(f"{name}: not in the folder of data sets, so not measured.")
            continue
        for _ in range(1 if bench.options.quick else ROUNDS):
            with tempfile.TemporaryDirectory() as folder:
                first, second = _round(bench, Path(folder), name, train, rest)
            trained.append(first)
            updated.append(second)
            for what, ran in ((f"train, {EXAMPLES} rows", first), ("update", second)):
                figures = number(ran.seconds, 2), number(ran.cpu, 2), number(ran.memory, 0)
                lines.append((name, what, *figures, ran.heavy or "none", str(ran.status)))
    if not trained:
        return [], [], notes
    columns = ("task", "command", "s", "CPU s", "peak MiB", "heavy packages", "exit status")
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")
    table = Table(
        "Training and correcting by the command line, each a fresh process with an empty cache",
        columns,
        tuple(lines),
        f"With the report. An update is {CORRECTIONS} held-out rows that the pack was least sure of; "
        f"exit status 1: it was refused, since it made a slice worse. Load at the end: {load:.1f}.",
    )
    every = [*trained, *updated]
    heavy = sorted({ran.heavy for ran in every} - {""})
    return (
        [table],
        [
            _at_most(f"{EXAMPLES} examples to a pack with its report, s, median", trained, SECONDS),
            _at_most(f"{CORRECTIONS} corrections, s, median", updated, UPDATE_SECONDS),
            Check(
                "training, peak MiB",
                f"{max(ran.memory for ran in every):.0f}",
                f"<= {MEMORY:.0f}",
                max(ran.memory for ran in every) <= MEMORY,
            ),
            Check("training imports no torch", ", ".join(heavy) or "none", "none", not heavy),
        ],
        notes,
    )


def _at_most(what: str, runs: list[Ran], limit: float) -> Check:
    value = median([ran.seconds for ran in runs])
    return Check(what, f"{value:.2f}", f"<= {limit:.0f}", value <= limit)


def _tasks(bench: Bench) -> dict[str, tuple[list[Row], list[Row]]]:
    """Training rows and other rows of each task, seeded."""
    data, chooser = bench.options.data, np.random.default_rng(0)
    sms = labelled(data, "spam/sms_spam", "train")
    sms = [sms[i] for i in chooser.permutation(len(sms))]
    spam = [row for row in sms if "spam" in row.labels]
    ham = [row for row in sms if "ham" in row.labels]
    few, many = spam[:SPAM], ham[: EXAMPLES - SPAM]
    intents = [row for row in labelled(data, "intent/clinc150", "train") if "oos" not in row.labels]
    chosen = labels_of(intents)[:LABELS]
    intents = [row for row in intents if row.labels <= set(chosen)]
    held = labelled(data, "intent/clinc150", "dev")
    return {
        "SMS spam": (few + many, spam[SPAM:] + ham[EXAMPLES - SPAM :][:300]),
        f"{LABELS} intents": (
            intents[:EXAMPLES],
            [row for row in held if row.labels <= set(chosen)],
        ),
    }


def _round(
    bench: Bench, folder: Path, name: str, train: list[Row], rest: list[Row]
) -> tuple[Ran, Ran]:
    labels = [label for label in labels_of(train) if label != "ham"]
    with (folder / "rows.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label"])
        writer.writerows([row.text, _written(row)] for row in train)
    listed = ", ".join(labels)
    task = (
        f"name: {'sms' if 'spam' in labels else 'intents'}\nlabels: [{listed}]\ndata: [rows.csv]\n"
    )
    (folder / "task.yaml").write_text(task, "utf-8")
    cache, pack = str(folder / "cache"), folder / "pack"
    first = run(["train", "task.yaml", "-o", str(pack), "--cache", cache, "--json"], folder)
    if first.status or not (pack / "report.html").is_file():
        raise RuntimeError(f"{name}: training failed with exit status {first.status}")
    corrections = _unsure(bench, pack, rest)
    lines = [json.dumps({"text": row.text, "label": _written(row) or None}) for row in corrections]
    (folder / "corrections.jsonl").write_text("\n".join(lines) + "\n", "utf-8")
    words = ["train", "corrections.jsonl", "--update", str(pack), "-o", str(folder / "corrected")]
    second = run([*words, "--cache", cache, "--json"], folder)
    return first, second


def _written(row: Row) -> str:
    """The row's label as the file has it; empty for none."""
    label = next(iter(row.labels))
    return "" if label == "ham" else label


def _unsure(bench: Bench, pack: Path, rows: list[Row]) -> list[Row]:
    """The rows whose truth the pack finds least likely."""
    classifier = load_packs([pack], bench.encoder)[0]
    found = classifier.predict(Batch([row.text for row in rows]))
    sure = []
    for row, line in zip(rows, found, strict=True):
        scores = {prediction.label: prediction.score for prediction in line}
        label = _written(row)
        sure.append(scores[label] if label else 1 - max(scores.values()))
    return [rows[index] for index in np.argsort(sure, kind="stable")[:CORRECTIONS]]


def run(words: list[str], folder: Path) -> Ran:
    """One command of ``doorman`` in a fresh process.

    Raises:
        RuntimeError: it ended with an error; the message holds the end of what it wrote.
    """
    environment = {k: v for k, v in os.environ.items() if k != "OPENBLAS_NUM_THREADS"}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    started = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", _RUN, *words],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    taken = time.perf_counter() - started
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    last = (done.stdout.strip().splitlines() or [""])[-1]
    if done.returncode or last.count("|") != 2:
        raise RuntimeError(f"doorman {words[0]} failed: {done.stderr.strip()[-300:]}")
    status, memory, heavy = last.split("|")
    if int(status) > 1:
        raise RuntimeError(f"doorman {words[0]} failed: {done.stderr.strip()[-300:]}")
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Ran(int(status), taken, cpu, float(memory), heavy)
