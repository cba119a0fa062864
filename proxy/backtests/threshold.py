"""Another threshold of one condition of one rule: what would change among recorded requests."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from classifiers.types import Stage
from policies.bound import Bound, BoundAll, BoundAny, BoundLeaf, BoundNot
from policies.decision import Outcome
from policies.schema import BoundPolicy, BoundRule
from policies.seen import DIGITS, LEAST
from proxy.backtests.cases import STAGES, Case
from proxy.backtests.weigh import Scales

BINS = 50
EXAMPLES = 10


@dataclass(frozen=True, slots=True)
class Lever:
    """A condition whose threshold can be moved.

    Attributes:
        number: its place among the conditions of the rule.
    """

    policy: BoundPolicy
    rule: BoundRule
    leaf: BoundLeaf
    number: int

    @property
    def threshold(self) -> float:
        """Where it stands; the lowest if its labels have several."""
        return min(cut for _, cut in self.leaf.thresholds)

    @property
    def stages(self) -> tuple[Stage, ...]:
        """Where the rule looks."""
        return tuple(stage for stage in STAGES if stage in self.rule.rule.check)

    def written(self, at: float) -> str:
        """The condition with a threshold, as it is written in a policy file."""
        labels = [label for label, _ in self.leaf.thresholds]
        shown = labels[0] if len(labels) == 1 else f"[{', '.join(labels)}]"
        return f"{{{self.leaf.classifier}: {shown}, at: {at:.{DIGITS}g}}}"

    def moved(self, at: float) -> BoundPolicy:
        """The policy with another threshold, the same for all labels of the condition."""
        cut = replace(self.leaf, thresholds=tuple((label, at) for label, _ in self.leaf.thresholds))
        rule = replace(self.rule, condition=_exchanged(self.rule.condition, self.leaf, cut))
        rules = tuple(rule if one is self.rule else one for one in self.policy.rules)
        return replace(self.policy, rules=rules)


def levers(policy: BoundPolicy, rule: BoundRule) -> list[Lever]:
    """The conditions of a rule, in their order; none of a rule that answers from a FAQ."""
    if rule.faq is not None:
        return []
    own = dict.fromkeys(leaf for leaf, _ in rule.condition.leaves() if leaf.thresholds)
    return [Lever(policy, rule, leaf, number) for number, leaf in enumerate(own)]


def _exchanged(condition: Bound, old: BoundLeaf, new: BoundLeaf) -> Bound:
    match condition:
        case BoundAll() | BoundAny():
            return replace(
                condition, parts=tuple(_exchanged(part, old, new) for part in condition.parts)
            )
        case BoundNot():
            return BoundNot(_exchanged(condition.part, old, new))
        case _:
            return new if condition == old else condition


def scored(lever: Lever, cases: Sequence[Case]) -> Iterator[tuple[Case, float]]:
    """The cases on which the classifier was asked, with the highest score of the condition's labels over
    the texts that the rule looks at; 0 where it is too low to be recorded."""
    labels = [label for label, _ in lever.leaf.thresholds]
    for case in cases:
        found = [
            max((scores.get(label, 0.0) for label in labels), default=0.0)
            for stage in lever.stages
            if (past := case.stages.get(stage)) is not None
            for seen in past.seen or ()
            if lever.rule.scope.covers(seen.kind, stage)
            and (scores := seen.scores.get(lever.leaf.id)) is not None
        ]
        if found:
            yield case, max(found)


def of_other_versions(lever: Lever, cases: Sequence[Case]) -> int:
    """How many cases have scores of the condition's classifier, but only of other versions of it."""
    own, name = lever.leaf.id, f"{lever.leaf.classifier}@"
    asked = (
        {id for past in case.stages.values() for seen in past.seen or () for id in seen.scores}
        for case in cases
    )
    return sum(own not in ids and any(id.startswith(name) for id in ids) for ids in asked)


def histogram(scores: Sequence[float]) -> list[int]:
    """How many scores lie in each of ``BINS`` equal stretches of 0..1."""
    counts = [0] * BINS
    for score in scores:
        counts[min(BINS - 1, int(score * BINS))] += 1
    return counts


@dataclass(frozen=True, slots=True)
class Moved:
    """A request that is decided otherwise."""

    id: str
    score: float
    before: Outcome
    after: Outcome


@dataclass(frozen=True, slots=True)
class WhatIf:
    """What another threshold would change.

    Attributes:
        scored: requests that have scores of the classifier.
        matched_before, matched_after: those whose highest score reaches the (lowest) threshold.
        stopped, let_go: requests that would be blocked and were not, and the other way round.
        otherwise: those that would be decided otherwise, but neither.
        untold: those of which it cannot be told.
        examples: some of those that change, the nearest to the threshold first.
    """

    at: float
    scored: int = 0
    matched_before: int = 0
    matched_after: int = 0
    stopped: int = 0
    let_go: int = 0
    otherwise: int = 0
    untold: int = 0
    examples: tuple[Moved, ...] = ()


def what_if(
    lever: Lever, at: float, cases: Sequence[Case], policies: Sequence[BoundPolicy]
) -> WhatIf:
    """What another threshold would have changed among cases.

    Args:
        policies: all that are in force, the lever's among them.
    """
    now = Scales(policies, policies)
    then = Scales([lever.moved(at) if p is lever.policy else p for p in policies], policies)
    total = before = after = stopped = let_go = otherwise = untold = 0
    moved: list[Moved] = []
    lowest = max(min(lever.threshold, at), LEAST) - 10**-DIGITS
    for case, score in scored(lever, cases):
        total += 1
        before += score >= lever.threshold
        after += score >= at
        if score < lowest or case.before == "error":
            continue  # below both thresholds nothing changes
        was, will = now.weigh(case).outcome, then.weigh(case).outcome
        if was is None or will is None:
            untold += 1
        elif will != was:
            stopped += will == "block"
            let_go += was == "block"
            otherwise += "block" not in (was, will)
            moved.append(Moved(case.id, score, was, will))
    moved.sort(key=lambda one: abs(one.score - at))
    examples = tuple(moved[:EXAMPLES])
    return WhatIf(at, total, before, after, stopped, let_go, otherwise, untold, examples)
