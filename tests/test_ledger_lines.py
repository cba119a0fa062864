"""Brief work on SQLite is done on the event loop, and only where nothing can hold it up."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from ledger_kit import query, rows
from sqlalchemy import Connection

from benchmarks.ledger import record
from proxy.ledgers import lines
from proxy.ledgers.database import Place, migrate
from proxy.ledgers.lines import BRIEF_ROWS, LOG_PAGES, ThreadLine
from proxy.ledgers.rows import Row, row_of
from proxy.ledgers.store import Store


@pytest.fixture
def place(tmp_path: Path) -> Place:
    found = Place.of(f"sqlite:///{tmp_path}/data/doorman.db", wait_seconds=60)
    migrate(found)
    return found


class Went:
    """What went to the thread."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.times = 0
        done = ThreadLine._do

        def counted(line: ThreadLine, work: lines.Work[object]) -> object:
            self.times += 1
            return done(line, work)

        monkeypatch.setattr(ThreadLine, "_do", counted)


@pytest.fixture
def went(monkeypatch: pytest.MonkeyPatch) -> Went:
    monkeypatch.setattr(lines, "SLOW_SECONDS", 60.0)  # this machine may be busy
    return Went(monkeypatch)


async def started(place: Place, went: Went) -> Store:
    store = Store(place)
    await store.start()
    await store._line.do(lambda *_: None)  # the first commit after the log was copied
    went.times = 0
    return store


def made(count: int = 1) -> list[Row]:
    return [row_of(record(), "done") for _ in range(count)]


async def test_few_rows_do_not_leave_the_event_loop(
    place: Place, tmp_path: Path, went: Went
) -> None:
    store = await started(place, went)
    await store.write(made())
    await store.write(made(BRIEF_ROWS))
    assert went.times == 0
    await store.write(made(BRIEF_ROWS + 1))
    assert went.times == 1
    assert len(rows(tmp_path)) == 2 * BRIEF_ROWS + 2
    await store.close()


async def test_waiting_for_the_disk_is_left_to_the_thread(
    place: Place, tmp_path: Path, went: Went
) -> None:
    store = await started(replace(place, fsync=True), went)
    await store.write(made())
    assert (went.times, len(rows(tmp_path))) == (1, 1)
    await store.close()


async def test_a_lock_of_others_does_not_hold_up_the_event_loop(
    place: Place, tmp_path: Path, went: Went
) -> None:
    store = await started(place, went)
    with closing(sqlite3.connect(tmp_path / "data" / "doorman.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        writing = asyncio.ensure_future(store.write(made()))
        while not went.times:  # noqa: ASYNC110 - for ever, if the lock were waited for here
            await asyncio.sleep(0)
        assert not writing.done()
        other.execute("COMMIT")
        await writing
    await store.write(made())
    assert (went.times, len(rows(tmp_path))) == (1, 2)
    assert query(tmp_path, "SELECT sum(count) AS n FROM doorman_daily") == [{"n": 2}]
    await store.close()


async def test_what_the_thread_still_does_is_not_disturbed(
    place: Place, tmp_path: Path, went: Went
) -> None:
    store = await started(place, went)
    begun, go_on = threading.Event(), threading.Event()

    def slow(_: Connection, fresh: bool) -> None:
        begun.set()
        assert go_on.wait(60)

    waiting = asyncio.ensure_future(store._line.do(slow))
    await asyncio.to_thread(begun.wait, 60)
    waiting.cancel()  # whoever asked has left; the transaction is still open
    assert store._line.at_once(lambda _: None, 1) == "not tried"
    writing = asyncio.ensure_future(store.write(made()))
    await asyncio.sleep(0)
    go_on.set()
    await writing
    assert (went.times, len(rows(tmp_path))) == (2, 1)
    await store.close()


async def test_a_slow_disk_is_left_alone_for_a_while(
    place: Place, tmp_path: Path, went: Went, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = await started(place, went)
    monkeypatch.setattr(lines, "SLOW_SECONDS", 0.02)
    assert store._line.at_once(lambda _: time.sleep(0.05), 1) == "committed"
    await store.write(made())
    assert (went.times, len(rows(tmp_path))) == (1, 1)
    await store.close()


async def test_the_log_stays_short(place: Place, tmp_path: Path, went: Went) -> None:
    store = await started(place, went)
    for _ in range(1500):
        await store.write(made())
    assert 0 < went.times < 150
    log = (tmp_path / "data" / "doorman.db-wal").stat().st_size
    assert log < 4 * LOG_PAGES * 4096
    assert len(rows(tmp_path)) == 1500
    await store.close()


async def test_a_row_that_fails_half_way_leaves_no_transaction(
    place: Place, tmp_path: Path, went: Went
) -> None:
    store = await started(place, went)

    def fails(raw: sqlite3.Connection) -> None:
        raw.execute("DELETE FROM doorman_daily")
        raise RuntimeError

    await store.write(made())
    assert store._line.at_once(fails, 1) == "failed"
    await store.write(made())
    assert query(tmp_path, "SELECT sum(count) AS n FROM doorman_daily") == [{"n": 2}]
    assert went.times == 0
    await store.close()
