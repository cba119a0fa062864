"""A linear chain over the words of a text: which tags may follow each other, and how probable they are.

Tags are ``O`` and, for each label, ``B-label`` (the first word of a stretch) and ``I-label`` (a
further one). A path's score is the sum of its words' scores and of the steps between them (Lafferty,
McCallum and Pereira 2001).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Wide = npt.NDArray[np.float64]
NEVER = -1e4
"""Score of a step that BIO forbids; e to its power is 0."""


@dataclass(frozen=True, slots=True)
class Stretch:
    """Words ``first`` to ``last``, the last included, that carry the label with index ``label``."""

    first: int
    last: int
    label: int


@dataclass(frozen=True, slots=True)
class Steps:
    """Scores of the first tag and of one tag after another, BIO enforced.

    Attributes:
        start: ``[tags]``.
        follow: ``[tags, tags]``, from row to column.
    """

    start: Wide
    follow: Wide

    @classmethod
    def constrained(
        cls, start: npt.NDArray[np.floating], follow: npt.NDArray[np.floating]
    ) -> Steps:
        """The scores with the forbidden steps ruled out, whatever they were."""
        may_start, may_follow = allowed_steps(len(start))
        return cls(
            np.where(may_start, start.astype(np.float64), NEVER),
            np.where(may_follow, follow.astype(np.float64), NEVER),
        )


def tags_of(labels: Sequence[str]) -> tuple[str, ...]:
    """``O``, then B and I of each label."""
    return ("O", *(f"{part}-{label}" for label in labels for part in "BI"))


def allowed_steps(tags: int) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Which tags may come first, ``[tags]``, and which may follow which, ``[tags, tags]``."""
    start = np.ones(tags, dtype=bool)
    follow = np.ones((tags, tags), dtype=bool)
    for inside in range(2, tags, 2):
        start[inside] = False
        follow[:, inside] = False
        follow[[inside - 1, inside], inside] = True
    return start, follow


def best_path(scores: Wide, steps: Steps) -> list[int]:
    """The tags of the best path (Viterbi 1967).

    Args:
        scores: ``[words, tags]``.
    """
    if not len(scores):
        return []
    came = np.zeros(scores.shape, dtype=np.int64)
    every = np.arange(scores.shape[1])
    best = steps.start + scores[0]
    into = np.ascontiguousarray(steps.follow.T)
    for word in range(1, len(scores)):
        through = into + best
        came[word] = through.argmax(axis=1)
        best = through[every, came[word]] + scores[word]
    path = [int(best.argmax())]
    for word in range(len(scores) - 1, 0, -1):
        path.append(int(came[word, path[-1]]))
    return path[::-1]


def stretches(path: Sequence[int]) -> list[Stretch]:
    """The labelled stretches of a path."""
    found: list[Stretch] = []
    for word, tag in enumerate(path):
        if tag % 2 == 1:
            found.append(Stretch(word, word, tag // 2))
        elif tag and found:
            found[-1] = Stretch(found[-1].first, word, found[-1].label)
    return found


def certainty(scores: Wide, steps: Steps, found: Sequence[Stretch]) -> Wide:
    """The logarithm of each stretch's probability: that just these words carry its label.

    The sum over all paths that hold the stretch, by the forward-backward recursion; each word is
    scaled to sum to one, so long texts lose nothing.
    """
    if not found:
        return np.zeros(0)
    follow = np.exp(steps.follow)
    peaks = scores.max(axis=1)
    local = np.exp(scores - peaks[:, None])
    ahead = np.empty_like(local)
    scale = np.empty(len(local))
    row = np.exp(steps.start) * local[0]
    for word in range(len(local)):
        if word:
            row = (row @ follow) * local[word]
        scale[word] = total = row.sum()
        row = row / total
        ahead[word] = row
    back = np.empty_like(local)
    row = np.ones(local.shape[1])
    into = np.ascontiguousarray(follow.T)
    for word in range(len(local) - 1, -1, -1):
        back[word] = row
        row = (row * local[word] / scale[word]) @ into
    logs = np.log(scale)
    result = np.zeros(len(found))
    for index, one in enumerate(found):
        first, inside = 1 + 2 * one.label, 2 + 2 * one.label
        if one.first:
            enter = float(np.log(max(ahead[one.first - 1] @ follow[:, first], 1e-300)))
        else:
            enter = float(steps.start[first])
        words = np.arange(one.first, one.last + 1)
        held = scores[words, np.where(words == one.first, first, inside)] - peaks[words]
        along = sum(steps.follow[first if w == one.first else inside, inside] for w in words[:-1])
        leave = 1.0
        if one.last + 1 < len(local):
            after = one.last + 1
            last = first if one.first == one.last else inside
            reach = follow[last] * local[after] * back[after] / scale[after]
            leave = float(reach.sum() - reach[inside])
        result[index] = enter + held.sum() + along - logs[words].sum() + np.log(max(leave, 1e-300))
    return np.minimum(result, 0.0)
