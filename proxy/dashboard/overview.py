"""The first page: what today brought."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from proxy.dashboard.kit import Answer, Visit
from proxy.ledgers.read import DayTotal
from proxy.ledgers.rows import day_of
from proxy.ledgers.savings import taken
from proxy.ledgers.search import search

DAYS = 30
BLOCKS = 8
DAY = 86_400.0


@dataclass(frozen=True, slots=True)
class Today:
    """Totals of a day; ``actions`` are requests by action."""

    actions: Mapping[str, int]
    saved: float
    cost: float

    @property
    def count(self) -> int:
        """All requests."""
        return sum(self.actions.values())

    def of(self, action: str) -> int:
        """Requests with an action."""
        return self.actions.get(action, 0)


async def overview(visit: Visit) -> Answer:
    """Answer ``/dashboard``."""
    if visit.desk.reader is None:
        return visit.template("overview_none.html")
    now = time.time()
    daily = await visit.reader.totals(day_of(now - DAYS * DAY))
    blocks = await search(visit.reader, {"action": "block"}, limit=BLOCKS)
    today = [total for total in daily if total.day == day_of(now)]
    return visit.template(
        "overview.html",
        today=Today(
            {t.action: t.count for t in today},
            sum(t.saved_usd for t in today),
            sum(t.cost_usd for t in today),
        ),
        took=await taken(visit.reader, day_of(now)),
        days=by_day(daily),
        blocks=blocks.rows,
    )


def by_day(daily: Sequence[DayTotal]) -> dict[str, Any]:
    """A chart of requests by day, an area for each action."""
    days = sorted({total.day for total in daily})
    counts = {(total.day, total.action): total.count for total in daily}
    names = [
        name
        for name in ("forward", "redact", "route", "answer", "cache", "block", "error", "none")
        if any(total.action == name for total in daily)
    ]
    return {
        "x": [datetime.fromisoformat(day).replace(tzinfo=UTC).timestamp() for day in days],
        "time": True,
        "kind": "stack",
        "series": [
            {"label": name, "colour": name, "values": [counts.get((day, name), 0) for day in days]}
            for name in names
        ],
    }
