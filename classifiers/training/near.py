"""Rows that are nearly the same: by the encoder's features, and by their letters.

The features decide what means the same; the letters have a veto, because to the encoder all texts in
a script that it does not know look alike.
"""

from __future__ import annotations

import unicodedata
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

Array = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]
Bytes = npt.NDArray[np.uint8]

SAME = 0.97
"""Cosine of near duplicates. Of 2,400 rows of this repository, those from here on differ in an
article or a plural."""
GROUP = 0.90
"""Cosine of rows that belong together."""
SAME_LETTERS = 0.5
GROUP_LETTERS = 0.25
"""Part of the shingles that two texts must share (Jaccard, as MinHash estimates it)."""
MOST_IN_GROUP = 0.1
"""A larger part of all rows in one group is a chain of weak links; it is cut into near duplicates."""
_TILE = 2048
_SHINGLE = 4
_HASHES = 64
_CONFLICTS = 1000


@dataclass(frozen=True, slots=True)
class Near:
    """What :func:`near_rows` finds.

    Attributes:
        kept: ``[rows]``, False where an earlier row is nearly the same and has the same labels.
        groups: ``[rows]``, a number for each group of rows that belong together.
        conflicts: pairs of rows that are nearly the same and have different labels.
    """

    kept: npt.NDArray[np.bool_]
    groups: Ints
    conflicts: list[tuple[int, int]]


def near_rows(
    texts: Sequence[str],
    features: Array,
    truths: Ints,
    groups: Sequence[str] = (),
    *,
    same: float = SAME,
    group: float = GROUP,
) -> Near:
    """Compare all rows with each other, in tiles: memory is bounded, time is quadratic.

    Args:
        texts: the texts, in the order in which the first one of near duplicates stays.
        features: ``[rows, features]``.
        truths: ``[rows]``, equal for rows with equal labels.
        groups: groups that are known, empty strings for none.
        same: cosine from which rows are near duplicates.
        group: cosine from which rows belong together, chains of them too.
    """
    unit = features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)
    unit = np.ascontiguousarray(unit, dtype=np.float32)
    search = _Search(unit, minhash(texts), truths, same, group)
    for first in range(0, len(texts), _TILE):
        search.take(np.arange(first, min(first + _TILE, len(texts))))
    together = _without_chains(search.loose.of, search.tight.of)
    return Near(search.kept, _with_known(together, groups), sorted(search.conflicts))


class _Search:
    """Rows so far, and what is known of them."""

    def __init__(
        self, unit: Array, signatures: Bytes, truths: Ints, same: float, group: float
    ) -> None:
        self._unit, self._signatures, self._truths = unit, signatures, truths
        self._same, self._group = same, group
        self.kept = np.ones(len(unit), dtype=bool)
        self.loose, self.tight = _Sets(len(unit)), _Sets(len(unit))
        self.conflicts: list[tuple[int, int]] = []

    def take(self, rows: Ints) -> None:
        """Compare the next rows with those before them that stay, then with each other."""
        before = np.flatnonzero(self.kept[: rows[0]])
        for first in range(0, len(before), _TILE):
            rows = rows[self.kept[rows]]
            self._compare(rows, before[first : first + _TILE])
        rows = rows[self.kept[rows]]
        self._compare(rows, rows)

    def _compare(self, rows: Ints, others: Ints) -> None:
        cosine = self._unit[rows] @ self._unit[others].T
        if others is rows:
            cosine[np.triu_indices(len(rows))] = -1  # each pair once, the earlier row second
        # Pairs that are in one group already count only as near duplicates.
        apart = self.loose.of[rows][:, None] != self.loose.of[others][None, :]
        at, to = np.nonzero((cosine >= self._same) | ((cosine >= self._group) & apart))
        alike = cosine[at, to]
        del cosine, apart
        later, earlier = rows[at], others[to]
        letters = self._letters(later, earlier)
        near = (alike >= self._same) & (letters >= SAME_LETTERS)
        agree = self._truths[later] == self._truths[earlier]
        _drop(self.kept, later[near & agree], earlier[near & agree])
        stay = self.kept[later] & self.kept[earlier]
        close = stay & ((letters >= GROUP_LETTERS) | near)
        self.loose.join(later[close], earlier[close])
        near &= stay
        self.tight.join(later[near], earlier[near])
        room = _CONFLICTS - len(self.conflicts)
        pairs = zip(earlier[near][:room].tolist(), later[near][:room].tolist(), strict=True)
        self.conflicts += pairs

    def _letters(self, later: Ints, earlier: Ints) -> Array:
        """The part of their shingles that the rows of each pair share."""
        share = np.empty(len(later), dtype=np.float32)
        for first in range(0, len(later), 1 << 14):
            part = slice(first, first + (1 << 14))
            equal = self._signatures[later[part]] == self._signatures[earlier[part]]
            share[part] = np.count_nonzero(equal, axis=1) / _HASHES
        return share


