"""What the classifiers found in all texts, indexed once for all rules of all policies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from classifiers.types import Classification, Prediction
from policies.peaks import Leaf, Peaks, peaks_of


class Signals:
    """Predictions of a list of texts, by text and classifier.

    A classifier that failed on a text, was not asked, or gave a score that is no number has given
    no verdict: that is never read as "nothing found".
    """

    __slots__ = ("_results",)

    def __init__(self, results: Sequence[Classification]) -> None:
        self._results = results

    def finds(self, text: int, classifier: str) -> Sequence[Prediction]:
        """Every prediction of a classifier on a text."""
        return self._results[text].predictions.get(classifier, ())

    def scores(self, text: int, classifier: str) -> Mapping[str, float] | None:
        """Best score by label; None where there is no verdict. Labels not found are absent."""
        return peaks_of((self._results[text],)).of(classifier)

    def peaks(self, indexes: Sequence[int]) -> Peaks:
        """The highest scores of some of the texts."""
        return peaks_of(tuple([self._results[i] for i in indexes]))

    def reason(self, text: int, classifier: str) -> str:
        """Why there is no verdict, in one line."""
        result = self._results[text]
        if classifier in result.errors:
            return result.errors[classifier]
        if classifier in result.predictions:
            return f"a score of classifier {classifier} is not a number"
        return f"no result of classifier {classifier}"


class Group:
    """Texts that the same rules look at, and their highest scores."""

    __slots__ = ("_peaks", "indexes", "signals")

    def __init__(self, signals: Signals, indexes: Sequence[int]) -> None:
        self.signals = signals
        self.indexes = indexes
        self._peaks = signals.peaks(indexes)

    def peaks(self, classifier: str) -> Mapping[str, float] | None:
        """Best score by label over the texts; None where the verdict on any of them is missing."""
        return self._peaks.of(classifier)

    def may(self, leaf: Leaf) -> bool:
        """Whether a leaf may match one of the texts."""
        return self._peaks.may(leaf)

    def rounded(self, classifier: str) -> Mapping[str, float] | None:
        """The same as records keep it."""
        return self._peaks.rounded(classifier)


class View:
    """The texts that some rules look at; rules with the same scope share one.

    Most rules find nothing in most requests. Comparing the highest scores of all texts settles
    that at once, so that the cost of a rule does not grow with the conversation.
    """

    __slots__ = ("groups", "signals")

    def __init__(self, signals: Signals, groups: Sequence[Group]) -> None:
        self.signals = signals
        self.groups = groups

    @property
    def indexes(self) -> list[int]:
        """The texts, in order; asked for where a rule may find something."""
        return sorted(index for group in self.groups for index in group.indexes)
