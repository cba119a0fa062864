"""What a policy means: tables of cases for each sentence of the language."""

from __future__ import annotations

import pytest
from policies_fakes import HEAD, INFOS, Info, Scores, decide, found, policy, rule, user

from classifiers.types import Classification, Prediction
from policies.decision import Decision
from policies.engine import evaluate

BLOCK = rule("block", "{jailbreak: jailbreak}", "{block: No.}")
ANSWER = rule("answer", "{intent: greeting}", "{answer: Hi.}")
ROUTE = rule("route", "{topic: math}", "{route: small}")
REDACT = rule("redact", "{pii: EMAIL}", "redact")
FLAG = rule("flag", "{spam: spam}", "flag")
ALLOW = rule("allow", "{topic: math}", "allow")
EVERYTHING: Scores = {
    "jailbreak/jailbreak": 0.9,
    "intent/greeting": 0.9,
    "topic/math": 0.9,
    "spam/spam": 0.9,
}


HIT: Scores = {"jailbreak/jailbreak": 1.0, "spam/spam": 1.0, "intent/greeting": 1.0}


# -- 2: the most restrictive action wins, redact and flag add up, among equals the first ----------


@pytest.mark.parametrize(
    ("rules", "outcome"),
    [
        ([FLAG], "forward"),
        ([ALLOW], "forward"),
        ([FLAG, REDACT], "redact"),
        ([REDACT, ROUTE], "route"),
        ([ROUTE, ANSWER], "answer"),
        ([ALLOW, ROUTE, ANSWER, BLOCK], "block"),
        ([ALLOW, REDACT, FLAG, ROUTE, ANSWER, BLOCK], "block"),
    ],
)
def test_the_most_restrictive_wins_whatever_the_order(rules: list[str], outcome: str) -> None:
    text = user("mail a@b.com")
    for order in (rules, rules[::-1]):
        decision = decide("".join(order), (text, EVERYTHING))
        assert decision.outcome == outcome
        assert len(decision.fired) == len(rules)
        assert bool(decision.redactions) == (REDACT in rules)
        assert decision.tags == (("flag",) if FLAG in rules else ())
        assert (decision.cause is None) == (outcome == "forward")
        assert (decision.reply is not None) == (outcome in ("answer", "block"))
        assert (decision.route is not None) == (outcome == "route")


def test_among_equals_the_first_in_the_file_wins() -> None:
    one = rule("one", "{spam: spam}", "{block: One.}")
    two = rule("two", "{jailbreak: jailbreak}", "{block: {message: Two., as: error}}")
    first = decide(one + two, (user(), EVERYTHING))
    second = decide(two + one, (user(), EVERYTHING))
    assert first.reply is not None
    assert second.reply is not None
    assert (first.reply.content, first.reply.form) == ("One.", "message")
    assert (second.reply.content, second.reply.form) == ("Two.", "error")
    assert first.reply.finish_reason == second.reply.finish_reason == "content_filter"


def test_among_policies_the_first_wins_and_tags_are_set_once() -> None:
    a = policy(rule("r", "{spam: spam}", "{route: one}") + FLAG, "name: a\nversion: 2\n")
    b = policy(rule("r", "{spam: spam}", "{route: two}") + FLAG, "name: b\n")
    decision = evaluate([a, b], "input", [user()], [found(EVERYTHING)])
    assert decision.route == "one"
    assert decision.cause is not None
    assert decision.cause.policy == "a@2"
    assert decision.tags == ("flag",)
    assert [c.policy for c in decision.fired] == ["a@2", "a@2", "b@1", "b@1"]


# -- 3: conditions ---------------------------------------------------------------------------------

J, S = "{jailbreak: jailbreak}", "{spam: spam}"


