"""What today's classifiers and policies say of texts, and why. Nothing is forwarded or recorded."""

from __future__ import annotations

import functools
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from classifiers.heads import OUT_OF_SCOPE, TokenShare
from classifiers.neighbours import Neighbour, neighbours
from classifiers.types import Classification, Prediction, Stage, Text
from policies.attached import Attached
from policies.decision import Cause, Decision
from policies.engine import evaluate
from policies.schema import BoundPolicy
from proxy.dashboard import marks
from proxy.dashboard.marks import Segment
from proxy.endpoints import derived
from proxy.gateway import Gateway
from proxy.local import DEFAULT_POINT, MAX_EXPLAIN_CHARS

MOST_MARKED = 4
"""Labels of one text that are explained at once; each costs as much as classifying does."""

Wanted = tuple[str, str]
"""A classifier and a label."""


@dataclass(frozen=True, slots=True)
class Looked:
    """Texts with all that was found in them.

    Attributes:
        texts: those that were given, then those that the gateway makes of them.
        found: by text.
        policies: that were asked.
        decision: of all of them together.
        milliseconds: that classifying and deciding took.
    """

    stage: Stage
    texts: Sequence[Text]
    found: Sequence[Classification]
    policies: Sequence[BoundPolicy]
    decision: Decision
    milliseconds: float

    def alone(self, policy: BoundPolicy) -> Decision:
        """What one policy would decide if it were the only one."""
        return evaluate([policy], self.stage, self.texts, self.found)

    def highest(self, index: int, wanted: Wanted) -> Prediction | None:
        """The highest prediction of a label on a text."""
        own = self.found[index].predictions.get(wanted[0], ())
        return max((p for p in own if p.label == wanted[1]), key=lambda p: p.score, default=None)


@dataclass(frozen=True, slots=True)
class Marked:
    """Why a label has its score on a text.

    Attributes:
        classifier: without its version.
        threshold: of the rule that asked, or the classifier's own; None without one.
        segments: the whole text, marked where the classifier can say why.
        tokens: the strongest, by their share of the logit.
        near: the nearest training rows; None where none are remembered.
        why_not: why nothing is marked.
    """

    classifier: str
    version: str
    label: str
    score: float | None
    threshold: float | None
    segments: Sequence[Segment] = ()
    tokens: Sequence[TokenShare] = ()
    near: Sequence[Neighbour] | None = None
    why_not: str = ""


async def look(
    gateway: Gateway,
    texts: Sequence[Text],
    policies: Sequence[BoundPolicy],
    stage: Stage = "input",
    also: Collection[str] = (),
) -> Looked:
    """Classify texts as a request's are, and decide.

    Args:
        also: classifiers to be asked beside those that the policies need.

    Raises:
        TooLarge, Unavailable, Overloaded: see :meth:`Gateway.classify`.
    """
    started = time.perf_counter()
    rules = Attached(policies)
    if stage == "input":
        texts = [*texts, *derived.across_turns(texts, rules.refusals)]
    needed = {name.partition("@")[0] for name in rules.classifiers(stage)}
    names = [*rules.classifiers(stage), *(name for name in also if name not in needed)]
    found = await gateway.classify([text.content for text in texts], names, stage)
    decision = evaluate(rules.policies, stage, texts, found)
    took = (time.perf_counter() - started) * 1000
    return Looked(stage, texts, found, policies, decision, took)


def wanted_by(causes: Sequence[Cause], index: int) -> dict[Wanted, float]:
    """The labels that made rules fire on a text, with the threshold of the first."""
    found: dict[Wanted, float] = {}
    for cause in causes:
        if cause.text == index:
            found.setdefault((cause.classifier.partition("@")[0], cause.label), cause.threshold)
    return found


async def marked(
    gateway: Gateway, looked: Looked, index: int, wanted: Mapping[Wanted, float | None]
) -> list[Marked]:
    """Explain some labels on a text, one after the other.

    Raises:
        Overloaded: too many explanations are waited for.
    """
    text = looked.texts[index].content
    found = []
    for (name, label), threshold in list(wanted.items())[:MOST_MARKED]:
        prediction = looked.highest(index, (name, label))
        finds = [p for p in looked.found[index].predictions.get(name, ()) if p.label == label]

        work = functools.partial(_explained, gateway, text, name, label, finds)
        one = await gateway.explain(work)
        score = None if prediction is None else prediction.score
        limit = _own(gateway, name, label) if threshold is None else threshold
        found.append(replace(one, score=score, threshold=limit))
    return found


def _explained(
    gateway: Gateway, text: str, name: str, label: str, finds: Sequence[Prediction]
) -> Marked:
    """The segments and the neighbours of a text. Blocking."""
    plain = (Segment(text),)
    classifier = gateway.engine.classifiers.get(name) or gateway.engine.lent(name)
    if classifier is None or label not in classifier.labels:
        return Marked(name, "", label, None, None, plain, why_not="it is not loaded any more.")
    version = classifier.version
    if any(find.span for find in finds):
        return Marked(name, version, label, None, None, marks.by_span(text, finds))
    if len(text) > MAX_EXPLAIN_CHARS:
        told = f"the text has more than {MAX_EXPLAIN_CHARS} characters."
        return Marked(name, version, label, None, None, plain, why_not=told)
    near = neighbours(classifier, text)
    explain = getattr(classifier, "explain", None)
    if explain is None or label == OUT_OF_SCOPE:
        told = "this classifier does not go by tokens."
        if label == OUT_OF_SCOPE:
            told = "the label is the lack of evidence for all others: no token made it."
        return Marked(name, version, label, None, None, plain, near=near, why_not=told)
    shares: list[TokenShare] = explain(text, label)
    segments, tokens = marks.by_share(text, shares), marks.strongest(shares)
    return Marked(name, version, label, None, None, segments, tokens, near)


def _own(gateway: Gateway, name: str, label: str) -> float | None:
    classifier = gateway.engine.classifiers.get(name)
    if classifier is None or label not in classifier.labels:
        return None
    return classifier.thresholds([label], DEFAULT_POINT)[label]
