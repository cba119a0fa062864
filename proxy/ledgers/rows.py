"""From a record to its row, and from rows to what they add to totals per day. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, Literal

import orjson

from policies.decision import RANK
from proxy.ledger import Record

State = Literal["open", "interrupted", "done"]
Row = dict[str, Any]
"""Column -> value. One of a decision also has ``overhead_ms``, which goes into the measures alone."""

SUMS = ("prompt_tokens", "completion_tokens", "cost_usd", "saved_usd")
COUNTS = ("avoided", "unpriced", "uncosted")
"""Kinds of decisions that totals count besides all of them; :func:`kinds` says which those are."""
AVOIDING = ("block", "answer", "cache")
"""Actions that stand in the model's place, unless its reply was stopped."""
OVERHEAD = "overhead"
PER_DECADE = 20
"""Buckets of a tenfold time: a percentile that is read off them is at most 12 % too high."""
LEAST_MS = 0.01


def row_of(record: Record, state: State) -> Row:
    """A record as a row of ``doorman_decisions``, but for the instance that writes it.

    A decision that has not ended has neither status nor ``ended``.
    """
    stages = record.stages.values()
    deciding: Mapping[str, Any] = max(stages, key=lambda s: RANK[s["outcome"]], default={})
    cause = deciding.get("cause") or {}
    unread = deciding.get("unscannable") or {}
    done = state == "done"
    tokens = record.tokens
    row = {
        "decision_id": record.decision_id,
        "state": state,
        "time": record.time,
        "day": day_of(record.time),
        "action": record.action,
        "status": record.status if done else None,
        "ended": record.ended if done else None,
        "key": record.key,
        "model": record.model,
        "upstream_model": record.upstream_model,
        "endpoint": record.endpoint,
        "policy": cause.get("policy") or unread.get("policy"),
        "rule": cause.get("rule"),
        "classifier": cause.get("classifier"),
        "label": cause.get("label"),
        "score": cause.get("score"),
        "shadow": any(stage["shadow"] for stage in stages),
        "prompt_tokens": tokens.prompt if tokens else None,
        "completion_tokens": tokens.completion if tokens else None,
        "cost_usd": record.cost_usd,
        "saved_usd": record.saved_usd,
    }
    for name, value in row.items():
        if isinstance(value, str):
            row[name] = _storable(value)
    row["overhead_ms"] = record.milliseconds.get("overhead")
    row["record"] = orjson.dumps(record).decode()
    return row


def day_of(time: float) -> str:
    """The UTC day of a time, ``2026-01-31``."""
    return datetime.fromtimestamp(time, UTC).strftime("%Y-%m-%d")


def _storable(value: str) -> str:
    # A model's name is the client's text: PostgreSQL takes no NUL, neither takes half a surrogate.
    return value.replace("\x00", "\ufffd").encode("utf-8", "replace").decode()


def kinds(row: Row) -> tuple[bool, bool, bool]:
    """Of COUNTS: whether no model was called in its place; whether it saved what has no known price;
    whether it cost what has none."""
    action, counted = row["action"], row["prompt_tokens"] is not None
    avoided = action in AVOIDING and row["upstream_model"] is None
    saves = avoided or (action == "route" and counted)
    return avoided, saves and row["saved_usd"] is None, counted and row["cost_usd"] is None


def bucket_of(milliseconds: float) -> int:
    """The bucket of a time; it holds what is longer than ``limit_of`` the one before."""
    return math.ceil(PER_DECADE * math.log10(max(milliseconds, LEAST_MS) / LEAST_MS) - 1e-9)


def limit_of(bucket: int) -> float:
    """The longest time of a bucket, milliseconds."""
    return float(LEAST_MS * 10 ** (bucket / PER_DECADE))


def overheads(rows: Iterable[Row]) -> list[Row]:
    """What ended decisions add to ``doorman_measures``."""
    found: dict[tuple[str, int], Row] = {}
    for row in rows:
        took = row["overhead_ms"]
        if row["state"] != "done" or took is None:
            continue
        key = (row["day"], bucket_of(took))
        entry = found.get(key)
        if entry is None:
            entry = found[key] = {
                "day": key[0], "name": OVERHEAD, "bucket": key[1], "count": 0, "total": 0.0,
            }  # fmt: skip
        entry["count"] += 1
        entry["total"] += took
    return [found[key] for key in sorted(found)]


def totals(rows: Iterable[Row]) -> list[Row]:
    """What ended decisions add to ``doorman_daily``."""
    sums: dict[tuple[str, str, str, str], Row] = {}
    for row in rows:
        if row["state"] != "done":
            continue
        key = (row["day"], row["policy"] or "", row["model"], row["action"])
        total = sums.get(key)
        if total is None:
            names = dict(zip(("day", "policy", "model", "action"), key, strict=True))
            total = sums[key] = {**names, "count": 0, **dict.fromkeys((*SUMS, *COUNTS), 0)}
        total["count"] += 1
        for name, holds in zip(COUNTS, kinds(row), strict=True):
            total[name] += holds
        for name in SUMS:
            total[name] += row[name] or 0
    # In one order, so that two writers never wait for each other's rows crosswise.
    return [sums[key] for key in sorted(sums)]
