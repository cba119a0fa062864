"""Recorded requests judged by other policies: what the scores tell is what would have been decided."""

from __future__ import annotations

from typing import Any

import pytest
from backtest_kit import Said, case, conversations, decided
from hypothesis import given
from hypothesis import strategies as st
from policies_fakes import HEAD, policy, rule, user

from classifiers.types import Stage, Text
from policies.decision import RANK
from policies.schema import BoundPolicy
from proxy.backtests.cases import Case
from proxy.backtests.weigh import Scales, Verdict, past

J, S = "{jailbreak: jailbreak}", "{spam: spam}"
BLOCK = "{block: No.}"
NEXT = HEAD.replace("version: 1", "version: 2")
MANY = user("b", last_turn=False), user("a")


def at(threshold: float, do: str = BLOCK, rest: str = "", name: str = "r") -> str:
    return rule(name, f"{{jailbreak: jailbreak, at: {threshold}}}", do, rest)


def judged(old: BoundPolicy, new: BoundPolicy, one: Case) -> Verdict:
    return Scales([new], [old]).weigh(one)


@pytest.mark.parametrize(
    ("old", "new", "score", "before", "after"),
    [
        (at(0.5), at(0.2), 0.3, "forward", "block"),
        (at(0.5), at(0.8), 0.6, "block", "forward"),
        (at(0.5), at(0.5, rest=", mode: shadow"), 0.6, "block", "forward"),
        (at(0.5, rest=", mode: shadow"), at(0.5), 0.6, "forward", "block"),
        (at(0.5), at(0.5, "flag"), 0.6, "block", "forward"),
        (at(0.5, "flag"), at(0.5, "{route: small}"), 0.6, "forward", "route"),
        (at(0.5), at(0.5, "{answer: Hi.}"), 0.6, "block", "answer"),
        (at(0.5), at(0.9) + at(0.4, "{answer: Hi.}", name="s"), 0.6, "block", "answer"),
    ],
)
def test_another_threshold_mode_or_action(
    old: str, new: str, score: float, before: str, after: str
) -> None:
    first, second = policy(old), policy(new, NEXT)
    one = case([first], [(user(), {"jailbreak/jailbreak": score})])
    assert past(one).outcome == before
    verdict = judged(first, second, one)
    assert (verdict.outcome, verdict.how) == (after, "scores")


def test_a_rule_that_was_not_asked_for_cannot_be_told() -> None:
    one = case([policy(at(0.5))], [(user(), {"spam/spam": 0.9})])
    verdict = judged(policy(at(0.5)), policy(at(0.5) + rule("s", S, BLOCK), NEXT), one)
    assert verdict.outcome is None
    assert verdict.untold == {("p", "s"): "spam@v1 was not asked then"}


def test_what_cannot_be_told_is_no_matter_where_something_stronger_decides() -> None:
    one = case([policy(at(0.5))], [(user(), {"jailbreak/jailbreak": 0.9})])
    verdict = judged(policy(at(0.5)), policy(at(0.5) + rule("s", S, "{route: x}"), NEXT), one)
    assert verdict.outcome == "block"
    assert list(verdict.untold) == [("p", "s")]


def test_a_rule_that_has_not_changed_does_what_it_did() -> None:
    """Two texts make up a condition of two parts, and their highest scores do not tell which."""
    both = rule("r", f"{{all: [{J}, {S}]}}", BLOCK)
    scores: list[dict[str, Any]] = [{"jailbreak/jailbreak": 0.9}, {"spam/spam": 0.9}]
    one = case([policy(both)], list(zip(MANY, scores, strict=True)))
    changed = policy(both + rule("s", S, "flag"), NEXT)
    assert Scales([changed]).weigh(one).outcome is None
    assert judged(policy(both), changed, one).outcome == "forward"


def test_an_action_that_looks_at_texts_otherwise_is_another_rule() -> None:
    """`answer` needs every text of the newest turn, `route` any of them."""
    quiet = f"{{not: {S}}}"
    old, new = (
        policy(rule("r", quiet, "{answer: Hi.}")),
        policy(rule("r", quiet, "{route: m}"), NEXT),
    )
    one = case([old], [(user(), {}), (user(), {"spam/spam": 1.0})])
    assert past(one).outcome == "forward"
    assert judged(old, new, one).outcome is None


def test_a_policy_that_changed_under_its_old_version_is_not_believed() -> None:
    both = rule("r", f"{{all: [{{jailbreak: jailbreak, at: 0.3}}, {S}]}}", BLOCK)
    high = {"jailbreak/jailbreak": 0.9, "spam/spam": 0.9}
    one = case([policy(both)], [(user(), high), (MANY[0], {})])
    edited = policy(both.replace("0.3", "0.4"))
    assert Scales([edited], [edited]).weigh(one).outcome == "block"  # the newest text alone tells
    several = case([policy(both)], [(user(), high), (user(), {})])
    assert Scales([policy(both)], [policy(both)]).weigh(several).outcome == "block"
    assert Scales([edited], [edited]).weigh(several).outcome is None


def test_texts_that_nobody_looked_at_cannot_be_told() -> None:
    said: Said = [(Text("s", "system"), {"jailbreak/jailbreak": 0.9}), (user(), {})]
    wider = policy(at(0.5, rest=", roles: [user, system]"), NEXT)
    verdict = judged(policy(at(0.5)), wider, case([policy(at(0.5))], said))
    assert list(verdict.untold.values()) == ["looks at texts that no rule looked at then"]
    alone = case([policy(at(0.5))], said[1:])
    assert judged(policy(at(0.5)), wider, alone).outcome == "forward"


