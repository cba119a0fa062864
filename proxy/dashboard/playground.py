"""Try a text or a chat on the policies and classifiers of today. Nothing is forwarded or recorded."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from classifiers.types import Classification, Prediction, Stage, Text
from policies.decision import Decision
from policies.engine import apply_redactions
from policies.schema import BoundPolicy, BoundRule
from proxy.dashboard.fields import Fields
from proxy.dashboard.kit import HOME, Answer, Visit
from proxy.dashboard.look import Looked, Wanted, look, marked, wanted_by
from proxy.endpoints import ENDPOINTS
from proxy.errors import InvalidRequest
from proxy.local import predictions

PLAYGROUND = f"{HOME}/playground"
WHOSE = {
    "user": "what a user says",
    "chat": "a whole chat",
    "tool": "what a tool returned",
    "system": "the operator's own prompt",
    "assistant": "what the model replies",
}
"""What a text may be."""
MOST_CHARS = 50_000
MOST_LABELS = 5
"""Labels of a classifier that are listed, and those that match."""
_SPEAKER = re.compile(r"^(system|developer|user|assistant|tool):[ \t]*", re.MULTILINE)
_CHAT = "/v1/chat/completions"


@dataclass(frozen=True, slots=True)
class Tried:
    """A rule, and how near it came to firing.

    Attributes:
        outcome: ``fires``, ``shadow``, ``no``, or ``elsewhere`` if it does not look at such texts.
        label, score, threshold: of its condition that came nearest; None without one.
    """

    policy: str
    rule: str
    action: str
    outcome: str
    label: str = ""
    score: float | None = None
    threshold: float | None = None


async def playground(visit: Visit) -> Answer:
    """Answer ``/dashboard/playground``."""
    return visit.template(
        "playground.html",
        whose=WHOSE,
        policies=visit.gateway.policies.current,
        classifiers=list(visit.gateway.engine.classifiers),
    )


async def result(visit: Visit) -> Answer:
    """Answer ``/dashboard/playground/look``: everything about what was typed. A fragment."""
    stage, texts = read(visit.form)
    policies = chosen(visit)
    also = list(visit.gateway.engine.classifiers) if visit.form.get("all") == "on" else []
    looked = await look(visit.gateway, texts, policies, stage, also)
    return visit.template(
        "playground_result.html",
        looked=looked,
        alone=[(policy, looked.alone(policy)) for policy in policies],
        tried=tried(looked),
        changed=_redacted(looked),
        explained=await _explained(visit, looked),
        scores=_scores(visit, looked),
    )


async def why(visit: Visit) -> Answer:
    """Answer ``/dashboard/playground/why``: one label on that text where it scores most. A fragment."""
    stage, texts = read(visit.form)
    name, _, label = visit.form.text("of").partition(": ")
    if name not in visit.gateway.engine.classifiers:
        raise InvalidRequest("There is no such classifier.", "of")
    looked = await look(visit.gateway, texts, [], stage, [name])
    best = max(range(len(looked.texts)), key=lambda i: _score(looked, i, (name, label)))
    own = await marked(visit.gateway, looked, best, {(name, label): None})
    return visit.template("playground_why.html", marked=own)


def chosen(visit: Visit) -> Sequence[BoundPolicy]:
    """The policies that were ticked."""
    names = visit.form.every("policy")
    return [policy for policy in visit.gateway.policies.current if policy.policy.name in names]


def read(form: Fields) -> tuple[Stage, list[Text]]:
    """The texts of the form.

    Raises:
        InvalidRequest: there is none, or too much, or no chat where one is announced.
    """
    typed, whose = form.get("text", ""), form.text("whose") or "user"
    if not typed.strip():
        raise InvalidRequest("Type a text first.", "text")
    if len(typed) > MOST_CHARS:
        raise InvalidRequest(f"The text has more than {MOST_CHARS} characters.", "text")
    if whose not in WHOSE:
        raise InvalidRequest("Say whose text it is.", "whose")
    typed = typed.replace("\r\n", "\n")  # as browsers send every line's end
    if whose == "assistant":
        place = ("choices", 0, "message", "content")
        return "output", [Text(typed, "assistant", place, "output", 0)]
    messages = chat(typed) if whose == "chat" else [{"role": whose, "content": typed}]
    if whose == "tool":
        return "input", [Text(typed, "tool", ("messages", 0, "content"), "input", 0)]
    body = {"model": "playground", "messages": messages}
    endpoint = ENDPOINTS[_CHAT]
    endpoint.validate(body)
    return "input", [text for text in endpoint.texts(body) if text.address[0] == "messages"]


def chat(typed: str) -> list[dict[str, Any]]:
    """Messages: as JSON, or as lines that begin with ``user:`` and the like.

    Raises:
        InvalidRequest: neither.
    """
    if typed.lstrip().startswith(("[", "{")):
        try:
            given = orjson.loads(typed)
        except orjson.JSONDecodeError:
            raise InvalidRequest("The chat begins like JSON and is none.", "text") from None
        messages = given.get("messages") if isinstance(given, dict) else given
        if not isinstance(messages, list) or not messages:
            raise InvalidRequest("The JSON holds no list of messages.", "text")
        return messages
    starts = list(_SPEAKER.finditer(typed))
    if not starts or typed[: starts[0].start()].strip():
        raise InvalidRequest("A chat begins with `user:` or another speaker, or is JSON.", "text")
    ends = [*(start.start() for start in starts[1:]), len(typed)]
    return [
        {"role": start[1], "content": typed[start.end() : end].strip()}
        if start[1] != "tool"
        else {"role": "tool", "tool_call_id": "call", "content": typed[start.end() : end].strip()}
        for start, end in zip(starts, ends, strict=True)
    ]


def tried(looked: Looked) -> list[Tried]:
    """Every rule of the stage, those that fire first, then those that came near."""
    fired = {(cause.policy, cause.rule) for cause in looked.decision.fired}
    shadow = {(cause.policy, cause.rule) for cause in looked.decision.shadow}
    found = []
    for policy in looked.policies:
        for bound in policy.rules_for(looked.stage):
            key = (policy.id, bound.rule.name)
            outcome = "fires" if key in fired else "shadow" if key in shadow else "no"
            found.append(_tried(looked, policy, bound, outcome))
    order = {"fires": 0, "shadow": 1, "no": 2, "elsewhere": 3}
    return sorted(found, key=lambda t: (order[t.outcome], (t.threshold or 9) - (t.score or 0)))


def _tried(looked: Looked, policy: BoundPolicy, bound: BoundRule, outcome: str) -> Tried:
    rule = bound.rule
    covered = [i for i, text in enumerate(looked.texts) if rule.covers(text, looked.stage)]
    own = (policy.id, rule.name, rule.do.word)
    if not covered:
        return Tried(*own, "elsewhere")
    near = [
        (max(_score(looked, i, (leaf.classifier, label)) for i in covered), threshold, label)
        for leaf, _ in bound.condition.leaves()
        for label, threshold in leaf.thresholds
    ]
    score, threshold, label = max(near, key=lambda n: n[0] - n[1], default=(None, None, ""))
    return Tried(*own, outcome, label, score, threshold)


def _score(looked: Looked, index: int, wanted: Wanted) -> float:
    prediction = looked.highest(index, wanted)
    return 0.0 if prediction is None else prediction.score


async def _explained(visit: Visit, looked: Looked) -> list[tuple[Text, Any]]:
    """Why each rule fired, for the first two texts on which one did."""
    causes = [*looked.decision.fired, *looked.decision.shadow]
    found: list[tuple[Text, Any]] = []
    for index, text in enumerate(looked.texts):
        wanted: Mapping[Wanted, float] = wanted_by(causes, index)
        if wanted and len(found) < 2:
            found.append((text, await marked(visit.gateway, looked, index, dict(wanted))))
    return found


def _redacted(looked: Looked) -> list[tuple[Text, str]]:
    """The texts that would go on with something taken out, as they would."""
    decision: Decision = looked.decision
    if not decision.redactions:
        return []
    found = []
    for index, text in enumerate(looked.texts):
        own = [redaction for redaction in decision.redactions if redaction.text == index]
        if own and not text.derived:
            found.append((text, apply_redactions(text.content, own)))
    return found


def _scores(visit: Visit, looked: Looked) -> list[tuple[str, list[dict[str, Any]], str]]:
    """By classifier its likeliest labels, each where it scores most, and those that match; or a fault."""
    known = visit.gateway.engine.classifiers
    found = []
    for name, classifier in known.items():
        own = [c for c in looked.found if name in c.predictions or name in c.errors]
        fault = next((c.errors[name] for c in own if name in c.errors), "")
        best: dict[str, Prediction] = {}
        for prediction in (p for c in own for p in c.predictions.get(name, ())):
            kept = best.get(prediction.label)
            if kept is None or prediction.score > kept.score:
                best[prediction.label] = prediction
        if not own:
            continue
        ordered = sorted(best.values(), key=lambda p: -p.score)
        rows = predictions(Classification({name: tuple(ordered)}), {name: classifier})
        shown = [row for i, row in enumerate(rows) if i < MOST_LABELS or row["match"]]
        found.append((name, shown, fault))
    return found
