"""What the engine has said of texts, to say it again at once and as the very same object.

Beside the results by classifier, of which a new set of classifiers can use some, this holds the finished
answers for one set: a text that comes again costs one look-up, whatever the number of classifiers, and
who works on answers can tell by identity that it has seen one.
"""

from __future__ import annotations

from collections.abc import Mapping

from classifiers.roster import Asked
from classifiers.types import Classification

MOST_SETS = 64
"""Sets of classifiers; beyond that all are forgotten. Policies ask for a few, again and again."""
LARGE = 256
"""Answers with more predictions are not held."""


class Answers:
    """Finished answers for one set of classifiers, in two generations: threads may ask at the same time.

    Args:
        wanted: the set; held, so that no other has its identity.
        most: how many answers.
    """

    __slots__ = ("_most", "_old", "_young", "wanted")

    def __init__(self, wanted: Mapping[str, Asked], most: int) -> None:
        self.wanted = wanted
        self._most = most
        self._young: dict[bytes, Classification] = {}
        self._old: dict[bytes, Classification] = {}

    def get(self, key: bytes) -> Classification | None:
        """The answer for a text, by the key of the text."""
        found = self._young.get(key)
        if found is None and (found := self._old.get(key)) is not None:
            self.put(key, found)
        return found

    def put(self, key: bytes, answer: Classification) -> None:
        """Hold an answer, unless something failed in it or it is large."""
        if answer.errors or sum(map(len, answer.predictions.values())) > LARGE:
            return
        if len(self._young) >= self._most // 2:
            self._old, self._young = self._young, {}
        self._young[key] = answer


class Remembered:
    """The answers for every set of classifiers.

    Args:
        results: how many results of one classifier on one text the answers of a set may hold.
    """

    def __init__(self, results: int) -> None:
        self._results = results
        self._sets: dict[int, Answers] = {}

    def of(self, wanted: Mapping[str, Asked]) -> Answers:
        """The answers for a set, found by the very object."""
        found = self._sets.get(id(wanted))
        if found is None or found.wanted is not wanted:
            if len(self._sets) >= MOST_SETS:
                self._sets.clear()
            found = Answers(wanted, max(2, self._results // max(1, len(wanted))))
            self._sets[id(wanted)] = found
        return found
