"""What the gateway answers by itself, free of charge: moderations, classify, models."""

from __future__ import annotations

import functools
import time
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from classifiers.heads import OUT_OF_SCOPE
from classifiers.types import (
    MODERATION,
    Classification,
    Classifier,
    OperatingPoint,
    Prediction,
)
from proxy.asgi import Ask
from proxy.endpoints import ENDPOINTS
from proxy.errors import InvalidRequest, NotFound, TooLarge, Unavailable
from proxy.gateway import Gateway
from proxy.grants import Caller
from proxy.ids import random_id

FURTHER = ("jailbreak", "spam")
"""Classifiers whose labels stand beside the categories; they never set ``flagged``."""

MAX_INPUTS = 1024
MAX_EXPLAIN_CHARS = 20_000
"""Characters of one request that are explained, all texts together: it costs many times what
classifying does."""
DEFAULT_POINT = OperatingPoint()


async def moderations(gateway: Gateway, ask: Ask) -> dict[str, Any]:
    """Answer ``POST /v1/moderations``.

    Raises:
        InvalidRequest: no readable ``input``, or one with images.
        Unavailable: no classifier for the categories is loaded, or one failed.
    """
    texts = _moderation_inputs(ask.body.get("input"))
    known = gateway.engine.classifiers
    if "safety" not in known or not set(MODERATION) <= set(known["safety"].labels):
        raise Unavailable(
            "No classifier for moderation is loaded; add the pack `safety`.", "no_classifier"
        )
    names = ["safety", *(name for name in FURTHER if name in known)]
    found = await gateway.classify(texts, names)
    if any(classification.errors for classification in found):
        raise Unavailable("The moderation classifiers failed; nothing was scored. Retry.")
    thresholds = {name: _thresholds(known[name]) for name in names}
    return {
        "id": f"modr-{random_id()}",
        "model": f"doorman/safety@{known['safety'].version}",
        "results": [_moderation(classification, thresholds) for classification in found],
    }


def _moderation_inputs(given: Any) -> list[str]:
    if isinstance(given, str):
        return [given]
    if not isinstance(given, list) or not given:
        raise InvalidRequest("`input` must be a string or a list of them.", "input")
    if len(given) > MAX_INPUTS:
        raise InvalidRequest(f"`input` has over {MAX_INPUTS} items; send fewer.", "input")
    if all(isinstance(item, str) for item in given):
        return given
    parts = []
    for index, item in enumerate(given):
        kind = item.get("type") if isinstance(item, dict) else None
        if kind == "image_url":
            raise InvalidRequest(
                "Images cannot be moderated here; an image is not scored rather than called safe.",
                f"input[{index}]",
                "unsupported_input",
            )
        if kind != "text" or not isinstance(item.get("text"), str):
            raise InvalidRequest(
                '`input` must hold strings, or parts like {"type": "text", "text": "..."}.',
                f"input[{index}]",
            )
        parts.append(item["text"])
    # Parts are one input together, as at OpenAI.
    return ["\n".join(parts)]


def _moderation(
    found: Classification, thresholds: Mapping[str, Mapping[str, float]]
) -> dict[str, Any]:
    scores: dict[str, float] = {}
    matches: dict[str, bool] = {}
    for name, predictions in found.predictions.items():
        for p in predictions:
            if name == "safety" or p.label not in MODERATION:
                scores[p.label] = p.score
                matches[p.label] = p.score >= thresholds[name][p.label]
    order = [*MODERATION, *(label for label in scores if label not in MODERATION)]
    return {
        "flagged": any(matches[label] for label in MODERATION),
        "categories": {label: matches[label] for label in order},
        "category_scores": {label: scores[label] for label in order},
        "category_applied_input_types": {label: ["text"] for label in order},
    }


async def classify(gateway: Gateway, ask: Ask) -> dict[str, Any]:
    """Answer ``POST /v1/classify``: every prediction on every text, with timings.

    Raises:
        InvalidRequest: no readable ``input``, or an unknown classifier.
        TooLarge: more than ``MAX_EXPLAIN_CHARS`` are to be explained.
        Overloaded: too many explanations are waited for.
    """
    body, known = ask.body, gateway.engine.classifiers
    inputs = _classify_inputs(body.get("input"))
    names = body.get("classifiers", list(known))
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise InvalidRequest("`classifiers` must be a list of names.", "classifiers")
    if unknown := [name for name in names if name not in known]:
        raise InvalidRequest(
            f"`classifiers` names {len(unknown)} that are not here; there are: {', '.join(known)}.",
            "classifiers",
        )
    explain = body.get("explain", False)
    if not isinstance(explain, bool):
        raise InvalidRequest("`explain` must be true or false.", "explain")
    if explain and (chars := sum(len(content) for _, content in inputs)) > MAX_EXPLAIN_CHARS:
        raise TooLarge(
            f"{chars} characters are to be explained, at most {MAX_EXPLAIN_CHARS} are; "
            "send less, or leave `explain` out.",
            "explain",
        )
    chosen = {name: known[name] for name in dict.fromkeys(names)}
    started = time.perf_counter()
    found = await gateway.classify([content for _, content in inputs], list(chosen))
    classified = time.perf_counter()
    data = []
    for index, ((place, content), classification) in enumerate(zip(inputs, found, strict=True)):
        entry: dict[str, Any] = {
            "index": index,
            **place,
            "cached": classification.cached,
            "predictions": predictions(classification, chosen),
            "errors": dict(classification.errors),
        }
        if explain:
            entry["explanations"] = await gateway.explain(
                functools.partial(explanations, content, classification, chosen)
            )
        data.append(entry)
    return {
        "object": "list",
        "data": data,
        "classifiers": {name: classifier.version for name, classifier in chosen.items()},
        "timings": {
            "classify_ms": round((classified - started) * 1000, 3),
            "explain_ms": round((time.perf_counter() - classified) * 1000, 3) if explain else 0.0,
        },
    }