@pytest.mark.parametrize(
    ("when", "jailbreak", "spam", "value"),
    [
        (J, 0.5, 0.0, True),
        (J, 0.4999, 0.0, False),
        (J, None, 0.0, None),
        ("{jailbreak: jailbreak, at: 0.9}", 0.89, 0.0, False),
        ("{jailbreak: jailbreak, at: 0.9}", 0.9, 0.0, True),
        ("{jailbreak: jailbreak, max_false_positive_rate: 5%}", 0.94, 0.0, False),
        ("{jailbreak: jailbreak, max_false_positive_rate: 5%}", 0.95, 0.0, True),
        ("{jailbreak: jailbreak, min_recall: 90%}", 0.11, 0.0, True),
        (f"{{not: {J}}}", 0.0, 0.0, True),
        (f"{{not: {J}}}", 1.0, 0.0, False),
        (f"{{not: {J}}}", None, 0.0, None),
        (f"{{not: {{not: {J}}}}}", 1.0, 0.0, True),
        *[
            (f"{{all: [{J}, {S}]}}", j, s, v)
            for j, s, v in [
                (1.0, 1.0, True),
                (1.0, 0.0, False),
                (0.0, 1.0, False),
                (0.0, 0.0, False),
                (1.0, None, None),
                (None, 1.0, None),
                (0.0, None, False),
                (None, 0.0, False),
                (None, None, None),
            ]
        ],
        *[
            (f"{{any: [{J}, {S}]}}", j, s, v)
            for j, s, v in [
                (1.0, 1.0, True),
                (1.0, 0.0, True),
                (0.0, 1.0, True),
                (0.0, 0.0, False),
                (1.0, None, True),
                (None, 1.0, True),
                (0.0, None, None),
                (None, 0.0, None),
                (None, None, None),
            ]
        ],
        (f"{{all: [{J}, {{not: {S}}}]}}", 1.0, 0.0, True),
        (f"{{all: [{J}, {{not: {S}}}]}}", 1.0, None, None),
        (f"{{not: {{any: [{J}, {S}]}}}}", None, 1.0, False),
    ],
)
def test_three_valued_conditions(
    when: str, jailbreak: float | None, spam: float | None, value: bool | None
) -> None:
    scores = {"jailbreak/jailbreak": jailbreak, "spam/spam": spam}
    scores |= {key: None for name, key in (("jailbreak", "jailbreak"), ("spam", "spam"))
               if scores[f"{name}/{key}"] is None}  # fmt: skip
    decision = decide(rule("r", when, "{block: No.}"), (user(), scores))
    assert decision.outcome == {True: "block", False: "forward", None: "error"}[value]
    assert bool(decision.errors) == (value is None)


def test_any_label_of_a_leaf_matches_each_at_its_own_threshold() -> None:
    infos = INFOS | {"safety": Info("safety", ("hate", "violence"), by_label={"hate": 0.8})}
    bound = policy(rule("r", "{safety: [hate, violence]}", "{block: No.}"), HEAD, infos)
    assert decide(bound, (user(), {"safety/hate": 0.7})).outcome == "forward"
    assert decide(bound, (user(), {"safety/hate": 0.8})).outcome == "block"
    assert decide(bound, (user(), {"safety/violence": 0.7})).outcome == "block"


def test_a_condition_is_about_one_text() -> None:
    both = rule("r", f"{{all: [{J}, {S}]}}", "{block: No.}")
    apart = [(user(), {"jailbreak/jailbreak": 1.0}), (user(), {"spam/spam": 1.0})]
    assert decide(both, *apart).outcome == "forward"
    only = rule("r", f"{{all: [{J}, {{not: {S}}}]}}", "{block: No.}")
    assert decide(only, *apart).outcome == "block"


# -- 4: shadow -------------------------------------------------------------------------------------


@pytest.mark.parametrize("do", ["{block: No.}", "{answer: Hi.}", "{route: m}", "{flag: t}"])
def test_shadow_rules_leave_a_record_and_nothing_else(do: str) -> None:
    decision = decide(rule("r", S, do, ", mode: shadow"), (user(), HIT))
    (cause,) = decision.shadow
    assert (cause.rule, cause.enforced) == ("r", False)
    assert decision == Decision("input", shadow=(cause,))


def test_a_failure_in_a_shadow_rule_stops_nothing() -> None:
    decision = decide(rule("r", S, "{block: No.}", ", mode: shadow"), (user(), {"spam": None}))
    assert decision.outcome == "forward"
    assert [(e.outcome, e.enforced) for e in decision.errors] == [("allow", False)]


# -- 7: a failure is not a verdict -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("on_error", "rules", "scores", "outcome"),
    [
        ("block", FLAG, {"spam": None}, "error"),
        ("allow", FLAG, {"spam": None}, "forward"),
        ("block", BLOCK, {"jailbreak": None}, "error"),
        ("allow", BLOCK, {"jailbreak": None}, "forward"),
        ("block", BLOCK + ANSWER, {"jailbreak": None, "intent/greeting": 1.0}, "error"),
        ("allow", BLOCK + ANSWER, {"jailbreak": None, "intent/greeting": 1.0}, "answer"),
        ("block", FLAG + BLOCK, {"spam": None, "jailbreak/jailbreak": 1.0}, "block"),
        ("block", BLOCK + FLAG, {"spam": None, "jailbreak/jailbreak": 1.0}, "block"),
        ("block", ROUTE + REDACT + FLAG, {"spam": None, "topic/math": 1.0}, "error"),
        ("block", BLOCK, {"spam": None}, "forward"),
    ],
)
def test_on_error(on_error: str, rules: str, scores: Scores, outcome: str) -> None:
    bound = policy(rules, f"{HEAD}on_error: {on_error}\n")
    decision = decide(bound, (user("a@b.com" if REDACT in rules else "text"), scores))
    assert decision.outcome == outcome
    if outcome == "error":
        assert (decision.cause, decision.reply, decision.route) == (None, None, None)
    for error in decision.errors:
        assert (error.policy, error.outcome, error.reason) == ("p@1", on_error, "Boom in it")


def test_another_text_can_settle_what_failed_on_one() -> None:
    decision = decide(BLOCK, (user(), {"jailbreak": None}), (user(), HIT))
    assert (decision.outcome, decision.errors) == ("block", ())


