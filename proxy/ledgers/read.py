"""What is read of a ledger: pages of decisions, newest first, and single ones."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Select, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from proxy.ledgers.database import Away, Place, faults
from proxy.ledgers.rows import Row
from proxy.ledgers.tables import daily, decisions

PAGE = 100


@dataclass(frozen=True, slots=True)
class DayTotal:
    """The requests of a UTC day with one action."""

    day: str
    action: str
    count: int
    saved_usd: float
    cost_usd: float


class Reader:
    """Reads beside the gateway that writes. All methods raise :class:`Away`."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._engine = place.engine(write=False)

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[AsyncConnection]:
        """One consistent view of the ledger."""
        if self._place.file is not None and not self._place.file.is_file():
            raise Away(f"there is no file {self._place.file.name}")
        async with faults(), self._engine.connect() as connection:
            yield connection

    async def page(
        self,
        filters: Mapping[str, Any] | None = None,
        *,
        limit: int = PAGE,
        before: tuple[float, str] | None = None,
    ) -> list[Row]:
        """The newest decisions first.

        Args:
            filters: column -> value; all must be equal.
            before: time and id of the last row of the page before.
        """
        query = _where(select(decisions), filters or {})
        if before is not None:
            query = query.where(older(*before))
        newest = (decisions.c.time.desc(), decisions.c.decision_id.desc())
        async with self.connection() as connection:
            found = await connection.execute(query.order_by(*newest).limit(limit))
            return [dict(row) for row in found.mappings()]

    async def one(self, decision_id: str) -> Row | None:
        """A decision by its id."""
        query = select(decisions).where(decisions.c.decision_id == decision_id)
        async with self.connection() as connection:
            row = (await connection.execute(query)).mappings().one_or_none()
            return None if row is None else dict(row)

    async def time_of_row(self, number: int) -> float | None:
        """The time of the oldest of the ``number`` newest decisions; None if there are no more."""
        query = (
            select(decisions.c.time)
            .order_by(decisions.c.time.desc(), decisions.c.decision_id.desc())
            .offset(number - 1)
            .limit(2)
        )
        async with self.connection() as connection:
            times: Sequence[float] = (await connection.execute(query)).scalars().all()
            return times[0] if len(times) == 2 else None

    async def totals(self, since: str) -> list[DayTotal]:
        """The totals per day and action from a UTC day on, the oldest first."""
        sums = [func.sum(daily.c[name]).label(name) for name in DayTotal.__slots__[2:]]
        by = (daily.c.day, daily.c.action)
        query = select(*by, *sums).where(daily.c.day >= since).group_by(*by).order_by(*by)
        async with self.connection() as connection:
            return [DayTotal(**row) for row in (await connection.execute(query)).mappings()]

    async def close(self) -> None:
        """Close the connections."""
        await self._engine.dispose()


def _where(query: Select[Any], filters: Mapping[str, Any]) -> Select[Any]:
    for name, value in filters.items():
        query = query.where(decisions.c[name] == value)
    return query


def older(time: float, decision_id: str) -> ColumnElement[bool]:
    """Decisions that stand after this one, newest first. Bounded by time alone for the index."""
    same = (decisions.c.time < time) | (decisions.c.decision_id < decision_id)
    return (decisions.c.time <= time) & same
