"""What the classifiers found in all texts, indexed once for all rules of all policies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from classifiers.types import Classification, Prediction


class Signals:
    """Predictions of a list of texts, by text and classifier.

    A classifier that failed on a text, was not asked, or gave a score that is no number has given
    no verdict: that is never read as "nothing found".
    """

    __slots__ = ("_results", "_scores")

    def __init__(self, results: Sequence[Classification]) -> None:
        self._results = results
        self._scores: dict[tuple[int, str], Mapping[str, float] | None] = {}

    def finds(self, text: int, classifier: str) -> Sequence[Prediction]:
        """Every prediction of a classifier on a text."""
        return self._results[text].predictions.get(classifier, ())

    def scores(self, text: int, classifier: str) -> Mapping[str, float] | None:
        """Best score by label; None where there is no verdict. Labels not found are absent."""
        key = (text, classifier)
        if key not in self._scores:
            result = self._results[text]
            found = result.predictions.get(classifier)
            best: dict[str, float] = {}
            valid = found is not None and classifier not in result.errors and _raise(best, found)
            self._scores[key] = best if valid else None
        return self._scores[key]

    def reason(self, text: int, classifier: str) -> str:
        """Why there is no verdict, in one line."""
        result = self._results[text]
        if classifier in result.errors:
            return result.errors[classifier]
        if classifier in result.predictions:
            return f"a score of classifier {classifier} is not a number"
        return f"no result of classifier {classifier}"


class View:
    """The texts that some rules look at; rules with the same scope share one.

    Most rules find nothing in most requests. Comparing the highest scores of all texts settles
    that at once, so that the cost of a rule does not grow with the conversation.
    """

    __slots__ = ("_peaks", "indexes", "signals")

    def __init__(self, signals: Signals, indexes: Sequence[int]) -> None:
        self.signals = signals
        self.indexes = indexes
        self._peaks: dict[str, Mapping[str, float] | None] = {}

    def peaks(self, classifier: str) -> Mapping[str, float] | None:
        """Best score by label over the texts; None where the verdict on any of them is missing."""
        if classifier not in self._peaks:
            self._peaks[classifier] = self._peak(classifier)
        return self._peaks[classifier]

    def _peak(self, classifier: str) -> Mapping[str, float] | None:
        peak: dict[str, float] = {}
        for index in self.indexes:
            scores = self.signals.scores(index, classifier)
            if scores is None:
                return None
            for label, score in scores.items():
                if score > peak.get(label, -1.0):
                    peak[label] = score
        return peak


def _raise(best: dict[str, float], found: Sequence[Prediction]) -> bool:
    """Put the higher scores into ``best``; False if one is no number."""
    for prediction in found:
        score, label = prediction.score, prediction.label
        if score != score:
            return False
        if score > best.get(label, -1.0):
            best[label] = score
    return True
