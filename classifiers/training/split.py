"""Rows to train, dev and test, and to folds: by label, and never through a group.

Iterative stratification (Sechidis et al. 2011) over groups instead of rows: the rarest label first,
each group to the part that lacks its labels most.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from classifiers.training.data import Split
from classifiers.training.read import RawRow

Ints = npt.NDArray[np.int64]

PARTS: tuple[Split, ...] = ("train", "dev", "test")
SHARES = (0.8, 0.1, 0.1)
FEW_ROWS = 50
"""With fewer rows there is no test split: it would say nothing."""
FEW_SHARES = (0.8, 0.2, 0.0)


def split_rows(
    rows: Sequence[RawRow],
    groups: Sequence[str],
    labels: Sequence[str],
    *,
    shares: tuple[float, float, float] = SHARES,
    seed: int = 0,
) -> tuple[list[Split | None], list[str]]:
    """The part of each row, and what its owner should know of it.

    What the file says of a row stands, and the other rows of its group follow it; of a group that the
    file puts into several parts only the rows of the last one (test before dev before train) are
    used, the others get None. Where the file names test rows, none are added to them; the same holds
    for dev rows. Where all of many rows are named train, nothing is named.

    Args:
        rows: cleaned rows.
        groups: the group of each.
        labels: of the task.
        shares: of train, dev and test.
        seed: another one gives another split; the same one always the same.
    """
    warnings: list[str] = []
    given = [PARTS.index(row.split) if row.split else -1 for row in rows]
    if len(rows) >= FEW_ROWS and not any(
        given
    ):  # train alone says nothing: there must be rows to judge by
        given = [-1] * len(rows)
        warnings.append("all rows are named train; dev and test rows were drawn from them")
    if len(rows) < FEW_ROWS and shares == SHARES and max(given, default=-1) <= 0:
        shares = FEW_SHARES
        warnings.append(
            f"{len(rows)} rows are too few for a test split; add rows until there are {FEW_ROWS}"
        )
    decided: dict[str, int] = {}
    for group, part in zip(groups, given, strict=True):
        decided[group] = max(part, decided.get(group, -1))
    wanted = np.asarray(shares, dtype=np.float64)
    for part in (1, 2):
        if part in given:
            wanted[part] = 0.0
    fixed = [decided[group] for group in groups]
    parts = _assigned(groups, _counts(rows, labels), wanted / wanted.sum(), fixed, seed)
    left_out = [0 <= own < part for own, part in zip(given, parts, strict=True)]
    if any(left_out):
        warnings.append(
            f"{sum(left_out):,} rows are left out because nearly equal rows stand in the dev or "
            "test rows of the file"
        )
    found = [None if out else PARTS[part] for out, part in zip(left_out, parts, strict=True)]
    warnings += _absent(rows, found, labels)
    return found, warnings


def folds(groups: Sequence[str], truth: npt.NDArray[Any], k: int, *, seed: int = 0) -> Ints:
    """The fold, from 0, of each row: labels are spread evenly, groups stay whole.

    Args:
        groups: the group of each row.
        truth: ``[rows, labels]``, 1 where a label holds, as in
            :func:`classifiers.training.fit.truth_table`.
        k: how many folds.

    Raises:
        ValueError: fewer groups than folds.
    """
    if k < 2 or len(set(groups)) < k:
        raise ValueError(f"{len(set(groups))} groups cannot make {k} folds; use fewer folds")
    held = np.asarray(truth) == 1
    counts = np.column_stack([held, ~held.any(axis=1)]).astype(np.int64)
    return _assigned(groups, counts, np.full(k, 1 / k), [-1] * len(groups), seed)


def _counts(rows: Sequence[RawRow], labels: Sequence[str]) -> Ints:
    """``[rows, labels + 1]``, the last column for rows with none of the labels."""
    column = {label: index for index, label in enumerate(labels)}
    counts = np.zeros((len(rows), len(labels) + 1), dtype=np.int64)
    for index, row in enumerate(rows):
        counts[index, [column[label] for label in row.labels] or [-1]] = 1
    return counts


def _assigned(
    groups: Sequence[str],
    counts: Ints,
    shares: npt.NDArray[np.float64],
    fixed: Sequence[int],
    seed: int,
) -> Ints:
    """The part of each row.

    Args:
        counts: ``[rows, labels]`` of 0 and 1.
        shares: of the parts, 1 in sum.
        fixed: the part of rows whose groups have one already, else -1.
    """
    names = {name: number for number, name in enumerate(dict.fromkeys(groups))}
    owner = np.asarray([names[group] for group in groups], dtype=np.int64)
    held = np.zeros((len(names), counts.shape[1]), dtype=np.int64)
    np.add.at(held, owner, counts)
    sizes = np.bincount(owner, minlength=len(names))
    part = np.full(len(names), -1, dtype=np.int64)
    part[owner] = fixed
    lacking = np.outer(shares, held.sum(axis=0))
    room = shares * len(groups)
    spread = np.zeros(lacking.shape, dtype=np.int64)
    for number in np.flatnonzero(part >= 0):
        spread[part[number]] += held[number]
        lacking[part[number]] -= held[number]
        room[part[number]] -= sizes[number]
    free = np.flatnonzero(part < 0)
    carrying = (held[free] > 0).sum(axis=0)  # groups yet to come, by label
    # The rarest label that a group has decides its turn, large groups come before small ones.
    rows_of = np.where(held > 0, held[free].sum(axis=0), np.iinfo(np.int64).max)
    lots = np.random.default_rng(seed).permutation(len(names))
    usable = shares > 0
    taken = np.bincount(part[part >= 0], minlength=len(shares))  # groups of each part
    order = sorted(free, key=lambda n: (rows_of[n].min(), -sizes[n], lots[n]))
    for done, number in enumerate(order):
        label = int(rows_of[number].argmin())
        empty = np.flatnonzero(usable & (taken == 0))
        without = np.flatnonzero(usable & (spread[:, label] == 0))
        if len(free) - done <= len(empty):  # no part stays empty if there are groups enough
            chosen = int(empty[0])
        elif carrying[label] <= len(without):  # the last groups go where the label is missing
            chosen = int(without[0])
        else:
            need = np.where(usable, lacking[:, label], -np.inf)
            ties = np.flatnonzero(need >= need.max() - 1e-9)
            chosen = int(ties[np.argmax(room[ties])])
        part[number] = chosen
        taken[chosen] += 1
        spread[chosen] += held[number]
        lacking[chosen] -= held[number]
        room[chosen] -= sizes[number]
        carrying -= held[number] > 0
    return part[owner]


def _absent(
    rows: Sequence[RawRow], parts: Sequence[Split | None], labels: Sequence[str]
) -> list[str]:
    counts = Counter(
        (part, label) for row, part in zip(rows, parts, strict=True) for label in row.labels
    )
    found = []
    for part in PARTS:
        lacking = [label for label in labels if not counts[part, label]]
        if part in parts and lacking:
            found.append(f"no {part} rows for {', '.join(lacking)}; add rows of it")
    return found