def _classify_inputs(given: Any) -> list[tuple[dict[str, Any], str]]:
    """Texts with what tells them apart: nothing for strings, role and address for messages."""
    if isinstance(given, str):
        return [({}, given)]
    if not isinstance(given, list) or not given or len(given) > MAX_INPUTS:
        raise InvalidRequest(
            f"`input` must be a string, or a list of at most {MAX_INPUTS} strings or messages.",
            "input",
        )
    if all(isinstance(item, str) for item in given):
        return [({}, item) for item in given]
    chat = ENDPOINTS["/v1/chat/completions"]
    body = {"model": "classify", "messages": given}
    chat.validate(body)
    return [
        ({"role": text.role, "address": list(text.address)}, text.content)
        for text in chat.texts(body)
        if text.address[0] == "messages" and not text.derived
    ]


def predictions(
    classification: Classification, chosen: Mapping[str, Classifier]
) -> list[dict[str, Any]]:
    rows = []
    for name, predictions in classification.predictions.items():
        thresholds = _thresholds(chosen[name])
        for p in predictions:
            threshold = thresholds.get(p.label)
            row: dict[str, Any] = {
                "classifier": name,
                "label": p.label,
                "score": p.score,
                "threshold": threshold,
                "match": threshold is not None and p.score >= threshold,
            }
            if p.span is not None:
                row["span"] = {"start": p.span.start, "end": p.span.end}
            rows.append(row)
    return rows


def explanations(
    content: str,
    classification: Classification,
    chosen: Mapping[str, Classifier],
    also: Collection[tuple[str, str]] = (),
) -> list[dict[str, Any]]:
    """The tokens that made each match, for classifiers that can say. Blocking.

    ``also`` names classifiers with labels that are explained whatever their score."""
    rows = []
    for name, predictions in classification.predictions.items():
        explain = getattr(chosen[name], "explain", None)
        if explain is None:
            continue
        thresholds = _thresholds(chosen[name])
        matches = _matches(predictions, thresholds)
        more = [p for p in predictions if (name, p.label) in also and p not in matches]
        for p in (*matches, *more):
            if p.label == OUT_OF_SCOPE:
                continue  # it is the lack of evidence: no token made it
            shares = [
                {"token": s.token, "start": s.start, "end": s.end, "share": s.share}
                for s in explain(content, p.label)
            ]
            rows.append({"classifier": name, "label": p.label, "tokens": shares})
    return rows


def _matches(
    predictions: Sequence[Prediction], thresholds: Mapping[str, float]
) -> list[Prediction]:
    return [p for p in predictions if p.score >= thresholds.get(p.label, 2.0)]


def _thresholds(classifier: Classifier) -> Mapping[str, float]:
    return classifier.thresholds(classifier.labels, DEFAULT_POINT)


async def models(gateway: Gateway, ask: Ask) -> dict[str, Any]:
    """Answer ``GET /v1/models``: the callable aliases, then the classifiers."""
    return {"object": "list", "data": list(_models(gateway, ask.ticket.caller).values())}


async def model(gateway: Gateway, ask: Ask) -> dict[str, Any]:
    """Answer ``GET /v1/models/{id}``. Raises NotFound."""
    found = _models(gateway, ask.ticket.caller).get(str(ask.params["id"]))
    if found is None:
        raise NotFound("No such model here, see /v1/models.", "model", "model_not_found")
    return found


def _models(gateway: Gateway, caller: Caller) -> dict[str, dict[str, Any]]:
    aliases = [entry.model_name for entry in gateway.config.model_list]
    aliases = [alias for alias in aliases if caller.may_call(alias)]
    ids = [*aliases, *(f"doorman/{name}" for name in gateway.engine.classifiers)]
    return {
        id: {"id": id, "object": "model", "created": gateway.created, "owned_by": "doorman"}
        for id in ids
    }
