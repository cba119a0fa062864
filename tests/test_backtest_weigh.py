"""Recorded requests judged by other policies: what the scores tell is what would have been decided."""

from __future__ import annotations

import re
from dataclasses import replace
from io import StringIO
from typing import Any

import pytest
from backtest_kit import Said, case, conversations, decided
from hypothesis import given
from hypothesis import strategies as st
from policies_fakes import HEAD, INFOS, policy, rule, user
from rich.console import Console

from classifiers.types import Stage, Text
from policies.decision import RANK
from policies.schema import BoundPolicy
from proxy.backtests.cases import Case
from proxy.backtests.page import page
from proxy.backtests.result import figures, lines
from proxy.backtests.run import Run
from proxy.backtests.weigh import OTHER_VERSION, UNREACHED, Scales, Verdict, past
from proxy.commands.backtest import _render

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


# -- another pack, and what cannot be told ---------------------------------------------------------

PROMOTED = INFOS | {"jailbreak": replace(INFOS["jailbreak"], version="v2")}
OUT = at(0.5, rest=", check: output", name="out").replace("jailbreak: jailbreak", "spam: spam")
RUDE: Said = [(Text("r", "assistant", stage="output"), {"spam/spam": 0.9})]


@pytest.mark.parametrize("score", [0.2, 0.9])
def test_what_another_pack_has_seen_tells_nothing(score: float) -> None:
    """Neither of a rule that fired then, nor of one that did not, though the policy has not changed."""
    one = case([policy(at(0.5))], [(user(), {"jailbreak/jailbreak": score})])
    now = policy(at(0.5), infos=PROMOTED)
    verdict = judged(now, now, one)
    assert verdict.outcome is None
    assert list(verdict.untold.values()) == [f"{OTHER_VERSION}, not by jailbreak@v2"]


def test_output_rules_of_a_request_that_cannot_be_told() -> None:
    old = policy(at(0.5) + OUT)
    one = case([old], [(user(), {"jailbreak/jailbreak": 0.2})], RUDE)
    assert (past(one).outcome, past(one).cause) == ("block", ("p", "out"))
    now = policy(at(0.4) + OUT, NEXT, PROMOTED)
    verdict = judged(policy(at(0.5) + OUT, infos=PROMOTED), now, one)
    assert (verdict.outcome, verdict.cause, verdict.fired) == (None, None, frozenset())
    assert verdict.untold[("p", "out")] == UNREACHED
    assert verdict.may_decide == {("p", "r"), ("p", "out")}
    quiet = case([old], [(user(), {})], [(RUDE[0][0], {})])
    assert list(judged(now, now, quiet).untold) == [("p", "r")]  # it does not fire in any case


def test_a_rule_of_both_stages_that_fires_on_one_is_told() -> None:
    both = rule("s", S, "flag", ", check: [input, output]")
    one = case([policy(at(0.5) + both)], [(user(), {"spam/spam": 0.9})], RUDE)
    now = policy(at(0.4) + both, NEXT, PROMOTED)
    verdict = judged(now, now, one)
    assert verdict.fired == {("p", "s")}
    assert list(verdict.untold) == [("p", "r")]


def test_nothing_is_counted_of_what_cannot_be_told() -> None:
    """Neither gone, nor stopped, nor paid, nor rightly or wrongly decided."""
    old, now = policy(at(0.5) + OUT), policy(at(0.4) + OUT, NEXT, PROMOTED)
    run = Run([policy(at(0.5) + OUT, infos=PROMOTED)], [now])
    for score in (0.2, 0.9):
        run.take(
            replace(case([old], [(user(), {"jailbreak/jailbreak": score})], RUDE), expected=False)
        )
    told = figures(run.finish(), ["p@1"], ["p@2"])
    assert told["judged"] == {"untold": 2}
    zero = {"new": 0, "gone": 0, "decided_before": 1, "decided_after": 0}
    assert told["rules"] == [
        {
            "policy": "p",
            "rule": "out",
            "before": 1,
            "after": 0,
            **zero,
            "untold": 1,
            "decided_untold": 1,
        },
        {
            "policy": "p",
            "rule": "r",
            "before": 1,
            "after": 0,
            **zero,
            "untold": 2,
            "decided_untold": 2,
        },
    ]
    assert (told["stopped"], told["newly_stopped"]) == ({"before": 0, "after": 0}, None)
    assert (told["false_positive_rate"], told["recall"]) == (None, None)
    assert told["spend"] == {"usd": 0.0, "requests_without_price": 0}
    assert told["upstream"] == {"seconds": 0.0, "requests_without_time": 0}
    said = lines(told)
    assert f"cannot be told, 2: p: r {OTHER_VERSION}, not by jailbreak@v2" in said
    assert any(
        line.startswith("2 requests cannot be told because another version of a pack")
        for line in said
    )
    assert any(
        line.startswith("of 2 requests that cannot be told no texts were kept") for line in said
    )
    assert any(line.startswith("2 requests that somebody has judged") for line in said)
    assert '<td class="n">0 + 2 unknown</td>' in page(told)
    console = Console(file=StringIO(), width=200)
    _render(console, told)
    assert re.search(r"p: r\W+1\W+0 \+ 2 unknown\W+0\W+0\W", console.file.getvalue())
