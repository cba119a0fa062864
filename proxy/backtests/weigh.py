"""A recorded request judged by other policies, from its recorded scores alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from classifiers.types import Stage
from policies.actions import AnswerFrom, Route
from policies.attached import attached
from policies.bound import Bound, BoundAll
from policies.decision import RANK, Outcome
from policies.policy import Scope
from policies.schema import BoundPolicy, BoundRule
from policies.what_if import fires
from proxy.backtests.cases import STAGES, Case, Past, RuleKey

How = Literal["scores", "texts", "altered"]
ENDS_INPUT = RANK["answer"]
"""From here on a request does not reach the model."""
FAQ_ROUNDED = 0.01
"""How far two thresholds of one FAQ may lie apart: each is computed where it is loaded, here from features
in half precision."""
OTHER_VERSION = "was judged by another version of its classifier then"
UNREACHED = "looks at a reply, and it cannot be told whether the request gets that far"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What policies make of a request.

    Attributes:
        outcome: None where it cannot be told.
        cause: the rule that decides.
        fired: every rule that fires, those in shadow mode too.
        route: the alias that it is routed to.
        untold: why rules cannot be told, by rule; none of them is in ``fired``.
        may_decide: where the outcome cannot be told, the rules one of which decides, if any does.
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
    may_decide: frozenset[RuleKey] = frozenset()
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

    def by_texts(self, case: Case, texts: Verdict) -> Verdict:
        """The verdict on a case that was decided once, of whose texts there is a verdict: rules that the
        scores tell are as these tell, the others as the texts do."""
        if case.reply is not None:
            return texts  # a row of a file; its reply is judged already
        if not case.attached or texts.outcome == "error":
            return self.with_reply(case, texts)
        return self.with_reply(case, self._stage(self.ruling(case), case, "input", texts))

    def with_reply(self, case: Case, told: Verdict) -> Verdict:
        """A verdict on the request of a case, and on its recorded reply if it gets that far."""
        if told.outcome is not None and RANK[told.outcome] >= ENDS_INPUT:
            return told
        policies = self.ruling(case)
        if "output" not in case.stages or case.stages["output"].seen == ():
            unknown = any(policy.rules_for("output") for policy in policies)
            return replace(told, reply_unknown=unknown and told.outcome is not None)
        reply = self._stage(policies, case, "output")
        may_decide = told.may_decide | reply.may_decide | _one(told.cause)
        if told.outcome is None:
            unsure = {**dict.fromkeys(reply.fired, UNREACHED), **reply.untold}
            untold = {**_without(unsure, told.fired), **told.untold}
            return replace(told, untold=untold, may_decide=may_decide | _one(reply.cause))
        leads = reply.outcome is None or RANK[reply.outcome] > RANK[told.outcome]
        fired = told.fired | reply.fired
        return Verdict(
            reply.outcome if leads else told.outcome,
            reply.cause if leads else told.cause,
            fired,
            told.route,
            _without({**told.untold, **reply.untold}, fired),
            may_decide if reply.outcome is None else frozenset(),
            on_reply=leads,
            how=told.how,
        )

    def _stage(
        self,
        policies: Sequence[BoundPolicy],
        case: Case,
        stage: Stage,
        texts: Verdict | None = None,
    ) -> Verdict:
        past = case.stages.get(stage)
        if past is None:
            return Verdict("forward")
        fired: set[RuleKey] = set()
        untold: dict[RuleKey, str] = {}
        outcome: Outcome = "forward"
        doubts: dict[RuleKey, Outcome] = {}
        how: How = "scores"
        cause: RuleKey | None = None
        route: str | None = None
        for policy in policies:
            for bound in policy.rules_for(stage):
                key = (policy.policy.name, bound.rule.name)
                told = self._fires(bound, key, case, stage, past)
                does = _does(bound, key, past)
                if told is None and texts is not None and not _lost(bound, case):
                    told, how = key in texts.fired, texts.how
                    does = _least(does, texts.outcome)
                if told is None:
                    untold[key] = self._why(bound, case, stage, past, texts is not None)
                    if bound.rule.enforced:
                        doubts[key] = does
                elif told:
                    fired.add(key)
                    if bound.rule.enforced and RANK[does] > RANK[outcome]:
                        outcome, cause = does, key
                        route = bound.rule.do.model if isinstance(bound.rule.do, Route) else None
        if case.unread.get(stage) and any(policy.stops_unread(stage) for policy in policies):
            outcome, cause = ("block", None) if outcome != "block" else (outcome, cause)
        unsure = frozenset(key for key, does in doubts.items() if RANK[does] > RANK[outcome])
        if unsure:
            may_decide = unsure | _one(cause)
            return Verdict(None, None, frozenset(fired), None, untold, may_decide, how=how)
        return Verdict(outcome, cause, frozenset(fired), route, untold, how=how)

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
            and (then.scope, then.every_text) == (bound.scope, bound.every_text)
            and _same_condition(then, bound)
            and _same_classifiers(bound, key, stage, past)
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

    def _why(
        self, bound: BoundRule, case: Case, stage: Stage, past: Past, texts: bool = False
    ) -> str:
        """Why a rule cannot be told."""
        if texts:
            return "looks for what was taken out of the kept texts: personal data"
        if bound.faq is not None:
            return "does not answer as it did then, and scores of a FAQ are not recorded"
        if past.seen is None:
            return "recorded before scores were kept"
        if past.failed:
            return "a classifier failed then"
        asked = {leaf.id for leaf, _ in bound.condition.leaves()}
        known = {id for seen in past.seen for id in seen.scores}
        if missing := sorted(asked - known):
            names = {id.rpartition("@")[0] for id in known}
            if missing[0].rpartition("@")[0] in names:
                return f"{OTHER_VERSION}, not by {missing[0]}"
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


def _least(one: Outcome, other: Outcome | None) -> Outcome:
    """What a rule does that fires on texts. These were not refused if what it would refuse was taken out."""
    return other if one == "block" and other is not None and RANK[other] < RANK[one] else one


def _lost(bound: BoundRule, case: Case) -> bool:
    """Whether a rule looks for what has been taken out of the texts."""
    spans = any(leaf.spans for leaf, _ in bound.condition.leaves())
    return case.altered and (spans or (bound.faq is not None and bool(bound.faq.slots)))


def _same_condition(then: BoundRule, now: BoundRule) -> bool:
    """Whether two rules ask for the same. A FAQ has its thresholds from what was promised for it."""
    if then.faq is None or now.faq is None:
        return then.faq is now.faq and then.condition == now.condition
    points = [
        one.rule.do.point if isinstance(one.rule.do, AnswerFrom) else None for one in (then, now)
    ]
    return then.faq.same(now.faq) and points[0] == points[1] and _own(then) == _own(now)


def _own(bound: BoundRule) -> tuple[Bound, ...]:
    """The condition of a rule, without that of its FAQ."""
    condition = bound.condition
    parts = condition.parts if isinstance(condition, BoundAll) else (condition,)
    return tuple(part for part in parts if bound.faq is None or part != bound.faq.leaf)


def _same_classifiers(bound: BoundRule, key: RuleKey, stage: Stage, past: Past) -> bool:
    """Whether a rule's classifiers are those that were asked then, as far as the record tells: not
    others of their names, from before a pack was promoted."""
    own = {leaf.id for leaf, _ in bound.condition.leaves()}
    faq = frozenset() if bound.faq is None else frozenset({bound.faq.leaf.id})
    covered = [seen for seen in past.seen or () if bound.scope.covers(seen.kind, stage)]
    return past.by.get(key, frozenset()) <= own and all(own - faq <= set(s.scores) for s in covered)


def _same_cuts(bound: BoundRule, cuts: Mapping[str, float]) -> bool:
    """Whether the thresholds that were recorded are the rule's: a policy that was changed without a
    new version is not the one of then."""
    own = {cut for leaf, _ in bound.condition.leaves() for cut in leaf.thresholds}
    if bound.faq is not None:
        faq = dict(bound.faq.leaf.thresholds)
        return all(abs(faq.get(label, 2.0) - cut) <= FAQ_ROUNDED for label, cut in cuts.items())
    return all(cut in own for cut in cuts.items())


def _without(untold: Mapping[RuleKey, str], rules: frozenset[RuleKey]) -> dict[RuleKey, str]:
    return {rule: why for rule, why in untold.items() if rule not in rules}


def _one(rule: RuleKey | None) -> frozenset[RuleKey]:
    return frozenset() if rule is None else frozenset({rule})
