"""Few examples a label: the trainer beside setfit, on the same encoder weights, texts and splits."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.metrics import f1_score

from benchmarks.report import Table, number, percent
from benchmarks.trainer_bench import Bench, Learned, Part, Wide, labelled, labels_of
from classifiers.nearest import similarities
from classifiers.training.data import Row
from classifiers.training.export import packaged_weights
from classifiers.training.features import FeatureCache
from classifiers.training.fit import truth_table
from classifiers.training.methods import choose
from classifiers.training.methods.base import Method
from classifiers.training.methods.examples import ExamplesMethod
from classifiers.training.methods.head import HeadMethod

INSTALL = (("torch==2.13.0",), ("setfit", "sentence-transformers"))
BATCH = 16


class NoSetfit(Exception):
    """setfit cannot be had or does not run; the message says why."""


@dataclass(frozen=True, slots=True)
class Case:
    """One comparison.

    Attributes:
        name: in the table.
        source: of the rows.
        labels: at most so many labels, the first of the alphabet.
        shots: training rows a label, drawn with a seed.
        pairs: setfit's pairs a text (its paper: 20).
    """

    name: str
    source: str
    labels: int
    shots: int
    pairs: int


CASES = (
    Case("SMS spam, 8 a label", "spam/sms_spam", 2, 8, 20),
    Case("SMS spam, 16 a label", "spam/sms_spam", 2, 16, 20),
    Case("SMS spam, 64 a label", "spam/sms_spam", 2, 64, 5),
    Case("Banking77, 20 labels, 8 a label", "intent/banking77", 20, 8, 5),
    Case("Banking77, 20 labels, 16 a label", "intent/banking77", 20, 16, 5),
    Case("Banking77, 77 labels, 8 a label", "intent/banking77", 77, 8, 5),
)


def setfit(bench: Bench) -> Part:
    """Accuracy and seconds of both."""
    lines: list[tuple[str, ...]] = []
    notes: list[str] = []
    left = bench.options.setfit_seconds
    try:
        python = environment(bench.options.setfit_venv)
    except NoSetfit as error:
        notes.append(f"setfit was left out: {error}.")
        left = 0.0
    versions: dict[str, str] = {}
    for case in CASES[:1] if bench.options.quick else CASES:
        train, test, labels = _rows(bench, case)
        if not train or not test:
            notes.append(f"{case.name}: {case.source} is not in the folder of data sets.")
            continue
        for name in dict.fromkeys((choose(train, labels)[0], "head", "examples")):
            answers, fit_seconds, test_seconds = _ours(bench, name, train, test, labels)
            seconds = fit_seconds, test_seconds
            lines.append(_line(case, f"Doorman, {name}", answers, test, labels, seconds))
        if left <= 0:
            continue
        started = time.perf_counter()
        try:
            done = _theirs(python, train, test, labels, case.pairs, left)
        except NoSetfit as error:
            notes.append(f"{case.name}: setfit was left out: {error}.")
        else:
            seconds = float(done["train_seconds"]), float(done["test_seconds"])
            who = f"setfit, {case.pairs} pairs a text"
            lines.append(_line(case, who, np.asarray(done["answers"]), test, labels, seconds))
            versions = done["versions"]
        left -= time.perf_counter() - started
    columns = ("rows", "who", "accuracy", "macro F1", "training, s", "test rows, s")
    table = Table(
        "Few examples: Doorman and setfit on the weights of all-MiniLM-L6-v2",
        columns,
        tuple(lines),
        "Both begin with texts; neither has features at hand. Imports and loading are not counted. "
        + ", ".join(f"{name} {version}" for name, version in versions.items()),
    )
    return [table], [], notes


def _rows(bench: Bench, case: Case) -> tuple[list[Row], list[Row], tuple[str, ...]]:
    """Training rows drawn with a seed, all test rows, and the labels."""
    train = labelled(bench.options.data, case.source, "train")
    labels = labels_of(train)[: case.labels]
    test = labelled(bench.options.data, case.source, "test")
    test = [row for row in test if row.labels <= set(labels)]
    order = np.random.default_rng(0).permutation(len(train))
    chosen: list[Row] = []
    for label in labels:
        own = [train[i] for i in order if label in train[i].labels]
        chosen += own[: case.shots]
    return chosen, test, labels


def _ours(
    bench: Bench, name: str, train: list[Row], test: list[Row], labels: tuple[str, ...]
) -> tuple[Any, float, float]:
    """The trainer's answers, and the seconds for training and for the test rows, features included."""
    method: Method = ExamplesMethod() if name == "examples" else HeadMethod()
    with tempfile.TemporaryDirectory() as folder:
        own = Bench(bench.options)
        own.cache = FeatureCache(own.encoder, Path(folder))
        started = time.perf_counter()
        learned = own.learn(train, labels, "one_of", "mean", method)
        trained = time.perf_counter()
        logits = _nearest(own, learned, test) if name == "examples" else own.logits(learned, test)
        answers = logits.argmax(axis=1)
        ended = time.perf_counter()
    return answers, trained - started, ended - trained


