"""Predictions in, decision out: pure, without I/O, without clock.

Every rule of every policy is evaluated; each that fires applies its action to the decision, where
the most restrictive outcome stands and redactions and tags add up.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from classifiers.types import Classification, Stage, Text
from policies.answers import BoundFaq
from policies.attached import attached
from policies.bound import Hit
from policies.decision import Cause, Decision, RuleError
from policies.draft import Draft, Fired
from policies.redaction import apply_redactions, restorations, restore
from policies.schema import BoundPolicy, BoundRule
from policies.seen import Kind, Seen
from policies.signals import Group, Signals, View

__all__ = ["apply_redactions", "attached", "evaluate", "restorations", "restore"]


def evaluate(
    policies: Sequence[BoundPolicy],
    stage: Stage,
    texts: Sequence[Text],
    results: Sequence[Classification],
    *,
    answerable: bool = True,
    taken: Collection[str] = (),
    unscanned: Collection[str] = (),
) -> Decision:
    """The verdict of all policies on the texts of one stage.

    Args:
        policies: in order; the order decides between equals only.
        stage: input or output.
        texts: what was classified.
        results: ``results[i]`` belongs to ``texts[i]``.
        answerable: False keeps ``answer`` rules from firing, because the newest turn holds what
            no classifier has read (an image, a file).
        taken: placeholders not to be given again. On output, pass those of the input's
            :func:`restorations`, or a find of the reply could be taken for one of the request.
        unscanned: addresses of what no classifier can read, for ``on_unscannable``.

    Raises:
        ValueError: texts and results differ in number.
    """
    if len(texts) != len(results):
        raise ValueError(f"{len(texts)} texts need as many results, got {len(results)}")
    refusals = frozenset[str]().union(*(policy.refusals for policy in policies))
    draft = Draft(stage, texts, refusals)
    signals = Signals(results)
    newest: View | None = None
    kinds = _kinds(texts, signals)
    views: dict[int, View] = {}  # by the scope, of which there is one object each
    for policy in policies:
        for bound in policy.rules_for(stage):
            if bound.every_text:
                if newest is None:
                    own = _newest(texts) if answerable else ()
                    newest = View(signals, [Group(signals, own)])
                view: View | None = newest
            else:
                view = views.get(id(bound.scope))
            if view is None:
                covered = [g for kind, g in kinds.items() if bound.scope.covers(kind, stage)]
                view = views[id(bound.scope)] = View(signals, covered)
            if bound.condition.possible(view):
                _evaluate_rule(policy, bound, view, draft)
    if unscanned:
        stopping = (policy.id for policy in policies if policy.stops_unread(stage))
        if (first := next(stopping, None)) is not None:
            draft.stop_unread(first, len(unscanned))
    return draft.decision(taken, _seen(policies, stage, kinds))


def _kinds(texts: Sequence[Text], signals: Signals) -> dict[Kind, Group]:
    """The texts by what decides which rules look at them."""
    members: dict[Kind, list[int]] = {}
    for index, text in enumerate(texts):
        kind = Kind(text.role, text.last_turn, text.across, text.derived)
        members.setdefault(kind, []).append(index)
    return {kind: Group(signals, indexes) for kind, indexes in members.items()}


def _seen(
    policies: Sequence[BoundPolicy], stage: Stage, kinds: Mapping[Kind, Group]
) -> tuple[Seen, ...]:
    """By kind of text, the scores that rules which look at it ask for, whether it came to that or not."""
    found: list[Seen] = []
    for kind, group in kinds.items():
        asked = [policy.asked(stage, kind) for policy in policies]
        if any(asked):
            scores = {id: group.rounded(name) for a in asked for name, id in a.items()}
            found.append(Seen(kind, len(group.indexes), scores))
    return tuple(found)


def _newest(texts: Sequence[Text]) -> list[int]:
    """The newest turn if it is the user's; otherwise nothing, for a tool's result or the model's
    own words are not to be answered."""
    newest = [i for i, text in enumerate(texts) if text.last_turn and not text.derived]
    return newest if all(texts[i].role == "user" for i in newest) else []


def _evaluate_rule(policy: BoundPolicy, bound: BoundRule, view: View, draft: Draft) -> None:
    rule, condition, signals = bound.rule, bound.condition, view.signals
    values = {i: condition.value(signals, i) for i in view.indexes}
    for i, value in values.items():
        if value and draft.texts[i].across and not _matches(bound, signals, i):
            values[i] = False
    true = [i for i, value in values.items() if value]
    unknown = [i for i, value in values.items() if value is None]
    if bound.every_text:
        fires = bool(true) and len(true) == len(values)
        failed = unknown if len(true) + len(unknown) == len(values) else []
    else:
        fires = bool(true)
        failed = [] if fires else unknown
        if rule.do.needs_spans:
            # What was found is certain, what else there is to find is not.
            failed = unknown + [i for i in true if _misses_finds(bound, signals, i)]
    answer = None
    if fires and bound.faq is not None:
        answer, lacking = _answer(bound.faq, draft, signals, true)
        fires = answer is not None
        if lacking is not None:
            draft.fail(_failure(policy, bound, signals, *lacking))
    if failed:
        draft.fail(_error(policy, bound, signals, failed[0]))
    if fires:
        named = condition if bound.faq is None else bound.faq.leaf
        hits = tuple((i, hit) for i in true for hit in named.hits(signals, i))
        cause = _cause(policy, bound, draft.texts, hits)
        if rule.enforced:
            draft.fired.append(cause)
            rule.do.apply(draft, Fired(cause, hits, answer))
        else:
            draft.shadow.append(cause)


def _answer(
    faq: BoundFaq, draft: Draft, signals: Signals, texts: Sequence[int]
) -> tuple[str | None, tuple[int, str] | None]:
    """What a FAQ has to say to texts that it covers, and a text with the classifier that failed on it
    where that cannot be told."""
    entry = faq.asked(signals, texts)
    if entry is None:
        return None, None
    lacking = faq.failed(entry, signals, texts)
    return (None, lacking) if lacking else (faq.answer(entry, signals, draft.texts, texts), None)


def _matches(bound: BoundRule, signals: Signals, text: int) -> bool:
    """Whether something was found: that several turns together are NOT about a thing says little."""
    return any(hit.matched for hit in bound.condition.hits(signals, text))


def _misses_finds(bound: BoundRule, signals: Signals, text: int) -> bool:
    return any(
        leaf.spans and helps and signals.scores(text, leaf.classifier) is None
        for leaf, helps in bound.condition.leaves()
    )


def _error(policy: BoundPolicy, bound: BoundRule, signals: Signals, text: int) -> RuleError:
    classifier = next(
        leaf.classifier
        for leaf, _ in bound.condition.leaves()
        if signals.scores(text, leaf.classifier) is None
    )
    return _failure(policy, bound, signals, text, classifier)


def _failure(
    policy: BoundPolicy, bound: BoundRule, signals: Signals, text: int, classifier: str
) -> RuleError:
    return RuleError(
        policy=policy.id,
        rule=bound.rule.name,
        classifier=classifier,
        reason=signals.reason(text, classifier),
        outcome=policy.policy.on_error if bound.rule.enforced else "allow",
        enforced=bound.rule.enforced,
    )


def _cause(
    policy: BoundPolicy, bound: BoundRule, texts: Sequence[Text], hits: Sequence[tuple[int, Hit]]
) -> Cause:
    # A label that matched says more than one that stayed below, and a text that somebody sent more
    # than one joined of several turns; then the distance decides.
    index, hit = max(
        hits, key=lambda found: (found[1].matched, not texts[found[0]].across, found[1].margin)
    )
    return Cause(
        policy=policy.id,
        rule=bound.rule.name,
        action=bound.rule.do.word,
        enforced=bound.rule.enforced,
        classifier=hit.leaf.id,
        label=hit.prediction.label,
        score=hit.prediction.score,
        threshold=hit.threshold,
        text=index,
        address=texts[index].address,
        role=texts[index].role,
        span=hit.prediction.span,
    )
