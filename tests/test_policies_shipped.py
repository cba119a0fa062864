"""The policies that ship and the examples of the documentation, against classifiers with the
labels of the shipped packs."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest
from policies_fakes import INFOS, Info, decide, user

from classifiers.types import OperatingPoint
from classifiers.written import Written
from policies import faq
from policies.actions import ACTIONS
from policies.conditions import POINTS
from policies.faq import Faq
from policies.policy import ROLES, Attach, Case, Policy, Rule
from policies.schema import BoundPolicy, bind, load, load_all, loads

ROOT = Path(__file__).parent.parent
SHIPPED = sorted((ROOT / "policies").glob("*.yaml"))
GUIDE = (ROOT / "docs" / "policies.md").read_text(encoding="utf-8")


class LargeInfo(Info):
    """A classifier with benign texts enough for every budget that the shipped policies name: the
    smaller it is, the higher the threshold, and under the scores that the tests give."""

    def thresholds(self, labels: Sequence[str], point: OperatingPoint) -> Mapping[str, float]:
        if point.kind == "max_false_positive_rate":
            assert point.value is not None
            return dict.fromkeys(labels, round(0.9 - 10 * point.value, 6))
        return Info.thresholds(self, labels, point)


LARGE = {name: LargeInfo(info.name, info.labels, info.kind) for name, info in INFOS.items()}


def open_faq(path: Path) -> tuple[Faq, Info]:
    """A FAQ, and a classifier with a label for each entry."""
    read = faq.read(path)
    return read, Info(f"faq/{read.name}@v1", tuple(read.entries()), kind="one_of")


def shipped(name: str) -> BoundPolicy:
    return bind(load(ROOT / "policies" / f"{name}.yaml"), LARGE)


def examples() -> Iterator[str]:
    return (match.group(1) for match in re.finditer(r"```yaml\n(.*?)```", GUIDE, re.DOTALL))


def test_which_policies_ship() -> None:
    assert [p.name for p in load_all(SHIPPED)] == [
        "front-line",
        "help-desk",
        "strict",
        "support-desk",
    ]


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_policies_bind_and_name_their_file(path: Path) -> None:
    bound = bind(load(path), LARGE, open_faq)
    assert bound.policy.name == path.stem
    assert bound.policy.tests
    guards = any(rule.rule.do.guards for rule in bound.rules)
    assert bound.policy.on_error == ("block" if guards else "allow")


def test_the_front_line_has_a_dozen_tests_and_needs_no_other_model() -> None:
    bound = shipped("front-line")
    assert len(bound.policy.tests) >= 12
    assert bound.policy.routes() == ()
    assert {what for case in bound.policy.tests for what in case.expect} >= {
        "block",
        "answer",
        "redact",
        "forward",
    }


def test_the_support_desk_routes_to_one_alias() -> None:
    assert shipped("support-desk").policy.routes() == ("small-model",)


def test_strict_answers_with_errors_and_promises() -> None:
    bound = shipped("strict")
    blocks = [rule.do for rule in bound.policy.rules if rule.do.name == "block"]
    assert blocks
    assert all(getattr(block, "form", None) == "error" for block in blocks)
    unsafe = bound.rules[1].condition
    assert {t for leaf, _ in unsafe.leaves() for _, t in leaf.thresholds} == {0.85}  # 0.5 %


@pytest.mark.parametrize(
    ("policy", "label", "outcome", "rule"),
    [
        ("front-line", "jailbreak/jailbreak", "block", "no-attacks"),
        ("front-line", "safety/self-harm", "block", "care-for-self-harm"),
        *(
            ("front-line", f"safety/{label}", "block", None)
            for label in INFOS["safety"].labels
            if label != "harassment"
        ),
        ("front-line", "safety/harassment", "forward", None),
        ("front-line", "intent/greeting", "answer", "small-talk"),
        ("front-line", "intent/other", "forward", None),
        ("front-line", "spam/spam", "forward", None),
        *(("strict", f"safety/{label}", "block", None) for label in INFOS["safety"].labels),
        ("strict", "spam/spam", "block", "no-spam"),
        ("strict", "intent/greeting", "forward", None),
        ("support-desk", "topic/billing_payments", "route", "everyday-topics"),
        ("support-desk", "topic/legal", "forward", None),
        ("support-desk", "topic/programming", "forward", None),
        ("support-desk", "intent/clarification", "answer", "small-talk"),
        ("support-desk", "intent/feedback_positive", "answer", "praise"),
    ],
)
def test_what_a_label_leads_to(policy: str, label: str, outcome: str, rule: str | None) -> None:
    decision = decide(shipped(policy), (user(), {label: 0.999}))
    assert decision.outcome == outcome
    if rule:
        assert decision.cause is not None
        assert decision.cause.rule == rule


def test_self_harm_gets_the_caring_message_whatever_else_is_found() -> None:
    found = dict.fromkeys(("safety/self-harm", "safety/violence", "jailbreak/jailbreak"), 0.99)
    decision = decide(shipped("front-line"), (user(), found))
    assert decision.reply is not None
    assert "helpline" in decision.reply.content


def test_unhappy_customers_keep_the_large_model() -> None:
    found = {"topic/billing_payments": 0.9, "intent/feedback_negative": 0.9}
    decision = decide(shipped("support-desk"), (user(), found))
    assert decision.outcome == "forward"
    assert [cause.rule for cause in decision.shadow] == ["watch-unhappy-customers"]


@pytest.mark.parametrize("text", list(examples()))
def test_examples_of_the_guide_bind(text: str) -> None:
    bound = bind(loads(text, str(ROOT / "policies" / "guide.yaml")), INFOS, open_faq)
    assert bound.policy.tests


def test_the_guide_names_every_word_of_the_language() -> None:
    models: list[type[Written]] = [Policy, Rule, Attach, Case, *ACTIONS.values()]
    keys = [
        field.alias or name
        for model in models
        for name, field in model.model_fields.items()
        if name not in ("tag", "model", "by_label")  # short forms stand for them
    ]
    for word in (*keys, *ACTIONS, *POINTS, *ROLES):
        assert re.search(rf"`[^`\n]*\b{word}\b[^`\n]*`", GUIDE), word
