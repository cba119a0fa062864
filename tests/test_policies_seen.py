"""What a decision says of the scores that its rules saw."""

from __future__ import annotations

from dataclasses import replace

import pytest
from policies_fakes import Scores, decide, policy, rule, user

from policies.decision import Decision
from policies.engine import evaluate
from policies.seen import Kind, Seen, together
from proxy.ledger import stage
from proxy.stream_report import merged

J, S = "{jailbreak: jailbreak}", "{spam: spam}"
NEWEST = Kind("user", True, False, False)
OLDER = Kind("user", False, False, False)
BLOCK = "{block: No.}"


def low(score: float) -> Scores:
    return {"jailbreak/jailbreak": score}


def test_the_highest_of_each_kind_of_text() -> None:
    decision = decide(
        rule("r", J, BLOCK),
        (user(turn=0, last_turn=False), low(0.11111)),
        (user(turn=1, last_turn=False), low(0.2)),
        (user(turn=2), low(0.9)),
    )
    assert decision.seen == (
        Seen(OLDER, 2, {"jailbreak@v1": {"jailbreak": 0.2}}),
        Seen(NEWEST, 1, {"jailbreak@v1": {"jailbreak": 0.9}}),
    )


def test_scores_are_there_whether_a_rule_fires_or_not() -> None:
    shadow = rule("r", J, BLOCK, ", mode: shadow")
    for score in (0.49996, 0.9):
        (seen,) = decide(shadow, (user(), low(score))).seen
        assert seen.scores == {"jailbreak@v1": {"jailbreak": round(score, 4)}}


def test_what_no_rule_looks_at_is_left_out() -> None:
    """A routing rule looks at the newest turn alone, and nobody at the assistant."""
    rules = rule("r", J, BLOCK) + rule("s", S, "{route: small}")
    decision = decide(
        rules,
        (user(last_turn=False), {}),
        (user(role="assistant", last_turn=False), {}),
        (user(), {"spam/spam": 0.3}),
    )
    assert decision.seen == (
        Seen(OLDER, 1, {"jailbreak@v1": {}}),
        Seen(NEWEST, 1, {"jailbreak@v1": {}, "spam@v1": {"spam": 0.3}}),
    )


def test_small_scores_are_left_out() -> None:
    decision = decide(rule("r", J, BLOCK), (user(), low(0.0099)), (user(), low(0.0)))
    assert decision.seen == (Seen(NEWEST, 2, {"jailbreak@v1": {}}),)


def test_a_classifier_that_failed_gave_no_score() -> None:
    decision = decide(rule("r", J, BLOCK), (user(), low(0.2)), (user(), {"jailbreak": None}))
    assert decision.seen == (Seen(NEWEST, 2, {"jailbreak@v1": None}),)


def test_a_later_part_of_a_condition_is_seen_too() -> None:
    """The first part settles the matter, and the second was never looked up."""
    rules = rule("r", f"{{all: [{J}, {S}]}}", BLOCK)
    (seen,) = decide(rules, (user(), {"spam/spam": 0.7})).seen
    assert seen.scores == {"jailbreak@v1": {}, "spam@v1": {"spam": 0.7}}


def test_policies_add_up() -> None:
    one = policy(rule("r", J, BLOCK))
    other = policy(rule("r", S, "{route: small}"))
    assert [s.scores.keys() for s in evaluate([one, other], "input", [], []).seen] == []
    decision = decide(one, (user(), {}))
    assert [list(s.scores) for s in decision.seen] == [["jailbreak@v1"]]


def test_the_checks_of_a_stream_are_put_together() -> None:
    first = Seen(NEWEST, 1, {"a@1": {"x": 0.2, "y": 0.5}, "b@1": None})
    second = Seen(NEWEST, 1, {"a@1": {"x": 0.4}, "b@1": {}})
    other = Seen(OLDER, 3, {})
    assert together((first,), (second, other)) == (
        Seen(NEWEST, 2, {"a@1": {"x": 0.4, "y": 0.5}, "b@1": None}),
        other,
    )
    one = replace(Decision("output"), seen=(first,))
    assert merged(one, replace(one, seen=(second,))).seen[0].texts == 2


def test_the_record_of_a_stage() -> None:
    decision = decide(rule("r", J, BLOCK), (user("the secret words"), low(0.3)))
    assert stage(decision)["seen"] == [
        {
            "role": "user",
            "last_turn": True,
            "across": False,
            "derived": False,
            "texts": 1,
            "scores": {"jailbreak@v1": {"jailbreak": 0.3}},
        }
    ]
    assert "secret" not in str(stage(decision))


@pytest.mark.parametrize("role", ["user", "tool", "function", "unknown"])
def test_roles_are_told_apart(role: str) -> None:
    (seen,) = decide(rule("r", J, BLOCK), (user(role=role), low(0.5))).seen
    assert seen.kind.role == role
