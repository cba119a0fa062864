"""What the benchmarks of the trainer share: features, and heads that are trained and judged."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from benchmarks.report import Check, Table
from benchmarks.rows import requests
from classifiers.encoder import Encoder
from classifiers.packs import SHIPPED
from classifiers.training.data import FOLDS, Row, Split, group_key
from classifiers.training.features import FeatureCache
from classifiers.training.fit import truth_table
from classifiers.training.methods.base import Context, Method, Trained
from classifiers.training.methods.head import HeadMethod
from classifiers.training.split import folds as folds_of
from classifiers.training.windows import Windows, make_windows, pool_max
from classifiers.types import Kind

Wide = npt.NDArray[np.float64]
Part = tuple[list[Table], list[Check], list[str]]
"""What a part gives: tables, promised figures, notes on what was left out."""
THREADS = 2


@dataclass(frozen=True, slots=True)
class Options:
    """Where things lie.

    Attributes:
        data: folder of the public data sets.
        cache: folder of encoder features.
        quick: a trial with few rows, whose figures mean nothing.
        setfit_venv: setfit's own environment; made if it is missing.
        setfit_seconds: for all runs of setfit together; what does not fit is left out, and said.
    """

    data: Path
    cache: Path
    quick: bool
    setfit_venv: Path
    setfit_seconds: float = 480.0


@dataclass(frozen=True, slots=True)
class Learned:
    """A head, and how long it took to fit; reading the features is counted, computing them is not."""

    trained: Trained
    labels: tuple[str, ...]
    pooling: str
    seconds: float


class Bench:
    """The shared encoder with its features, and heads trained as ``doorman train`` trains them."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.encoder = Encoder(SHIPPED / "encoder", threads=THREADS)
        self.cache = FeatureCache(self.encoder, options.cache)

    def windows(self, rows: Sequence[Row], pooling: str) -> Windows:
        """The rows as windows; features that are missing are computed and kept."""
        return make_windows(rows, self.encoder, self.cache, pooling)

    def learn(
        self,
        rows: Sequence[Row],
        labels: Sequence[str],
        decision: Kind,
        pooling: str,
        method: Method | None = None,
        seed: int = 0,
    ) -> Learned:
        """Train on the rows with the trainer's own method, folds and all; by default ``head``."""
        self.cache.get([row.text for row in rows])
        truth = truth_table(rows, labels)
        groups = [row.group or group_key(row.text) for row in rows]
        folds = folds_of(groups, truth, FOLDS, seed=seed)
        with tempfile.TemporaryDirectory() as scratch:
            context = Context(
                self.encoder, self.cache, pooling, folds, Path(scratch), threads=THREADS, seed=seed
            )
            started = time.perf_counter()
            trained = (method or HeadMethod()).train(rows, labels, decision, context)
            seconds = time.perf_counter() - started
        return Learned(trained, tuple(labels), pooling, seconds)

    def logits(self, learned: Learned, rows: Sequence[Row]) -> Wide:
        """``[rows, labels]`` of a head, from the numbers that a pack would hold."""
        windows = self.windows(rows, learned.pooling)
        return head_logits(learned.trained, windows, len(rows))


def head_logits(trained: Trained, windows: Windows, rows: int) -> Wide:
    """``[rows, labels]`` of a head on the windows of so many rows."""
    head = trained.tensors["head.safetensors"]
    found = np.asarray(windows.features @ head["encoder"], dtype=np.float64)
    found += windows.grams @ head["lexical"].astype(np.float64)
    return pool_max(found + head["bias"], windows.owner, rows)


def labelled(data: Path, name: str, *splits: Split) -> list[Row]:
    """Rows of a data set with one label a row; none where the file is missing."""
    return [
        Row(request.user_texts[0], frozenset({request.label}), source=name, split=request.split)
        for request in requests(data, name, lambda r: r.split in splits)
    ]


def labels_of(rows: Sequence[Row]) -> tuple[str, ...]:
    """All labels, in order of the alphabet."""
    return tuple(sorted({label for row in rows for label in row.labels}))


def right(logits: Wide, rows: Sequence[Row], labels: Sequence[str]) -> int:
    """How many rows have their label first."""
    return int((logits.argmax(axis=1) == truth_table(rows, labels).argmax(axis=1)).sum())


def first_of_each(rows: Sequence[Row], count: int) -> list[Row]:
    """The first so many rows of each label, in the order of the file."""
    seen: dict[str, int] = {}
    kept = []
    for row in rows:
        label = next(iter(row.labels))
        seen[label] = seen.get(label, 0) + 1
        if seen[label] <= count:
            kept.append(row)
    return kept
