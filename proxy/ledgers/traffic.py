"""Recorded requests to be judged again, newest first, and what people said of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import orjson
from sqlalchemy import func, inspect, select

from proxy.ledgers.read import Reader
from proxy.ledgers.tables import decisions
from proxy.ledgers.tables_feedback import feedback

AT_ONCE = 100
"""Records in memory."""
Record = Mapping[str, Any]
"""A record as it was logged."""


async def count(reader: Reader, since: float, most: int) -> int:
    """How many decisions since a time (unix seconds) have ended, at most ``most``.

    Raises:
        Away: the ledger cannot be read.
    """
    found = (
        select(decisions.c.decision_id)
        .where(decisions.c.time >= since, decisions.c.state == "done")
        .limit(most)
        .subquery()
    )
    async with reader.connection() as connection:
        number: int = (
            await connection.execute(select(func.count()).select_from(found))
        ).scalar_one()
        return number


async def newest(reader: Reader, since: float, most: int) -> AsyncIterator[list[Record]]:
    """The records of the newest decisions since a time that have ended, some at a time.

    Raises:
        Away: the ledger cannot be read.
    """
    query = (
        select(decisions.c.record)
        .where(decisions.c.time >= since, decisions.c.state == "done")
        .order_by(decisions.c.time.desc(), decisions.c.decision_id.desc())
        .limit(most)
    )
    async with reader.connection() as connection:
        found = await connection.stream(query)
        async for rows in found.scalars().partitions(AT_ONCE):
            yield await asyncio.to_thread(_parsed, rows)


def _parsed(rows: Sequence[str]) -> list[Record]:
    return [orjson.loads(row) for row in rows]


async def opinions(reader: Reader, since: float) -> dict[str, bool]:
    """What people said of decisions since a time: whether they were right, by decision.

    That a decision was wrong counts once it was accepted. Where several speak, what was accepted counts,
    then the last one: that a client is content says nothing against it.

    Raises:
        Away: the ledger cannot be read.
    """
    wanted = [feedback.c.decision_id, feedback.c.verdict, feedback.c.state]
    query = (
        select(*wanted)
        .where(feedback.c.time >= since, feedback.c.state != "rejected")
        .order_by(feedback.c.state == "accepted", feedback.c.time)
    )
    async with reader.connection() as connection:
        if not await connection.run_sync(lambda sync: inspect(sync).has_table(feedback.name)):
            return {}  # a ledger of an earlier version, which nobody has migrated yet
        found = (await connection.execute(query)).all()
    return {
        row.decision_id: row.verdict == "correct"
        for row in found
        if row.verdict == "correct" or row.state == "accepted"
    }
