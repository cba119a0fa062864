"""The ``tests:`` of a policy: which conversations they make, what passes, what a failure says."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import pytest
from policies_fakes import Scores, found, policy

from classifiers.types import Classification, Text
from policies.policy import Case
from policies.schema import BoundPolicy
from policies.testing import TestFailure, _input, run_tests

RULES = """
  - {name: attacks, when: {jailbreak: jailbreak}, check: [input, output], do: {block: No.}}
  - {name: hello, when: {intent: greeting}, do: {answer: Hi.}}
  - {name: sums, when: {topic: math}, do: {route: small}}
  - {name: mail, when: {pii: EMAIL}, check: [input, output], do: redact}
  - {name: ads, when: {spam: spam}, do: {flag: ads}}
  - {name: watch, when: {topic: legal}, mode: shadow, do: {block: No.}}
tests:
"""

WORDS: dict[str, Scores] = {
    "attack": {"jailbreak/jailbreak": 0.9},
    "nearly": {"jailbreak/jailbreak": 0.45},
    "hello": {"intent/greeting": 0.9},
    "sum": {"topic/math": 0.9},
    "ad": {"spam/spam": 0.9},
    "law": {"topic/legal": 0.9},
    "broken": {"jailbreak": None},
}


def classify(texts: Sequence[str], names: Collection[str]) -> list[Classification]:
    results = []
    names = {name.partition("@")[0] for name in names}
    for text in texts:
        scores: dict[str, float | None] = {}
        for word in text.split():
            scores |= WORDS.get(word, {})
        everything = found(scores, text)
        results.append(
            Classification(
                {name: p for name, p in everything.predictions.items() if name in names},
                {name: e for name, e in everything.errors.items() if name in names},
            )
        )
    return results


def run(*cases: str) -> list[TestFailure]:
    return run_tests(bound(*cases), classify)


def bound(*cases: str) -> BoundPolicy:
    return policy(RULES + "".join(f"  - {case}\n" for case in cases))


@pytest.mark.parametrize(
    "case",
    [
        "{user: attack, expect: block}",
        "{user: attack, expect: block, rule: attacks}",
        "{user: attack hello ad, expect: block, rule: [attacks, ads]}",
        "{user: hello, expect: answer, rule: hello}",
        "{user: sum, expect: route}",
        "{user: write a@b.com, expect: redact, rule: mail}",
        "{user: sum a@b.com ad, expect: [route, redact, flag]}",
        "{user: ad, expect: flag}",
        "{user: hello ad, expect: flag, rule: hello}",
        "{user: ad, expect: [forward, flag]}",
        "{user: x, expect: forward}",
        "{user: law, expect: forward, rule: watch}",
        "{system: attack, user: x, expect: forward}",
        "{user: x, tool: attack, expect: block}",
        "{tool: hello, expect: forward}",
        "{assistant: attack, expect: block}",
        "{user: x, assistant: attack, expect: block}",
        "{user: sum, assistant: a@b.com, expect: [route, redact]}",
        "{messages: [{role: user, content: hello}], expect: answer}",
        "{messages: [{role: user, content: [hello, x]}], expect: forward}",
        "{messages: [{role: user, content: hello}, {role: user, content: x}], expect: forward}",
        "{messages: [{role: user, content: sum}, {role: assistant, content: attack},"
        " {role: user, content: x}], expect: forward}",
        "{messages: [{role: user, content: attack}, {role: assistant, content: x},"
        " {role: user, content: x}], expect: block}",
        "{messages: [{role: user, content: x}], assistant: attack, expect: block}",
    ],
)
def test_passing(case: str) -> None:
    assert run(case) == []


@pytest.mark.parametrize(
    ("case", "message"),
    [
        (
            "{user: nearly there, expect: block, rule: attacks}",
            "p.yaml:12: 'nearly there': expected block by attacks, got forward; "
            "attacks saw jailbreak/jailbreak 0.450, matches from 0.500",
        ),
        (
            "{user: attack, expect: forward}",
            "p.yaml:12: 'attack': expected forward, "
            "got block by attacks (jailbreak/jailbreak 0.900 >= 0.500)",
        ),
        (
            "{user: x, expect: answer}",
            "p.yaml:12: 'x': expected answer, got forward; "
            "hello saw intent/greeting 0.000, matches from 0.500",
        ),
        (
            "{system: x, expect: block}",
            "p.yaml:12: 'x': expected block, got forward; attacks saw no text in its scope; "
            "watch saw no text in its scope",
        ),
        (
            "{user: broken, expect: forward}",
            "p.yaml:12: 'broken': expected forward, got error (Boom in it)",
        ),
        (
            "{user: attack, expect: block, rule: watch}",
            "p.yaml:12: 'attack': expected block by watch, got block by attacks "
            "(jailbreak/jailbreak 0.900 >= 0.500); watch saw topic/legal 0.000, matches from 0.500",
        ),
        (
            "{user: ad, expect: redact}",
            "p.yaml:12: 'ad': expected redact, got forward by ads (spam/spam 0.900 >= 0.500); "
            "mail saw pii/EMAIL 0.000, matches from 0.500",
        ),
        (
            f"{{user: attack {'long ' * 30}, expect: forward}}",
            f"p.yaml:12: 'attack {'long ' * 10}...': expected forward, "
            "got block by attacks (jailbreak/jailbreak 0.900 >= 0.500)",
        ),
    ],
)
def test_failing(case: str, message: str) -> None:
    assert [str(failure) for failure in run(case)] == [message]


def test_a_blocked_request_has_no_reply() -> None:
    assert run("{user: attack, assistant: a@b.com, expect: redact}")
    assert run("{user: hello, assistant: attack, expect: block}")


def test_failures_come_in_file_order_from_one_call() -> None:
    calls: list[tuple[list[str], frozenset[str]]] = []

    def counting(texts: Sequence[str], names: Collection[str]) -> list[Classification]:
        calls.append((list(texts), frozenset(names)))
        return classify(texts, names)

    cases = bound(
        "{user: x, expect: block}",
        "{user: hello, expect: answer}",
        "{user: x, assistant: y, expect: flag}",
    )
    failures = run_tests(cases, counting)
    assert [failure.where for failure in failures] == ["p.yaml:12", "p.yaml:14"]
    assert calls == [(["x", "hello", "x", "y"], cases.classifiers)]


def test_no_tests_no_call() -> None:
    def never(texts: Sequence[str], names: Collection[str]) -> list[Classification]:
        raise AssertionError("nothing is to be classified")

    assert run_tests(policy(RULES.replace("tests:\n", "")), never) == []


def test_texts_are_like_the_gateways() -> None:
    case = Case.model_validate(
        {
            "messages": [
                {"role": "user", "content": "a"},
                {"role": "assistant", "content": "b"},
                {"role": "user", "content": ["c", "d"]},
                {"role": "developer", "content": "e"},
                {"role": "user", "content": "f"},
            ],
            "expect": "forward",
        }
    )
    assert _input(case) == [
        Text("a", "user", ("messages", 0, "content"), "input", 0, False),
        Text("b", "assistant", ("messages", 1, "content"), "input", 1, False),
        Text("c", "user", ("messages", 2, "content", 0, "text"), "input", 2, True),
        Text("d", "user", ("messages", 2, "content", 1, "text"), "input", 2, True),
        Text("e", "developer", ("messages", 3, "content"), "input", 3, False),
        Text("f", "user", ("messages", 4, "content"), "input", 4, True),
    ]
