"""What recorded scores tell of a rule is what the rule does, or nothing."""

from __future__ import annotations

from typing import Any

import pytest
from backtest_kit import conversations
from hypothesis import given
from hypothesis import strategies as st
from policies_fakes import HEAD, INFOS, Info, decide, found, policy, rule, user

from classifiers.types import Text
from policies.engine import evaluate
from policies.seen import Kind, Seen
from policies.what_if import fires

J, S = "{jailbreak: jailbreak}", "{spam: spam}"
BLOCK = "{block: No.}"
NEWEST = Kind("user", True, False, False)
THRESHOLDS = (0.005, 0.2, 0.5, 0.8)

leaves = st.builds(
    lambda name, at: f"{{{name}, at: {at}}}",
    st.sampled_from(
        ["jailbreak: jailbreak", "spam: spam", "safety: [hate, violence]", "topic: math"]
    ),
    st.sampled_from(THRESHOLDS),
)
conditions = st.recursive(
    leaves,
    lambda inner: st.one_of(
        inner.map(lambda part: f"{{not: {part}}}"),
        st.lists(inner, min_size=1, max_size=3).map(lambda p: f"{{all: [{', '.join(p)}]}}"),
        st.lists(inner, min_size=1, max_size=3).map(lambda p: f"{{any: [{', '.join(p)}]}}"),
    ),
    max_leaves=5,
)
scores = st.dictionaries(
    st.sampled_from(
        ["jailbreak/jailbreak", "spam/spam", "safety/hate", "safety/violence", "topic/math"]
    ),
    st.floats(0, 1),
)
ACTIONS = ("{block: No.}", "{answer: Yes.}", "{route: m}", "flag")


@given(
    conditions,
    st.sampled_from(ACTIONS),
    st.sampled_from(["", ", roles: [user, system]"]),
    conversations(scores, across=True),
)
def test_never_wrong(
    when: str, do: str, more: str, batch: list[tuple[Text, dict[str, Any]]]
) -> None:
    bound = policy(rule("r", when, do, more))
    decision = evaluate([bound], "input", [text for text, _ in batch], [found(s) for _, s in batch])
    told = fires(bound.rules[0], decision.seen, "input")
    assert told is None or told == bool(decision.fired)


@given(
    conditions,
    st.sampled_from(ACTIONS),
    st.dictionaries(
        st.sampled_from(["jailbreak/jailbreak", "spam/spam", "safety/hate", "topic/math"]),
        st.sampled_from([0.0, 0.1, 0.3, 0.6, 0.9]),
    ),
)
def test_exact_of_a_single_text(when: str, do: str, given_scores: dict[str, Any]) -> None:
    """As long as no threshold is lower than what is recorded."""
    when = when.replace("0.005", "0.05")
    bound = policy(rule("r", when, do))
    decision = decide(bound, (user(), given_scores))
    assert fires(bound.rules[0], decision.seen, "input") is bool(decision.fired)


def seen(texts: int = 1, **labels: float) -> Seen:
    return Seen(NEWEST, texts, {f"{name}@v1": {name: score} for name, score in labels.items()})


@pytest.mark.parametrize(
    ("when", "recorded", "told"),
    [
        (J, seen(jailbreak=0.6), True),
        (J, seen(jailbreak=0.4), False),
        (J, seen(3, jailbreak=0.6), True),
        (J, seen(3, jailbreak=0.4), False),
        ("{jailbreak: jailbreak, at: 0.6}", seen(jailbreak=0.6), None),  # was it rounded up?
        ("{jailbreak: jailbreak, at: 0.005}", Seen(NEWEST, 1, {"jailbreak@v1": {}}), None),
        (J, Seen(NEWEST, 1, {"jailbreak@v1": None}), None),
        (J, Seen(NEWEST, 1, {"jailbreak@v2": {"jailbreak": 0.9}}), None),
        (J, Seen(Kind("system", True, False, False), 1, {}), False),
        (f"{{all: [{J}, {S}]}}", seen(jailbreak=0.6, spam=0.7), True),
        (f"{{all: [{J}, {S}]}}", seen(2, jailbreak=0.6, spam=0.7), None),
        (f"{{all: [{J}, {S}]}}", seen(2, jailbreak=0.6, spam=0.1), False),
        (f"{{all: [{J}, {{not: {S}}}]}}", seen(2, jailbreak=0.6, spam=0.1), True),
        (f"{{all: [{J}, {{not: {S}}}]}}", seen(2, jailbreak=0.6, spam=0.7), None),
        (f"{{not: {J}}}", seen(2, jailbreak=0.6), None),
        (f"{{not: {J}}}", seen(2, jailbreak=0.1), True),
        (f"{{any: [{J}, {S}]}}", seen(2, jailbreak=0.1, spam=0.7), True),
        (f"{{any: [{J}, {S}]}}", seen(2, jailbreak=0.1, spam=0.2), False),
    ],
)
def test_what_is_told(when: str, recorded: Seen, told: bool | None) -> None:
    bound = policy(rule("r", when, BLOCK))
    assert fires(bound.rules[0], (recorded,), "input") is told


def test_another_threshold_is_judged_by_the_same_scores() -> None:
    (recorded,) = decide(rule("r", J, BLOCK), (user(), {"jailbreak/jailbreak": 0.3})).seen
    for default, told in ((0.2, True), (0.31, False)):
        infos = INFOS | {"jailbreak": Info("jailbreak", ("jailbreak",), default=default)}
        other = policy(rule("r", J, BLOCK), HEAD, infos)
        assert fires(other.rules[0], (recorded,), "input") is told
