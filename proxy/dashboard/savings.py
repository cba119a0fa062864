"""The savings page: what was saved and by what, its mistakes, and what the gateway itself took."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any

from proxy.dashboard.kit import HOME, Answer, Visit
from proxy.ledgers.rows import day_of
from proxy.ledgers.savings import HOW, WAYS, Savings, grouped, savings
from proxy.upstream import ECHO

SAVINGS = f"{HOME}/savings"
SPANS = (7, 30, 90, 365)
"""Days that can be chosen."""
DAY = 86_400.0


async def page(visit: Visit) -> Answer:
    """Answer ``/dashboard/savings``."""
    days = visit.query.whole("days", 30, least=1, most=3660)
    since = day_of(time.time() - (days - 1) * DAY)
    by_day = await savings(visit.reader, since, "day")
    return visit.template(
        "savings.html",
        days=days,
        spans=SPANS,
        found=by_day,
        spent_on=spent_on(visit),
        chart=chart(by_day),
        policies=await grouped(visit.reader, since, "policy"),
        models=await grouped(visit.reader, since, "model"),
        how=HOW,
    )


def spent_on(visit: Visit) -> str:
    """What the dollars that were spent went to."""
    echoes = {entry.litellm_params.model == ECHO for entry in visit.gateway.config.model_list}
    if True not in echoes:
        return "on models"
    return "on models, of which doorman/echo is free" if len(echoes) > 1 else "doorman/echo is free"


def chart(found: Savings) -> dict[str, Any]:
    """Dollars by day, a part of each bar for each way."""
    return {
        "x": [datetime.fromisoformat(g.name).replace(tzinfo=UTC).timestamp() for g in found.groups],
        "time": True,
        "kind": "stack",
        "unit": "$",
        "series": [
            {"label": way, "colour": way, "values": [round(g.saved[way], 6) for g in found.groups]}
            for way in WAYS
            if any(group.saved[way] for group in found.groups)
        ],
    }
