"""Scores that move are seen without anybody looking: the metric is kept up to date."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

from feedback_kit import home_of, served, trained
from gateway_kit import Door, ScriptedUpstream
from ledger_kit import samples, until

from benchmarks.ledger import record
from proxy.feedback.watch import watch
from proxy.ledgers.database import Place
from proxy.ledgers.rows import row_of
from proxy.ledgers.store import Store

ROWS = 500
START = 1_750_000_000.0


def fill(home: Path, id: str, moved: bool) -> None:
    """Decisions of which the newer half scores otherwise, or not."""

    async def write() -> None:
        store = Store(Place.of(f"sqlite:///{home}/data/doorman.db", wait_seconds=60))
        await store.start()
        rows = []
        for n in range(ROWS):
            score = 0.97 if moved and n >= ROWS // 2 else 0.02
            stage = {
                **record().stages["input"],
                "seen": [{"role": "user", "scores": {id: {"kitchen": score}}}],
            }
            one = replace(record(), time=START + n + (1e6 if moved else 0), stages={"input": stage})
            rows.append(row_of(one, "done"))
        await store.write(rows)
        await store.close()

    asyncio.run(write())


def drifts(door: Door) -> dict[str, float]:
    return dict(samples(door.app.state.gateway.metrics.text().decode(), "doorman_drift{"))


def test_drift_is_measured_by_itself(tmp_path: Path, upstream: ScriptedUpstream) -> None:
    for name in ("home", "trained"):
        (tmp_path / name).mkdir()
    home = home_of(tmp_path / "home", trained(tmp_path / "trained"))
    with served(home, upstream, f"feedback: {{look_back: {ROWS}}}\n") as door:
        gateway = door.app.state.gateway
        (hobby,) = gateway.engine.classifiers.values()
        id = f"{hobby.name}@{hobby.version}"
        fill(home, id, moved=False)
        stop = asyncio.Event()
        watching = asyncio.run_coroutine_threadsafe(watch(gateway, stop, 0.05), door.loop.loop)
        found = until(lambda: drifts(door))
        assert list(found) == ['classifier="hobby"']
        assert sum(found.values()) < 0.1
        fill(home, id, moved=True)
        until(lambda: sum(drifts(door).values()) > 0.25)
        door.loop.loop.call_soon_threadsafe(stop.set)
        watching.result(30)