def test_replies() -> None:
    out = ", check: output"
    reply: Said = [(Text("r", "assistant", stage="output"), {"jailbreak/jailbreak": 0.4})]
    old, new = policy(at(0.5, rest=out)), policy(at(0.3, rest=out), NEXT)
    verdict = judged(old, new, case([old], [(user(), {})], reply))
    assert (verdict.outcome, verdict.on_reply) == ("block", True)
    # Nobody has seen what the model would have said.
    stopped = case([policy(at(0.5))], [(user(), {"jailbreak/jailbreak": 0.9})])
    verdict = judged(policy(at(0.5)), new, stopped)
    assert (verdict.outcome, verdict.reply_unknown) == ("forward", True)
    unseen = case([policy(at(0.5))], [(user(), {})], reply)
    assert judged(policy(at(0.5)), new, unseen).reply_unknown


def test_what_was_refused_in_an_earlier_turn_is_taken_out_again() -> None:
    refused: Said = [
        (user("a", turn=0, last_turn=False), {"jailbreak/jailbreak": 0.9}),
        (Text("No.", "assistant", turn=1, last_turn=False), {}),
        (user("b", turn=2), {}),
    ]
    one = case([policy(at(0.5))], refused)
    assert past(one).outcome == "redact"
    assert judged(policy(at(0.5)), policy(at(0.6), NEXT), one).outcome == "redact"


def test_what_nobody_could_read() -> None:
    old = policy(at(0.5), HEAD + "on_unscannable: allow\n")
    one = case([old], [(user(), {})], unscanned=["messages.0.content.1.image_url.url"])
    assert judged(old, policy(at(0.5), NEXT), one).outcome == "block"
    assert judged(old, old, one).outcome == "forward"


def test_records_of_before_scores_were_kept() -> None:
    old = policy(at(0.5))
    one = case([old], [(user(), {"jailbreak/jailbreak": 0.9})])
    stages: Any = {"input": past_without_scores(one)}
    bare = Case(one.id, one.model, attached=one.attached, stages=stages, texts=1)
    assert judged(old, policy(at(0.5, "flag"), NEXT), bare).outcome == "forward"
    verdict = judged(old, policy(at(0.6), NEXT), bare)
    assert list(verdict.untold.values()) == ["recorded before scores were kept"]


def past_without_scores(one: Case) -> Any:
    from dataclasses import replace

    return replace(one.stages["input"], seen=None)


def test_policies_that_attach_elsewhere_do_not_judge() -> None:
    old = policy(at(0.5))
    one = case([old], [(user(), {"jailbreak/jailbreak": 0.4})])
    other = "name: q\nversion: 1\nattach: {models: [big-*]}\n"
    assert Scales([old, policy(at(0.1), other)], [old]).weigh(one).outcome == "forward"


# -- whatever the policies and texts are -----------------------------------------------------------

leaf = st.builds(
    lambda name, cut: f"{{{name}, at: {cut}}}",
    st.sampled_from(["jailbreak: jailbreak", "spam: spam", "safety: [hate, violence]"]),
    st.sampled_from([0.2, 0.5, 0.8]),
)
when = st.one_of(
    leaf,
    leaf.map(lambda one: f"{{not: {one}}}"),
    st.tuples(leaf, leaf).map(lambda two: f"{{all: [{two[0]}, {{not: {two[1]}}}]}}"),
    st.tuples(leaf, leaf).map(lambda two: f"{{any: [{two[0]}, {two[1]}]}}"),
)
rules = st.lists(
    st.builds(
        lambda condition, do, rest: (condition, do, rest),
        when,
        st.sampled_from([BLOCK, "{answer: Hi.}", "{route: m}", "flag", "allow"]),
        st.sampled_from(["", ", mode: shadow", ", roles: [user, system]"]),
    ),
    min_size=1,
    max_size=3,
).map(lambda some: "".join(rule(f"r{i}", *one) for i, one in enumerate(some)))
labels = ["jailbreak/jailbreak", "spam/spam", "safety/hate"]
said = conversations(st.dictionaries(st.sampled_from(labels), st.floats(0, 1)))


@given(rules, rules, said)
def test_never_wrong(old: str, new: str, request: list[tuple[Text, dict[str, Any]]]) -> None:
    first, second = policy(old), policy(new, NEXT)
    stage: Stage = "input"
    verdict = judged(first, second, case([first], request))
    truth = decided([second], stage, request)
    if verdict.outcome is not None:
        assert verdict.outcome == truth.outcome
    fired = {
        (cause.policy.partition("@")[0], cause.rule) for cause in (*truth.fired, *truth.shadow)
    }
    assert verdict.fired <= fired
    assert fired <= verdict.fired | set(verdict.untold)


@given(rules, said)
def test_the_same_policy_decides_the_same(
    text: str, request: list[tuple[Text, dict[str, Any]]]
) -> None:
    one = policy(text)
    verdict = judged(one, one, case([one], request))
    assert verdict.outcome is not None
    assert RANK[verdict.outcome] == RANK[decided([one], "input", request).outcome]
