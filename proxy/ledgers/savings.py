"""What was saved, and what that is worth: read from totals per day, so that a million rows cost nothing.

Every figure is of requests that have ended, by UTC days.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

from sqlalchemy import Select, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from proxy.ledgers.read import Reader
from proxy.ledgers.rows import AVOIDING, OVERHEAD, limit_of
from proxy.ledgers.store import CPU
from proxy.ledgers.tables import daily, decisions, measures
from proxy.ledgers.traffic import opinions

By = Literal["day", "policy", "model"]
WAYS = (*AVOIDING, "route")
"""Ways to save: three in place of a call, and the route to a cheaper model."""
HOW: Mapping[str, str] = {
    "requests": "All that have ended, refusals and errors included.",
    "avoided": "Requests that a block, an answer or the cache has ended without a call of the model. "
    "Replies that were stopped after the model had written them are not among them.",
    "stopped": "Those replies: the model had written them, and a rule withheld or replaced them. They were "
    "paid for.",
    "block, answer": "Tokens of the prompt, estimated as a quarter of its characters, and a reply of "
    "record.estimated_completion_tokens tokens (or the request's own limit, if that is less), at the "
    "prices of the model that was asked for.",
    "cache": "What the call that wrote the stored reply cost, by the price map.",
    "route": "Tokens that were used, at the price of the model that was asked for, less that of the one "
    "that answered; below zero where that one is dearer.",
    "cost": "Tokens that the upstream counted (estimated from characters where it did not), by litellm's "
    "price map. The built-in doorman/echo costs nothing; what is saved before it is reckoned at the price "
    "of the model that it stands for (model_info.base_model), to show what that would be.",
    "unpriced": "Requests that saved something whose price is not known; they add nothing to the dollars. "
    "Name a model of the price map in model_info.base_model.",
    "uncosted": "Calls whose price is not known; they add nothing to the cost.",
    "mistakes": "Decisions that people have called wrong, confirmed by an admin, whether or not there was "
    "something to train. Of decisions on one text that were judged together, one is counted. What a wrong "
    "block, answer or route had saved is taken off; what a request has cost that should not have been "
    "forwarded stands beside it.",
    "latency": "Time in the gateway without waiting for the model and the client. Percentiles are read "
    "off buckets, and are at most 12 % too high.",
    "cpu": "CPU time of the gateway's processes from their start, loading of models left out.",
}
"""How each figure is computed."""
AT_ONCE = 500


@dataclass(slots=True)
class Sums:
    """Figures of a day, a policy, a model or all of them.

    Attributes:
        name: which one; empty where no rule decided.
        avoided: calls that were not made, by way.
        stopped: replies that the model had written, and a rule withheld or replaced.
        routed: requests that another model answered.
        saved: dollars by way, see WAYS.
        unpriced, uncosted: see HOW.
    """

    name: str
    requests: int = 0
    avoided: dict[str, int] = field(default_factory=lambda: dict.fromkeys(AVOIDING, 0))
    stopped: int = 0
    routed: int = 0
    saved: dict[str, float] = field(default_factory=lambda: dict.fromkeys(WAYS, 0.0))
    cost_usd: float = 0.0
    unpriced: int = 0
    uncosted: int = 0

    @property
    def avoided_calls(self) -> int:
        """Calls that were not made."""
        return sum(self.avoided.values())

    @property
    def saved_usd(self) -> float:
        """Dollars of all ways."""
        return sum(self.saved.values())

    def add(self, row: Mapping[str, Any]) -> None:
        """Take in the totals of one action."""
        action = row["action"]
        self.requests += row["count"]
        if action in self.avoided:
            self.avoided[action] += row["avoided"]
            self.stopped += row["count"] - row["avoided"]
        self.routed += row["count"] if action == "route" else 0
        # What a routed request saved stands with it, whatever was decided of its reply.
        self.saved[action if action in self.saved else "route"] += row["saved_usd"]
        self.cost_usd += row["cost_usd"]
        self.unpriced += row["unpriced"]
        self.uncosted += row["uncosted"]

    def take(self, other: Sums) -> None:
        """Take in another group's."""
        for way, count in other.avoided.items():
            self.avoided[way] += count
        for way, dollars in other.saved.items():
            self.saved[way] += dollars
        for name in ("requests", "stopped", "routed", "cost_usd", "unpriced", "uncosted"):
            setattr(self, name, getattr(self, name) + getattr(other, name))


@dataclass(frozen=True, slots=True)
class Mistakes:
    """What people said of decisions.

    Attributes:
        checked: decisions that people have called right, or wrong in a correction that counts.
        wrong: those that count as corrections, by action.
        saved_usd: dollars that wrong blocks, answers and routes had saved.
        cost_usd: dollars that requests have cost which should not have been forwarded.
        unpriced: wrong decisions whose saving has no known price, or that retention has deleted.
    """

    checked: int
    wrong: Mapping[str, int]
    saved_usd: float
    cost_usd: float
    unpriced: int


@dataclass(frozen=True, slots=True)
class Taken:
    """What the gateway itself took. Milliseconds are None without requests."""

    requests: int
    mean_ms: float | None
    p50_ms: float | None
    p95_ms: float | None
    p99_ms: float | None
    cpu_seconds: float


