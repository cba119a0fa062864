"""The newest requests in memory, for pages that ask again and again: read once, then only what is new."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence

from proxy.backtests.cases import Case, of_record
from proxy.ledgers.database import Away
from proxy.ledgers.read import Reader
from proxy.ledgers.traffic import Record, newest

FIRST, MOST = 1000, 5000
"""Requests that the first page waits for (a tenth of a second), and that are read behind it."""
OVERLAP = 120.0
"""Seconds before the newest one in which others may have ended since."""


class Sample:
    """The newest requests that have ended, without their texts.

    Args:
        first: how many the first call waits for.
        most: how many are kept.
    """

    def __init__(self, first: int = FIRST, most: int = MOST) -> None:
        self._first, self._most = first, most
        self._known: dict[str, tuple[float, Case]] = {}
        self._turn = asyncio.Lock()
        self._rest: asyncio.Task[None] | None = None

    async def cases(self, reader: Reader) -> Sequence[Case]:
        """The requests, newest first; few at first, more when they have been read.

        Raises:
            Away: the ledger cannot be read.
        """
        if not self._known:
            await self._read(reader, 0.0, self._first)
            if len(self._known) >= self._first and self._first < self._most:
                self._rest = asyncio.create_task(self._fill(reader))
        elif self._rest is None or self._rest.done():
            last = max(time for time, _ in self._known.values())
            await self._read(reader, last - OVERLAP, self._most)
        return [case for _, case in self._newest()]

    def close(self) -> None:
        """Read no more."""
        if self._rest is not None:
            self._rest.cancel()

    async def _fill(self, reader: Reader) -> None:
        with contextlib.suppress(Away):  # the next page says so
            await self._read(reader, 0.0, self._most)

    async def _read(self, reader: Reader, since: float, most: int) -> None:
        async with self._turn:
            async for records in newest(reader, since, most):
                fresh = [one for one in records if one["decision_id"] not in self._known]
                self._known.update(await asyncio.to_thread(_parsed, fresh))
            self._known = {case.id: (time, case) for time, case in self._newest()}

    def _newest(self) -> list[tuple[float, Case]]:
        return sorted(self._known.values(), key=lambda one: one[0], reverse=True)[: self._most]


def _parsed(records: Sequence[Record]) -> dict[str, tuple[float, Case]]:
    bare = ({**record, "content": ()} for record in records)
    return {record["decision_id"]: (record["time"], of_record(record)) for record in bare}
