"""Looking into a ledger with sqlite3, not with the program's own code."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from gateway_kit import WAIT

RULES = """
rules:
  - {name: no-attacks, when: {guard: attack}, do: {block: "Not here."}}
  - {name: greet, when: {intent: greeting}, do: {answer: "Hello!"}}
  - {name: watch, mode: shadow, when: {topic: cheap}, do: {block: "Never."}}
  - {name: no-secrets, check: output, when: {guard: secret}, do: {block: "Not that."}}
"""
ASK = "What is the capital of France?"


def ledger(folder: Path, more: str = "") -> str:
    """Settings of a ledger in SQLite, beside the config in the folder."""
    if "wait_seconds" not in more:
        more += ", wait_seconds: 60"  # a busy machine is no fault of the database
    return f'ledger: {{url: "sqlite:///{folder}/data/doorman.db"{more}}}'


def query(folder: Path, sql: str, *values: Any) -> list[dict[str, Any]]:
    """Rows of a ledger that is beside the config."""
    with closing(sqlite3.connect(folder / "data" / "doorman.db", timeout=WAIT)) as connection:
        connection.row_factory = sqlite3.Row
        return [dict(row) for row in connection.execute(sql, values)]


def rows(folder: Path) -> list[dict[str, Any]]:
    """All decisions, oldest first; ``record`` is parsed."""
    found = query(folder, "SELECT * FROM doorman_decisions ORDER BY time, decision_id")
    return [{**row, "record": json.loads(row["record"])} for row in found]


def until(met: Callable[[], Any], what: str = "nothing came of it", seconds: float = WAIT) -> Any:
    """Wait for a condition; returns what it returned."""
    limit = time.monotonic() + seconds
    while not (found := met()):
        assert time.monotonic() < limit, what
        time.sleep(0.01)
    return found


def ended(folder: Path, count: int) -> list[dict[str, Any]]:
    """All decisions, once so many have ended."""

    def enough() -> list[dict[str, Any]] | None:
        found = rows(folder)
        return found if sum(row["state"] == "done" for row in found) >= count else None

    found: list[dict[str, Any]] = until(enough)
    return found


def samples(metrics: str, name: str) -> Mapping[str, float]:
    """Values of a metric by what stands between its braces."""
    lines = [line for line in metrics.splitlines() if line.startswith(name)]
    return {
        line.removeprefix(name).rpartition(" ")[0].strip("{}"): float(line.rpartition(" ")[2])
        for line in lines
    }
