"""What holds for every policy, every text and every prediction."""

from __future__ import annotations

import re
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st
from policies_fakes import LABELS, user

from classifiers.types import Classification, Prediction, Span, Stage, Text
from policies.bound import BoundLeaf
from policies.conditions import Leaf
from policies.decision import RANK, Decision
from policies.engine import apply_redactions, evaluate, restorations, restore
from policies.policy import Policy, Rule
from policies.schema import BoundPolicy, BoundRule
from policies.signals import Group, Signals, View

settings.register_profile("policies", deadline=None, max_examples=150)
settings.load_profile("policies")

CLASSIFIERS = {"jailbreak": ("jailbreak",), "spam": ("spam",), "pii": ("EMAIL", "PHONE")}
ADDRESS = re.compile(r"[a-c]@[a-c]")

leaves = st.sampled_from(
    [{name: label} for name, labels in CLASSIFIERS.items() for label in labels]
    + [{"pii": ["EMAIL", "PHONE"], "at": 0.7}, {"spam": "spam", "at": 0.9}]
)
conditions = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.lists(inner, min_size=1, max_size=3).map(lambda parts: {"all": parts}),
        st.lists(inner, min_size=1, max_size=3).map(lambda parts: {"any": parts}),
        inner.map(lambda part: {"not": part}),
    ),
    max_leaves=5,
)
actions = st.sampled_from(
    [
        "allow",
        {"flag": "a"},
        {"flag": "b"},
        {"redact": "<{label}_{n}>"},
        {"redact": {"as": "[{n}]", "restore": True}},
        {"route": "small"},
        {"answer": "Hi."},
        {"block": "No."},
        {"block": {"message": "No!", "as": "error"}},
    ]
)
INPUT_ONLY = ("route", "answer")


@st.composite
def rules(draw: st.DrawFn, mode: str | None = None) -> dict[str, object]:
    do = draw(actions)
    word = do if isinstance(do, str) else next(iter(do))
    checks = [["input"]] if word in INPUT_ONLY else [["input"], ["output"], ["input", "output"]]
    check = draw(st.sampled_from(checks))
    rule: dict[str, object] = {
        "when": draw(conditions),
        "do": do,
        "check": check,
        "mode": mode or draw(st.sampled_from(["enforce", "enforce", "enforce", "shadow"])),
    }
    if word != "answer" and draw(st.booleans()):
        rule["turns"] = draw(st.sampled_from(["all", "last"]))
    if "input" in check and word != "answer" and draw(st.booleans()):
        rule["roles"] = draw(st.sampled_from([["user"], ["tool", "system"], ["assistant"]]))
    return rule


def bound(
    written: list[dict[str, object]], name: str = "p", on_error: str = "block"
) -> BoundPolicy:
    """A policy bound without the checks of ``bind``: evaluation must be total without them too."""
    named = [{"name": f"r{index}", **rule} for index, rule in enumerate(written)]
    policy = Policy.model_validate({"name": name, "on_error": on_error, "rules": named})

    def threshold(leaf: Leaf, _: object) -> BoundLeaf:
        thresholds = tuple((label, leaf.at or 0.5) for label in leaf.labels)
        return BoundLeaf(leaf.classifier, leaf.classifier, thresholds, leaf.classifier == "pii")

    return BoundPolicy(
        policy,
        tuple(BoundRule(r, r.when.bind(threshold, ()), r.scope) for r in policy.rules),
    )


policies = st.lists(rules(), min_size=1, max_size=5)
scores = st.sampled_from([0.0, 0.3, 0.5, 0.8, 1.0])
contents = st.text("abc@ <_1>[]", max_size=20)


@st.composite
def classified(draw: st.DrawFn, failures: bool = True) -> tuple[Text, Classification]:
    content = draw(contents)
    text = user(
        content,
        role=draw(st.sampled_from(["user", "user", "tool", "system", "assistant", "odd"])),
        last_turn=draw(st.booleans()),
    )
    predictions: dict[str, tuple[Prediction, ...]] = {}
    errors: dict[str, str] = {}
    for name, labels in CLASSIFIERS.items():
        if failures and draw(st.integers(0, 5)) == 0:
            errors[name] = "failed"
        elif name == "pii":
            predictions[name] = tuple(
                Prediction(name, draw(st.sampled_from(labels)), draw(scores), Span(*m.span()))
                for m in ADDRESS.finditer(content)
            ) + tuple(
                Prediction(name, "PHONE", draw(scores), Span(*sorted(pair)))
                for pair in draw(
                    st.lists(st.tuples(st.integers(0, 25), st.integers(0, 25)), max_size=2)
                )
            )
        else:
            predictions[name] = tuple(Prediction(name, label, draw(scores)) for label in labels)
    return text, Classification(predictions, errors)


batches = st.lists(classified(), max_size=4)
stages = st.sampled_from(["input", "output"])
Batch = list[tuple[Text, Classification]]


def decide(some: list[BoundPolicy], stage: Stage, batch: Batch) -> Decision:
    return evaluate(some, stage, [text for text, _ in batch], [result for _, result in batch])


@given(policies, policies, stages, batches, st.randoms())
def test_order_never_changes_how_restrictive_the_outcome_is(
    one: list[dict[str, object]],
    two: list[dict[str, object]],
    stage: Stage,
    batch: Batch,
    random: object,
) -> None:
    before = decide([bound(one, "a"), bound(two, "b", "allow")], stage, batch)
    shuffled = [sorted(part, key=lambda _: random.random()) for part in (one, two)]  # type: ignore[attr-defined]
    after = decide([bound(shuffled[1], "b", "allow"), bound(shuffled[0], "a")], stage, batch)
    assert before.outcome == after.outcome
    assert set(before.tags) == set(after.tags)
    assert [(r.text, r.start, r.end) for r in before.redactions] == [
        (r.text, r.start, r.end) for r in after.redactions
    ]