def minhash(texts: Sequence[str]) -> Bytes:
    """``[texts, 64]``: equal columns of two rows estimate the part of shingles that they share.

    MinHash (Broder 1997) over runs of four characters; a byte of each hash is kept.
    """
    random = np.random.default_rng(0)
    # Products wrap around at 64 bits, which is what shuffles them (Dietzfelbinger et al. 1997).
    factors, shifts = random.integers(0, 1 << 64, (2, _HASHES), dtype=np.uint64)
    factors |= np.uint64(1)
    signatures = np.empty((len(texts), _HASHES), dtype=np.uint8)
    for index, text in enumerate(texts):
        plain = " ".join(unicodedata.normalize("NFKC", text).casefold().split())[:20_000]
        padded = f" {plain} ".ljust(_SHINGLE)
        shingles = {padded[i : i + _SHINGLE] for i in range(len(padded) - _SHINGLE + 1)}
        codes = np.asarray(
            [zlib.crc32(s.encode("utf-8", "surrogatepass")) for s in shingles], dtype=np.uint64
        )
        lowest = np.full(_HASHES, np.iinfo(np.uint64).max, dtype=np.uint64)
        for part in range(0, len(codes), 1024):
            hashed = (codes[part : part + 1024, None] * factors + shifts) >> np.uint64(32)
            np.minimum(lowest, hashed.min(axis=0), out=lowest)
        signatures[index] = lowest & np.uint64(255)
    return signatures


class _Sets:
    """Union-find over arrays: ``of[i]`` is the set of row i."""

    def __init__(self, count: int) -> None:
        self.of: Ints = np.arange(count)

    def join(self, a: Ints, b: Ints) -> None:
        """Put each ``a[i]`` and ``b[i]`` in one set."""
        if len(a):
            count = len(self.of)
            edges = coo_matrix((np.ones(len(a), bool), (self.of[a], self.of[b])), (count, count))
            _, merged = connected_components(edges, directed=False)
            self.of = merged[self.of].astype(np.int64)


def _drop(kept: npt.NDArray[np.bool_], later: Ints, earlier: Ints) -> None:
    """Drop rows that are near to an earlier one that stays."""
    order = np.argsort(later, kind="stable")
    for row, other in zip(later[order].tolist(), earlier[order].tolist(), strict=True):
        if kept[row] and kept[other]:
            kept[row] = False


def _without_chains(loose: Ints, tight: Ints) -> Ints:
    """Loose groups, cut into tight ones where they hold too many rows."""
    sizes = np.bincount(loose, minlength=1)
    chained = sizes[loose] > max(_HASHES, MOST_IN_GROUP * len(loose))
    return np.where(chained, tight + len(loose), loose)


def _with_known(found: Ints, groups: Sequence[str]) -> Ints:
    """Groups that hold all rows of a known group as well, numbered from 0."""
    _, numbers = np.unique(found, return_inverse=True)
    sets = _Sets(len(found))
    sets.join(*_linked(numbers.tolist()))
    known: list[Any] = [group or None for group in groups]
    sets.join(*_linked(known))
    _, numbered = np.unique(sets.of, return_inverse=True)
    return numbered.astype(np.int64)


def _linked(keys: Sequence[Any]) -> tuple[Ints, Ints]:
    """Each row with the first one of the same key; None is no key."""
    first: dict[Any, int] = {}
    pairs = [(i, first.setdefault(k, i)) for i, k in enumerate(keys) if k is not None]
    table = np.asarray(pairs, dtype=np.int64).reshape(-1, 2)
    return table[:, 0], table[:, 1]