def test_a_failed_text_out_of_scope_does_not_matter() -> None:
    failed = (user(role="system", last_turn=False), {"jailbreak": None})
    assert decide(BLOCK, failed, (user(), {})).outcome == "forward"


@pytest.mark.parametrize(
    ("result", "reason"),
    [
        (Classification({}), "no result of classifier spam"),
        (Classification({}, {"spam": "Boom"}), "Boom"),
        (
            Classification({"spam": (Prediction("spam", "spam", float("nan")),)}),
            "a score of classifier spam is not a number",
        ),
    ],
)
def test_no_verdict_is_never_nothing_found(result: Classification, reason: str) -> None:
    decision = evaluate([policy(FLAG)], "input", [user()], [result])
    assert decision.outcome == "error"
    assert [error.reason for error in decision.errors] == [reason]


@pytest.mark.parametrize(
    ("when", "pairs", "redacted", "outcome"),
    [
        ("{pii: EMAIL}", [("a@b.com", {}), ("c@d.com", {"pii": None})], 1, "error"),
        ("{any: [{pii: EMAIL}, {tags: x}]}", [("a@b.com", {"tags": None})], 1, "error"),
        ("{all: [{pii: EMAIL}, {spam: spam}]}", [("a@b.com", {"pii": None})], 0, "forward"),
        ("{all: [{pii: EMAIL}, {any: [{spam: spam}, {topic: math}]}]}",
         [("a@b.com", {"spam/spam": 1.0, "topic": None})], 1, "redact"),
    ],
)  # fmt: skip
def test_what_a_failed_classifier_might_have_found_is_not_let_through(
    when: str, pairs: list[tuple[str, Scores]], redacted: int, outcome: str
) -> None:
    bound = policy(rule("r", when, "redact"), HEAD, INFOS | {"tags": Info("tags", ("x",), "spans")})
    decision = decide(bound, *[(user(content), scores) for content, scores in pairs])
    assert (len(decision.redactions), decision.outcome) == (redacted, outcome)


def test_texts_and_results_must_pair() -> None:
    with pytest.raises(ValueError, match="1 texts need as many results, got 0"):
        evaluate([policy(FLAG)], "input", [user()], [])


# -- 8: the record names the cause -----------------------------------------------------------------


def test_the_cause_names_everything() -> None:
    texts = [user("x", address=("messages", 0, "content")), user("y", address=("messages", 1))]
    scores: list[Scores] = [{"jailbreak/jailbreak": 0.6}, {"jailbreak/jailbreak": 0.8}]
    decision = decide(BLOCK, *zip(texts, scores, strict=True))
    (cause,) = decision.fired
    assert cause is decision.cause
    assert (cause.policy, cause.rule, cause.action) == ("p@1", "block", "block")
    assert (cause.classifier, cause.label) == ("jailbreak@v1", "jailbreak")
    assert (cause.score, cause.threshold) == (0.8, 0.5)
    assert (cause.text, cause.address, cause.role) == (1, ("messages", 1), "user")


@pytest.mark.parametrize(
    ("when", "scores", "label"),
    [
        # the greatest distance above the threshold, not the greatest score
        ("{any: [{spam: spam, at: 0.9}, {topic: math, at: 0.2}]}", {"spam/spam": 0.95, "topic/math": 0.6},
         "math"),
        ("{any: [{spam: spam}, {topic: math}]}", {"spam/spam": 0.7, "topic/math": 0.7}, "spam"),
        # a branch that is not true made nothing fire
        ("{any: [{all: [{spam: spam}, {topic: law}]}, {topic: math}]}".replace("law", "legal"),
         {"spam/spam": 1.0, "topic/math": 0.6}, "math"),
        # a match says more than an absence
        ("{all: [{not: {spam: spam}}, {topic: math}]}", {"topic/math": 0.51}, "math"),
        ("{not: {spam: spam}}", {"spam/spam": 0.1}, "spam"),
        ("{not: {not: {spam: spam}}}", {"spam/spam": 0.6}, "spam"),
    ],
)  # fmt: skip
def test_which_prediction_is_the_cause(when: str, scores: Scores, label: str) -> None:
    decision = decide(rule("r", when, "{block: No.}"), (user(), scores))
    assert decision.cause is not None
    assert decision.cause.label == label


def test_the_cause_of_an_absence_is_below_its_threshold() -> None:
    cause = decide(rule("r", "{not: {pii: EMAIL}}", "{block: No.}"), (user("no mail"), {})).cause
    assert cause is not None
    assert (cause.classifier, cause.label, cause.score, cause.threshold, cause.span) == (
        "pii@v1",
        "EMAIL",
        0.0,
        0.5,
        None,
    )


def test_no_user_text_in_what_is_recorded() -> None:
    decision = decide(REDACT + BLOCK, (user("secret@mail.com is mine"), HIT))
    assert decision.redactions
    assert "secret" not in repr(decision)
    assert "mine" not in repr(decision)
