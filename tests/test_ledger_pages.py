"""A large ledger must stay quick to look at: which indexes SQLite uses, and that the benchmark runs."""

from __future__ import annotations

import sqlite3
import sys
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy.dialects import sqlite

from benchmarks.ledger_pages import configure, fill_sqlite, measure
from benchmarks.servers import free_port, running
from proxy.ledgers.database import Place, migrate
from proxy.ledgers.search import SEARCHED, _matching
from proxy.ledgers.verify import verify

ROWS = 400


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ledger with decisions of 90 days."""
    file = tmp_path_factory.mktemp("pages") / "doorman.db"
    migrate(Place.of(f"sqlite:///{file}"))
    fill_sqlite(file, ROWS)
    return file


@pytest.mark.parametrize("before", [None, (1e9, "dec_0")], ids=["newest", "older"])
@pytest.mark.parametrize("name", [*SEARCHED, ""])
def test_each_condition_has_its_index(
    file: Path, name: str, before: tuple[float, str] | None
) -> None:
    query = _matching({name: 5} if name else {}, None, before, None).limit(50)
    text = str(query.compile(dialect=sqlite.dialect(), compile_kwargs={"literal_binds": True}))
    with closing(sqlite3.connect(file)) as connection:
        plan = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {text}")]
    wanted = f"USING INDEX doorman_decisions_{name or 'time'}"
    assert wanted in plan[0], plan
    # Equal times alone are sorted, never all that was found.
    assert "USE TEMP B-TREE FOR ORDER BY" not in plan


async def test_what_is_made_up_is_a_sound_ledger(file: Path) -> None:
    checks = await verify(Place.of(f"sqlite:///{file}"))
    assert [check.fault for check in checks] == [""] * len(checks)
    assert checks[1].found == f"{ROWS} rows"


def test_every_page_answers(file: Path, tmp_path: Path) -> None:
    config = configure(tmp_path, f"sqlite:///{file}")
    command = [sys.executable, "-m", "proxy.cli", "serve", "-c", str(config)]
    port = free_port()
    with running("doorman", [*command, "--port", str(port)], port, "/ready", tmp_path) as server:
        found = measure(f"http://127.0.0.1:{server.port}", ROWS)
    assert len(found) > 15
