"""Decisions are found by several conditions in bounded time: by which index, and none is missed."""

from __future__ import annotations

import itertools
import random
import re
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from postgres_kit import new_database
from sqlalchemy import event

from proxy.ledgers.database import Place, migrate
from proxy.ledgers.read import Reader
from proxy.ledgers.search import Found, search
from proxy.ledgers.store import Store

ROWS = 300
START = 1_767_225_600.0
"""2026-01-01 UTC."""


def row(number: int) -> dict[str, Any]:
    """A decision; two in a row come at the same time."""
    chance = random.Random(number)
    return {
        "decision_id": f"dec_{(number * 7919) % 10_007:06d}",
        "state": "done",
        "time": START + number // 2,
        "day": "2026-01-01",
        "action": chance.choice(["forward", "forward", "block"]),
        "status": chance.choice([200, 200, 503]),
        "ended": "complete",
        "key": chance.choice(["app", "shop", None]),
        "model": "default",
        "upstream_model": None,
        "endpoint": "chat.completions",
        "policy": None,
        "rule": chance.choice([None, "often", "often"]) if number % 90 else "seldom",
        "classifier": None,
        "label": None,
        "score": None,
        "shadow": number % 50 == 0,
        "prompt_tokens": None,
        "completion_tokens": None,
        "cost_usd": None,
        "saved_usd": None,
        "overhead_ms": None,
        "record": "{}",
    }


MADE = [row(number) for number in range(ROWS)]


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def place(request: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    if request.param == "sqlite":
        found = Place.of(f"sqlite:///{tmp_path_factory.mktemp('search') / 'doorman.db'}")
        migrate(found)
        yield found
        return
    with new_database() as url:
        found = Place.of(url)
        migrate(found)
        yield found


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("plans") / "doorman.db"
    migrate(Place.of(f"sqlite:///{found}"))
    return found


async def fill(place: Place) -> Reader:
    store = Store(place)
    await store.start()
    await store.write(MADE)
    await store.close()
    return Reader(place)


def expected(conditions: Mapping[str, Any]) -> list[str]:
    fitting = [row for row in MADE if all(row[name] == v for name, v in conditions.items())]
    ordered = sorted(fitting, key=lambda row: (row["time"], row["decision_id"]), reverse=True)
    return [row["decision_id"] for row in ordered]


CONDITIONS: list[dict[str, Any]] = [
    {},
    {"action": "block"},
    {"key": "app", "action": "block"},
    {"key": "app", "rule": "seldom"},
    {"rule": "seldom", "status": 503, "key": "shop", "action": "forward"},
    {"shadow": True},
    {"shadow": True, "action": "forward"},
    {"key": "nobody", "action": "block"},
    {"key": "nobody"},
]


@pytest.mark.parametrize("look", [3, 40, 10_000])
async def test_pages_together_are_all_that_fits(place: Place, look: int) -> None:
    reader = await fill(place)
    try:
        for conditions in CONDITIONS:
            wanted = expected(conditions)
            assert len(wanted) > 1 or "nobody" in conditions.values() or len(conditions) > 2
            got: list[str] = []
            before = None
            for _ in range(ROWS):
                found: Found = await search(reader, conditions, limit=7, before=before, look=look)
                got += [row["decision_id"] for row in found.rows]
                before = found.more
                if before is None:
                    break
            assert got == wanted, conditions
    finally:
        await reader.close()


async def test_what_is_new_is_found_by_its_time(place: Place) -> None:
    reader = await fill(place)
    try:
        found = await search(reader, {"key": "app"}, limit=500, since=START + 100)
        late = {row["decision_id"] for row in MADE if row["time"] >= START + 100}
        wanted = [id for id in expected({"key": "app"}) if id in late]
        assert [row["decision_id"] for row in found.rows] == wanted
        assert found.more is None
    finally:
        await reader.close()


@pytest.mark.parametrize(
    ("conditions", "index"),
    [
        ({}, "doorman_decisions_time"),
        ({"action": "block"}, "doorman_decisions_action"),
        ({"rule": "seldom"}, "doorman_decisions_rule"),
        ({"shadow": True}, "doorman_decisions_shadow"),
        ({"key": "app", "rule": "seldom"}, "doorman_decisions_rule"),
        ({"shadow": True, "action": "forward"}, "doorman_decisions_shadow"),
        ({"model": "default", "status": 503}, "doorman_decisions_status"),
    ],
)
@pytest.mark.parametrize("more", ["first", "older", "new"])
async def test_no_list_reads_the_whole_table(
    file: Path, conditions: dict[str, Any], index: str, more: str
) -> None:
    """The plan that SQLite makes for every statement that a search really sends."""
    reader = await fill(Place.of(f"sqlite:///{file}"))
    sent: list[tuple[str, Any]] = []

    def keep(_: Any, __: Any, statement: str, parameters: Any, ___: Any, ____: Any) -> None:
        sent.append((statement, parameters))

    event.listen(reader._engine.sync_engine, "before_cursor_execute", keep)
    before = (START + 120.0, "dec_005000") if more == "older" else None
    since = START + 120.0 if more == "new" else None
    await search(reader, conditions, limit=7, look=5, before=before, since=since)
    await reader.close()
    selects = [(text, values) for text, values in sent if text.startswith("SELECT")]
    assert selects
    plans = []
    with closing(sqlite3.connect(file)) as connection:
        for statement, parameters in selects:
            told = connection.execute(f"EXPLAIN QUERY PLAN {statement}", parameters)
            plans.append([line[3] for line in told])
    for line in itertools.chain(*plans):
        # Of rows that come at the same time, the order by id is made; never that of all rows.
        part = re.fullmatch(r"USE TEMP B-TREE FOR (RIGHT PART|LAST TERM) OF ORDER BY", line)
        walk = re.fullmatch(r"(SEARCH|SCAN) .* USING (COVERING )?INDEX doorman_.*", line)
        assert part or walk, plans
        assert not line.startswith("SCAN") or re.search("_(time|shadow)", line), plans
    if more != "new" or len(conditions) == 1:
        assert f"USING INDEX {index} " in plans[-1][0] + " ", plans
