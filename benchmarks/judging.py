"""The shipped packs as they serve, and right and wrong verdicts counted."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from benchmarks.report import Check, Table, number
from benchmarks.rows import Request, benign_names, requests
from classifiers.encoder import Encoder
from classifiers.heads import HeadClassifier, load_heads
from classifiers.packs import MANIFEST, SHIPPED, SHIPPED_HEADS
from classifiers.types import Batch, OperatingPoint, Prediction

BATCH = 32
T = TypeVar("T")
Scores = npt.NDArray[np.float64]
Part = tuple[list[Table], list[Check]]
"""What a part of the report gives; a part whose pack is not built gives nothing."""


@dataclass(frozen=True, slots=True)
class Options:
    """Where the data lies and how much of it is read."""

    data: Path
    cache: Path
    limit: int | None


@dataclass(frozen=True, slots=True)
class Rated:
    """Right and wrong verdicts on one label."""

    hits: int
    misses: int
    alarms: int

    @property
    def precision(self) -> float:
        return self.hits / (self.hits + self.alarms) if self.hits + self.alarms else float("nan")

    @property
    def recall(self) -> float:
        return self.hits / (self.hits + self.misses) if self.hits + self.misses else float("nan")

    @property
    def f1(self) -> float:
        total = 2 * self.hits + self.misses + self.alarms
        return 2 * self.hits / total if total else float("nan")

    def cells(self) -> tuple[str, str, str]:
        return number(self.precision, 4), number(self.recall, 4), number(self.f1, 4)


class Bench:
    """The shipped classifiers, and the rows they are judged on."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.encoder = Encoder(SHIPPED / "encoder", threads=2)
        folders = [
            SHIPPED / name for name in SHIPPED_HEADS if (SHIPPED / name / MANIFEST).is_file()
        ]
        self.heads = {head.name: head for head in load_heads(folders, self.encoder)}
        self.benign: list[Request] = []

    def flagged(self, name: str, items: Sequence[Request]) -> npt.NDArray[np.bool_]:
        """Whether any of a row's user texts reaches a default threshold of the classifier."""
        head = self.heads[name]
        owners = [i for i, item in enumerate(items) for _ in item.user_texts]
        over = self._over(head, [text for item in items for text in item.user_texts])
        result = np.zeros(len(items), dtype=bool)
        np.logical_or.at(result, owners, over.any(axis=1))
        return result

    def _over(self, head: HeadClassifier, texts: Sequence[str]) -> npt.NDArray[np.bool_]:
        cuts = head.thresholds(head.labels, OperatingPoint())
        over: npt.NDArray[np.bool_] = scores(head, texts) >= [cuts[label] for label in head.labels]
        return over

    def cut(self, items: Iterable[Request]) -> list[Request]:
        """All rows, or as many as the limit allows, spread over all of them."""
        return spread(list(items), self.options.limit)

    def held_out_benign(self) -> list[Request]:
        """Rows of every benign file that were not trained on."""
        if not self.benign:
            for name in benign_names(self.options.data):
                self.benign += self.cut(requests(self.options.data, name, lambda r: r.held_out))
        return self.benign


def spread(items: Sequence[T], limit: int | None) -> list[T]:
    """At most so many, evenly spaced."""
    if limit is None or len(items) <= limit:
        return list(items)
    return [items[i * len(items) // limit] for i in range(limit)]


def scores(head: HeadClassifier, texts: Sequence[str]) -> Scores:
    """``[texts, labels]`` probabilities."""
    lines: list[tuple[Prediction, ...]] = []
    for first in range(0, len(texts), BATCH):
        lines += head.predict(Batch(texts[first : first + BATCH]))
    return np.asarray([[p.score for p in line] for line in lines]).reshape(
        len(texts), len(head.labels)
    )


def rate(flagged: npt.NDArray[np.bool_], truth: Sequence[bool]) -> Rated:
    """Verdicts against the truth."""
    right = np.asarray(truth, dtype=bool)
    return Rated(
        int((flagged & right).sum()), int((~flagged & right).sum()), int((flagged & ~right).sum())
    )


def check(what: str, value: float, limit: float) -> Check:
    """A promise of at least so much."""
    return Check(what, f"{value:.4f}", f">= {limit}", value >= limit)
