"""What is to be written, how it goes, and what came of it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from classifiers.training.data import Row
from classifiers.training.synth_diversity import NEAR_DUPLICATE
from classifiers.training.synthesis_prompts import NONE, Kind, Labels


@dataclass(frozen=True, slots=True)
class SynthesisPlan:
    """What is wanted.

    Attributes:
        labels: the task and its labels.
        languages: written in turn.
        per_label: texts of each label.
        near_miss_share: near misses of each label, as a share of ``per_label``.
        ordinary: texts of no label; None for as many as ``per_label`` where texts may have none.
        batch: texts of one question.
        personas: who writes; empty for PERSONAS.
        max_cost: dollars for the whole task, earlier runs included; None for no limit.
        near_duplicate: cosine from which two texts of a label count as the same.
        min_yield: a label is finished when, over ``patience`` batches, a smaller share of the
            texts was new.
        max_chars: longer texts are dropped.
        temperature: of the writing; the check has none.
        seed: another one gives other texts.
    """

    labels: Labels
    languages: tuple[str, ...] = ("en",)
    per_label: int = 100
    near_miss_share: float = 0.5
    ordinary: int | None = None
    batch: int = 10
    personas: tuple[str, ...] = ()
    max_cost: float | None = None
    near_duplicate: float = NEAR_DUPLICATE
    min_yield: float = 0.3
    patience: int = 3
    max_chars: int = 4000
    temperature: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        names = self.labels.names
        faults = [
            (not names, "labels: there are none; name at least one"),
            (len(set(names)) < len(names), "labels: two have the same name; rename one"),
            (
                len(names) == 1 and not self.labels.none,
                "labels: a single label that every text has teaches nothing; add another, or allow none",
            ),
            (
                NONE in names and self.labels.none,
                f"labels: {NONE!r} is what texts without a label have",
            ),
            (not self.languages, "languages: there are none; write at least one, such as English"),
            (self.per_label < 1, f"per_label: {self.per_label} is less than 1"),
            (not 1 <= self.batch <= 50, f"batch: {self.batch} is not in 1..50"),
            (self.patience < 1, f"patience: {self.patience} is less than 1"),
            (not 0 <= self.near_miss_share <= 2, "near_miss_share: must be in 0..2"),
            (not 0 <= self.min_yield <= 1, "min_yield: must be in 0..1"),
            (not 0 < self.near_duplicate <= 1, "near_duplicate: must be above 0 and at most 1"),
            (self.max_cost is not None and self.max_cost < 0, "max_cost: is below 0"),
        ]
        for wrong, message in faults:
            if wrong:
                raise ValueError(f"synthesize: {message}")


@dataclass(frozen=True, slots=True)
class Progress:
    """Where the work stands.

    Attributes:
        step: ``begin``, ``write``, ``check`` or ``end``.
        done, total: questions of the step that are answered.
        rows, wanted: texts that are kept so far, and that are asked for.
        dollars: paid so far.
        note: one line for people.
    """

    step: str
    done: int
    total: int
    rows: int
    wanted: int
    dollars: float
    note: str = ""


@dataclass(frozen=True, slots=True)
class Written:
    """A text that was written and what is known of it.

    Attributes:
        label: the one it was written for; of a near miss the one it looks like; "" if ordinary.
        labels: those it has, by the check.
        group: texts of one reply have the same one; they share their style.
    """

    text: str = field(repr=False)
    label: str
    labels: tuple[str, ...]
    kind: Kind
    language: str
    persona: str
    register: str
    length: str
    typing: str
    group: str

    def with_labels(self, labels: tuple[str, ...]) -> Written:
        """The text with the labels that the check gave it."""
        return replace(self, labels=labels)

    def to_json(self) -> dict[str, Any]:
        """As it stands in the files."""
        return {**asdict(self), "labels": list(self.labels)}

    def row(self) -> Row:
        """The row that trains."""
        return Row(
            self.text,
            frozenset(self.labels),
            source="synthesized",
            benign=self.kind == "ordinary",
            group=self.group,
        )


@dataclass(frozen=True, slots=True)
class CellReport:
    """How writing for one label went.

    Attributes:
        wanted, kept: texts.
        written: texts in replies, the dropped ones included.
        yields: share of each batch that was new.
        mean_nearest: mean cosine of the kept texts to their nearest neighbours.
        stopped: why no more was written: ``enough``, ``no longer diverse``, ``no usable replies``,
            ``the check drops nearly all`` or ``too many batches``.
    """

    label: str
    kind: Kind
    wanted: int
    kept: int
    written: int
    yields: tuple[float, ...]
    mean_nearest: float | None
    stopped: str


@dataclass(frozen=True, slots=True)
class SynthesisResult:
    """What came of it.

    Attributes:
        reviewed: the rows were edited since they were written, and stand as they were edited.
    """

    rows: tuple[Written, ...] = field(repr=False)
    rows_path: Path
    rejected_path: Path
    rejected: dict[str, int]
    cells: tuple[CellReport, ...]
    bill: dict[str, Any]
    bill_line: str
    reviewed: bool = False

    def to_json(self) -> dict[str, Any]:
        """Everything but the texts, as JSON."""
        return {
            "rows": len(self.rows),
            "rejected": self.rejected,
            "cells": [asdict(cell) for cell in self.cells],
            "bill": self.bill,
            "reviewed": self.reviewed,
        }
