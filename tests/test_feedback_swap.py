"""A pack is exchanged under load: no request is lost, and none is decided by half an exchange."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("sklearn", reason="scikit-learn is not installed (extra `train`)")

from feedback_kit import NEW, candidate, home_of, served, trained, with_candidate
from gateway_kit import ScriptedUpstream
from ledger_kit import rows

AT_ONCE, ROUNDS = 8, 6


def test_a_swap_under_load(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, upstream: ScriptedUpstream
) -> None:
    home = home_of(tmp_path, with_candidate(trained(tmp_path_factory.mktemp("trained"))))
    with served(home, upstream) as door:
        loop = door.app.state.gateway.feedback
        answers = asyncio.run(load(door, loop, candidate(door)))
    assert {status for status, _ in answers} == {200}

    decided: dict[str, set[tuple[Any, ...]]] = {}
    for row in rows(home):
        record = row["record"]
        [seen] = record["stages"]["input"]["seen"]
        [(asked, scores)] = seen["scores"].items()
        cause = record["stages"]["input"]["cause"] or {}
        assert cause.get("classifier", asked) == asked
        verdict = (row["action"], cause.get("threshold"), json.dumps(scores, sort_keys=True))
        decided.setdefault(asked, set()).add(verdict)
        assert row["state"] == "done"
    # Each version has decided this text in one way, with its own score at its own threshold.
    assert {len(ways) for ways in decided.values()} == {1}
    actions = sorted(way[0] for ways in decided.values() for way in ways)
    assert actions == ["block", "forward"]
    assert len(rows(home)) == len(answers) + 1


async def load(door: Any, loop: Any, short: str) -> list[tuple[int, str]]:
    """Clients that ask without a pause, while the pack is exchanged again and again."""
    answers: list[tuple[int, str]] = []
    done, more = asyncio.Event(), asyncio.Semaphore(0)

    async def client() -> None:
        api = door.async_client(max_retries=0)
        async with api:
            while not done.is_set():
                raw = await api.chat.completions.with_raw_response.create(
                    model="default", messages=[{"role": "user", "content": NEW[0]}]
                )
                answers.append((raw.status_code, raw.headers["x-doorman-action"]))
                more.release()

    async def on_server(work: Any) -> Any:
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, door.loop.loop))

    clients = [asyncio.create_task(client()) for _ in range(AT_ONCE)]
    try:
        for _ in range(ROUNDS):
            await on_server(loop.promote("hobby", short, "ann"))
            await on_server(loop.undo("hobby", "ann"))
            for _ in range(AT_ONCE):  # let some in between
                await more.acquire()
    finally:
        done.set()
        await asyncio.gather(*clients)
    return answers