@given(policies, rules(), stages, batches)
def test_a_further_rule_never_makes_the_outcome_less_restrictive(
    written: list[dict[str, object]], more: dict[str, object], stage: Stage, batch: Batch
) -> None:
    before = decide([bound(written)], stage, batch)
    after = decide([bound([*written, more])], stage, batch)
    assert RANK[after.outcome] >= RANK[before.outcome]
    assert set(after.tags) >= set(before.tags)
    covered = [(r.text, r.start, r.end) for r in after.redactions]
    for r in before.redactions:
        assert any(t == r.text and a <= r.start and r.end <= b for t, a, b in covered)


@given(policies, rules(mode="shadow"), st.integers(0, 5), stages, batches)
def test_shadow_rules_never_change_the_decision(
    written: list[dict[str, object]], shadow: dict[str, object], at: int, stage: Stage, batch: Batch
) -> None:
    # The name keeps its place out of the comparison: rules are numbered when they are bound.
    named = [{**rule, "name": f"n{i}"} for i, rule in enumerate(written)]
    before = decide([bound(named)], stage, batch)
    after = decide([bound([*named[:at], {**shadow, "name": "extra"}, *named[at:]])], stage, batch)
    for part in ("outcome", "cause", "reply", "route", "redactions", "tags", "fired"):
        assert getattr(after, part) == getattr(before, part)
    assert [e for e in after.errors if e.rule != "extra"] == list(before.errors)
    assert all(e.outcome == "allow" for e in after.errors if e.rule == "extra")


@given(policies, stages, batches)
def test_evaluate_is_total_and_consistent(
    written: list[dict[str, object]], stage: Stage, batch: Batch
) -> None:
    decision = decide([bound(written)], stage, batch)
    assert (decision.reply is not None) == (decision.outcome in ("answer", "block"))
    assert (decision.route is not None) == (decision.outcome == "route")
    assert (decision.cause is None) == (decision.outcome in ("forward", "error"))
    assert decision.outcome != "error" or any(e.outcome == "block" for e in decision.errors)
    assert not any(c.enforced for c in decision.shadow)
    assert all(c.enforced for c in decision.fired)
    places = [(r.text, r.start, r.end) for r in decision.redactions]
    assert places == sorted(places)
    for text, start, end in places:
        assert 0 <= start < end <= len(batch[text][0].content)
    for one, two in pairwise(places):
        assert one[0] < two[0] or one[2] <= two[1]


@given(conditions, batches)
def test_the_quick_no_is_never_wrong(condition: dict[str, object], batch: Batch) -> None:
    (rule,) = bound([{"when": condition, "do": "flag"}]).rules
    signals = Signals([result for _, result in batch])
    groups = [Group(signals, range(start, len(batch), 2)) for start in (0, 1)]
    if not rule.condition.possible(View(signals, groups)):
        for index in range(len(batch)):
            assert rule.condition.value(signals, index) is False


@given(conditions, batches)
def test_what_is_true_has_a_hit_and_not_is_its_contrary(
    condition: dict[str, object], batch: Batch
) -> None:
    plain, contrary = bound(
        [{"when": condition, "do": "flag"}, {"when": {"not": condition}, "do": "flag"}]
    ).rules
    signals = Signals([result for _, result in batch])
    for index in range(len(batch)):
        value = plain.condition.value(signals, index)
        opposite = contrary.condition.value(signals, index)
        assert opposite is (None if value is None else not value)
        if value is not None:
            assert list((plain if value else contrary).condition.hits(signals, index))


EMAIL_RULE: dict[str, object] = {"when": {"pii": "EMAIL"}, "do": {"redact": {"restore": True}}}
RESTORING = bound([EMAIL_RULE])
GONE = bound([{"when": {"pii": "EMAIL"}, "do": {"redact": "[gone]"}}])


def addresses(content: str) -> Classification:
    spans = [Span(*match.span()) for match in ADDRESS.finditer(content)]
    return Classification({"pii": tuple(Prediction("pii", "EMAIL", 1.0, s) for s in spans)})


tricky = st.lists(
    st.sampled_from(
        ["a@b", "b@c", "c@a", "<EMAIL_1>", "<EMAIL_", "1>", "<", ">", " ", "x", "2", "<EMAIL_2>"]
    ),
    max_size=12,
).map("".join)


@given(st.lists(tricky, min_size=1, max_size=3))
def test_redacted_text_holds_no_redacted_value_and_restores_exactly(written: list[str]) -> None:
    texts = [user(content) for content in written]
    for policy in (RESTORING, GONE):
        decision = evaluate([policy], "input", texts, [addresses(t.content) for t in texts])
        originals = restorations(texts, decision)
        values = {texts[r.text].content[r.start : r.end] for r in decision.redactions}
        for index, text in enumerate(texts):
            own = [r for r in decision.redactions if r.text == index]
            redacted = apply_redactions(text.content, own)
            assert not any(value in redacted for value in values)
            if policy is RESTORING:
                assert restore(redacted, originals) == text.content
        if policy is RESTORING:
            assert len(originals) == len(values) == len(set(originals.values()))
        else:
            assert originals == {}


def test_the_labels_of_these_tests_exist() -> None:
    assert all(set(labels) <= set(LABELS[name]) for name, labels in CLASSIFIERS.items())
    assert Rule.model_fields.keys() >= {"name", "when", "do", "check", "mode", "turns", "roles"}
