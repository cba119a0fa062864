"""From the logits of windows to the scores of texts, for all heads of a stack at once.

Each head by itself would cost a dozen small products; a hundred heads, more than the encoder.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from classifiers.encoder import Array
from classifiers.types import Kind
from classifiers.views import Views

if TYPE_CHECKING:
    from classifiers.heads import Head

Scores = npt.NDArray[np.float64]


class Pooling:
    """What heads do with the windows of a text, column by column.

    For long text the windows are pooled: ``max`` takes each label's most certain window, ``mean``
    the average logit.

    Args:
        heads: in the order of their columns, each with at least one label.
    """

    def __init__(self, heads: Sequence[Head]) -> None:
        sizes = [len(head.labels) for head in heads]
        self._sizes = np.asarray(sizes)
        self._starts = np.cumsum([0, *sizes])[:-1]
        self._mean = np.repeat([head.pooling == "mean" for head in heads], sizes)
        self._one_of = np.repeat([head.decision == "one_of" for head in heads], sizes)

    def pooled(self, views: Views, logits: Array, texts: int) -> Array:
        """``[texts, labels]`` logits of the texts from those of their windows."""
        rows = owned_rows(views, texts)
        result = np.stack([logits[own].max(axis=0) for own in rows])
        if self._mean.any():
            for line, own in zip(result, rows, strict=True):
                line[self._mean] = logits[plainest(views, own)].mean(axis=0)[self._mean]
        return result

    def scores(self, pooled: Array) -> Scores:
        """``[texts, labels]`` probabilities; of one-of heads, those of a text sum to one."""
        scores = probabilities(pooled, "any_of")
        if self._one_of.any():
            wide = pooled.astype(np.float64)
            highest = np.maximum.reduceat(wide, self._starts, axis=1)
            powers = np.exp(wide - self._by_label(highest))
            shares = powers / self._by_label(np.add.reduceat(powers, self._starts, axis=1))
            scores[:, self._one_of] = shares[:, self._one_of]
        return scores

    def _by_label(self, by_head: Scores) -> Scores:
        return np.repeat(by_head, self._sizes, axis=1)


def probabilities(logits: npt.NDArray[Any], decision: Kind) -> Scores:
    """``[n, labels]`` calibrated logits as probabilities, in double precision."""
    wide = logits.astype(np.float64)
    if decision == "one_of":
        powers = np.exp(wide - wide.max(axis=1, keepdims=True))
        softmax: Scores = powers / powers.sum(axis=1, keepdims=True)
        return softmax
    sigmoid: Scores = 1.0 / (1.0 + np.exp(-np.clip(wide, -700, 700)))
    return sigmoid


def owned_rows(views: Views, texts: int) -> list[list[int]]:
    """The windows of each text, those of all its forms."""
    rows: list[list[int]] = [[] for _ in range(texts)]
    for row, window in enumerate(views.encoded.windows):
        rows[views.owners[window.text]].append(row)
    return rows


def plainest(views: Views, rows: Sequence[int]) -> list[int]:
    """Those windows of a text that an average is taken of, which read all of it once.

    The plain form stands last: averaged with the raw one, a disguise would halve the evidence.
    """
    windows = views.encoded.windows
    last = max(windows[row].text for row in rows)
    return [row for row in rows if windows[row].text == last and not windows[row].sentence]
