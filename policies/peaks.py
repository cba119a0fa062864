"""The highest scores of texts, remembered: a conversation comes again with every turn, and one more text.

What is remembered depends on the classifiers' results alone. It is found by the very objects that hold
them, which the engine hands out again for a text that it knows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from classifiers.types import Classification, Prediction
from policies.seen import rounded

MOST = 2048
"""Lists of texts that are remembered; the oldest half goes at once."""
LONGEST = 128
"""Longer lists are not."""

_young: dict[tuple[int, ...], Peaks] = {}
_old: dict[tuple[int, ...], Peaks] = {}


class Leaf(Protocol):
    """What compares the scores of one classifier with its thresholds; equal ones say the same."""

    @property
    def classifier(self) -> str: ...

    def may(self, peaks: Mapping[str, float] | None) -> bool:
        """Whether one of some texts may match, by their highest scores."""
        ...


class Peaks:
    """Best scores over some texts, by classifier and label. It keeps the results alive, so that no other
    object can take their identity."""

    __slots__ = ("_found", "_may", "_results", "_rounded")

    def __init__(self, results: tuple[Classification, ...]) -> None:
        self._results = results
        self._found: dict[str, Mapping[str, float] | None] = {}
        self._rounded: dict[str, Mapping[str, float] | None] = {}
        self._may: dict[Leaf, bool] = {}

    def of(self, classifier: str) -> Mapping[str, float] | None:
        """Best score by label; None where a text has no verdict. Labels not found are absent."""
        try:
            return self._found[classifier]
        except KeyError:
            found = self._found[classifier] = self._peak(classifier)
            return found

    def may(self, leaf: Leaf) -> bool:
        """What a leaf says of these scores, asked once."""
        found = self._may.get(leaf)
        if found is None:
            found = self._may[leaf] = leaf.may(self.of(leaf.classifier))
        return found

    def rounded(self, classifier: str) -> Mapping[str, float] | None:
        """The same as records keep it, see :func:`policies.seen.rounded`."""
        try:
            return self._rounded[classifier]
        except KeyError:
            found = self._rounded[classifier] = rounded(self.of(classifier))
            return found

    def _peak(self, classifier: str) -> Mapping[str, float] | None:
        if len(self._results) == 1:
            return _scores(self._results[0], classifier)
        # With one text more than before, what was found before is the most of it.
        before = _find(tuple(map(id, self._results[:-1]))) if len(self._results) > 2 else None
        rest = self._results if before is None else self._results[-1:]
        parts = [peaks_of((result,)) for result in rest]
        if before is not None:
            parts.append(before)
        peak: dict[str, float] = {}
        for part in parts:
            scores = part.of(classifier)
            if scores is None:
                return None
            for label, score in scores.items():
                if score > peak.get(label, -1.0):
                    peak[label] = score
        return peak


def peaks_of(results: tuple[Classification, ...]) -> Peaks:
    """The highest scores of some results, in this order; remembered ones where there are."""
    if len(results) > LONGEST:
        return Peaks(results)
    key = tuple(map(id, results))
    found = _find(key)
    if found is None:
        found = Peaks(results)
        _keep(key, found)
    return found


def _find(key: tuple[int, ...]) -> Peaks | None:
    found = _young.get(key)
    if found is None and (found := _old.get(key)) is not None:
        _keep(key, found)
    return found


def _keep(key: tuple[int, ...], peaks: Peaks) -> None:
    global _young, _old
    if len(_young) >= MOST // 2:
        # Two generations instead of an order of use: threads may ask at the same time.
        _old, _young = _young, {}
    _young[key] = peaks


def _scores(result: Classification, classifier: str) -> Mapping[str, float] | None:
    found = result.predictions.get(classifier)
    if found is None or classifier in result.errors:
        return None
    best: dict[str, float] = {}
    return best if _raise(best, found) else None


def _raise(best: dict[str, float], found: Sequence[Prediction]) -> bool:
    """Put the higher scores into ``best``; False if one is no number."""
    for prediction in found:
        score, label = prediction.score, prediction.label
        if score != score:
            return False
        if score > best.get(label, -1.0):
            best[label] = score
    return True
