"""Runs the ``tests:`` of a policy: small conversations and what must become of them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field

from classifiers.types import Classification, Stage, Text
from policies.decision import RANK, Cause, Decision
from policies.engine import evaluate
from policies.policy import Case
from policies.schema import BoundPolicy, BoundRule
from policies.signals import Signals
from policies.turns import newest_turn

Classify = Callable[[Sequence[str], Collection[str]], list[Classification]]
"""Texts and names of classifiers to one classification per text."""


@dataclass(frozen=True, slots=True)
class TestFailure:
    """A conversation that did not end as its author expects.

    Attributes:
        where: ``file:line`` of the test.
        quote: beginning of its text.
        expected: e.g. ``block by no-attacks``.
        got: what was decided, by which rule and score.
        scores: what the rules in question saw: label, score, threshold.
    """

    __test__ = False  # no test class of pytest's

    where: str
    quote: str = field(repr=False)
    expected: str
    got: str
    scores: str

    def __str__(self) -> str:
        line = f"{self.where}: {self.quote!r}: expected {self.expected}, got {self.got}"
        return f"{line}; {self.scores}" if self.scores else line


def run_tests(policy: BoundPolicy, classify: Classify) -> list[TestFailure]:
    """Evaluate every test conversation under this policy alone.

    Args:
        policy: a bound policy.
        classify: called at most once, with all texts of all tests.

    Returns:
        The failures, in file order.
    """
    cases = [(_input(case), _output(case)) for case in policy.policy.tests]
    texts = [text for pair in cases for part in pair for text in part]
    if not texts:
        return []
    results = classify([text.content for text in texts], policy.classifiers)
    verdicts = iter(zip(texts, results, strict=True))
    failures: list[TestFailure] = []
    for index, (case, (sent, replied)) in enumerate(zip(policy.policy.tests, cases, strict=True)):
        runs: list[_Run] = []
        for part in (sent, replied):
            found = [next(verdicts)[1] for _ in part]
            # A reply only exists where the request went through.
            if part and not any(RANK[run.decision.outcome] > RANK["route"] for run in runs):
                stage = part[0].stage
                decision = evaluate([policy], stage, part, found)
                runs.append(_Run(stage, part, found, decision))
        failure = _judge(policy, case, runs, policy.policy.at("tests", index))
        if failure is not None:
            failures.append(failure)
    return failures


def _input(case: Case) -> list[Text]:
    """The request as the gateway would see it: one text for each part of each message."""
    single = (("system", case.system), ("user", case.user), ("tool", case.tool))
    messages: list[tuple[str, tuple[str, ...]]] = [
        (role, (content,)) for role, content in single if content is not None
    ]
    if case.messages is not None:
        messages = [(message.role, message.content) for message in case.messages]
    newest = newest_turn([role for role, _ in messages])
    texts: list[Text] = []
    for turn, (role, parts) in enumerate(messages):
        for index, content in enumerate(parts):
            part = () if len(parts) == 1 else (index, "text")
            address = ("messages", turn, "content", *part)
            texts.append(Text(content, role, address, "input", turn, turn in newest))
    return texts


def _output(case: Case) -> list[Text]:
    if case.assistant is None:
        return []
    return [Text(case.assistant, "assistant", ("choices", 0, "message", "content"), "output")]


@dataclass(frozen=True, slots=True)
class _Run:
    stage: Stage
    texts: Sequence[Text]
    results: Sequence[Classification]
    decision: Decision


def _judge(policy: BoundPolicy, case: Case, runs: Sequence[_Run], where: str) -> TestFailure | None:
    decisions = [run.decision for run in runs]
    final = max(decisions, key=lambda decision: RANK[decision.outcome])
    fired = {cause.rule for d in decisions for cause in (*d.fired, *d.shadow)}
    as_expected = all(_holds(what, final, decisions) for what in case.expect)
    if as_expected and fired.issuperset(case.rule):
        return None
    asked = [
        bound
        for bound in policy.rules
        if bound.rule.name in case.rule or (not case.rule and bound.rule.do.word in case.expect)
    ]
    by = f" by {' and '.join(case.rule)}" if case.rule else ""
    return TestFailure(
        where=where,
        quote=_quote(runs[-1].texts[-1].content),
        expected=" and ".join(case.expect) + by,
        got=_got(final, decisions),
        scores="; ".join(_seen(bound, runs) for bound in asked),
    )


def _holds(what: str, final: Decision, decisions: Sequence[Decision]) -> bool:
    if what == "flag":
        return any(decision.tags for decision in decisions)
    if what == "redact":
        redacted = any(decision.redactions for decision in decisions)
        return redacted and RANK[final.outcome] <= RANK["route"]
    return final.outcome == what


def _got(final: Decision, decisions: Sequence[Decision]) -> str:
    failed = [error for decision in decisions for error in decision.errors]
    if final.outcome == "error" and failed:
        return f"error ({failed[0].reason})"
    causes = [final.cause] if final.cause else [c for d in decisions for c in d.fired]
    if not causes:
        return final.outcome
    return f"{final.outcome} by {', '.join(_by(cause) for cause in causes)}"


def _by(cause: Cause) -> str:
    sign = ">=" if cause.score >= cause.threshold else "<"
    what = f"{cause.classifier.partition('@')[0]}/{cause.label}"
    return f"{cause.rule} ({what} {cause.score:.3f} {sign} {cause.threshold:.3f})"


def _seen(bound: BoundRule, runs: Sequence[_Run]) -> str:
    """What a rule saw: the highest score of each of its leaves' nearest label."""
    words: list[str] = []
    for leaf, _ in bound.condition.leaves():
        nearest: tuple[float, str] | None = None
        for run in runs:
            signals = Signals(run.results)
            for index, text in enumerate(run.texts):
                if run.stage not in bound.rule.check or not bound.rule.covers(text, run.stage):
                    continue
                scores = signals.scores(index, leaf.classifier)
                for label, threshold in leaf.thresholds:
                    score = (scores or {}).get(label, 0.0)
                    word = f"{leaf.classifier}/{label} {score:.3f}, matches from {threshold:.3f}"
                    if nearest is None or score - threshold > nearest[0]:
                        nearest = (score - threshold, word)
        if nearest is not None:
            words.append(nearest[1])
    return f"{bound.rule.name} saw {', '.join(words) if words else 'no text in its scope'}"


def _quote(text: str, limit: int = 60) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= limit else flat[: limit - 3] + "..."
