"""Which trained classifier fits a question of ``/v1/decisions``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from classifiers.types import Classifier
from proxy.decisions_request import Question
from proxy.errors import InvalidRequest, NotFound

PREFIX = "doorman/"
AUTO = "doorman/auto"
ZERO_SHOT = "doorman/zero-shot"
OUT_OF_SCOPE = "out_of_scope"
_NAMED = re.compile(r"\s*([\w.-]+)\s*:\s*(\S.*?)\s*", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Head:
    """A classifier that answers a question.

    Attributes:
        labels: the one that a predicate asks for, or those of the options, in their order.
        calibrated: its probabilities are taken as they are. They are not where only some of its
            labels are asked for, and for classifiers that point, whose scores are grades.
    """

    classifier: str
    labels: tuple[str, ...]
    calibrated: bool = True


def pinned(model: str, known: Mapping[str, Classifier]) -> str | None:
    """What ``model`` asks for: a classifier, :data:`ZERO_SHOT`, or None for whatever fits.

    Names of others' models are taken for the latter, so that clients need no change.

    Raises:
        NotFound: a name below ``doorman/`` that is none of ours.
    """
    if not model.startswith(PREFIX) or model == AUTO:
        return None
    if model == ZERO_SHOT:
        return model
    name = model.removeprefix(PREFIX)
    if name not in known:
        there = ", ".join([AUTO, ZERO_SHOT, *(PREFIX + name for name in known)])
        raise NotFound(f"No such model here; there are: {there}.", "model", "model_not_found")
    return name


def fit(question: Question, known: Mapping[str, Classifier], only: str | None) -> Head | None:
    """The trained head for a question; None where the encoder has to answer without training.

    Args:
        only: see :func:`pinned`.

    Raises:
        InvalidRequest: the classifier that the request names does not fit.
    """
    if only == ZERO_SHOT:
        return None
    if only is not None:
        return _of(question, known[only])
    if question.kind == "predicate":
        return next(
            (
                _label_of(known[match[1]], match[2])
                for said in (question.name, question.instructions)
                if said is not None
                and (match := _NAMED.fullmatch(said))
                and match[1] in known
                and match[2] in known[match[1]].labels
            ),
            None,
        )
    values = [option.value for option in question.options]
    for name, classifier in known.items():
        labels = set(classifier.labels)
        if classifier.kind == "one_of" and set(values) in (labels, labels - {OUT_OF_SCOPE}):
            return Head(name, tuple(str(value) for value in values))
    return None


def _of(question: Question, classifier: Classifier) -> Head:
    labels = ", ".join(classifier.labels)
    if question.kind == "predicate":
        for said in (question.name, question.instructions):
            label = (said or "").strip().removeprefix(f"{classifier.name}:").strip()
            if label in classifier.labels:
                return _label_of(classifier, label)
        raise InvalidRequest(
            f"The question names no label of {classifier.name}; as `name` or `instructions` write one "
            f"of: {labels}.",
            f"{question.where}.instructions",
        )
    if classifier.kind != "one_of":
        raise InvalidRequest(
            f"Several labels of {classifier.name} may hold at once; ask for them one by one, as "
            "predicates.",
            f"{question.where}.type",
        )
    values = [option.value for option in question.options]
    if not set(values) <= set(classifier.labels):
        raise InvalidRequest(
            f"Not all options are labels of {classifier.name}; there are: {labels}.",
            question.where,
        )
    every = set(classifier.labels) - {OUT_OF_SCOPE} <= set(values)
    return Head(classifier.name, tuple(str(value) for value in values), every)


def _label_of(classifier: Classifier, label: str) -> Head:
    return Head(classifier.name, (label,), classifier.kind != "spans")
