"""The database itself: migrations, pages, retention, and what is written twice."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from ledger_kit import query, rows, until
from sqlalchemy import Connection

from benchmarks.ledger import record
from proxy.config_ledger import LedgerConfig, Retention
from proxy.ledger import Record
from proxy.ledgers.database import Place, migrate
from proxy.ledgers.feedback import FeedbackTable, Said, State
from proxy.ledgers.ledger import DAY, DatabaseLedger
from proxy.ledgers.read import Reader
from proxy.ledgers.rows import row_of
from proxy.ledgers.store import Store
from proxy.ledgers.tables import VERSION_TABLE, metadata
from proxy.ledgers.verify import verify
from proxy.metrics import Metrics

NOON = 1_750_075_200.0
"""2025-06-16T12:00Z"""


@pytest.fixture
def place(tmp_path: Path) -> Place:
    found = Place.of(f"sqlite:///{tmp_path}/data/doorman.db")
    migrate(found)
    return found


def made(count: int, start: float = NOON, apart: float = 1.0) -> list[Record]:
    return [replace(record(), time=start + n * apart) for n in range(count)]


async def filled(place: Place, records: Sequence[Record]) -> Store:
    store = Store(place)
    await store.start()
    await store.write([row_of(one, "done") for one in records])
    return store


def test_the_migrations_make_what_the_tables_say(place: Place) -> None:
    def compare(connection: Connection) -> list[object]:
        context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE})
        return list(compare_metadata(context, metadata))

    async def differences() -> list[object]:
        engine = place.engine(write=True)
        async with engine.connect() as connection:
            found = await connection.run_sync(compare)
        await engine.dispose()
        return found

    assert asyncio.run(differences()) == []


def test_many_that_start_at_once_migrate_once(tmp_path: Path) -> None:
    place = Place.of(f"sqlite:///{tmp_path}/data/doorman.db", wait_seconds=60)
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(migrate, [place] * 6))
    assert len(query(tmp_path, "SELECT * FROM doorman_version")) == 1
    assert rows(tmp_path) == []


async def test_pages_are_newest_first_and_without_gaps(place: Place) -> None:
    records = made(7, apart=0.0)[:5] + made(2, NOON - 10)  # five at the same moment
    store = await filled(place, records)
    reader = Reader(place)
    seen: list[str] = []
    before = None
    while page := await reader.page(limit=3, before=before):
        seen += [row["decision_id"] for row in page]
        before = (page[-1]["time"], page[-1]["decision_id"])
    wanted = sorted(records, key=lambda one: (one.time, one.decision_id), reverse=True)
    assert seen == [one.decision_id for one in wanted]
    assert await reader.page({"action": "block"}) == []
    assert len(await reader.page({"label": "greeting", "key": "app"})) == 7
    await reader.close()
    await store.close()


async def test_an_end_that_is_written_twice_counts_once(place: Place, tmp_path: Path) -> None:
    one, two = made(2)
    store = await filled(place, [one])
    both = [row_of(one, "done"), row_of(two, "done")]
    await store.write(both, again=True)  # as after a commit of which nobody knows how it went
    await store.write([row_of(two, "open")])  # too late
    assert [row["state"] for row in rows(tmp_path)] == ["done", "done"]
    assert query(tmp_path, "SELECT count FROM doorman_daily") == [{"count": 2}]
    await store.close()


async def test_a_batch_that_fails_leaves_nothing(place: Place, tmp_path: Path) -> None:
    from proxy.ledgers.database import Refused

    good, bad = made(2)
    store = await filled(place, [])
    wrong = {**row_of(bad, "done"), "model": None}
    with pytest.raises(Refused):
        await store.write([row_of(good, "done"), wrong])
    assert rows(tmp_path) == []
    await store.write([row_of(good, "done")])
    assert query(tmp_path, "SELECT count FROM doorman_daily") == [{"count": 1}]
    await store.close()


@pytest.mark.parametrize(
    ("retention", "left"),
    [
        (Retention(days=3.0), [0, 1, 2]),
        (Retention(days=None, max_rows=4), [0, 1, 2, 3]),
        (Retention(days=2.0, max_rows=4), [0, 1]),
        (Retention(days=None), [0, 1, 2, 3, 4, 5]),
    ],
)
async def test_retention(
    retention: Retention, left: list[int], place: Place, tmp_path: Path
) -> None:
    """Decisions are a day apart, the newest is half a day old."""
    now = time.time()
    records = [replace(record(), time=now - (n + 0.5) * DAY) for n in range(6)]
    await (await filled(place, records)).close()
    config = LedgerConfig(url=f"sqlite:///{tmp_path}/data/doorman.db", retention=retention)
    ledger = DatabaseLedger(config, Metrics(), retain_every=0.05)
    await ledger.start()
    kept = [records[n].decision_id for n in reversed(left)]
    await asyncio.to_thread(until, lambda: [row["decision_id"] for row in rows(tmp_path)] == kept)
    await asyncio.sleep(0.2)
    await ledger.stop()
    assert [row["decision_id"] for row in rows(tmp_path)] == kept
    # What was saved is still known, and verify does not take it for a fault.
    assert query(tmp_path, "SELECT sum(count) AS n FROM doorman_daily") == [{"n": 6}]
    assert [check.fault for check in await verify(place)] == [""] * 4


async def test_a_large_retention_goes_in_steps(place: Place, tmp_path: Path) -> None:
    store = await filled(place, made(25))
    assert [await store.prune(NOON + 20, 8) for _ in range(4)] == [8, 8, 4, 0]
    assert len(rows(tmp_path)) == 5
    await store.close()


async def test_what_was_said_of_a_decision_goes_with_it_but_for_corrections(
    place: Place, tmp_path: Path
) -> None:
    store = await filled(place, made(4))
    table = FeedbackTable(place)
    ids = [row["decision_id"] for row in rows(tmp_path)]
    states: tuple[State, ...] = ("reported", "noted", "accepted", "reported")
    for decision, state in zip(ids, states, strict=True):
        await table.give(Said(decision, "app", "wrong", text="some words"), state, NOON)
    assert await store.prune(NOON + 3, 8) == 3
    kept = {one.decision_id: one.state for one in await table.page(9)}
    assert kept == {ids[2]: "accepted", ids[3]: "reported"}  # the last decision is still there
    await table.close()
    await store.close()


async def test_fsync_is_asked_for(tmp_path: Path) -> None:
    for fsync, level in ((False, 1), (True, 2)):
        place = Place.of(f"sqlite:///{tmp_path}/data/doorman.db", fsync=fsync)
        await asyncio.to_thread(migrate, place)
        with place.blocking_engine().connect() as connection:
            found = connection.exec_driver_sql("PRAGMA synchronous").scalar_one()
            mode = connection.exec_driver_sql("PRAGMA journal_mode").scalar_one()
        assert (found, mode) == (level, "wal")


def test_the_record_is_kept_whole(place: Place, tmp_path: Path) -> None:
    async def write() -> Record:
        one = replace(record(), model="a\x00b")
        await (await filled(place, [one])).close()
        return one

    one = asyncio.run(write())
    (row,) = rows(tmp_path)
    assert (row["model"], row["record"]["model"]) == ("a\ufffdb", "a\x00b")
    assert row["record"]["content"] == json.loads(json.dumps(one.content))


def test_plans_use_the_indexes(place: Place, tmp_path: Path) -> None:
    newest = "ORDER BY time DESC, decision_id DESC LIMIT 100"
    for where in ("", "WHERE action = 'block'", "WHERE label = 'hate'", "WHERE status = 503"):
        plan = query(
            tmp_path, f"EXPLAIN QUERY PLAN SELECT * FROM doorman_decisions {where} {newest}"
        )
        assert "USING INDEX doorman_decisions_" in plan[0]["detail"], plan
    daily = query(
        tmp_path, "EXPLAIN QUERY PLAN SELECT * FROM doorman_daily WHERE day > '2026-01-01'"
    )
    assert "USING INDEX" in daily[0]["detail"]