@dataclass(frozen=True, slots=True)
class Savings:
    """The report.

    Attributes:
        since: the first UTC day.
        groups: by day, the oldest first; by policy or model, those with the most requests first.
        unpriced: requests whose saving has no known price, by the model that was asked for.
    """

    since: str
    by: By
    total: Sums
    groups: Sequence[Sums]
    unpriced: Mapping[str, int]
    mistakes: Mistakes
    taken: Taken

    @property
    def net_usd(self) -> float:
        """Dollars that were saved by decisions that nobody has called wrong."""
        return self.total.saved_usd - self.mistakes.saved_usd


async def savings(reader: Reader, since: str, by: By = "day") -> Savings:
    """The report from a UTC day (``2026-01-31``) on.

    Raises:
        Away: the ledger cannot be read.
    """
    mistakes = await _mistakes(reader, since)
    groups, total = await grouped(reader, since, by), Sums("all")
    for group in groups:
        total.take(group)
    async with reader.connection() as connection:
        unpriced, taken = await _unpriced(connection, since), await _taken(connection, since)
    return Savings(since, by, total, groups, unpriced, mistakes, taken)


async def grouped(reader: Reader, since: str, by: By) -> list[Sums]:
    """The sums alone, from a UTC day on: by day, or by policy or model with the most requests first.

    Raises:
        Away: the ledger cannot be read.
    """
    groups: dict[str, Sums] = {}
    async with reader.connection() as connection:
        for row in (await connection.execute(_totals(since, by))).mappings():
            groups.setdefault(row["name"], Sums(row["name"])).add(row)
    return sorted(groups.values(), key=lambda g: (0 if by == "day" else -g.requests, g.name))


def _totals(since: str, by: By) -> Select[Any]:
    names = ("count", "avoided", "saved_usd", "cost_usd", "unpriced", "uncosted")
    group = daily.c[by].label("name")
    return (
        select(group, daily.c.action, *(func.sum(daily.c[name]).label(name) for name in names))
        .where(daily.c.day >= since)
        .group_by(daily.c[by], daily.c.action)
    )


async def _unpriced(connection: AsyncConnection, since: str) -> dict[str, int]:
    count = func.sum(daily.c.unpriced)
    query = (
        select(daily.c.model, count)
        .where(daily.c.day >= since, daily.c.unpriced > 0)
        .group_by(daily.c.model)
        .order_by(count.desc(), daily.c.model)
    )
    return {model: int(number) for model, number in await connection.execute(query)}


async def _mistakes(reader: Reader, since: str) -> Mistakes:
    """People say little, compared with what is decided: what they speak of is looked up one by one."""
    said = await opinions(reader, datetime.fromisoformat(since).replace(tzinfo=UTC).timestamp())
    wanted = [id for id, right in said.items() if not right]
    found: dict[str, Any] = {}
    columns = [
        decisions.c[name] for name in ("decision_id", "day", "action", "saved_usd", "cost_usd")
    ]
    async with reader.connection() as connection:
        for at in range(0, len(wanted), AT_ONCE):
            query = select(*columns).where(decisions.c.decision_id.in_(wanted[at : at + AT_ONCE]))
            rows = (await connection.execute(query)).mappings()
            found |= {row["decision_id"]: row for row in rows}
    wrong: dict[str, int] = {}
    saved, cost, unpriced = 0.0, 0.0, len(wanted) - len(found)
    for row in found.values():
        if row["day"] < since:
            continue
        action = row["action"]
        wrong[action] = wrong.get(action, 0) + 1
        if action in WAYS:
            saved += row["saved_usd"] or 0.0
            unpriced += row["saved_usd"] is None
        else:
            cost += row["cost_usd"] or 0.0
    return Mistakes(len(said), dict(sorted(wrong.items())), saved, cost, unpriced)


async def taken(reader: Reader, since: str) -> Taken:
    """What the gateway itself took from a UTC day on. Raises Away."""
    async with reader.connection() as connection:
        return await _taken(connection, since)


async def _taken(connection: AsyncConnection, since: str) -> Taken:
    query = (
        select(
            measures.c.name,
            measures.c.bucket,
            func.sum(measures.c["count"]),
            func.sum(measures.c.total),
        )
        .where(measures.c.day >= since)
        .group_by(measures.c.name, measures.c.bucket)
        .order_by(measures.c.name, measures.c.bucket)
    )
    cpu, total = 0.0, 0.0
    buckets: list[tuple[int, int]] = []
    for name, bucket, count, sum_ in await connection.execute(query):
        if name == CPU:
            cpu += sum_
        elif name == OVERHEAD:
            buckets.append((bucket, int(count)))
            total += sum_
    count = sum(number for _, number in buckets)
    half, most, nearly_all = (percentile(buckets, share) for share in (0.5, 0.95, 0.99))
    return Taken(count, total / count if count else None, half, most, nearly_all, cpu)


def percentile(buckets: Sequence[tuple[int, int]], share: float) -> float | None:
    """Milliseconds within which a share of all requests lies; None without any.

    Args:
        buckets: each with its count, in order.
    """
    left = share * sum(count for _, count in buckets)
    for bucket, count in buckets:
        left -= count
        if left <= 0:
            return limit_of(bucket)
    return None
