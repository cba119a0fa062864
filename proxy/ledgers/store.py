"""What the gateway writes: batches of rows with their totals, and what retention deletes."""

from __future__ import annotations

import asyncio
import itertools
import os
import sqlite3
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

from sqlalchemy import Connection, case, delete, literal_column, select, update
from sqlalchemy.dialects import postgresql, sqlite

from proxy.ledgers.database import Away, Place, faults
from proxy.ledgers.lines import Line, Tried, line_to
from proxy.ledgers.many import Many
from proxy.ledgers.rows import COUNTS, SUMS, Row, day_of, overheads, totals
from proxy.ledgers.slots import MOST, Slots, slots_of
from proxy.ledgers.tables import daily, decisions, marks, measures
from proxy.ledgers.tables_feedback import feedback

T = TypeVar("T")
Run = Callable[[Many, Sequence[Row]], None]

FIXED = ("decision_id", "instance", "time", "day", "key", "model", "endpoint")
"""Columns that the end of a request does not change."""
PRUNED = "pruned"
CPU = "cpu"


class Store:
    """One connection that writes. Its methods take turns.

    All of them raise :class:`Away` where the database cannot be used, and open the connection anew
    the next time.
    """

    def __init__(self, place: Place) -> None:
        self._place = place
        self._turn = asyncio.Lock()
        self._line: Line = line_to(place)
        self._slots: Slots = slots_of(place)
        self.instance = 0
        insert = postgresql.insert if place.file is None else sqlite.insert
        new = insert(decisions)
        changes = {c.name: new.excluded[c.name] for c in decisions.c if c.name not in FIXED}
        # What has ended stays as it is, whatever is tried again.
        unended = decisions.c.state != literal_column("'done'")
        upsert = new.on_conflict_do_update(
            index_elements=["decision_id"], set_=changes, where=unended
        )
        self._upsert = Many(upsert, decisions, place)
        add = insert(daily)
        sums = {name: daily.c[name] + add.excluded[name] for name in ("count", *SUMS, *COUNTS)}
        keys = ["day", "policy", "model", "action"]
        self._add = Many(add.on_conflict_do_update(index_elements=keys, set_=sums), daily, place)
        more = insert(measures)
        sums = {name: measures.c[name] + more.excluded[name] for name in ("count", "total")}
        keys = ["day", "name", "bucket"]
        self._measure = Many(
            more.on_conflict_do_update(index_elements=keys, set_=sums), measures, place
        )
        self._cpu = time.process_time()
        mark, newest = insert(marks), marks.c.value
        self._mark = mark.on_conflict_do_update(
            index_elements=["name"],
            set_={"value": case((mark.excluded.value > newest, mark.excluded.value), else_=newest)},
        )

    async def start(self) -> int:
        """Connect, and mark what dead gateways have left open. Returns how many that were."""
        return await self._do(self._interrupt)

    async def write(self, rows: Sequence[Row], *, again: bool = False) -> None:
        """Commit rows and what they add to the totals, all or none.

        Args:
            rows: one per decision.
            again: some may be in the database already, because a commit failed half-way.

        Raises:
            Away: nothing is known to be written.
            Refused: nothing is written, and one of the rows will never be taken.
        """
        cpu = time.process_time()
        used = cpu - self._cpu
        tried: Tried = "not tried" if again else self._write_at_once(rows, used)
        if tried != "committed":
            again = again or tried == "failed"
            await self._do(lambda connection: self._write(connection, rows, again, used))
        self._cpu = cpu

    async def prune(self, until: float, most: int) -> int:
        """Delete up to ``most`` of the oldest decisions that ended before a time.

        Returns how many were deleted. The totals stay.
        """
        return await self._do(lambda connection: self._prune(connection, until, most))

    async def close(self) -> None:
        """Close the connection, and let go of the instance's number."""
        async with self._turn:
            self._slots.close()
            await self._line.close()

    async def _do(self, work: Callable[[Connection], T]) -> T:
        """Do something in one transaction."""

        def turn(connection: Connection, fresh: bool) -> T:
            if fresh:
                self.instance = self._slot(connection)
            return work(connection)

        async with self._turn:
            if not self._there():
                # An empty one would be made, without tables.
                raise Away(f"{self._place.shown} is missing")
            async with faults():
                return await self._line.do(turn)

    def _write(self, connection: Connection, rows: Sequence[Row], again: bool, cpu: float) -> None:
        if again:
            rows = self._unwritten(connection, rows)
        if not rows:
            return
        self._run(rows, cpu, lambda many, rows: many.run(connection, rows))

    def _write_at_once(self, rows: Sequence[Row], cpu: float) -> Tried:
        if self._turn.locked() or not self._there():
            return "not tried"

        def work(connection: sqlite3.Connection) -> None:
            self._run(rows, cpu, lambda many, rows: many.run_bare(connection, rows))

        return self._line.at_once(work, len(rows))

    def _run(self, rows: Sequence[Row], cpu: float, run: Run) -> None:
        run(self._upsert, [{**row, "instance": self.instance} for row in rows])
        if sums := totals(rows):
            run(self._add, sums)
            # In one order, as the totals are.
            used = {"day": day_of(time.time()), "name": CPU, "bucket": 0, "count": 0, "total": cpu}
            run(self._measure, [used, *overheads(rows)])

    def _there(self) -> bool:
        file = self._place.file
        return file is None or os.path.isfile(file)

    @staticmethod
    def _unwritten(connection: Connection, rows: Sequence[Row]) -> list[Row]:
        """Without the rows that have ended in the database: their sums are added already."""
        ids = [row["decision_id"] for row in rows]
        ended = select(decisions.c.decision_id).where(
            decisions.c.decision_id.in_(ids), decisions.c.state == "done"
        )
        known = set(connection.execute(ended).scalars())
        return [row for row in rows if row["decision_id"] not in known]

    def _prune(self, connection: Connection, until: float, most: int) -> int:
        old = (
            select(decisions.c.decision_id)
            .where(decisions.c.time < until, decisions.c.state != "open")
            .order_by(decisions.c.time)
            .limit(most)
        )
        gone = delete(decisions).where(decisions.c.decision_id.in_(old))
        rows = connection.execute(gone.returning(decisions.c.decision_id, decisions.c.time)).all()
        if rows:
            connection.execute(self._mark, {"name": PRUNED, "value": max(at for _, at in rows)})
            # What was said of them goes along; corrections that count stay, for packs are made of them.
            said = feedback.c.decision_id.in_([id for id, _ in rows])
            connection.execute(delete(feedback).where(said, feedback.c.state != "accepted"))
        return len(rows)

    def _slot(self, connection: Connection) -> int:
        first = self.instance or 1  # after a lost connection, the same again if it is free
        for number in itertools.chain([first], range(1, MOST)):
            if self._slots.take(connection, number):
                return number
        raise Away(f"{MOST} gateways share this ledger")

    def _interrupt(self, connection: Connection) -> int:
        """Rows left open by a dead instance will never be ended by it."""
        opened = select(decisions.c.instance).where(decisions.c.state == "open").distinct()
        dead = []
        for number in connection.execute(opened).scalars().all():
            if number == self.instance:
                dead.append(number)
            elif self._slots.take(connection, number):
                self._slots.drop(connection, number)
                dead.append(number)
        mark = (
            update(decisions)
            .where(decisions.c.state == "open", decisions.c.instance.in_(dead))
            .values(state="interrupted")
        )
        count: int = connection.execute(mark).rowcount
        return count
