"""Texts and what is known of them, as tuning reads them: windows of token ids."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from classifiers.types import Kind

Ints = npt.NDArray[np.int64]
MOST_PIECES = 4
"""Windows of one text that are trained on; of a longer one, evenly spaced ones."""


@dataclass(frozen=True, slots=True)
class Pieces:
    """Texts as windows of token ids, special tokens included.

    Attributes:
        ids: of each window.
        owner: ``[windows]`` index of the text.
    """

    ids: tuple[Ints, ...]
    owner: Ints


@dataclass(frozen=True, slots=True)
class Goal:
    """What the windows are to say.

    Attributes:
        truth: ``[windows, labels]``: 1 holds, 0 does not, -1 unknown.
        weights: ``[windows]`` factor in the loss.
        train: ``[windows]`` True where it is tuned on, False where it is held out.
        decision: ``one_of`` or ``any_of``.
    """

    truth: npt.NDArray[np.int8]
    weights: npt.NDArray[np.float64]
    train: npt.NDArray[np.bool_]
    decision: Kind


def cut(
    texts: Sequence[str], tokenizer: Any, special: tuple[str, str], window: int, stride: int
) -> Pieces:
    """Texts as the encoder reads them: in overlapping windows, the last flush with the end."""
    first, last = (tokenizer.token_to_id(token) for token in special)
    ids, owner = [], []
    content, step = window - 2, stride - 2
    clean = [text.encode("utf-8", "replace").decode("utf-8") for text in texts]
    for index, encoding in enumerate(tokenizer.encode_batch(clean, add_special_tokens=False)):
        own = encoding.ids
        starts = list(range(0, max(len(own) - content, 0), step))
        starts.append(max(len(own) - content, 0))
        chosen = np.unique(np.linspace(0, len(starts) - 1, MOST_PIECES).round().astype(int))
        for start in [starts[number] for number in chosen]:
            ids.append(np.asarray([first, *own[start : start + content], last], dtype=np.int64))
            owner.append(index)
    return Pieces(tuple(ids), np.asarray(owner, dtype=np.int64))


def balanced(goal: Goal) -> npt.NDArray[np.float64]:
    """``[windows, labels]`` weights: rare labels count by the square root of their rarity, unknown
    truths not at all."""
    truth, train = goal.truth, goal.train
    if goal.decision == "one_of":
        own = truth.argmax(axis=1)
        counts = np.bincount(own[train], minlength=truth.shape[1])
        each = np.sqrt(train.sum() / np.maximum(counts, 1))[own] * goal.weights
        return np.repeat(each[:, None] / each[train].mean(), truth.shape[1], axis=1)
    positive = np.maximum(((truth == 1) & train[:, None]).sum(axis=0), 1)
    negative = np.maximum(((truth == 0) & train[:, None]).sum(axis=0), 1)
    worth = np.where(truth == 1, np.sqrt(len(truth) / positive), np.sqrt(len(truth) / negative)) * (
        truth >= 0
    )
    return np.asarray(worth * goal.weights[:, None], dtype=np.float64)
