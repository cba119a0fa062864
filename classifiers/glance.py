"""What the words of a text alone say of it, without the encoder, and how far that can be trusted.

A head's logit is a sum of two halves, and that of the n-grams costs a small part of the other. Over
the rows that a pack remembers of its training the whole goes up with that half along a line; a text
whose place on the line lies far below whatever would make a difference need not be read.

The margins were chosen on public attacks that were cut in pieces; benchmarks/RESULTS.md has what they
lose (nothing) and save.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from classifiers.lexical_table import widened
from classifiers.packs import REPLAY, PackError, read_tensors

if TYPE_CHECKING:
    from collections.abc import Mapping

    from classifiers.heads import Head

Numbers = npt.NDArray[np.float64]

MARGIN, DEVIATIONS = 4.0, 3.5
"""A logit is in doubt from so far below a threshold on, and from so many standard deviations of what
is off the line."""
MOST_ROWS, FEWEST_ROWS = 400, 100
"""Remembered rows that the line is drawn through."""


@dataclass(frozen=True, slots=True)
class Line:
    """What logits are to be expected from their lexical half, ``[labels]`` each.

    Attributes:
        slope, offset: of the line.
        margin: how far a logit may lie above it.
    """

    slope: Numbers
    offset: Numbers
    margin: Numbers

    def expected(self, words: npt.NDArray[np.float32]) -> Numbers:
        """``[labels]`` logits from ``[forms, labels]`` sums of the n-grams' weights: the highest ones."""
        highest: Numbers = (self.slope * words + self.offset).max(axis=0)
        return highest

    def in_doubt(self, expected: Numbers, floors: Mapping[int, float]) -> bool:
        """Whether a label may reach its threshold.

        Args:
            floors: the threshold, as a probability, of each label by its index.
        """
        # So that what is no number is in doubt.
        return not all(
            expected[label] < _logit(floor) - self.margin[label] for label, floor in floors.items()
        )


def line_of(head: Head) -> Line | None:
    """The line of a head; None for heads that are about one of several labels, and where the pack
    remembers too few rows or none that can be read."""
    file = head.folder / REPLAY
    if head.decision != "any_of" or head.pooling != "max" or not file.is_file():
        return None
    try:
        features, words = remembered(head, read_tensors(file))
    except (PackError, KeyError, ValueError, IndexError):
        return None
    if len(words) < FEWEST_ROWS:
        return None
    return through(words, features @ head.weight + head.bias + words)


def remembered(
    head: Head, kept: Mapping[str, npt.NDArray[np.generic]]
) -> tuple[npt.NDArray[np.float32], Numbers]:
    """Some rows that a pack remembers: ``[rows, features]`` of the encoder, and ``[rows, labels]`` the
    sums of their n-grams' weights."""
    known, at = kept["features"], kept["grams_at"].astype(np.int64)
    rows = np.unique(np.linspace(0, len(known) - 1, MOST_ROWS).astype(np.int64))
    features = known[rows].astype(np.float32) * kept["scale"].astype(np.float32)[rows, None]
    buckets, values = kept["grams_bucket"], kept["grams_value"].astype(np.float32)
    words = np.zeros((len(rows), len(head.labels)))
    for line, row in zip(words, rows, strict=True):
        own = slice(at[row], at[row + 1])
        line[:] = values[own] @ widened(head.lexical[buckets[own].astype(np.int64)])
    return features, words


def through(part: Numbers, whole: Numbers) -> Line:
    """The line through ``[rows, labels]`` parts of logits and the logits."""
    middle, level = part.mean(axis=0), whole.mean(axis=0)
    spread = np.square(part - middle).sum(axis=0)
    slope = ((part - middle) * (whole - level)).sum(axis=0) / np.maximum(spread, 1e-9)
    offset = level - slope * middle
    off = (whole - slope * part - offset).std(axis=0)
    return Line(slope, offset, np.maximum(MARGIN, DEVIATIONS * off))


def _logit(share: float) -> float:
    return math.log(share / (1 - share)) if 0 < share < 1 else math.inf if share >= 1 else -math.inf
