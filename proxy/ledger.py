"""The record of each decision, and where records go: one structured log line each."""

from __future__ import annotations

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
from proxy.endpoints.leaves import shown

log = logging.getLogger("doorman.decisions")

MODEL_CHARS = 256
MOST_ENTRIES = 100
MOST_ADDRESSES = 50
CONTENT_BYTES = 40_000
"""How much of one request a record holds, so that none is over 64 KB: characters of the model's
name, texts and redactions, addresses of what was not read, bytes of hashed or plain texts."""


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
        decision_id: ``dec_...``, also in the header ``x-doorman-decision-id``.
        request_id: the client's ``x-request-id``, or one made here.
        key: name of the client's key; None where no keys are configured.
        endpoint: the API, ``chat.completions``.
        stream: whether the client asked for a stream.
        model: the alias that the client asked for.
        action: what happened, the word of the ``x-doorman-action`` header; ``none`` where the
            client left before a decision.
        status: HTTP status of the answer; 499 where the client left first.
        ended: ``complete``, ``client_left``, or the code of the error.
        policies: ``name@version`` of every attached policy.
        stages: ``input`` and ``output``, as far as they were reached: the decision of each, without
            user text.
        texts: how many texts of the request a classifier could read.
        unscanned: addresses of parts that no classifier can read (images, audio, files), which are
            forwarded as they are; the first 50, then ``and N more``.
        upstream_called: whether the request went on to a model.
        upstream_model: the model's name there, None if it was not called.
        provider: e.g. ``openai``; ``doorman`` for the embedded upstream; None if it was not called.
        upstream_status: HTTP status of the upstream, None if there is none.
        milliseconds: by step: ``classify_input``, ``evaluate_input``, ``upstream``,
            ``classify_output``, ``evaluate_output``, ``client`` (a stream waited for its reader),
            ``total``, and ``overhead``, the total without waiting for upstream and client.
        tokens: ``prompt``, ``completion`` and ``basis``: ``upstream`` where it counted them,
            ``estimated`` from characters where not; None without an upstream call that succeeded.
        cost_usd: what the upstream call cost by litellm's price map, None if it has no price.
        saved_usd: what was not spent, estimated; None if nothing was saved or a price is not known.
        saved_basis: how ``saved_usd`` was computed, in words.
        exposed_chars: characters of a stream's text that had left for the client when it ended or
            was blocked; None where no stream was passed on.
        content: hashes or texts, as ``record.content`` asks for: per text of the request ``address``,
            ``role``, and ``hmac_sha256`` or ``text``; empty for ``none``. At most 100 texts and 40 KB;
            then ``left_out`` is their number, and a text that is cut has ``cut``, the number of
            characters it lacks.

    Addresses hold indexes and the names of fields that the API knows, ``?`` for any other: a name
    that the client chose is the client's text.
    """

    time: float
    decision_id: str
    request_id: str
    key: str | None
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
            for r in decision.redactions[:MOST_ENTRIES]
        ],
        "redactions_left_out": max(0, len(decision.redactions) - MOST_ENTRIES),
        "tags": list(decision.tags),
        "fired": [_plain(cause) for cause in decision.fired],
        "shadow": [_plain(cause) for cause in decision.shadow],
        "errors": [_plain(error) for error in decision.errors],
    }


def _plain(value: Cause | RuleError) -> dict[str, Any]:
    # dataclasses.asdict copies in depth, which costs more than the rest of the record.
    plain = {field.name: getattr(value, field.name) for field in fields(value)}
    if isinstance(value, Cause):
        plain["address"] = tuple(shown(value.address))
    return plain


def first(items: Sequence[str], most: int) -> tuple[str, ...]:
    """The first of a list, and how many more there are."""
    if len(items) <= most:
        return tuple(items)
    return (*items[:most], f"and {len(items) - most} more")


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
        own = [text for text in texts if not text.derived]
        entries: list[dict[str, Any]] = []
        left = CONTENT_BYTES
        for text in own[:MOST_ENTRIES]:
            value = self._value(text.content, left)
            entries.append({"address": shown(text.address), "role": text.role, **value})
            left -= len(orjson.dumps(entries[-1]))
            if left <= 0:
                break
        if len(entries) < len(own):
            entries.append({"left_out": len(own) - len(entries)})
        return tuple(entries)

    def _value(self, content: str, left: int) -> dict[str, str | int]:
        if self._mode == "full":
            kept = content
            while (size := len(orjson.dumps(kept))) > left + 2:
                kept = kept[: len(kept) * left // size]
            missing = len(content) - len(kept)
            return {"text": kept, "cut": missing} if missing else {"text": kept}
        digest = hmac.digest(self._key, content.encode("utf-8", "surrogatepass"), "sha256")
        return {"hmac_sha256": digest.hex()}
