"""What a candidate does to the thresholds that the policies in force use."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from classifiers.types import Classifier
from policies import schema
from policies.answers import OpenFaq
from policies.bound import BoundLeaf
from policies.faults import PolicyError
from policies.schema import BoundPolicy


@dataclass(frozen=True, slots=True)
class Cut:
    """Where a rule cuts a label of a classifier.

    Attributes:
        policy: ``name@version``.
        before: with the pack that is served.
        after: with the candidate; None where the policy cannot be bound to it.
    """

    policy: str
    rule: str
    label: str
    before: float
    after: float | None


def cuts(
    policies: Sequence[BoundPolicy],
    known: Mapping[str, Classifier],
    name: str,
    open_faq: OpenFaq | None,
) -> list[Cut]:
    """The thresholds of a classifier in some policies, before and after. Blocking.

    Args:
        policies: in force.
        known: the classifiers, with the candidate in its place.
        name: of the classifier.
    """
    found: list[Cut] = []
    for policy in policies:
        if not any(_own(policy, name)):
            continue
        try:
            after = list(_own(schema.bind(policy.policy, known, open_faq), name))
        except PolicyError:
            after = []
        for n, (rule, leaf) in enumerate(_own(policy, name)):
            then = dict(after[n][1].thresholds) if after else {}
            found += [
                Cut(policy.id, rule, label, now, then.get(label)) for label, now in leaf.thresholds
            ]
    return list(dict.fromkeys(found))


def _own(policy: BoundPolicy, name: str) -> list[tuple[str, BoundLeaf]]:
    """The leaves that ask a classifier, each with the name of its rule."""
    return [
        (bound.rule.name, leaf)
        for bound in policy.rules
        for leaf, _ in bound.condition.leaves()
        if leaf.classifier == name
    ]
