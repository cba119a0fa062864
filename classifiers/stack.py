"""One product for all heads of an encoder, and the second look at what stands out of long texts."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from classifiers import alone
from classifiers.decode import batch_forms
from classifiers.encoder import Window
from classifiers.lexical_table import LexicalTable
from classifiers.pooled import Pooling
from classifiers.types import Batch
from classifiers.views import Reader, Views

if TYPE_CHECKING:
    from classifiers.heads import Head

Array = npt.NDArray[np.float32]

_FOREIGN = re.compile(r"[^\W\d_a-zA-Z]")


@dataclass(frozen=True, slots=True)
class Judged:
    """The windows of a batch, those among them that were read alone last, and their logits.

    Attributes:
        views: the windows.
        logits: ``[windows, all labels of all heads]``.
    """

    views: Views
    logits: Array


_STRETCH = 120
"""Characters that are looked at alone, every half of it."""


def _stretches(text: str) -> list[str]:
    if len(text) <= _STRETCH:
        return []
    step = _STRETCH // 2
    return [text[at : at + _STRETCH] for at in range(0, len(text) - step, step)]


@dataclass(frozen=True, slots=True)
class Scored:
    """What the heads say of the texts of a batch.

    Attributes:
        pooled: ``[texts, all labels of all heads]`` logits.
        lines: the probabilities, a line for each text.
        finite: by label, whether all of its probabilities are numbers.
    """

    pooled: Array
    lines: list[list[float]]
    finite: list[bool]


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
        self.lexical = LexicalTable(np.hstack([head.lexical for head in heads]))
        self.bias = np.concatenate([head.bias for head in heads])
        self.pooling = Pooling(heads)
        lifted = [head.pooling == "max" and head.decision == "any_of" for head in heads]
        names = [label for head in heads for label in head.labels]
        self.bars = alone.Bars.of(names, np.repeat(lifted, [len(head.labels) for head in heads]))

    def judged(self, batch: Batch) -> Judged:
        """All windows and what the heads say of them; computed once per batch."""
        return batch.shared((self, "judged"), self._judge)

    def glanced(self, batch: Batch) -> Array | None:
        """``[forms, labels]`` sums of the n-grams' weights of a single text in all its forms; None where
        a letter is none of ASCII: in other languages words tell these heads little."""
        return batch.shared((self, "glanced"), self._glance)

    def _glance(self, batch: Batch) -> Array | None:
        [text], [forms] = batch.texts, batch_forms(batch)
        said = [text, *(form.text for form in (*forms.aside, *forms.whole))]
        if not all(map(str.isascii, said)) and _FOREIGN.search("".join(said)):
            return None
        # The sum has the length of one whatever stands in a text: in a long one a few words are lost.
        return self.lexical.score([*said, *(part for one in said for part in _stretches(one))])

    def scored(self, batch: Batch) -> Scored:
        """The scores of the texts; computed once per batch."""
        return batch.shared((self, "scored"), self._score)

    def _score(self, batch: Batch) -> Scored:
        judged = self.judged(batch)
        pooled = self.pooling.pooled(judged.views, judged.logits, len(batch.texts))
        scores = self.pooling.scores(pooled)
        finite = list(map(math.isfinite, scores.sum(axis=0).tolist()))
        return Scored(pooled, scores.tolist(), finite)

    def _judge(self, batch: Batch) -> Judged:
        views = self.reader.views(batch)
        words = self._words(views, views.encoded.windows)
        logits: Array = views.encoded.features @ self.weight + self.bias + words
        parts = alone.standing_out(views, logits, words, self.bars, self.lexical.score)
        if not parts:
            return Judged(views, logits)
        more = alone.read(self.encoder, views, parts)
        words = self._words(views, more.windows)
        again: Array = more.features @ self.weight + self.bias + words
        meant = np.stack([part.columns for part in parts]) & (words >= self.bars.words)
        again[~meant] = -np.inf  # of nothing else it was suspected
        return Judged(alone.joined(views, more), np.concatenate([logits, again]))

    def _words(self, views: Views, windows: Sequence[Window]) -> Array:
        """``[windows, labels]`` the lexical part of the logits."""
        said = [views.forms[window.text][window.start : window.end] for window in windows]
        return self.lexical.score(said)
