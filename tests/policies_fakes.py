"""Small classifiers and texts for the tests of policies."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from classifiers.types import (
    Classification,
    Kind,
    OperatingPoint,
    Prediction,
    Span,
    Stage,
    Text,
    UnknownLabel,
)
from policies.decision import Decision
from policies.engine import evaluate
from policies.schema import BoundPolicy, bind, loads

_LABELS = {
    "safety": """harassment harassment/threatening hate hate/threatening illicit illicit/violent
        self-harm self-harm/intent self-harm/instructions sexual sexual/minors violence
        violence/graphic""",
    "jailbreak": "jailbreak",
    "spam": "spam",
    "intent": """greeting farewell thank_you affirmation negation small_talk bot_capabilities
        feedback_positive feedback_negative clarification suggestion language_change other""",
    "topic": """billing_payments orders_shipping account_access technical_support programming
        writing_editing education_science math health legal finance travel food_cooking
        entertainment_sports shopping_products other_topic""",
    "entities": "PERSON ORG LOCATION DATE TIME ADDRESS PRODUCT",
    "pii": "EMAIL PHONE CREDIT_CARD IBAN US_SSN IP_ADDRESS API_KEY URL_CREDENTIALS",
}
LABELS: dict[str, tuple[str, ...]] = {name: tuple(v.split()) for name, v in _LABELS.items()}
_KINDS: dict[str, Kind] = {
    "pii": "spans",
    "entities": "spans",
    "intent": "one_of",
    "topic": "one_of",
}


@dataclass(frozen=True)
class Info:
    """A classifier as policies see it: a default threshold, and budgets it can promise."""

    name: str
    labels: tuple[str, ...]
    kind: Kind = "any_of"
    version: str = "v1"
    default: float = 0.5
    smallest_budget: float = 0.005
    by_label: Mapping[str, float] = field(default_factory=dict)

    def thresholds(self, labels: Sequence[str], point: OperatingPoint) -> Mapping[str, float]:
        if point.kind == "max_false_positive_rate":
            assert point.value is not None
            if point.value < self.smallest_budget:
                raise UnknownLabel(f"{point.value:.2%} needs 1234 more benign texts")
            return dict.fromkeys(labels, 1 - point.value)
        if point.kind == "min_recall":
            assert point.value is not None
            return dict.fromkeys(labels, 1 - point.value)
        if point.kind == "at":
            assert point.value is not None
            return dict.fromkeys(labels, point.value)
        return {label: self.by_label.get(label, self.default) for label in labels}


INFOS: dict[str, Info] = {
    name: Info(name, labels, kind=_KINDS.get(name, "any_of")) for name, labels in LABELS.items()
}

Scores = Mapping[str, float | None]
HEAD = "name: p\nversion: 1\n"


def policy(rules: str, head: str = HEAD, infos: Mapping[str, Info] = INFOS) -> BoundPolicy:
    """A bound policy from the YAML of its rules (a list)."""
    return bind(loads(f"{head}rules:\n{rules}", "p.yaml"), infos)


def found(scores: Scores, text: str = "") -> Classification:
    """A classification from ``{"safety/violence": 0.9, "pii": None}``; None is a failure.

    Labels that are not named score 0; e-mail addresses of the text are found by ``pii``.
    """
    errors = {name: "Boom in it" for name, score in scores.items() if score is None}
    predictions: dict[str, tuple[Prediction, ...]] = {}
    for name, labels in LABELS.items():
        if name in errors:
            continue
        if name == "pii":
            predictions[name] = emails(text)
            continue
        predictions[name] = tuple(
            Prediction(name, label, scores.get(f"{name}/{label}") or 0.0) for label in labels
        )
    return Classification(predictions, errors)


def emails(text: str) -> tuple[Prediction, ...]:
    return tuple(
        Prediction("pii", "EMAIL", 1.0, Span(*match.span()))
        for match in re.finditer(r"[a-z0-9]+@[a-z0-9]+\.com", text)
    )


def user(content: str = "text", **changes: object) -> Text:
    return Text(content, **{"role": "user", "turn": 0, **changes})  # type: ignore[arg-type]


def decide(
    bound: BoundPolicy | str,
    *pairs: tuple[Text, Scores],
    stage: Stage = "input",
    answerable: bool = True,
) -> Decision:
    bound = policy(bound) if isinstance(bound, str) else bound
    texts = [text for text, _ in pairs]
    results = [found(scores, text.content) for text, scores in pairs]
    return evaluate([bound], stage, texts, results, answerable=answerable)


def rule(name: str, when: str, do: str, rest: str = "") -> str:
    return f"  - {{name: {name}, when: {when}, do: {do}{rest}}}\n"
