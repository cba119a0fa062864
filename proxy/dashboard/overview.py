"""The first page: what today brought."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from proxy.dashboard.kit import Answer, Visit
from proxy.dashboard.savings import spent_on
from proxy.ledgers.read import DayTotal
from proxy.ledgers.rows import day_of
from proxy.ledgers.savings import savings
from proxy.ledgers.search import search

DAYS = 30
BLOCKS = 8
DAY = 86_400.0


async def overview(visit: Visit) -> Answer:
    """Answer ``/dashboard``."""
    if visit.desk.reader is None:
        return visit.template("overview_none.html")
    now = time.time()
    daily = await visit.reader.totals(day_of(now - DAYS * DAY))
    blocks = await search(visit.reader, {"action": "block"}, limit=BLOCKS)
    return visit.template(
        "overview.html",
        # As the savings page has it, so that both say the same.
        found=await savings(visit.reader, day_of(now)),
        actions_today={t.action: t.count for t in daily if t.day == day_of(now)},
        spent_on=spent_on(visit),
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