def _nearest(bench: Bench, learned: Learned, rows: Sequence[Row]) -> Wide:
    tensors = learned.trained.tensors["examples.safetensors"]
    features = bench.windows(rows, "mean").features
    near = similarities(features, tensors["examples"], tensors["truth"] > 0.5)
    return np.asarray(near * tensors["scale"], dtype=np.float64)


def _theirs(
    python: Path,
    train: list[Row],
    test: list[Row],
    labels: tuple[str, ...],
    pairs: int,
    seconds: float,
) -> dict[str, Any]:
    """setfit's answers, by a process of its environment.

    Raises:
        NoSetfit: it failed or took too long.
    """
    given = {
        "model": str(packaged_weights()),
        "pairs": pairs,
        "batch": BATCH,
        **{
            name: [[row.text, labels.index(next(iter(row.labels)))] for row in rows]
            for name, rows in (("train", train), ("test", test))
        },
    }
    child = Path(__file__).with_name("trainer_setfit_child.py")
    with tempfile.TemporaryDirectory() as folder:
        asked, answer = Path(folder, "in.json"), Path(folder, "out.json")
        asked.write_text(json.dumps(given), "utf-8")
        offline = {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "WANDB_MODE": "off"}
        try:
            done = subprocess.run(
                [str(python), str(child), str(asked), str(answer)],
                env=os.environ | offline,
                cwd=folder,
                capture_output=True,
                text=True,
                timeout=seconds,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise NoSetfit(f"it took more than the {seconds:.0f} s that were left") from None
        if done.returncode or not answer.is_file():
            last = (done.stderr.strip().splitlines() or ["it wrote nothing"])[-1]
            raise NoSetfit(f"it failed ({last[:200]})")
        found: dict[str, Any] = json.loads(answer.read_text("utf-8"))
    return found


def environment(folder: Path) -> Path:
    """Python of setfit's own environment, which is made if it is missing.

    Raises:
        NoSetfit: pip could not install it.
    """
    python = folder / "bin" / "python"
    ready = folder / ".setfit"
    if python.is_file() and ready.is_file():
        return python
    commands = [
        [sys.executable, "-m", "venv", str(folder)],
        *([str(python), "-m", "pip", "install", "--quiet", *packages] for packages in INSTALL),
        [str(python), "-c", "import setfit"],
    ]
    for command in commands:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
            raise NoSetfit(f"{' '.join(command[1:4])} failed ({last[:200]})")
    ready.touch()
    return python


def _line(
    case: Case,
    who: str,
    answers: Any,
    test: list[Row],
    labels: tuple[str, ...],
    seconds: tuple[float, float],
) -> tuple[str, ...]:
    truth = truth_table(test, labels).argmax(axis=1)
    f1 = float(f1_score(truth, answers, average="macro"))
    hits = int((truth == answers).sum())
    taken = (number(value, 1) for value in seconds)
    return (case.name, who, percent(hits, len(test)), number(f1, 4), *taken)
