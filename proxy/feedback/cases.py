"""Corrections as tests of policies: with the right labels a policy decides so, and so it must decide.

What is expected is worked out anew each time: the policy as it is now, on what the classifiers say now,
with the labels of the corrected one put right. So a test is never out of date when a policy changes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from classifiers.types import Classification, Classifier, Prediction, Text
from policies.decision import Cause, Decision
from policies.engine import evaluate
from policies.schema import BoundPolicy
from policies.testing import Classify
from proxy.ledgers.feedback import Feedback

ADDRESSES = {
    "input": ("messages", 0, "content"),
    "output": ("choices", 0, "message", "content"),
}
ROLES = {"input": "user", "output": "assistant"}


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a policy makes of a corrected text.

    Attributes:
        correction: its id.
        policy: ``name@version``.
        expected: were the classifier right.
        got: as it is.
    """

    correction: int
    policy: str
    expected: Decision
    got: Decision

    @property
    def holds(self) -> bool:
        """Whether the same comes of it, by the same rules."""
        return _gist(self.expected) == _gist(self.got)

    def __str__(self) -> str:
        return (
            f"correction {self.correction}: {self.policy}: expected {_told(self.expected)}, got "
            f"{_told(self.got)}"
        )


def outcomes(
    policies: Sequence[BoundPolicy],
    corrections: Sequence[Feedback],
    known: Mapping[str, Classifier],
    classify: Classify,
) -> list[Outcome]:
    """Run every correction through every policy that asks its classifier. Blocking.

    Args:
        policies: bound to the classifiers that are to be tested.
        corrections: with text and labels.
        known: the classifiers that they are bound to, by name.
        classify: runs classifiers over texts.
    """
    found: list[Outcome] = []
    for policy in policies:
        mine = [one for one in corrections if _asks(policy, one)]
        if not mine:
            continue
        texts = [one.text or "" for one in mine]
        for one, seen in zip(mine, classify(texts, policy.classifiers), strict=True):
            ideal = _ideal(seen, known[one.classifier], one.labels or ())
            found.append(
                Outcome(one.id, policy.id, _decide(policy, one, ideal), _decide(policy, one, seen))
            )
    return found


def as_tests(found: Sequence[Outcome], corrections: Sequence[Feedback]) -> Iterator[dict[str, Any]]:
    """The same as entries of ``tests:``, to be kept in a policy's file; with the policy's name first."""
    by_id = {one.id: one for one in corrections}
    for outcome in found:
        one, expected = by_id[outcome.correction], outcome.expected
        case: dict[str, Any] = {ROLES[one.stage]: one.text, "expect": expected.outcome}
        if expected.cause is not None:
            case["rule"] = expected.cause.rule
        yield {"policy": outcome.policy.partition("@")[0], "test": case}


def _asks(policy: BoundPolicy, one: Feedback) -> bool:
    return any(
        leaf.classifier == one.classifier
        for bound in policy.rules_for(one.stage)
        for leaf, _ in bound.condition.leaves()
    )


def _ideal(seen: Classification, classifier: Classifier, labels: Sequence[str]) -> Classification:
    """The same with the right labels of one classifier, and no doubt about them."""
    right = tuple(
        Prediction(classifier.name, label, 1.0 if label in labels else 0.0)
        for label in classifier.labels
    )
    return replace(seen, predictions={**seen.predictions, classifier.name: right})


def _decide(policy: BoundPolicy, one: Feedback, seen: Classification) -> Decision:
    text = Text(one.text or "", ROLES[one.stage], ADDRESSES[one.stage], one.stage, 0)
    return evaluate([policy], one.stage, [text], [seen])


def _gist(decision: Decision) -> tuple[str, frozenset[str], frozenset[str]]:
    return decision.outcome, _rules(decision.fired), _rules(decision.shadow)


def _rules(causes: Sequence[Cause]) -> frozenset[str]:
    return frozenset(cause.rule for cause in causes)


def _told(decision: Decision) -> str:
    by = decision.cause or next(iter(decision.fired), None)
    if by is None:
        return decision.outcome
    sign = ">=" if by.score >= by.threshold else "<"
    return (
        f"{decision.outcome} by {by.rule} ({by.classifier.partition('@')[0]}/{by.label} {by.score:.3f} "
        f"{sign} {by.threshold:.3f})"
    )
