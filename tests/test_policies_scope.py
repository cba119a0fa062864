"""Which texts, stages, turns, models and keys a rule is for."""

from __future__ import annotations

import pytest
from policies_fakes import Scores, decide, policy, rule, user

from classifiers.types import Stage
from policies.engine import attached

J, S = "{jailbreak: jailbreak}", "{spam: spam}"
BLOCK = rule("block", J, "{block: No.}")
ANSWER = rule("answer", "{intent: greeting}", "{answer: Hi.}")
HIT: Scores = {"jailbreak/jailbreak": 1.0, "spam/spam": 1.0, "intent/greeting": 1.0}


@pytest.mark.parametrize(
    ("roles", "role", "fires"),
    [
        ("", "user", True),
        ("", "tool", True),
        ("", "function", True),
        ("", "unknown", True),
        ("", "never-heard-of", True),
        ("", "system", False),
        ("", "developer", False),
        ("", "assistant", False),
        ("user", "tool", False),
        ("user", "unknown", True),
        ("tool", "unknown", True),
        ("tool", "user", False),
        ("function", "tool", False),
        ("function", "function", True),
        ("system", "developer", True),
        ("developer", "system", False),
        ("[system, assistant]", "assistant", True),
    ],
)
def test_roles(roles: str, role: str, fires: bool) -> None:
    rest = f", roles: {roles}" if roles else ""
    decision = decide(rule("r", J, "{block: No.}", rest), (user(role=role), HIT))
    assert (decision.outcome == "block") is fires


@pytest.mark.parametrize(
    ("check", "stage", "fires"),
    [
        ("input", "input", True),
        ("input", "output", False),
        ("output", "input", False),
        ("output", "output", True),
        ("[input, output]", "input", True),
        ("[input, output]", "output", True),
    ],
)
def test_stages(check: str, stage: Stage, fires: bool) -> None:
    text = user(role="assistant" if stage == "output" else "user", stage=stage)
    decision = decide(rule("r", J, "{block: No.}", f", check: {check}"), (text, HIT), stage=stage)
    assert (decision.outcome == "block") is fires
    assert decision.stage == stage


def test_output_is_checked_whatever_its_role_is_called() -> None:
    block = rule("r", J, "{block: No.}", ", check: [input, output], roles: [user]")
    text = user(role="tool", stage="output")
    assert decide(block, (text, HIT), stage="output").outcome == "block"


@pytest.mark.parametrize(
    ("do", "rest", "outcome"),
    [
        ("{block: No.}", "", "block"),
        ("{block: No.}", ", turns: last", "forward"),
        ("{flag: t}", "", "flag"),
        ("{flag: t}", ", turns: last", "forward"),
        ("{route: small}", "", "forward"),
        ("{route: small}", ", turns: all", "route"),
        ("{answer: Hi.}", "", "forward"),
    ],
)
def test_old_turns(do: str, rest: str, outcome: str) -> None:
    old, new = user("old", turn=0, last_turn=False), user("new", turn=2)
    decision = decide(rule("r", S, do, rest), (old, HIT), (new, {}))
    assert ("flag" if decision.tags else decision.outcome) == outcome


@pytest.mark.parametrize(
    ("texts", "answers"),
    [
        ([("user", True, True)], True),
        ([("user", True, True), ("user", True, True)], True),
        ([("user", True, True), ("user", True, False)], False),
        ([("system", False, False), ("user", True, True)], True),
        ([("user", False, False), ("assistant", False, False), ("user", True, True)], True),
        ([("tool", True, True)], False),
        ([("user", True, True), ("tool", True, True)], False),
        ([("unknown", True, True)], False),
        ([("user", False, True)], False),
        ([], False),
    ],
)
def test_an_answer_needs_every_text_of_the_users_newest_turn(
    texts: list[tuple[str, bool, bool]], answers: bool
) -> None:
    pairs = [
        (user(role=role, turn=i, last_turn=last), HIT if hit else {})
        for i, (role, last, hit) in enumerate(texts)
    ]
    assert (decide(ANSWER, *pairs).outcome == "answer") is answers


def test_an_answer_does_not_swallow_what_no_classifier_has_read() -> None:
    assert decide(ANSWER, (user(), HIT), answerable=False).outcome == "forward"
    assert decide(BLOCK, (user(), HIT), answerable=False).outcome == "block"


@pytest.mark.parametrize(
    ("other", "outcome"), [({}, "forward"), ({"intent": None}, "error"), (HIT, "answer")]
)
def test_an_answer_with_a_failure_in_another_part(other: Scores, outcome: str) -> None:
    assert decide(ANSWER, (user(), HIT), (user(), other)).outcome == outcome


def test_answers_by_label() -> None:
    do = "{answer: {greeting: Hello., farewell: Bye.}}"
    rules = rule("r", "{intent: [greeting, farewell]}", do)
    hello = decide(rules, (user(), {"intent/greeting": 0.6, "intent/farewell": 0.55}))
    bye = decide(rules, (user(), {"intent/greeting": 0.55, "intent/farewell": 0.6}))
    assert hello.reply is not None
    assert bye.reply is not None
    assert (hello.reply.content, hello.reply.finish_reason) == ("Hello.", "stop")
    assert bye.reply.content == "Bye."


# -- attach ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("attach", "model", "key", "yes"),
    [
        ("{}", "any", None, True),
        ("{}", "any", "key", True),
        ("{models: gpt-*}", "gpt-4o", None, True),
        ("{models: gpt-*}", "claude", None, False),
        ("{models: GPT-*}", "gpt-4o", None, False),
        ("{models: [a, b]}", "b", None, True),
        ("{keys: team-a}", "m", "team-a", True),
        ("{keys: team-a}", "m", "team-b", False),
        ("{keys: team-a}", "m", None, False),
        ("{models: [m], keys: ['team-?']}", "m", "team-x", True),
        ("{models: [m], keys: ['team-?']}", "n", "team-x", False),
    ],
)
def test_attach(attach: str, model: str, key: str | None, yes: bool) -> None:
    one = policy(BLOCK, f"name: one\nattach: {attach}\n")
    every = policy(BLOCK, "name: every\n")
    assert attached([one, every], model, key) == ((one, every) if yes else (every,))
