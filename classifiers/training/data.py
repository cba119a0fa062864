"""Rows to train and judge on."""

from __future__ import annotations

import gzip
import json
import re
import unicodedata
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

Split = Literal["train", "dev", "test"]
FOLDS = 3
"""Cross-fitting folds."""
ROWS = Path(__file__).parent / "rows"
"""Rows written for this project, one JSON line each."""


@dataclass(frozen=True, slots=True)
class Row:
    """One text and what is known of it.

    Attributes:
        text: the text.
        labels: labels that hold.
        known: labels whose truth is known, the positive ones included; None for all of them. A
            label outside ``known`` is unknown, not negative.
        source: name of the data set.
        split: train, dev or test.
        weight: factor in the loss.
        focus: the characters that carry the label; windows elsewhere are innocent. None: anywhere.
        benign: an ordinary text that no policy should stop; such rows make the false-positive rate.
            Near misses, written to look like what is looked for, are not: they train, and are
            reported apart.
        group: rows of one group never stand on both sides of a fold; empty: by the first words.
        spans: (start, end, label) of each stretch that is labelled, in characters.
        place: where the row was read, as ``file:line``; empty for rows that were made.
    """

    text: str = field(repr=False)
    labels: frozenset[str]
    known: frozenset[str] | None = None
    source: str = ""
    split: Split = "train"
    weight: float = 1.0
    focus: tuple[int, int] | None = None
    benign: bool = False
    group: str = ""
    spans: tuple[tuple[int, int, str], ...] = ()
    place: str = ""


def read_jsonl(path: Path) -> Iterator[dict[str, Any]]:
    """Objects of a ``.jsonl`` or ``.jsonl.gz`` file.

    Raises:
        ValueError: a line is not a JSON object; names file and line.
    """
    opened = (
        gzip.open(path, "rt", encoding="utf-8")  # noqa: SIM115 (closed below)
        if path.suffix == ".gz"
        else path.open("r", encoding="utf-8")
    )
    with opened as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise ValueError(f"{path}:{number}: not JSON ({error})") from None
            if not isinstance(row, dict):
                raise ValueError(f"{path}:{number}: an object is needed, got {type(row).__name__}")
            yield row


def normal_key(text: str) -> str:
    """Texts with one key count as the same: letters and digits, case-folded."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    return re.sub(r"\W+", " ", folded).strip()


def group_key(text: str) -> str:
    """Texts with one key never stand on both sides of a fold: templates share their first words."""
    return " ".join(normal_key(text).split()[:5])


def bucket(group: str, folds: int = FOLDS) -> int:
    """The fold of a group."""
    return zlib.crc32(group.encode()) % folds


def without_duplicates(rows: Iterable[Row]) -> list[Row]:
    """Rows without repeated texts; the first one wins, test rows before dev before train."""
    order = {"test": 0, "dev": 1, "train": 2}
    seen: set[str] = set()
    kept: list[Row] = []
    for row in sorted(rows, key=lambda row: order[row.split]):
        key = normal_key(row.text) or row.text
        if key not in seen:
            seen.add(key)
            kept.append(row)
    return kept


def middle_count(rows: Iterable[Row], labels: Sequence[str]) -> int:
    """How many rows the middle one of the labels has: half of them have no more."""
    counts = Counter(label for row in rows for label in row.labels)
    return sorted(counts[label] for label in labels)[len(labels) // 2]
