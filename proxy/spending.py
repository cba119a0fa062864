"""What each key has spent: known at once in this process, written to the database every few seconds.

Budgets read it. Where several processes share a database, each sees what the others spent as of the
last exchange; after a crash the spending of the last moments before it is missing.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Protocol

from proxy.grants import Budget
from proxy.limits import Spent

Sums = Mapping[tuple[str, str], int]
"""Name of a key and UTC day, ``2026-01-31`` -> billionths of a dollar."""


class SpendTable(Protocol):
    """Where spending is kept. Both raise OSError or their own where it is away."""

    async def add_spent(self, sums: Sums) -> None:
        """Add to the totals, all or none."""
        ...

    async def spent(self, since: str) -> Sums:
        """The totals from a day on."""
        ...


class Spending:
    """Totals of this month.

    Args:
        table: where they outlive the process; None keeps them in memory alone.
    """

    def __init__(self, table: SpendTable | None = None) -> None:
        self._table = table
        self._known: dict[str, dict[str, int]] = {}
        self._unwritten: dict[tuple[str, str], int] = defaultdict(int)

    def add(self, name: str, nano: int, now: float) -> None:
        """A call that ended now cost so many billionths of a dollar."""
        if nano > 0:
            self._unwritten[name, _day(now)] += nano

    def spent(self, name: str, budget: Budget, now: float) -> Spent:
        """What of the budget's present period is gone."""
        period = budget.period(now)
        # A day's name begins with its month's.
        days = self._known.get(name, {}).items()
        nano = sum(own for day, own in days if day.startswith(period.name))
        nano += sum(
            own
            for (of, day), own in self._unwritten.items()
            if of == name and day.startswith(period.name)
        )
        return Spent(period.name, period.ends, nano)

    async def exchange(self, now: float) -> None:
        """Write what is new, read what others wrote. What cannot be written is kept for the next time."""
        if self._table is None:
            return
        taken = dict(self._unwritten)
        if taken:
            await self._table.add_spent(taken)
            for entry, nano in taken.items():
                self._unwritten[entry] -= nano
                if not self._unwritten[entry]:
                    del self._unwritten[entry]
                days = self._known.setdefault(entry[0], {})
                days[entry[1]] = days.get(entry[1], 0) + nano
        known: dict[str, dict[str, int]] = {}
        for (name, day), nano in (await self._table.spent(_day(now)[:8] + "01")).items():
            known.setdefault(name, {})[day] = nano
        self._known = known


def _day(now: float) -> str:
    return f"{datetime.fromtimestamp(now, UTC):%Y-%m-%d}"
