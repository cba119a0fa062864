"""The record of each decision, and where records go: one structured log line each."""

from __future__ import annotations

import hashlib
import hmac
import logging
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Literal, Protocol

import orjson

from classifiers.types import Text
from policies.decision import Cause, Decision, RuleError
from proxy.config import RecordConfig

log = logging.getLogger("doorman.decisions")


@dataclass(frozen=True, slots=True)
class Tokens:
    """Token counts. ``basis`` is ``upstream`` (counted there) or ``estimated`` (from characters)."""

    prompt: int
    completion: int
    basis: Literal["upstream", "estimated"]


@dataclass(frozen=True, slots=True)
class Record:
    """One request, as it is accounted for.

    Attributes:
        time: unix seconds at which the request came.
        action: what happened, the word of the ``x-doorman-action`` header.
        status: HTTP status of the answer; 499 where the client left first.
        ended: ``complete``, ``client_left``, or the code of the error.
        policies: ``name@version`` of every attached policy.
        stages: the decision of each stage that was reached, without user text.
        unscanned: addresses of parts that no classifier can read (images, audio, files).
        milliseconds: by step; ``overhead`` is the total without waiting for upstream.
        cost_usd: what the upstream call cost by litellm's price map, None if it has no price.
        saved_usd: what was not spent; ``saved_basis`` says how that was computed.
        content: hashes or texts, as ``record.content`` asks for.
    """

    time: float
    decision_id: str
    request_id: str
    key: str
    endpoint: str
    stream: bool
    model: str
    action: str
    status: int
    ended: str
    policies: tuple[str, ...] = ()
    stages: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    texts: int = 0
    unscanned: tuple[str, ...] = ()
    upstream_called: bool = False
    upstream_model: str | None = None
    provider: str | None = None
    upstream_status: int | None = None
    milliseconds: Mapping[str, float] = field(default_factory=dict)
    tokens: Tokens | None = None
    cost_usd: float | None = None
    saved_usd: float | None = None
    saved_basis: str | None = None
    exposed_chars: int | None = None
    content: tuple[Mapping[str, Any], ...] = ()


class Ledger(Protocol):
    """Where records go. Must not block: it is called on the event loop."""

    def write(self, record: Record) -> None:
        """Keep a record."""
        ...


class LogLedger:
    """Writes each record as one JSON line to the logger ``doorman.decisions``."""

    def write(self, record: Record) -> None:
        """Keep a record."""
        if log.isEnabledFor(logging.INFO):
            log.info("%s", orjson.dumps(record).decode())


def stage(decision: Decision) -> dict[str, Any]:
    """A decision for the record: everything but the operator's reply and the placeholders."""
    return {
        "outcome": decision.outcome,
        "cause": None if decision.cause is None else _plain(decision.cause),
        "route": decision.route,
        "redactions": [
            {"text": r.text, "start": r.start, "end": r.end, "label": r.label}
            for r in decision.redactions
        ],
        "tags": list(decision.tags),
        "fired": [_plain(cause) for cause in decision.fired],
        "shadow": [_plain(cause) for cause in decision.shadow],
        "errors": [_plain(error) for error in decision.errors],
    }


def _plain(value: Cause | RuleError) -> dict[str, Any]:
    # dataclasses.asdict copies in depth, which costs more than the rest of the record.
    return {field.name: getattr(value, field.name) for field in fields(value)}


class ContentPolicy:
    """What of the texts themselves goes into a record: nothing, keyed hashes, or all."""

    def __init__(self, config: RecordConfig) -> None:
        self._mode = config.content
        given = config.hash_key.get_secret_value().encode() if config.hash_key else None
        # Without a key, anybody with the log could test guesses; a random one is the safe default.
        self._key = given or secrets.token_bytes(32)

    def of(self, texts: Sequence[Text]) -> tuple[dict[str, Any], ...]:
        """One entry per text, or none at all."""
        if self._mode == "none":
            return ()
        return tuple(
            {"address": list(text.address), "role": text.role, **self._value(text.content)}
            for text in texts
        )

    def _value(self, content: str) -> dict[str, str]:
        if self._mode == "full":
            return {"text": content}
        digest = hmac.new(self._key, content.encode("utf-8", "surrogatepass"), hashlib.sha256)
        return {"hmac_sha256": digest.hexdigest()}
