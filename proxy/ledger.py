"""The record of each decision, and where records go: one structured log line each."""

from __future__ import annotations

import hmac
import logging
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal, Protocol

import orjson

from classifiers.types import Classification, Text
from policies.decision import Cause, Decision, RuleError
from policies.seen import Seen
from proxy.config import RecordConfig
from proxy.endpoints.leaves import shown
from proxy.fallbacks import Attempt

log = logging.getLogger("doorman.decisions")

PERSONAL = "pii"
"""The classifier without whose look at it no text counts as redacted."""
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
        endpoint: the API: ``chat.completions``, ``completions``, ``embeddings`` or another guarded one.
        stream: whether the client asked for a stream.
        model: the alias that the client asked for; ``?`` where there is none of that name.
        action: what happened, the word of the ``x-doorman-action`` header; ``cache`` where a stored
            reply was the answer; ``none`` where the
            client left before a decision.
        status: HTTP status of the answer; 499 where the client left first.
        ended: ``complete``, ``client_left``, or the code of the error.
        policies: ``name@version`` of every attached policy.
        stages: ``input`` and ``output``, as far as they were reached: the decision of each, without
            user text.
        texts: how many texts of the request a classifier could read.
        unscanned: addresses of parts that no classifier has read (images, audio, files, links to
            them, encrypted content); those of a reply begin with ``reply``. A policy has stopped them
            (``unscannable`` of the stage), or let them through as they are. The first 50, then
            ``and N more``.
        upstream_called: whether the request went on to a model.
        upstream_model: the name there of the model that answered or was asked last, None if none was
            called.
        provider: e.g. ``openai``; ``doorman`` for the embedded upstream; None if it was not called.
        attempts: every try to get an answer, in order: ``alias`` and ``model``, ``outcome`` (HTTP
            status, or the code of the fault) and ``seconds`` until then.
        upstream_status: HTTP status of the upstream, None if there is none.
        milliseconds: by step: ``classify_input``, ``evaluate_input``, ``cache``, ``ledger`` (until the
            decision was committed), ``upstream``, ``classify_output``, ``evaluate_output``,
            ``client`` (a stream waited for its reader), ``total``, and ``overhead``, the total without
            waiting for upstream and client.
        tokens: ``prompt``, ``completion`` and ``basis``: ``upstream`` where it counted them,
            ``estimated`` from characters where not; None without an upstream call that succeeded.
        cost_usd: what the upstream call cost by litellm's price map, None if it has no price.
        saved_usd: what was not spent, estimated; None if nothing was saved or a price is not known.
        saved_basis: how ``saved_usd`` was computed, in words.
        exposed_chars: characters of a stream's text that had left for the client when it ended or
            was blocked; None where no stream was passed on.
        stream_check: when the output rules looked at the reply, a stream: ``hold`` (before a text left),
            ``after`` (while it went) or ``off`` (never: nobody has checked it, and ``stages`` has no
            ``output``). The strictest of all attached policies; None for replies that are no stream,
            and where no policy has output rules.
        unchecked: ``name@version`` of the policies whose output rules did not look at the reply because
            it was a stream (``stream_check: off``).
        content: hashes or texts, as ``record.content`` asks for: per text of the request ``address``,
            ``role``, and ``hmac_sha256`` or ``text`` (either, for ``redacted``); empty for ``none``. At
            most 100 texts and 40 KB;
            then ``left_out`` is their number, and a text that is cut has ``cut``, the number of
            characters it lacks.
        cache: where a cache was asked: ``outcome`` (``hit`` or ``miss``); of a hit also ``kind``
            (``exact`` or ``semantic``), ``decision_id`` of the request that the model answered,
            ``age_seconds``, ``similarity`` (the cosine of the two questions) and the tokens of that
            call; of a miss whether the reply was ``kept``. None where none was asked.

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
    attempts: tuple[Attempt, ...] = ()
    upstream_status: int | None = None
    milliseconds: Mapping[str, float] = field(default_factory=dict)
    tokens: Tokens | None = None
    cost_usd: float | None = None
    saved_usd: float | None = None
    saved_basis: str | None = None
    exposed_chars: int | None = None
    stream_check: str | None = None
    unchecked: tuple[str, ...] = ()
    content: tuple[Mapping[str, Any], ...] = ()
    cache: Mapping[str, Any] | None = None


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
            # Made here, because log.info looks through the stack for its caller.
            line = orjson.dumps(record).decode()
            log.handle(logging.LogRecord(log.name, logging.INFO, "", 0, "%s", (line,), None))


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
        "unscannable": None if decision.unscannable is None else asdict(decision.unscannable),
        "seen": [_seen(seen) for seen in decision.seen],
    }


