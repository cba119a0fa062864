"""Group commit: while one batch is committed the next one gathers. There is no timer."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from proxy.ledgers.database import Away, Refused
from proxy.ledgers.rows import Row

log = logging.getLogger("doorman.ledger")

MOST_ROWS = 500
"""Rows of one commit."""
GATHER_SECONDS = 0.02
"""How long rows that nobody waits for wait for one that somebody does: most ends of requests are
committed with the decision of the next one, at no cost of their own."""
TELL_SECONDS = 0.1
"""How often at most rows that come in tell how many wait; every commit does."""
FIRST_PAUSE, LONGEST_PAUSE = 0.05, 5.0
"""Seconds until a database that failed is tried again; doubled each time."""

Report = Callable[[int, float], None]
"""Gets the number of rows that wait and the seconds that the oldest has waited."""
Lost = Callable[[str], None]
"""Gets the name of a fault: ``commit`` or ``dropped``."""


class Target(Protocol):
    """What a writer writes to; see :class:`proxy.ledgers.store.Store`."""

    async def write(self, rows: list[Row], *, again: bool = False) -> None:
        """Commit rows, all or none. Raises Away or Refused."""
        ...


@dataclass(slots=True)
class _Entry:
    row: Row
    since: float
    tried: bool = False
    waiters: list[asyncio.Future[None]] = field(default_factory=list)

    def settle(self, error: Exception | None) -> None:
        """Tell everyone who waits."""
        for waiter in self.waiters:
            if waiter.done():
                continue
            if error is None:
                waiter.set_result(None)
            else:
                waiter.set_exception(error)
        self.waiters.clear()


class Writer:
    """A queue of rows by decision, and the one task that commits them.

    Args:
        target: what writes.
        report: is told how far behind the writer is.
        fault: is told of commits that failed and rows that were given up.
    """

    def __init__(self, target: Target, report: Report, fault: Lost) -> None:
        self._target = target
        self._report = report
        self._fault = fault
        self._queue: dict[str, _Entry] = {}
        self._writing: dict[str, _Entry] = {}
        self._wake = asyncio.Event()
        self._awaited = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._told = 0.0
        self.away = False
        """Whether the last attempt failed. Set from outside as well, by who has waited too long."""

    def __len__(self) -> int:
        return len(self._queue) + len(self._writing)

    def start(self) -> None:
        """Begin to write."""
        self._task = asyncio.create_task(self._run(), name="ledger-writer")

    def put(self, row: Row) -> None:
        """Write a row some time soon; a later one of the same decision takes its place."""
        self._enter(row)

    def commit(self, row: Row) -> asyncio.Future[None]:
        """Write a row. The future is done when it is committed.

        Raises, through the future:
            Away: it is not known to be; it is tried again later.
            Refused: it never will be.
        """
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        # Who waits may have left; an error that nobody asks for is no news.
        waiter.add_done_callback(lambda f: f.cancelled() or f.exception())
        self._enter(row).waiters.append(waiter)
        self._awaited.set()
        return waiter

    async def stop(self, seconds: float) -> int:
        """Write what waits, for so long. Returns how many rows could not be written."""
        task = self._task
        if task is None:
            return len(self)
        limit = time.monotonic() + seconds
        while len(self) and time.monotonic() < limit and not task.done():
            self._wake.set()
            self._awaited.set()
            await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        left = len(self)
        for entry in (*self._writing.values(), *self._queue.values()):
            entry.settle(Away("the gateway is stopping"))
        return left

    def _enter(self, row: Row) -> _Entry:
        id = row["decision_id"]
        entry = self._queue.get(id)
        if entry is None:
            entry = self._queue[id] = _Entry(row, time.monotonic())
        else:
            entry.row = row
        self._wake.set()
        if time.monotonic() - self._told > TELL_SECONDS:
            self._tell()
        return entry

    async def _run(self) -> None:
        pause = FIRST_PAUSE
        while True:
            if not self._queue:
                self._wake.clear()
                await self._wake.wait()
            if not self._awaited.is_set() and len(self._queue) < MOST_ROWS:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(GATHER_SECONDS):
                        await self._awaited.wait()
            self._awaited.clear()
            if await self._commit():
                pause = FIRST_PAUSE
            else:
                await asyncio.sleep(pause)
                pause = min(2 * pause, LONGEST_PAUSE)
            self._tell()

    async def _commit(self) -> bool:
        """Write the oldest rows. False where the database is away."""
        batch = dict(itertools.islice(self._queue.items(), MOST_ROWS))
        for id in batch:
            del self._queue[id]
        self._writing = batch
        try:
            await self._write(batch)
        except Away as error:
            self._away(error)
            return False
        except Exception as error:
            # Nobody would write any more if this task ended.
            log.error("writing the ledger failed: %s", type(error).__name__)
            self._away(error)
            return False
        self._writing = {}
        if self.away:
            self.away = False
            log.warning("the ledger's database is back; %d decisions wait for it", len(self))
        return True

    async def _write(self, batch: dict[str, _Entry]) -> None:
        again = any(entry.tried for entry in batch.values())
        for entry in batch.values():
            entry.tried = True
        try:
            await self._target.write([entry.row for entry in batch.values()], again=again)
        except Refused as error:
            if len(batch) > 1:  # find out whose fault it is
                for id in list(batch):
                    await self._write({id: batch[id]})
                    batch.pop(id)
                return
            (id, entry), *_ = batch.items()
            log.error("decision %s cannot be written: %s", id, error)
            self._fault("dropped")
            entry.settle(error)
            return
        for entry in batch.values():
            entry.settle(None)

    def _away(self, error: Exception) -> None:
        if not self.away:
            log.warning("the ledger's database cannot be written: %s; trying again", error)
        self.away = True
        self._fault("commit")
        returned, self._writing = self._writing, {}
        for id, entry in returned.items():
            entry.settle(Away(str(error)))
            if (newer := self._queue.pop(id, None)) is not None:
                newer.tried, newer.since = True, entry.since
                returned[id] = newer
        self._queue = {**returned, **self._queue}

    def _tell(self) -> None:
        waiting = self._writing or self._queue
        oldest = next(iter(waiting.values()), None)
        self._told = now = time.monotonic()
        self._report(len(self), 0.0 if oldest is None else now - oldest.since)
