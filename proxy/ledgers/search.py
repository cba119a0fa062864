"""Looking for decisions by several conditions at once, in bounded time however many there are.

There is an index for each condition alone. The one that reaches furthest back with ``LOOK`` of its
rows leads, and what those hold is looked through; who wants more goes on from there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from sqlalchemy import Boolean, ColumnElement, Select, func, literal, literal_column, null, select
from sqlalchemy.ext.asyncio import AsyncConnection

from proxy.ledgers.read import Reader, older
from proxy.ledgers.rows import Row
from proxy.ledgers.tables import FILTERS, decisions

SHADOW = "shadow"
SEARCHED = (*FILTERS, SHADOW)
"""Columns that can be asked for."""
LOOK = 2_000
"""Rows of the leading condition that one search looks through."""
LISTED = tuple(c.name for c in decisions.c if c.name not in ("record", "instance"))
"""Columns of a list: the record alone is larger than all others together."""

Cursor = tuple[float, str]
"""Time and id of the row after which to go on; rows are ordered by both, newest first."""


@dataclass(frozen=True, slots=True)
class Found:
    """A page of decisions, newest first.

    Attributes:
        rows: without their records.
        more: where to go on; None where there are no older ones.
    """

    rows: list[Row]
    more: Cursor | None


async def search(
    reader: Reader,
    conditions: Mapping[str, Any],
    *,
    limit: int,
    before: Cursor | None = None,
    since: float | None = None,
    look: int = LOOK,
) -> Found:
    """The newest decisions that fulfil all conditions; with several it may find few, and more beyond.

    Args:
        conditions: column of ``SEARCHED`` -> value; ``shadow`` counts whatever its value.
        before: where the page before ended.
        since: unix seconds; those that came later alone.

    Raises:
        Away: the ledger cannot be read.
    """
    async with reader.connection() as connection:
        lead, floor = None, since
        if len(conditions) > 1 and since is None:
            lead, floor = await _lead(connection, conditions, before, look)
        query = _matching(conditions, lead, before, floor)
        rows = [dict(row) for row in (await connection.execute(query.limit(limit))).mappings()]
    if len(rows) == limit:
        return Found(rows, (rows[-1]["time"], rows[-1]["decision_id"]))
    return Found(rows, None if floor is None or since is not None else (floor, ""))


async def answered_by(reader: Reader, ids: Sequence[str]) -> dict[str, str]:
    """The aliases of the models that answered, by decision, or were to; none where the record says none.

    Args:
        ids: of a page of decisions, at most: their records are read.

    Raises:
        Away: the ledger cannot be read.
    """
    query = select(decisions.c.decision_id, decisions.c.record).where(
        decisions.c.decision_id.in_(ids)
    )
    async with reader.connection() as connection:
        rows = list(await connection.execute(query)) if ids else []

    def read() -> dict[str, str]:
        return {id: alias for id, record in rows if (alias := _alias(orjson.loads(record)))}

    return await asyncio.to_thread(read)


def _alias(record: Mapping[str, Any]) -> str:
    """Who answered: the last that was tried, else where a rule sent it."""
    if attempts := record.get("attempts"):
        return str(attempts[-1]["alias"])
    stages: Mapping[str, Any] = record.get("stages") or {}
    return next((str(s["route"]) for s in stages.values() if s.get("route")), "")


async def _lead(
    connection: AsyncConnection, conditions: Mapping[str, Any], before: Cursor | None, look: int
) -> tuple[str, float | None]:
    """The condition to search by, and the time down to which; None: all of its rows."""
    reach: dict[str, float | None] = {}
    for name, value in conditions.items():
        query = select(decisions.c.time).where(_holds(name, value))
        if before is not None:
            query = query.where(decisions.c.time <= before[0])
        query = query.order_by(decisions.c.time.desc()).offset(look).limit(1)
        reach[name] = (await connection.execute(query)).scalar_one_or_none()
        if reach[name] is None:
            return name, None
    lead = min(reach, key=lambda name: reach[name] or 0.0)
    return lead, reach[lead]


def _matching(
    conditions: Mapping[str, Any], lead: str | None, before: Cursor | None, floor: float | None
) -> Select[Any]:
    query = select(*(decisions.c[name] for name in LISTED))
    for name, value in conditions.items():
        query = query.where(_holds(name, value, led=lead not in (None, name)))
    if before is not None:
        query = query.where(older(*before))
    if floor is not None:
        query = query.where(decisions.c.time >= floor)
    return query.order_by(decisions.c.time.desc(), decisions.c.decision_id.desc())


def _holds(name: str, value: Any, *, led: bool = False) -> ColumnElement[bool]:
    """A condition; ``led``: of rows that another one has found, so that no index is used for it."""
    column = decisions.c[name]
    if name == SHADOW:
        if led:
            return func.coalesce(column, literal(False)).is_(True)
        # As the index has it written: SQLite sees no other way that it fits.
        return literal_column("shadow", Boolean)
    holds: ColumnElement[bool] = func.coalesce(column, null()) == value if led else column == value
    return holds
