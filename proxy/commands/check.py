"""Show every prediction on a text, the decision of the policies, and the words that made it."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from proxy.commands.output import (
    CommandError,
    config_option,
    emit,
    faults,
    json_option,
    one_blas_thread,
    read_config,
)

if TYPE_CHECKING:
    from rich.console import Console

    from classifiers.types import Classification, Stage
    from policies.decision import Decision

SHOWN_SCORES = 0.05
"""On a terminal, labels that are less likely than this and match nothing are left out."""


MOST_WORDS = 8


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("text", metavar="TEXT", help="the text; - reads standard input")
    parser.add_argument(
        "--policy", action="append", type=Path, metavar="FILE", help="decide by this policy"
    )
    parser.add_argument(
        "--role",
        default="user",
        help="whose text it is: system, developer, user (default), assistant, tool or function; "
        "assistant is checked as a reply",
    )
    config_option(parser)
    json_option(parser)


def run(options: argparse.Namespace) -> int:
    """Classify and decide as the gateway would. Exit status 0 whatever the decision."""
    one_blas_thread()
    from classifiers.engine import ClassifierEngine
    from classifiers.types import Text
    from policies import schema
    from policies.engine import evaluate
    from policies.policy import ROLES
    from proxy.faqs import FaqShelf
    from proxy.loading import load_classifiers

    if options.role not in ROLES:
        raise CommandError(f"--role {options.role!r} is no role; there are: {', '.join(ROLES)}")
    config = read_config(options.config, secrets=False)
    content = sys.stdin.read() if options.text == "-" else options.text
    if not content:
        raise CommandError("the text is empty; give one, or - and a text on standard input")
    stage: Stage = "output" if options.role == "assistant" else "input"
    with faults():
        policies = schema.load_all(options.policy or config.policies)
        engine = ClassifierEngine(load_classifiers(config.classifiers))
    try:
        with faults():
            shelf = FaqShelf(engine, config.classifiers)
            bound = [schema.bind(policy, engine.classifiers, shelf) for policy in policies]
        own = (rule.faq.info for policy in bound for rule in policy.rules if rule.faq)
        asked = {**engine.classifiers, **{info.name: info for info in own}}
        found = engine.classify_blocking([content], list(asked))[0]
        text = Text(content, options.role, ("messages", 0, "content"), stage, turn=0)
        decision = evaluate(bound, stage, [text], [found])
        value = _describe(content, found, asked, decision)
    finally:
        engine.close()
    value["policies"] = [policy.id for policy in bound]
    value["decision"] = asdict(replace(decision, seen=()))  # every score stands above
    emit(options, value, lambda console: _render(console, value, content))
    return 0


def _describe(
    content: str, found: Classification, known: Mapping[str, Any], decision: Decision
) -> dict[str, Any]:
    from proxy.local import explanations, predictions

    return {
        "predictions": predictions(found, known),
        "errors": dict(found.errors),
        "explanations": explanations(content, found, known, _used(asdict(decision))),
    }


def _used(decision: dict[str, Any]) -> set[tuple[str, str]]:
    """Classifier and label of every match that made a rule fire, whatever the rule's threshold."""
    causes = [*decision["fired"], *decision["shadow"]]
    return {
        (cause["classifier"].partition("@")[0], cause["label"])
        for cause in causes
        if cause["score"] >= cause["threshold"]
    }


def words(content: str, tokens: Sequence[Mapping[str, Any]]) -> list[tuple[str, float]]:
    """The words that speak for a label, the strongest first, each with the sum of its tokens' shares.

    Args:
        content: the text.
        tokens: ``start``, ``end`` and ``share`` of each token, in the order of the text.
    """
    spans: list[tuple[int, int, float]] = []
    for token in tokens:
        start, end, share = token["start"], token["end"], token["share"]
        if start == end:
            continue  # the text as a whole
        if spans and (start < spans[-1][1] or _inside_a_word(content, start, spans[-1][1])):
            first, last, sum_of = spans[-1]
            spans[-1] = (first, max(last, end), sum_of + share)
        else:
            spans.append((start, end, share))
    found = [(content[start:end], share) for start, end, share in spans if share > 0]
    return sorted(((word, share) for word, share in found if word.strip()), key=lambda it: -it[1])


def _inside_a_word(content: str, at: int, end: int) -> bool:
    """Whether a token that starts at ``at``, where another one ends, goes on with the same word."""
    before, after = content[at - 1 : at], content[at : at + 1]
    # Chinese and Japanese have no spaces between words; there every token is one.
    return at == end and all(c.isalnum() and not "\u2e80" <= c <= "\u9fff" for c in (before, after))


def _render(console: Console, value: dict[str, Any], content: str) -> None:
    from rich.markup import escape
    from rich.table import Table

    table = Table("classifier", "label", "score", "threshold", "match", "where")
    for row in sorted(value["predictions"], key=lambda row: -row["score"]):
        if not row["match"] and row["score"] < SHOWN_SCORES:
            continue
        threshold = row["threshold"]
        span = row.get("span")
        table.add_row(
            row["classifier"],
            escape(row["label"]),
            f"{row['score']:.3f}",
            "" if threshold is None else f"{threshold:.3f}",
            "yes" if row["match"] else "",
            f"{span['start']}..{span['end']}" if span else "",
            style="bold" if row["match"] else "dim",
        )
    console.print(table)
    used = _used(value["decision"])
    for row in value["explanations"]:
        if (row["classifier"], row["label"]) not in used:
            continue
        strongest = words(content, row["tokens"])[:MOST_WORDS]
        shares = "  ".join(f"{escape(repr(word))} {share:+.2f}" for word, share in strongest)
        console.print(f"[bold]{row['classifier']}: {escape(row['label'])}[/] because of  {shares}")
    for name, reason in value["errors"].items():
        console.print(f"[red]{name} failed: {escape(reason)}[/]")
    _render_decision(console, value["decision"])


def _render_decision(console: Console, decision: dict[str, Any]) -> None:
    from rich.markup import escape

    cause = decision["cause"]
    why = ""
    if cause:
        why = (
            f" by {cause['policy']} {cause['rule']}: {cause['classifier']} {cause['label']} "
            f"{cause['score']:.3f} >= {cause['threshold']:.3f}"
        )
    console.print(f"[bold]decision: {decision['outcome']}[/]{escape(why)}")
    if decision["reply"]:
        console.print(f"reply: {escape(decision['reply']['content'])}")
    for shadow in decision["shadow"]:
        console.print(f"shadow: {shadow['rule']} would {shadow['action']}")
    if decision["redactions"]:
        labels = ", ".join(r["label"] for r in decision["redactions"])
        console.print(f"redacted: {escape(labels)}")
