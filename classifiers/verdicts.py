"""Whether what a classifier returned is a verdict at all.

A score that is no number, or a label that is missing, must never be read as "nothing found".
"""

from __future__ import annotations

from collections.abc import Sequence

from classifiers.types import Classifier, ClassifierError, Prediction, Span

_SLACK = 1e-6
"""Scores computed in single precision may lie this far outside 0..1."""


def checked(
    classifier: Classifier, texts: Sequence[str], found: object
) -> list[tuple[Prediction, ...] | None]:
    """The results of one batch; None for a text whose result is no verdict.

    Args:
        classifier: who gave them.
        texts: what it was given.
        found: what it returned.

    Raises:
        ClassifierError: there is not one result per text.
    """
    if not isinstance(found, list | tuple) or len(found) != len(texts):
        raise ClassifierError("not one result per text")
    labels = frozenset(classifier.labels)
    return [
        tuple(result) if _sound(classifier, labels, text, result) else None
        for text, result in zip(texts, found, strict=True)
    ]


def _sound(classifier: Classifier, labels: frozenset[str], text: str, result: object) -> bool:
    if not isinstance(result, list | tuple):
        return False
    spans, named = classifier.kind == "spans", set()
    for one in result:
        if not isinstance(one, Prediction) or one.classifier != classifier.name:
            return False
        if one.label not in labels or not _is_probability(one.score):
            return False
        if spans and not (isinstance(one.span, Span) and one.span.end <= len(text)):
            return False
        named.add(one.label)
    return spans or named == labels


def _is_probability(score: object) -> bool:
    # A comparison with NaN is False.
    return isinstance(score, float | int) and -_SLACK <= score <= 1 + _SLACK
