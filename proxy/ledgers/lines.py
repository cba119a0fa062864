"""The one connection that writes, by kind of database; work on it is written once, for both.

SQLite is spoken to from a thread of its own: a whole transaction there and back is one step, where
aiosqlite takes a dozen, each of which may wait for the event loop to let go of the interpreter
(measured with 16 requests at once: 12 ms in place of 2 until a decision is committed).

Going to that thread still takes several times as long as committing a row or two (measured: 300 us there
and back, 80 us for the work), so brief work is done on the event loop where nothing can hold it up:
nobody else writes, no log is to be copied, and the disk has not been slow of late.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import sqlite3
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal, Protocol, TypeVar, cast

from sqlalchemy import Connection, Engine
from sqlalchemy.ext.asyncio import AsyncConnection

from proxy.ledgers.database import Place

T = TypeVar("T")
Work = Callable[[Connection, bool], T]
"""Gets the connection, within a transaction, and whether it was opened just now."""
Brief = Callable[[sqlite3.Connection], None]
"""Gets SQLite's own connection, within a transaction."""
Tried = Literal["committed", "failed", "not tried"]
"""What came of brief work; of what has failed nobody knows how far it came."""

BRIEF_ROWS = 32
"""Rows that are written on the event loop, at some 20 us each."""
SLOW_SECONDS, REST_SECONDS = 0.1, 10.0
"""After a commit that took longer the event loop leaves the disk alone for a while."""
LOG_PAGES = 1000
"""About how many pages SQLite's log may hold before it is copied to the database, which waits for the
disk; SQLite's own default."""
_COMMIT_PAGES, _ROW_PAGES = 8, 2
"""About what a commit and each of its rows add to the log: the leaves of a dozen indexes, and the row."""


class Line(Protocol):
    """A connection that is opened when it is needed, and anew after any fault."""

    async def do(self, work: Work[T]) -> T:
        """Do work in one transaction: all of it, or none."""
        ...

    def at_once(self, work: Brief, rows: int) -> Tried:
        """Do brief work here and now, in one transaction, if that cannot take long. Never raises what
        the database says."""
        ...

    async def close(self) -> None:
        """Close the connection."""
        ...


class ThreadLine:
    """A connection that lives in a thread, and is lent to the event loop for brief work: SQLite's."""

    def __init__(self, place: Place) -> None:
        self._engine: Engine = place.blocking_engine()
        self._thread = ThreadPoolExecutor(1, "ledger")
        self._connection: Connection | None = None
        self._raw: sqlite3.Connection | None = None
        self._doing: set[concurrent.futures.Future[Any]] = set()
        """What the thread has not finished, whoever still waits for it."""
        self._wait_seconds = place.wait_seconds
        self._waits = True
        """Whether the connection waits for locks that others hold."""
        self._brief = not place.fsync
        self._rest_until = 0.0
        self._pages = 0
        self._copied = False
        """The log was copied: the next commit begins it anew, and waits for the disk."""

    async def do(self, work: Work[T]) -> T:
        """See :class:`Line`."""
        doing = self._thread.submit(self._do, work)
        self._doing.add(doing)
        doing.add_done_callback(self._doing.discard)
        return await asyncio.wrap_future(doing)

    def at_once(self, work: Brief, rows: int) -> Tried:
        """See :class:`Line`."""
        raw, began = self._raw, time.monotonic()
        free = self._brief and not self._doing
        pages = self._pages + _pages(rows)
        if raw is None or not free or rows > BRIEF_ROWS or pages > LOG_PAGES:
            return "not tried"
        if self._copied or began < self._rest_until:
            return "not tried"
        try:
            self._be_patient(raw, False)
            raw.execute("BEGIN IMMEDIATE")
        except sqlite3.Error:
            return "not tried"
        try:
            work(raw)
            raw.execute("COMMIT")
        except Exception:  # whatever it is, the thread will find it as well, and say so
            with contextlib.suppress(sqlite3.Error):
                raw.rollback()
            return "failed"
        finally:
            if time.monotonic() - began > SLOW_SECONDS:
                self._rest_until = time.monotonic() + REST_SECONDS
        self._pages = pages
        return "committed"

    async def close(self) -> None:
        """See :class:`Line`."""
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(self._thread, self._drop)
        self._thread.shutdown(wait=False)

    def _do(self, work: Work[T]) -> T:
        connection, fresh = self._connection, self._connection is None
        try:
            if connection is None:
                connection = self._connection = self._engine.connect()
                self._raw = cast(sqlite3.Connection, connection.connection.dbapi_connection)
                self._raw.execute("PRAGMA wal_autocheckpoint=0")
                self._waits, self._pages = True, LOG_PAGES
            assert self._raw is not None
            self._be_patient(self._raw, True)
            self._copied, before = False, self._raw.total_changes
            with connection.begin():
                done = work(connection, fresh)
            self._checkpoint(self._raw, self._raw.total_changes - before)
            return done
        except BaseException:
            self._drop()  # nobody knows what state it is in
            raise

    def _be_patient(self, raw: sqlite3.Connection, waits: bool) -> None:
        if waits is not self._waits:
            raw.execute(f"PRAGMA busy_timeout={int(self._wait_seconds * 1000) if waits else 0}")
            self._waits = waits

    def _checkpoint(self, raw: sqlite3.Connection, rows: int) -> None:
        """Copy the log to the database, now and then.

        Args:
            rows: were changed since the last time.
        """
        self._pages += _pages(rows)
        if self._pages > LOG_PAGES:
            self._pages = 0
            raw.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
            self._copied = True

    def _drop(self) -> None:
        connection, self._connection, self._raw = self._connection, None, None
        if connection is not None:
            with contextlib.suppress(Exception):
                connection.invalidate()
                connection.close()


def _pages(rows: int) -> int:
    return _COMMIT_PAGES + _ROW_PAGES * rows


class AsyncLine:
    """A connection on the event loop: PostgreSQL's."""

    def __init__(self, place: Place) -> None:
        self._engine = place.engine(write=True)
        self._connection: AsyncConnection | None = None

    async def do(self, work: Work[T]) -> T:
        """See :class:`Line`."""
        connection, fresh = self._connection, self._connection is None
        try:
            if connection is None:
                connection = self._connection = await self._engine.connect()
            async with connection.begin():
                return await connection.run_sync(work, fresh)
        except BaseException:
            await self._drop()
            raise

    def at_once(self, work: Brief, rows: int) -> Tried:
        """See :class:`Line`."""
        return "not tried"

    async def close(self) -> None:
        """See :class:`Line`."""
        await self._drop()
        await self._engine.dispose()

    async def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(Exception):
                await connection.invalidate()
                await connection.close()


def line_to(place: Place) -> Line:
    """The connection for this kind of database."""
    return AsyncLine(place) if place.file is None else ThreadLine(place)
