"""The ledger that a running gateway holds: what is decided goes in first, what came of it later."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from pathlib import Path

from proxy.config_ledger import NONE, LedgerConfig
from proxy.errors import Unavailable
from proxy.ledger import Record
from proxy.ledgers.database import Away, Place, Refused, migrate
from proxy.ledgers.read import Reader
from proxy.ledgers.rows import row_of
from proxy.ledgers.store import Store
from proxy.ledgers.writer import FIRST_PAUSE, LONGEST_PAUSE, Writer
from proxy.metrics import Metrics
from proxy.yaml_source import ConfigError

log = logging.getLogger("doorman.ledger")

STOP_SECONDS = 10.0
"""How long what waits may take to be written when the gateway stops."""
RETAIN_EVERY = 60.0
PRUNE_ROWS, PRUNE_PAUSE = 500, 0.05
"""Rows that retention deletes at once, and the seconds in between that are left to others."""
DAY = 86_400.0


class DatabaseLedger:
    """Decisions in a database, at most one row each.

    Args:
        config: where, how surely, and for how long.
        metrics: where lag and errors are counted.
        retain_every: seconds from one round of retention to the next.
    """

    def __init__(
        self, config: LedgerConfig, metrics: Metrics, *, retain_every: float = RETAIN_EVERY
    ) -> None:
        self._config = config
        self._metrics = metrics
        self._retain_every = retain_every
        self._place = Place.of(
            config.placed(Path.cwd()).url, wait_seconds=config.wait_seconds, fsync=config.fsync
        )
        self._promised: set[str] = set()
        """Decisions that were entered and have not ended: there is always room for their ends."""
        self._tasks: list[asyncio.Task[None]] = []
        self._store: Store | None = None
        self._writer: Writer | None = None

    def prepare(self) -> None:
        """Make or migrate the tables. Blocking.

        Raises:
            ConfigError: the database cannot be used; with ``on_error: allow`` that is logged instead.
        """
        try:
            migrate(self._place)
        except ConfigError as error:
            if self._config.on_error == "block":
                raise
            log.warning("%s", error)

    async def start(self) -> None:
        """Connect, mark what died open, and begin to write. Returns at once with ``on_error: allow``
        if the database is away."""
        self._store = Store(self._place)
        self._writer = Writer(self._store, self._behind, self._failed)
        try:
            self._marked(await self._store.start())
        except Away as error:
            if self._config.on_error == "block":
                raise ConfigError(f"ledger: {self._place.shown} cannot be used: {error}") from None
            self._writer.away = True
            log.warning("the ledger's database cannot be used: %s; trying again", error)
            self._tasks.append(asyncio.create_task(self._connect()))
        else:
            self._writer.start()
        self._tasks.append(asyncio.create_task(self._retain()))

    async def stop(self) -> None:
        """Write what waits, then close the database."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._writer is not None and (left := await self._writer.stop(STOP_SECONDS)):
            log.error("%d decisions could not be written to the ledger's database", left)
            self._failed("dropped", left)
        if self._store is not None:
            await self._store.close()

    async def decided(self, record: Record) -> None:
        """Enter a decision before anything comes of it; ``strict`` returns when it is committed.

        Raises:
            Unavailable: it cannot be entered, and ``on_error`` says to stop then.
        """
        writer = self._writer
        if writer is None or writer.away or len(writer) >= self._config.max_queue:
            self._refuse(record)
            return
        row = row_of(record, "open")
        self._promised.add(record.decision_id)
        if self._config.durability == "relaxed":
            writer.put(row)
            return
        try:
            async with asyncio.timeout(self._config.wait_seconds):
                await writer.commit(row)
        except TimeoutError:
            writer.away = True  # until a commit succeeds: nobody else needs to wait as long
            self._refuse(record)
        except (Away, Refused):
            self._refuse(record)

    def ended(self, record: Record) -> None:
        """Enter what came of a request. Never waits."""
        writer = self._writer
        promised = record.decision_id in self._promised
        self._promised.discard(record.decision_id)
        if writer is None or (not promised and len(writer) >= self._config.max_queue):
            self._failed("dropped")
            log.error("decision %s was not recorded: the queue is full", record.decision_id)
            return
        writer.put(row_of(record, "done"))

    def _refuse(self, record: Record) -> None:
        if self._config.on_error == "block":
            self._failed("refused")
            raise Unavailable(
                "The decision could not be recorded, so nothing was done. Retry.",
                "ledger_unavailable",
            )
        self._failed("unrecorded")
        self._metrics.add("doorman_fail_open_total", guard="ledger")
        log.warning("decision %s goes on without a record in the database", record.decision_id)

    async def _connect(self) -> None:
        """Try until the database is there, then begin to write."""
        assert self._store is not None
        assert self._writer is not None
        pause = FIRST_PAUSE
        while True:
            with contextlib.suppress(Away, ConfigError):
                await asyncio.to_thread(migrate, self._place)
                self._marked(await self._store.start())
                break
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)
        self._writer.away = False
        log.warning("the ledger's database is there")
        self._writer.start()

    def _marked(self, count: int) -> None:
        if count:
            log.warning("%d requests were cut off when a gateway died: interrupted", count)

    async def _retain(self) -> None:
        """Delete what is too old or too much, a little at a time."""
        reader = Reader(self._place)
        try:
            while True:
                await asyncio.sleep(self._retain_every)
                with contextlib.suppress(Away):
                    for until in await self._limits(reader):
                        await self._prune(until)
        finally:
            await reader.close()

    async def _limits(self, reader: Reader) -> list[float]:
        """The times before which decisions go."""
        retention = self._config.retention
        limits = []
        if retention.days is not None:
            limits.append(time.time() - retention.days * DAY)
        if retention.max_rows is not None:
            oldest = await reader.time_of_row(retention.max_rows)
            if oldest is not None:
                limits.append(oldest)
        return limits

    async def _prune(self, until: float) -> None:
        assert self._store is not None
        gone = 0
        while deleted := await self._store.prune(until, PRUNE_ROWS):
            gone += deleted
            await asyncio.sleep(PRUNE_PAUSE)
        if gone:
            log.info("retention has deleted %d decisions", gone)

    def _behind(self, rows: int, seconds: float) -> None:
        self._metrics.set("doorman_ledger_queue", rows)
        self._metrics.set("doorman_ledger_lag_seconds", seconds)

    def _failed(self, kind: str, count: int = 1) -> None:
        self._metrics.add("doorman_ledger_errors_total", count, kind=kind)


def database_ledger(config: LedgerConfig, metrics: Metrics) -> DatabaseLedger | None:
    """The ledger that the config asks for; None for the log line alone."""
    return None if config.url == NONE else DatabaseLedger(config, metrics)
