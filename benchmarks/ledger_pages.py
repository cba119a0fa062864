"""How long the dashboard's pages take with a large ledger: its decisions are made up, the gateway is real.

python -m benchmarks.ledger_pages                          # 1,000,000 decisions in SQLite
python -m benchmarks.ledger_pages --url postgresql://…     # the same in an empty database of PostgreSQL
python -m benchmarks.ledger_pages --rows 10000             # a quick look
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sqlite3
import statistics
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from benchmarks.ledger import POLICY, record
from benchmarks.servers import free_port, running
from proxy.dashboard.pages import PAGES
from proxy.ledger import Record
from proxy.ledgers.database import Place, migrate
from proxy.ledgers.rows import Row, overheads, row_of, totals
from proxy.ledgers.tables import daily, decisions, measures

LIMIT_MS = 300.0
DAYS = 90
AT_ONCE = 20_000
TIMES = 7
ACTIONS = {
    "forward": 0.8,
    "block": 0.08,
    "answer": 0.05,
    "route": 0.04,
    "cache": 0.02,
    "error": 0.01,
}
POLICIES = [f"policy-{n}@1" for n in range(12)]
MODELS = ["gpt-4o", "gpt-4o-mini", "claude", "local", "rare"]
KEYS = [f"app-{n}" for n in range(40)]
LABELS = ["attack", "spam", "greeting", "cheap", "EMAIL", "hate", "violence", "PHONE"]


def made_up(count: int, now: float, dice: random.Random) -> Iterator[Record]:
    """Decisions of the last 90 days, oldest first; most have fired no rule."""
    sample, actions, shares = record(), list(ACTIONS), list(ACTIONS.values())
    quiet = {**sample.stages["input"], "cause": None, "fired": [], "tags": []}
    for n in range(count):
        (action,) = dice.choices(actions, shares)
        model = dice.choices(MODELS, (60, 30, 8, 1.9, 0.1))[0]
        stages: dict[str, Any] = {"input": quiet, "output": quiet}
        if action in ("block", "answer", "route"):
            label = dice.choice(LABELS)
            cause = {
                **sample.stages["input"]["cause"], "policy": dice.choice(POLICIES), "label": label,
                "rule": f"no-{label}", "action": action, "score": dice.uniform(0.9, 1),
            }  # fmt: skip
            fired = {**sample.stages["input"], "outcome": action, "cause": cause, "fired": [cause]}
            stages = {"input": fired} if action == "block" else {"input": fired, "output": quiet}
        if dice.random() < 0.001:
            stages["input"] = {**stages["input"], "shadow": [sample.stages["input"]["cause"]]}
        away = action in ("block", "answer", "cache", "error")
        took = dice.lognormvariate(2.0, 0.8)
        yield replace(
            sample,
            time=now - DAYS * 86_400.0 * (1 - n / count),
            decision_id=f"dec_{n:024x}",
            key=dice.choice(KEYS),
            model=model,
            action=action,
            status=400 if action == "error" else 200,
            stages=stages,
            upstream_called=not away,
            upstream_model=None if away else model,
            tokens=None if away else sample.tokens,
            cost_usd=None if away else 0.0011,
            saved_usd=0.002 if action in ("block", "answer", "cache", "route") else None,
            milliseconds={**sample.milliseconds, "overhead": took},
        )


def batches(count: int) -> Iterator[list[Row]]:
    """Rows as the gateway writes them."""
    dice, batch = random.Random(5), []
    for one in made_up(count, time.time(), dice):
        batch.append({**row_of(one, "done"), "instance": 1})
        if len(batch) == AT_ONCE:
            yield batch
            batch = []
    yield batch


class Sums:
    """Totals of everything that was written."""

    def __init__(self) -> None:
        self._rows: dict[str, dict[tuple[Any, ...], Row]] = {"daily": {}, "measures": {}}

    def add(self, rows: list[Row]) -> None:
        """Take in a batch."""
        self._merge("daily", totals(rows), 4)
        self._merge("measures", overheads(rows), 3)

    def of(self, table: str) -> list[Row]:
        """Rows of ``daily`` or ``measures``."""
        return list(self._rows[table].values())

    def _merge(self, table: str, rows: list[Row], keys: int) -> None:
        for row in rows:
            key = tuple(row.values())[:keys]
            known = self._rows[table].setdefault(key, row)
            if known is not row:
                for name in list(row)[keys:]:
                    known[name] += row[name]


def fill_sqlite(file: Path, count: int) -> None:
    """Rows first, indexes afterwards: that takes a fraction of the time."""
    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        connection.execute("PRAGMA synchronous=OFF")
        found = connection.execute(
            "SELECT name, sql FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL "
            "AND tbl_name = 'doorman_decisions'"
        ).fetchall()
        for name, _ in found:
            connection.execute(f"DROP INDEX {name}")
        sums = Sums()
        for rows in batches(count):
            _insert(connection, decisions, rows)
            sums.add(rows)
        _insert(connection, daily, sums.of("daily"))
        _insert(connection, measures, sums.of("measures"))
        for _, statement in found:
            connection.execute(statement)


def _insert(connection: sqlite3.Connection, table: Any, rows: list[Row]) -> None:
    names = [column.name for column in table.c]
    places = ", ".join("?" * len(names))
    connection.execute("BEGIN")
    connection.executemany(
        f"INSERT INTO {table.name} ({', '.join(names)}) VALUES ({places})",
        [tuple(row[name] for name in names) for row in rows],
    )
    connection.execute("COMMIT")


async def fill_postgres(url: str, count: int) -> None:
    """By COPY, indexes afterwards."""
    import asyncpg

    connection = await asyncpg.connect(url)
    found = await connection.fetch(
        "SELECT indexname, indexdef FROM pg_indexes WHERE tablename = 'doorman_decisions' "
        "AND indexname NOT LIKE '%pkey'"
    )
    for row in found:
        await connection.execute(f"DROP INDEX {row['indexname']}")
    sums = Sums()

    async def copy(table: Any, rows: list[Row]) -> None:
        names = [column.name for column in table.c]
        await connection.copy_records_to_table(
            table.name, columns=names, records=[tuple(row[name] for name in names) for row in rows]
        )

    for rows in batches(count):
        await copy(decisions, rows)
        sums.add(rows)
    await copy(daily, sums.of("daily"))
    await copy(measures, sums.of("measures"))
    for row in found:
        await connection.execute(row["indexdef"])
    await connection.execute("VACUUM ANALYZE")  # as its own housekeeping does in time
    await connection.close()


def addresses(count: int) -> list[str]:
    """Every page of the navigation, and what one comes to from there."""
    middle = time.time() - DAYS * 86_400.0 / 2
    listed = "/dashboard/decisions"
    return [
        *(page.path for page in PAGES if page.title),
        "/dashboard/savings?days=365",
        f"{listed}?action=block",
        f"{listed}?model=rare",
        f"{listed}?policy=policy-3%401&action=route",
        f"{listed}?key=app-7&label=spam&action=block",
        f"{listed}?key=app-7&model=rare&status=400",
        f"{listed}?rule=no-such-rule",
        f"{listed}?shadow=1",
        f"{listed}?before={middle!r}&id=dec_",
        f"{listed}?action=answer&before={middle!r}&id=dec_",
        f"{listed}/new?since={time.time() - 60!r}",
        f"{listed}/dec_{count // 2:024x}",
    ]


def measure(base: str, count: int) -> list[tuple[str, float, float]]:
    """Milliseconds of each address: the first time, and the median of those after it."""
    found = []
    for address in addresses(count):
        took = []
        for _ in range(TIMES):
            started = time.perf_counter()
            try:
                with urllib.request.urlopen(f"{base}{address}", timeout=120) as answer:
                    answer.read()
            except urllib.error.HTTPError as error:
                raise SystemExit(
                    f"{address} answers {error.code}: {error.read()[:300]!r}"
                ) from None
            took.append((time.perf_counter() - started) * 1000)
        found.append((address, took[0], statistics.median(took[1:])))
    return found


def configure(folder: Path, url: str) -> Path:
    """A gateway without models to load."""
    (folder / "policy.yaml").write_text(POLICY, "utf-8")
    patterns = [{"name": "words", "patterns": [{"label": "ATTACK", "keywords": ["attack"]}]}]
    config = {
        "policies": ["policy.yaml"],
        "watch_policies": False,
        "classifiers": {"shipped": [], "patterns": patterns},
        "ledger": {"url": url, "retention": {"days": None}},
    }
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(config), "utf-8")
    return path


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status 1 if a page takes longer than it may."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument(
        "--url", help="an empty database of PostgreSQL (default: a new SQLite file)"
    )
    parser.add_argument("--rows", type=int, default=1_000_000)
    options = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        url = options.url or f"sqlite:///{folder}/doorman.db"
        place = Place.of(url)
        migrate(place)
        started = time.perf_counter()
        if place.file is not None:
            fill_sqlite(place.file, options.rows)
        else:
            asyncio.run(fill_postgres(options.url, options.rows))
        print(f"{options.rows:,} rows made in {time.perf_counter() - started:.0f} s", flush=True)
        port = free_port()
        command = [sys.executable, "-m", "proxy.cli", "serve", "-c", str(configure(folder, url))]
        with running("doorman", [*command, "--port", str(port)], port, "/ready", folder) as server:
            found = measure(f"http://127.0.0.1:{server.port}", options.rows)
    for address, first, later in found:
        verdict = "" if later <= LIMIT_MS and first <= LIMIT_MS else "  over the limit"
        print(f"{first:8.1f} ms first {later:8.1f} ms then  {address}{verdict}")
    return int(any(later > LIMIT_MS for _, _, later in found))


if __name__ == "__main__":
    sys.exit(main())
