"""The list of decisions: newest first, filtered, and kept up to date while it is looked at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlencode

from classifiers.types import Classifier
from policies.schema import BoundPolicy
from proxy.dashboard.fields import Fields
from proxy.dashboard.kit import HOME, Answer, Visit
from proxy.dashboard.shown import ACTIONS
from proxy.errors import InvalidRequest
from proxy.ledgers.rows import Row
from proxy.ledgers.search import SEARCHED, SHADOW, Cursor, answered_by, search

DECISIONS = f"{HOME}/decisions"
PAGE, MOST = 50, 200
"""Rows of a page, and of one look for new ones."""
MOST_OFFERED = 500
"""Names that a field offers."""
_LONGEST = 300


async def decisions(visit: Visit) -> Answer:
    """Answer ``/dashboard/decisions``."""
    asked = filters(visit.query)
    before = cursor(visit.query)
    found = await search(visit.reader, asked, limit=PAGE, before=before)
    address = f"{DECISIONS}?{urlencode(written(visit.query))}"
    more = found.more and {"before": repr(found.more[0]), "id": found.more[1]}
    return visit.template(
        "decisions.html",
        rows=found.rows,
        routed=await routed(visit, found.rows),
        filters=written(visit.query),
        offered=await offered(visit),
        live=before is None,
        newest=address if before is not None else "",
        older=f"{DECISIONS}?{urlencode({**written(visit.query), **more})}" if more else "",
        few=found.more is not None and len(found.rows) < PAGE,
        new=f"{DECISIONS}/new?{urlencode(written(visit.query))}",
    )


async def new(visit: Visit) -> Answer:
    """Answer ``/dashboard/decisions/new``: the rows since a time, to be put before those that are shown."""
    since = visit.query.number("since", 0)
    found = await search(visit.reader, filters(visit.query), limit=MOST, since=since)
    aliases = await routed(visit, found.rows)
    return visit.template("decision_rows.html", rows=found.rows, routed=aliases)


async def routed(visit: Visit, rows: Sequence[Row]) -> dict[str, str]:
    """By decision the alias that answered in place of the one that was asked."""
    return await answered_by(
        visit.reader, [row["decision_id"] for row in rows if row["action"] == "route"]
    )


def written(query: Fields) -> dict[str, str]:
    """The filters of an address, as they were written."""
    return {name: query.text(name)[:_LONGEST] for name in SEARCHED if query.text(name)}


def filters(query: Fields) -> dict[str, Any]:
    """The filters of an address, as the ledger takes them. Raises InvalidRequest."""
    asked: dict[str, Any] = dict(written(query))
    if "status" in asked:
        asked["status"] = query.whole("status", 0, least=100, most=599)
    if SHADOW in asked:
        asked[SHADOW] = True
    return {name: _storable(value) for name, value in asked.items()}


def cursor(query: Fields) -> Cursor | None:
    """Where the page before ended. Raises InvalidRequest."""
    if not query.text("before"):
        return None
    id = query.text("id")
    if len(id) > _LONGEST or not id.isascii():
        raise InvalidRequest("`id` is none of a decision.", "id")
    return query.number("before", 0), id


async def offered(visit: Visit) -> Mapping[str, list[str]]:
    """What the fields of the filters offer: what there is now; what there was can be typed."""
    policies, classifiers = visit.gateway.policies.current, visit.gateway.engine.classifiers
    keys = [key.name for key in visit.gateway.config.keys]
    keys += [key.name for key in await visit.keys.all() if key.why is None]
    return {
        "action": list(ACTIONS),
        "model": list(visit.gateway.aliases),
        "policy": [policy.id for policy in policies],
        "rule": sorted({rule.name for policy in policies for rule in policy.policy.rules}),
        "label": _labels(policies, classifiers),
        "key": sorted(keys),
    }


def _labels(policies: tuple[BoundPolicy, ...], classifiers: Mapping[str, Classifier]) -> list[str]:
    asked = frozenset[str]().union(*(policy.classifiers for policy in policies))
    labels = {label for name in asked if name in classifiers for label in classifiers[name].labels}
    return sorted(labels)[:MOST_OFFERED]


def _storable(value: Any) -> Any:
    # PostgreSQL takes no NUL.
    return value.replace("\x00", "") if isinstance(value, str) else value
