"""Placeholders: where they stand, how they are numbered, what is put back."""

from __future__ import annotations

import pytest
from policies_fakes import HEAD, INFOS, Info, decide, found, policy, rule, user

from classifiers.types import Classification, Prediction, Span
from policies.engine import apply_redactions, evaluate, restorations, restore

RESTORE = rule("r", "{pii: EMAIL}", '{redact: {as: "<{label}_{n}>", restore: true}}')


@pytest.mark.parametrize(
    ("do", "contents", "redacted"),
    [
        ("redact", ["a@b.com"], ["<EMAIL_1>"]),
        ('{redact: "[gone]"}', ["to a@b.com, c@d.com."], ["to [gone], [gone]."]),
        ("redact", ["a@b.com c@d.com a@b.com"], ["<EMAIL_1> <EMAIL_2> <EMAIL_1>"]),
        ("redact", ["a@b.com", "c@d.com and a@b.com"], ["<EMAIL_1>", "<EMAIL_2> and <EMAIL_1>"]),
        ("redact", ["nothing"], ["nothing"]),
        ("{redact: {restore: true}}", ["<EMAIL_1> a@b.com"], ["<EMAIL_1> <EMAIL_2>"]),
        ("{redact: {restore: true}}", ["a@b.com", "<EMAIL_1>"], ["<EMAIL_2>", "<EMAIL_1>"]),
    ],
)
def test_placeholders(do: str, contents: list[str], redacted: list[str]) -> None:
    texts = [user(content) for content in contents]
    decision = decide(rule("r", "{pii: EMAIL}", do), *[(text, {}) for text in texts])
    for index, text in enumerate(texts):
        own = [r for r in decision.redactions if r.text == index]
        assert apply_redactions(text.content, own) == redacted[index]


def test_restoring() -> None:
    texts = [user("write to a@b.com or c@d.com")]
    decision = decide(RESTORE, (texts[0], {}))
    originals = restorations(texts, decision)
    assert originals == {"<EMAIL_1>": "a@b.com", "<EMAIL_2>": "c@d.com"}
    assert restore("<EMAIL_2>, not <EMAIL_1> or <EMAIL_3>", originals) == (
        "c@d.com, not a@b.com or <EMAIL_3>"
    )
    assert restore("<EMAIL_1>", {}) == "<EMAIL_1>"


def test_what_only_the_operator_wrote_is_not_put_back() -> None:
    texts = [
        user("ask a@b.com", role="system"),
        user("or c@d.com", role="developer"),
        user("I am e@f.com"),
        user("found g@h.com", role="tool"),
    ]
    decision = decide(
        RESTORE.replace("do:", "roles: [system, developer, user, tool], do:"),
        *((t, {}) for t in texts),
    )
    assert len(decision.redactions) == 4
    assert restorations(texts, decision) == {"<EMAIL_3>": "e@f.com", "<EMAIL_4>": "g@h.com"}


def test_only_input_is_put_back_and_a_reply_gets_other_placeholders() -> None:
    bound = policy(RESTORE.replace("do:", "check: [input, output], do:"))
    sent = [user("a@b.com")]
    first = evaluate([bound], "input", sent, [found({}, sent[0].content)])
    originals = restorations(sent, first)
    reply = [user("<EMAIL_1> knows c@d.com", role="assistant", stage="output")]
    second = evaluate(
        [bound], "output", reply, [found({}, reply[0].content)], taken=originals.keys()
    )
    assert restorations(reply, second) == {}
    redacted = apply_redactions(reply[0].content, second.redactions)
    assert redacted == "<EMAIL_1> knows <EMAIL_2>"
    assert restore(redacted, originals) == "a@b.com knows <EMAIL_2>"


def spans(*finds: tuple[str, int, int]) -> Classification:
    return Classification(
        {"tags": tuple(Prediction("tags", label, 1.0, Span(a, b)) for label, a, b in finds)}
    )