def _seen(seen: Seen) -> dict[str, Any]:
    kind = seen.kind
    return {
        "role": kind.role,
        "last_turn": kind.last_turn,
        "across": kind.across,
        "derived": kind.derived,
        "texts": seen.texts,
        "scores": seen.scores,
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
    """What of the texts themselves goes into a record: nothing, keyed hashes, parts, or all."""

    def __init__(self, config: RecordConfig) -> None:
        self._mode = config.content
        given = config.hash_key.get_secret_value().encode() if config.hash_key else None
        # Without a key, anybody with the log could test guesses; a random one is the safe default.
        self._keyed = hmac.new(given or secrets.token_bytes(32), digestmod="sha256")

    @property
    def redacts(self) -> bool:
        """Whether it depends on what was found in the texts."""
        return self._mode == "redacted"

    def of(
        self, texts: Sequence[Text], found: Sequence[Classification] = ()
    ) -> tuple[dict[str, Any], ...]:
        """One entry per text, or none at all.

        Args:
            found: by text, what classifiers found in it; empty before they were asked.
        """
        if self._mode == "none":
            return ()
        own = [(text, n) for n, text in enumerate(texts) if not text.derived]
        entries: list[dict[str, Any]] = []
        left = CONTENT_BYTES
        for text, n in own[:MOST_ENTRIES]:
            shown_text: str | None = text.content if self._mode == "full" else None
            if self._mode == "redacted" and found:
                shown_text = redacted(text.content, found[n])
            value = self._hash(text.content) if shown_text is None else _cut(shown_text, left)
            entries.append({"address": shown(text.address), "role": text.role, **value})
            left -= len(orjson.dumps(entries[-1]))
            if left <= 0:
                break
        if len(entries) < len(own):
            entries.append({"left_out": len(own) - len(entries)})
        return tuple(entries)

    def hash_of(self, content: str) -> str:
        """The keyed hash of a text, hexadecimal."""
        keyed = self._keyed.copy()  # takes half the time of the key's own part
        keyed.update(content.encode("utf-8", "surrogatepass"))
        return keyed.hexdigest()

    def _hash(self, content: str) -> dict[str, str | int]:
        return {"hmac_sha256": self.hash_of(content)}


def _cut(content: str, left: int) -> dict[str, str | int]:
    """A text, and how many characters of it are missing beyond so many bytes of JSON."""
    kept = content
    while (size := len(orjson.dumps(kept))) > left + 2:
        kept = kept[: len(kept) * left // size]
    missing = len(content) - len(kept)
    return {"text": kept, "cut": missing} if missing else {"text": kept}


def redacted(content: str, found: Classification) -> str | None:
    """A text with ``[LABEL]`` for everything that any classifier has pointed at.

    None where ``pii`` has not looked at it, or one of those that did has failed.
    """
    if PERSONAL not in found.predictions or found.errors:
        return None
    finds = sorted(
        (find.span.start, -find.span.end, find.label)
        for predictions in found.predictions.values()
        for find in predictions
        if find.span is not None
    )
    pieces, at = [], 0
    for start, negative_end, label in finds:
        if start >= at:
            pieces += [content[at:start], f"[{label}]"]
        at = max(at, -negative_end)
    return "".join(pieces) + content[at:]
