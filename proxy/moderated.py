"""The request field ``moderation`` of chat completions and responses: what a client asks to have scored,
or stopped, besides what the policies of the operator do.

It becomes one more policy of this request, so that it is decided, held back in streams and recorded as
any other is; it can add to the operator's policies and takes nothing away. The field is answered here
and does not go on to the model.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import orjson
from cachetools import LRUCache

from classifiers.types import MODERATION, Classifier, OperatingPoint, Stage
from policies.attached import Attached
from policies.decision import Decision
from policies.schema import BoundPolicy, bind, loads
from proxy.errors import InvalidRequest, Unavailable
from proxy.sse import Event, Parser, encode

FIELD = "moderation"
RESPONSES = "responses"
APIS = ("chat.completions", RESPONSES)
"""The APIs that know the field."""
CLASSIFIER = "safety"
Mode = Literal["score", "block"]
STAGES: tuple[Stage, ...] = ("input", "output")
NAME = "moderation"
"""Of the policy that the field becomes."""
SAID = "I can't help with that."
_ENDS = ("response.completed", "response.incomplete", "response.failed")
_MOST_EVENT = 1 << 26
DEFAULT_POINT = OperatingPoint()


@dataclass(slots=True)
class Moderated:
    """What one request asks for, and the answer to it.

    Attributes:
        api: name of the endpoint.
        policy: that does it.
        model: ``name@version`` of the classifier.
        thresholds: of its labels.
    """

    api: str
    policy: BoundPolicy
    model: str
    thresholds: Mapping[str, float]
    _parser: Parser = field(default_factory=lambda: Parser(_MOST_EVENT), repr=False)
    _head: dict[str, Any] = field(default_factory=dict, repr=False)

    def attached(self, own: Attached) -> Attached:
        """The policies of the operator, and this one after them."""
        return Attached((*own.policies, self.policy))

    def result(self, decision: Decision | None) -> dict[str, Any]:
        """What is said of a stage; scores below 0.01 are told as 0."""
        if decision is None:
            return _error(
                "not_generated", "There is no output: the request was answered without it."
            )
        scores: dict[str, float] = dict.fromkeys(MODERATION, 0.0)
        for seen in decision.seen:
            if decision.stage == "input" and seen.kind.role not in ("user", "tool"):
                continue  # what the operator of a chatbot wrote is not the user's
            found = seen.scores.get(self.model, {})
            if found is None:
                return _error("moderation_failed", "A classifier failed; nothing was scored.")
            for label, score in found.items():
                if label in scores:
                    scores[label] = max(scores[label], score)
        matches = {label: score >= self.thresholds[label] for label, score in scores.items()}
        model = f"doorman/{self.model}"
        one = {
            "type": "moderation_result",
            "model": model,
            "flagged": any(matches.values()),
            "categories": matches,
            "category_scores": scores,
            "category_applied_input_types": {label: ["text"] for label in scores},
        }
        # Their APIs differ: one result here, a list of them there.
        if self.api == RESPONSES:
            return one
        return {"type": "moderation_results", "model": model, "results": [one]}

    def into(self, body: Mapping[str, Any], decisions: Mapping[Stage, Decision]) -> dict[str, Any]:
        """A complete reply with the answer in it."""
        return {**body, FIELD: {stage: self.result(decisions.get(stage)) for stage in STAGES}}

    def into_bytes(self, body: bytes, decisions: Mapping[Stage, Decision]) -> bytes:
        """:meth:`into` for a reply as it would leave."""
        return orjson.dumps(self.into(orjson.loads(body), decisions))

    def into_stream(self, piece: bytes, decisions: Mapping[Stage, Decision]) -> bytes:
        """A piece of a stream, with the answer before its end: a chunk of its own without choices
        (chat), or in the response that the last event holds."""
        return b"".join(self._event(event, decisions) for event in self._parser.feed(piece))

    def _event(self, event: Event, decisions: Mapping[Stage, Decision]) -> bytes:
        if event.done:
            chunk = {"object": "chat.completion.chunk", "choices": []}
            return encode(self.into(chunk | self._head, decisions)) + event.raw
        body = event.json
        if body is None:
            return event.raw
        if body.get("object") == "chat.completion.chunk":
            self._head = {key: body[key] for key in ("id", "created", "model") if key in body}
        if body.get("type") in _ENDS and isinstance(response := body.get("response"), dict):
            return encode({**body, "response": self.into(response, decisions)}, name=event.name)
        return event.raw


def moderated(
    api: str, body: Mapping[str, Any], classifiers: Mapping[str, Classifier]
) -> Moderated | None:
    """What a request asks for in its field ``moderation``; None if it has none.

    Raises:
        InvalidRequest: the field does not have its form.
        Unavailable: the classifier of the categories is not loaded.
    """
    asked = body.get(FIELD)
    if api not in APIS or asked is None:
        return None
    policy = _object(
        _object(asked, FIELD, "model", "policy").get("policy"), f"{FIELD}.policy", *STAGES
    )
    modes = {stage: _mode(policy.get(stage), f"{FIELD}.policy.{stage}") for stage in STAGES}
    known = classifiers.get(CLASSIFIER)
    if known is None or not set(MODERATION) <= set(known.labels):
        raise Unavailable(
            "No classifier for moderation is loaded; add the pack `safety`.", "no_classifier"
        )
    return Moderated(
        api,
        _policy(known, modes["input"], modes["output"]),
        f"{CLASSIFIER}@{known.version}",
        known.thresholds(MODERATION, DEFAULT_POINT),
    )


_bound: LRUCache[tuple[int, Mode, Mode], tuple[Classifier, BoundPolicy]] = LRUCache(16)


def _policy(classifier: Classifier, input_mode: Mode, output_mode: Mode) -> BoundPolicy:
    key = id(classifier), input_mode, output_mode
    known = _bound.get(key)
    if known is None or known[0] is not classifier:
        known = _bound[key] = classifier, _bind(classifier, input_mode, output_mode)
    return known[1]


def _bind(classifier: Classifier, input_mode: Mode, output_mode: Mode) -> BoundPolicy:
    modes: dict[Stage, Mode] = {"input": input_mode, "output": output_mode}
    rules = [
        {
            "name": stage,
            "check": [stage],
            "when": {CLASSIFIER: list(MODERATION)},
            "do": {"block": SAID} if mode == "block" else {"flag": NAME},
        }
        for stage, mode in modes.items()
    ]
    written = {
        "name": NAME,
        "version": 1,
        "on_unscannable": "allow",  # the operator's policies say what becomes of that
        "stream_check": "hold" if output_mode == "block" else "after",
        "rules": rules,
    }
    # Written as text, as operators do: JSON is YAML.
    return bind(loads(orjson.dumps(written).decode(), FIELD), {CLASSIFIER: classifier})


def _object(value: Any, where: str, *keys: str) -> Mapping[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise InvalidRequest(f"`{where}` must be an object.", where)
    if not value.keys() <= set(keys):
        # A slip would otherwise mean that nothing is stopped; which one it is, is the client's text.
        raise InvalidRequest(f"`{where}` may have {' and '.join(keys)} alone.", where)
    return value


def _mode(value: Any, where: str) -> Mode:
    mode = _object(value, where, "mode").get("mode", "score")
    if mode not in get_args(Mode):
        raise InvalidRequest(f"`{where}.mode` must be `score` or `block`.", f"{where}.mode")
    found: Mode = mode
    return found


def _error(code: str, message: str) -> dict[str, Any]:
    return {"type": "error", "code": code, "message": message}
