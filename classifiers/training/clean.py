"""What is taken out of raw rows before a classifier learns from them, and a report of it."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from classifiers.training.near import GROUP, SAME, Array, near_rows
from classifiers.training.read import RawRow
from classifiers.training.tables import DataError

LEAST = 2
"""Rows that a label must have: one to learn from and one to be judged by."""
FEW = 10
"""A label with fewer rows is warned of."""
MAJORITY = 2 / 3
"""Of equal texts with different labels those of so many are believed."""
LISTED = 50
"""Conflicts that a report lists."""


@dataclass(frozen=True, slots=True)
class Conflict:
    """Texts that are the same, or nearly, and have different labels.

    Attributes:
        places: where they stand.
        labels: those of each place, with commas between them.
        kept: the labels that were believed, None where all were dropped.
    """

    places: tuple[str, ...]
    labels: tuple[str, ...]
    kept: str | None = None


@dataclass(frozen=True, slots=True)
class Cleanup:
    """What was taken out. Counts are of rows.

    Attributes:
        read: rows at the start.
        kept: rows at the end.
        empty: without a text.
        duplicates: texts that came before, but for case and spaces, with the same labels.
        conflicting: dropped because equal texts have other labels.
        conflicts: the first of them.
        near_duplicates: texts nearly the same as an earlier one with the same labels.
        near_conflicts: pairs of such texts with different labels; both are kept.
        largest_group: rows of the largest group that the split keeps together.
        labels_normalised: rows whose labels were written in another case or with other spaces.
        labels: rows of each label that were kept, ``""`` for rows with none of them.
        languages: the languages of the texts are not checked.
    """

    read: int
    kept: int
    empty: int = 0
    duplicates: int = 0
    conflicting: int = 0
    conflicts: tuple[Conflict, ...] = ()
    near_duplicates: int = 0
    near_conflicts: tuple[Conflict, ...] = ()
    largest_group: int = 0
    labels_normalised: int = 0
    labels: Mapping[str, int] = field(default_factory=dict)
    languages: str = "not checked"

    def as_json(self) -> dict[str, Any]:
        """The report as plain data."""
        return asdict(self)

    def warnings(self) -> list[str]:
        """What the owner of the data should know, a line each."""
        found = []
        if self.conflicting:
            first = self.conflicts[0]
            found.append(
                f"{self.conflicting:,} rows dropped because equal texts have different labels, such "
                f"as {' and '.join(first.places[:2])} ({' / '.join(dict.fromkeys(first.labels))})"
            )
        if self.near_conflicts:
            near = self.near_conflicts[0]
            found.append(
                f"nearly equal texts have different labels, such as {' and '.join(near.places)} "
                f"({' / '.join(near.labels)}); read them again"
            )
        few = {k: n for k, n in self.labels.items() if k and LEAST <= n < FEW}
        found += [
            f"the label {label!r} has {count} rows; with fewer than {FEW} it is hardly learnt"
            for label, count in few.items()
        ]
        if len(self.labels) == 2 and self.labels.get("", FEW) < FEW:  # one label, and none
            found.append(
                f"{self.labels['']} rows are without the label; add texts that must not match"
            )
        return found

    def check(self) -> None:
        """Refuse labels that cannot be learnt.

        Raises:
            DataError: a label has fewer than ``LEAST`` rows.
        """
        lacking = [(label, n) for label, n in self.labels.items() if label and n < LEAST]
        if lacking:
            raise DataError("\n".join(
                f"the label {label!r} has {'1 row' if count else 'no rows'}; add rows until it has "
                f"{LEAST} or more, or remove the label" for label, count in lacking
            ))  # fmt: skip


def text_key(text: str) -> str:
    """Texts with one key are the same but for case, spaces and forms of letters."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def clean(
    rows: Sequence[RawRow], labels: Sequence[str], *, normalised: int = 0
) -> tuple[list[RawRow], Cleanup]:
    """Rows without empty texts, exact duplicates and contradictions, in their order.

    Equal texts with different labels are all dropped, unless two thirds of them agree.

    Args:
        rows: as they were read.
        labels: of the task.
        normalised: rows whose labels the reader has normalised, for the report.
    """
    groups: dict[str, list[int]] = {}
    empty = 0
    for index, row in enumerate(rows):
        # Places in a text are only good in that very text.
        key = row.text if row.spans else text_key(row.text)
        if key.strip():
            groups.setdefault(key, []).append(index)
        else:
            empty += 1
    kept: list[int] = []
    conflicts: list[Conflict] = []
    duplicates = conflicting = 0
    for own in groups.values():
        (truth, most), *others = Counter(_truth(rows[i]) for i in own).most_common()
        if not others:
            kept.append(own[0])
            duplicates += len(own) - 1
            continue
        believed = most >= MAJORITY * len(own) - 1e-9
        if believed:
            kept.append(next(i for i in own if _truth(rows[i]) == truth))
            duplicates += most - 1
        conflicting += len(own) - most * believed
        conflicts.append(Conflict(
            tuple(rows[i].place for i in own), tuple(_named(rows[i]) for i in own),
            _named(rows[kept[-1]]) if believed else None,
        ))  # fmt: skip
    good = [rows[index] for index in sorted(kept)]
    report = Cleanup(
        len(rows), len(good), empty, duplicates, conflicting, tuple(conflicts[:LISTED]),
        labels_normalised=normalised, labels=_counts(good, labels),
    )  # fmt: skip
    return good, report


def without_near_duplicates(
    rows: Sequence[RawRow],
    features: Array,
    labels: Sequence[str],
    report: Cleanup,
    *,
    same: float = SAME,
    group: float = GROUP,
) -> tuple[list[int], list[str], Cleanup]:
    """Rows of which none is nearly the same as an earlier one, and which of them belong together.

    Args:
        rows: as :func:`clean` leaves them.
        features: ``[rows, features]``, one row of :class:`Encoder` features per text.
        labels: of the task.
        report: to be completed.
        same: see :func:`classifiers.training.near.near_rows`.
        group: see there.

    Returns:
        Indexes of the rows that stay; the group of each of these; the report.
    """
    truths = {truth: code for code, truth in enumerate(dict.fromkeys(map(_truth, rows)))}
    codes = np.asarray([truths[_truth(row)] for row in rows], dtype=np.int64)
    found = near_rows(
        [row.text for row in rows], features, codes, [row.group for row in rows],
        same=same, group=group,
    )  # fmt: skip
    kept = [int(index) for index in np.flatnonzero(found.kept)]
    conflicts = tuple(
        Conflict((rows[a].place, rows[b].place), (_named(rows[a]), _named(rows[b])))
        for a, b in found.conflicts[:LISTED]
    )
    groups = [str(found.groups[index]) for index in kept]
    complete = replace(
        report,
        kept=len(kept),
        near_duplicates=len(rows) - len(kept),
        near_conflicts=conflicts,
        largest_group=max(Counter(groups).values(), default=0),
        labels=_counts([rows[index] for index in kept], labels),
    )
    return kept, groups, complete


def _truth(row: RawRow) -> tuple[Any, ...]:
    return (row.labels, row.spans)


def _named(row: RawRow) -> str:
    return ", ".join(sorted(row.labels)) or "none"


def _counts(rows: Sequence[RawRow], labels: Sequence[str]) -> dict[str, int]:
    counts = Counter(label for row in rows for label in row.labels or ("",))
    return {label: counts[label] for label in (*labels, "")}
