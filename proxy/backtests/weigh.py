"""A recorded request judged by other policies, from its recorded scores alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from classifiers.types import Stage
from policies.actions import Route
from policies.attached import attached
from policies.decision import RANK, Outcome
from policies.policy import Scope
from policies.schema import BoundPolicy, BoundRule
from policies.what_if import fires
from proxy.backtests.cases import STAGES, Case, Past, RuleKey

How = Literal["scores", "texts", "altered"]
ENDS_INPUT = RANK["answer"]
"""From here on a request does not reach the model."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What policies make of a request.

    Attributes:
        outcome: None where it cannot be told.
        cause: the rule that decides.
        fired: every rule that fires, those in shadow mode too.
        route: the alias that it is routed to.
        untold: why rules cannot be told, by rule.
        reply_unknown: the reply is not known, for there was none, or nobody has looked at it; so
            the outcome is that of the request alone.
        on_reply: the reply decides, so the model was asked.
        how: what it was told from.
    """

    outcome: Outcome | None
    cause: RuleKey | None = None
    fired: frozenset[RuleKey] = frozenset()
    route: str | None = None
    untold: Mapping[RuleKey, str] = field(default_factory=dict)
    reply_unknown: bool = False
    on_reply: bool = False
    how: How = "scores"


class Scales:
    """Judges cases by policies.

    Args:
        policies: those that judge.
        recorded: those in force when the cases were recorded, as far as they are known: what a rule
            that has not changed did then it does again, whatever the scores tell.
    """

    def __init__(
        self, policies: Sequence[BoundPolicy], recorded: Sequence[BoundPolicy] = ()
    ) -> None:
        self.policies = tuple(policies)
        self._then: dict[RuleKey, tuple[str, BoundRule]] = {
            (policy.policy.name, bound.rule.name): (policy.id, bound)
            for policy in recorded
            for bound in policy.rules
        }
        self._scopes: dict[Stage, set[tuple[str, Scope]]] = {
            stage: {(p.id, bound.scope) for p in recorded for bound in p.rules_for(stage)}
            for stage in STAGES
        }

    def ruling(self, case: Case) -> tuple[BoundPolicy, ...]:
        """The policies for a case: those that attach to its model and key, and those that did."""
        own = attached(self.policies, case.model, case.key)
        names = {id.rpartition("@")[0] for id in case.attached}
        return tuple(p for p in self.policies if p in own or p.policy.name in names)

    def weigh(self, case: Case) -> Verdict:
        """The verdict on a case that was decided once."""
        return self.with_reply(case, self._stage(self.ruling(case), case, "input"))

    def with_reply(self, case: Case, told: Verdict) -> Verdict:
        """A verdict on the request of a case, and on its recorded reply if it gets that far."""
        if told.outcome is None or RANK[told.outcome] >= ENDS_INPUT:
            return told
        policies = self.ruling(case)
        if "output" not in case.stages or case.stages["output"].seen == ():
            unknown = any(policy.rules_for("output") for policy in policies)
            return replace(told, reply_unknown=unknown)
        reply = self._stage(policies, case, "output")
        leads = reply.outcome is None or RANK[reply.outcome] > RANK[told.outcome]
        return Verdict(
            reply.outcome if leads else told.outcome,
            reply.cause if leads else told.cause,
            told.fired | reply.fired,
            told.route,
            {**told.untold, **reply.untold},
            on_reply=leads,
            how=told.how,
        )

    def _stage(self, policies: Sequence[BoundPolicy], case: Case, stage: Stage) -> Verdict:
        past = case.stages.get(stage)
        if past is None:
            return Verdict("forward")
        fired: set[RuleKey] = set()
        untold: dict[RuleKey, str] = {}
        outcome: Outcome = "forward"
        doubt: Outcome = "forward"
        cause: RuleKey | None = None
        route: str | None = None
        for policy in policies:
            for bound in policy.rules_for(stage):
                key = (policy.policy.name, bound.rule.name)
                told = self._fires(bound, key, case, stage, past)
                does = _does(bound, key, past)
                if told is None:
                    untold[key] = self._why(bound, case, stage, past)
                    if bound.rule.enforced and RANK[does] > RANK[doubt]:
                        doubt = does
                elif told:
                    fired.add(key)
                    if bound.rule.enforced and RANK[does] > RANK[outcome]:
                        outcome, cause = does, key
                        route = bound.rule.do.model if isinstance(bound.rule.do, Route) else None
        if case.unread.get(stage) and any(policy.stops_unread(stage) for policy in policies):
            outcome, cause = ("block", None) if outcome != "block" else (outcome, cause)
        known = RANK[doubt] <= RANK[outcome]
        return Verdict(outcome if known else None, cause, frozenset(fired), route, untold)

    def _fires(
        self, bound: BoundRule, key: RuleKey, case: Case, stage: Stage, past: Past
    ) -> bool | None:
        told = self._told(bound, case, stage, past)
        if told is not None:
            return told
        id, then = self._then.get(key, ("", None))
        unchanged = (
            then is not None
            and not past.failed
            and id in case.attached
            and stage in then.rule.check
            and (then.condition, then.scope) == (bound.condition, bound.scope)
            and (then.every_text, then.faq) == (bound.every_text, bound.faq)
        )
        if not unchanged or not _same_cuts(bound, past.cuts.get(key, {})):
            return None
        return key in past.fired

    def _told(self, bound: BoundRule, case: Case, stage: Stage, past: Past) -> bool | None:
        if past.seen is None:
            return None
        told = fires(bound, past.seen, stage)
        if told and bound.every_text and case.unread.get("input"):
            return None  # a picture's question is not for a canned answer
        return None if told is False and not self._scored(bound, case, stage, past) else told

    def _scored(self, bound: BoundRule, case: Case, stage: Stage, past: Past) -> bool:
        """Whether all texts that a rule looks at have scores: some rule has looked at them then, or
        there were no others."""
        if stage == "output":
            return True
        scope = bound.scope
        if any(id in case.attached and _holds(then, scope) for id, then in self._scopes[stage]):
            return True
        scored = sum(seen.texts for seen in past.seen or () if not seen.kind.derived)
        return scored >= case.texts and (case.texts <= 1 or not scope.across_turns)

    def _why(self, bound: BoundRule, case: Case, stage: Stage, past: Past) -> str:
        """Why a rule cannot be told."""
        if bound.faq is not None:
            return "answers from a FAQ, whose scores are not recorded"
        if past.seen is None:
            return "recorded before scores were kept"
        if past.failed:
            return "a classifier failed then"
        asked = {leaf.id for leaf, _ in bound.condition.leaves()}
        known = {id for seen in past.seen for id in seen.scores}
        if missing := sorted(asked - known):
            return f"{missing[0]} was not asked then"
        if not self._scored(bound, case, stage, past):
            return "looks at texts that no rule looked at then"
        return "the recorded scores are too coarse: several texts, or a score at the threshold"


def past(case: Case) -> Verdict:
    """What was decided on a case then."""
    if not case.stages:
        return Verdict(None)
    stage = max(case.stages, key=lambda one: RANK[case.stages[one].outcome])
    deciding = case.stages[stage]
    fired = frozenset[RuleKey]().union(*(p.fired for p in case.stages.values()))
    route = next((p.route for p in case.stages.values() if p.route), None)
    on_reply = stage == "output"
    return Verdict(deciding.outcome, deciding.cause, fired, route, on_reply=on_reply)


def _holds(wide: Scope, narrow: Scope) -> bool:
    """Whether all texts that one scope covers are covered by another."""
    return (
        wide.roles >= narrow.roles
        and (narrow.last_turn_only or not wide.last_turn_only)
        and (wide.across_turns or not narrow.across_turns)
    )


def _does(bound: BoundRule, key: RuleKey, past: Past) -> Outcome:
    """What a rule does if it fires. What was refused in an earlier turn is taken out, not refused again."""
    outcome = bound.rule.do.outcome
    return past.outcome if outcome == "block" and key in past.taken_out else outcome


def _same_cuts(bound: BoundRule, cuts: Mapping[str, float]) -> bool:
    """Whether the thresholds that were recorded are the rule's: a policy that was changed without a
    new version is not the one of then."""
    own = {cut for leaf, _ in bound.condition.leaves() for cut in leaf.thresholds}
    return all(cut in own for cut in cuts.items())