@pytest.mark.parametrize(
    ("finds", "redacted"),
    [
        ([("A", 0, 4), ("B", 2, 8)], "<B>89"),
        ([("A", 0, 6), ("B", 4, 8)], "<A>89"),
        ([("A", 0, 4), ("B", 4, 8)], "<A><B>89"),
        ([("A", 0, 9), ("B", 4, 6)], "<A>9"),
        ([("A", 4, 6), ("B", 0, 9)], "<B>9"),
        ([("A", 0, 4), ("B", 3, 7), ("A", 6, 10)], "<A>"),
        ([("A", 1, 3), ("B", 1, 3)], "0<A>3456789"),
        ([("A", 8, 99)], "01234567<A>"),
        ([("A", 50, 99)], "0123456789"),
        ([("A", 3, 3)], "0123456789"),
    ],
)
def test_overlaps_are_merged(finds: list[tuple[str, int, int]], redacted: str) -> None:
    infos = {"tags": Info("tags", ("A", "B"), "spans")}
    bound = policy(rule("r", "{tags: [A, B]}", '{redact: "<{label}>"}'), HEAD, infos)
    decision = evaluate([bound], "input", [user("0123456789")], [spans(*finds)])
    assert apply_redactions("0123456789", decision.redactions) == redacted
    assert decision.outcome == ("redact" if decision.redactions else "forward")


def test_what_one_rule_wants_gone_for_good_is_not_put_back() -> None:
    infos = {"tags": Info("tags", ("A", "B"), "spans")}
    back = rule("back", "{tags: A}", '{redact: {as: "<x{n}>", restore: true}}')
    gone = rule("gone", "{tags: B}", '{redact: "<x{n}>"}')
    bound = policy(back + gone, HEAD, infos)
    texts = [user("secret"), user("secret"), user("public")]
    results = [spans(("A", 0, 6)), spans(("B", 0, 6)), spans(("A", 0, 6))]
    decision = evaluate([bound], "input", texts, results)
    assert restorations(texts, decision) == {"<x2>": "public"}
    merged = evaluate([bound], "input", [user("secrets")], [spans(("A", 0, 6), ("B", 5, 7))])
    assert restorations([user("secrets")], merged) == {}


def test_a_find_that_points_nowhere_takes_the_whole_text() -> None:
    infos = {"tags": Info("tags", ("A",), "spans")}
    bound = policy(rule("r", "{tags: A}", "redact"), HEAD, infos)
    result = Classification({"tags": (Prediction("tags", "A", 1.0),)})
    decision = evaluate([bound], "input", [user("all of it")], [result])
    assert apply_redactions("all of it", decision.redactions) == "<A_1>"


def test_only_finds_of_the_branch_that_is_true_and_over_the_threshold_are_replaced() -> None:
    infos = INFOS | {"tags": Info("tags", ("A", "B"), "spans")}
    when = "{any: [{all: [{tags: A}, {spam: spam}]}, {tags: B, at: 0.8}]}"
    bound = policy(rule("r", when, '{redact: "_"}'), HEAD, infos)
    predictions = (
        Prediction("tags", "A", 1.0, Span(0, 1)),
        Prediction("tags", "B", 0.9, Span(2, 3)),
        Prediction("tags", "B", 0.7, Span(4, 5)),
    )
    for spam, redacted in ((0.0, "1 _ 3"), (1.0, "_ _ 3")):
        both = {"tags": predictions, "spam": (Prediction("spam", "spam", spam),)}
        decision = evaluate([bound], "input", [user("1 2 3")], [Classification(both)])
        assert apply_redactions("1 2 3", decision.redactions) == redacted


def test_very_many_values_and_placeholders_take_no_time() -> None:
    many = 20_000
    written = " ".join(f"<EMAIL_{n}> a{n}@b.com" for n in range(1, many + 1))
    texts = [user(written)]
    decision = decide(RESTORE, (texts[0], {}))
    originals = restorations(texts, decision)
    assert len(originals) == many
    redacted = apply_redactions(written, decision.redactions)
    assert redacted.startswith(f"<EMAIL_1> <EMAIL_{many + 1}> <EMAIL_2> <EMAIL_{many + 2}>")
    assert restore(redacted, originals) == written
