"""A gateway that is killed under load: what reached upstream or was answered has its row."""

from __future__ import annotations

import signal
import sqlite3
from pathlib import Path

import httpx
import pytest
from gateway_kit import ScriptedUpstream, sleeping
from hostile_kit import process
from ledger_kit import ASK, query, rows, until

from benchmarks.ledger import faults, kills

ROUNDS = 3


@pytest.mark.timeout(300)
async def test_kill_9_under_load_loses_nothing(tmp_path: Path) -> None:
    found, seen, answered = await kills(ROUNDS, tmp_path)
    assert found == []
    assert seen > ROUNDS
    assert answered > ROUNDS
    # The check itself can fail.
    file = tmp_path / "doorman.db"
    with sqlite3.connect(file) as connection:
        connection.execute("DELETE FROM doorman_decisions WHERE action = 'block'")
    connection.close()
    assert faults(file, {"req_never_seen"}, {"req_lost"}) == [
        "1 of 1 requests that reached upstream have no row",
        "1 of 1 requests that were answered have no row",
    ]


@pytest.mark.timeout(300)
def test_the_next_start_marks_what_was_cut_off(tmp_path: Path, upstream: ScriptedUpstream) -> None:
    upstream.script = sleeping(60)
    body = {"model": "default", "messages": [{"role": "user", "content": ASK}]}
    (tmp_path / "data").mkdir()
    more = f'ledger: {{url: "sqlite:///{tmp_path}/data/doorman.db"}}'
    with process(tmp_path, upstream, more) as first:
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(f"{first.url}/v1/chat/completions", json=body, timeout=1)
        until(lambda: [row for row in rows(tmp_path) if row["state"] == "done"])
        with process(tmp_path, upstream, more) as second, httpx.Client(timeout=0.5) as client:
            # Both write to one ledger; what the first has under way is left alone by a third start.
            for door in (first, second):
                with pytest.raises(httpx.ReadTimeout):
                    client.post(f"{door.url}/v1/chat/completions", json=body)
            assert len({row["instance"] for row in rows(tmp_path)}) == 2
            before = query(tmp_path, "SELECT count(*) AS n FROM doorman_decisions")[0]["n"]
            import threading

            def hang() -> None:
                with pytest.raises(httpx.TransportError):
                    httpx.post(f"{first.url}/v1/chat/completions", json=body, timeout=120)

            hanging = threading.Thread(target=hang)
            hanging.start()
            until(lambda: [row for row in rows(tmp_path) if row["state"] == "open"])
            with process(tmp_path, upstream, more):
                pass
            assert [row["state"] for row in rows(tmp_path)].count("open") == 1
            first.process.send_signal(signal.SIGKILL)
            first.process.wait()
            hanging.join(30)
            with process(tmp_path, upstream, more):
                states = [row["state"] for row in rows(tmp_path)]
            assert states.count("interrupted") == 1
            assert (states.count("open"), len(states)) == (0, before + 1)
