"""One product for all heads of an encoder, and the second look at what stands out of long texts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from classifiers import alone, lexical
from classifiers.encoder import Window
from classifiers.types import Batch
from classifiers.views import Reader, Views

if TYPE_CHECKING:
    from classifiers.heads import Head

Array = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Judged:
    """The windows of a batch, those among them that were read alone last, and their logits.

    Attributes:
        views: the windows.
        logits: ``[windows, all labels of all heads]``.
    """

    views: Views
    logits: Array


class HeadStack:
    """All heads of one encoder, their weights side by side."""

    def __init__(self, reader: Reader, heads: Sequence[Head]) -> None:
        self.reader = reader
        self.encoder = reader.encoder
        self.columns: list[slice] = []
        first = 0
        for head in heads:
            self.columns.append(slice(first, first + len(head.labels)))
            first += len(head.labels)
        self.weight = np.ascontiguousarray(np.hstack([head.weight for head in heads]))
        self.lexical = np.ascontiguousarray(np.hstack([head.lexical for head in heads]))
        self.bias = np.concatenate([head.bias for head in heads])
        lifted = [head.pooling == "max" and head.decision == "any_of" for head in heads]
        self.lifted = np.repeat(lifted, [len(head.labels) for head in heads])

    def judged(self, batch: Batch) -> Judged:
        """All windows and what the heads say of them; computed once per batch."""
        return batch.shared((self, "judged"), self._judge)

    def _judge(self, batch: Batch) -> Judged:
        views = self.reader.views(batch)
        words = self._words(views, views.encoded.windows)
        logits: Array = views.encoded.features @ self.weight + self.bias + words
        parts = alone.standing_out(views, logits, words, self.lifted)
        if not parts:
            return Judged(views, logits)
        more = alone.read(self.encoder, views, parts)
        words = self._words(views, more.windows)
        again: Array = more.features @ self.weight + self.bias + words
        meant = np.stack([part.columns for part in parts]) & (words >= alone.WORDS)
        again[~meant] = -np.inf  # of nothing else it was suspected
        return Judged(alone.joined(views, more), np.concatenate([logits, again]))

    def _words(self, views: Views, windows: Sequence[Window]) -> Array:
        """``[windows, labels]`` the lexical part of the logits."""
        result = np.empty((len(windows), len(self.bias)), dtype=np.float32)
        for row, window in enumerate(windows):
            buckets, values = lexical.features(views.forms[window.text][window.start : window.end])
            result[row] = values @ self.lexical[buckets].astype(np.float32)
        return result
