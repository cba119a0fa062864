"""What happens while the ledger's database cannot be written, and after."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from gateway_kit import Door, ScriptedUpstream, StartGateway
from ledger_kit import ASK, RULES, ended, ledger, query, rows, samples, until

from proxy.cli import main
from proxy.ledgers.database import Away, Refused
from proxy.ledgers.rows import Row
from proxy.ledgers.writer import Writer

QUICK = ", wait_seconds: 0.3"


def ask(door: Door, text: str = ASK) -> httpx.Response:
    body = {"model": "default", "messages": [{"role": "user", "content": text}]}
    headers = {"authorization": "Bearer sk-of-the-config"}
    return httpx.post(f"{door.url}/v1/chat/completions", json=body, headers=headers, timeout=30)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Another program has the database for itself."""
    file = folder / "data" / "doorman.db"
    with closing(sqlite3.connect(file, isolation_level=None, timeout=30)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")


def errors(door: Door) -> dict[str, float]:
    text = httpx.get(f"{door.url}/metrics").text
    found = samples(text, "doorman_ledger_errors_total")
    return {label.partition('"')[2].strip('"'): value for label, value in found.items()}


def test_locked_stops_requests_until_it_is_free(
    tmp_path: Path, gateway: StartGateway, upstream: ScriptedUpstream
) -> None:
    door = gateway(RULES, ledger(tmp_path, QUICK))
    assert ask(door).status_code == 200
    upstream.seen.clear()
    with locked(tmp_path):
        replies = [ask(door, text) for text in (ASK, "attack", "hello", ASK)]
        assert {reply.status_code for reply in replies} == {503}
        codes = {reply.json()["error"]["code"] for reply in replies}
        assert codes == {"ledger_unavailable"}
        assert upstream.seen == []
        told = errors(door)
        assert told["refused"] == 4
        assert told["commit"] >= 1
        metrics = httpx.get(f"{door.url}/metrics").text
        assert samples(metrics, "doorman_ledger_queue")[""] >= 3
        assert samples(metrics, "doorman_ledger_lag_seconds")[""] > 0
    assert until(lambda: ask(door).status_code == 200)
    # Those that were refused have their rows too, once each.
    found = until(
        lambda: (
            [r for r in rows(tmp_path) if r["ended"] == "ledger_unavailable"][3:] and rows(tmp_path)
        )
    )
    assert len({row["decision_id"] for row in found}) == len(found)
    refused = [row for row in found if row["ended"] == "ledger_unavailable"]
    assert {(row["action"], row["status"], row["state"]) for row in refused} == {
        ("error", 503, "done")
    }
    assert "dropped" not in errors(door)


def test_only_the_first_waits(tmp_path: Path, gateway: StartGateway) -> None:
    door = gateway(RULES, ledger(tmp_path, ", wait_seconds: 2"))
    with locked(tmp_path):
        assert ask(door).status_code == 503
        started = time.monotonic()
        assert [ask(door).status_code for _ in range(5)] == [503] * 5
        assert time.monotonic() - started < 5 * 2


def test_allow_goes_on_and_says_so(
    tmp_path: Path,
    gateway: StartGateway,
    upstream: ScriptedUpstream,
    caplog: pytest.LogCaptureFixture,
) -> None:
    door = gateway(RULES, ledger(tmp_path, f"{QUICK}, on_error: allow"))
    with locked(tmp_path):
        assert [ask(door).status_code for _ in range(3)] == [200] * 3
        assert ask(door, "attack").json()["choices"][0]["finish_reason"] == "content_filter"
        assert len(upstream.seen) == 3
        assert errors(door)["unrecorded"] == 4
        assert b'fail_open_total{guard="ledger"} 4.0' in door.app.state.gateway.metrics.text()
        assert rows(tmp_path) == []
    said = [r.message for r in caplog.records if "goes on without a record" in r.message]
    assert len(said) == 4
    # What came of them is known by now: their rows are written late, with what really happened.
    found = ended(tmp_path, 4)
    assert [row["action"] for row in found] == ["forward", "forward", "forward", "block"]


def test_a_full_queue_refuses_at_once(
    tmp_path: Path, gateway: StartGateway, upstream: ScriptedUpstream
) -> None:
    door = gateway(RULES, ledger(tmp_path, ", wait_seconds: 1, max_queue: 2, durability: relaxed"))
    with locked(tmp_path):
        statuses = [ask(door).status_code for _ in range(6)]
        # Those that were let in keep their places for their ends; nobody else gets one.
        assert statuses[0] == 200
        assert statuses[2:] == [503] * 4
        assert len(upstream.seen) == statuses.count(200)
        assert errors(door)["dropped"] >= 1
    until(lambda: ask(door).status_code == 200)
    assert ended(tmp_path, 1)[0]["action"] == "forward"


def test_a_file_that_is_gone_is_no_ledger(
    tmp_path: Path, gateway: StartGateway, upstream: ScriptedUpstream
) -> None:
    door = gateway(RULES, ledger(tmp_path))
    assert ask(door).status_code == 200
    folder = tmp_path / "data"
    folder.rename(tmp_path / "elsewhere")
    upstream.seen.clear()
    assert ask(door).status_code == 503
    assert upstream.seen == []
    (tmp_path / "elsewhere").rename(folder)
    until(lambda: ask(door).status_code == 200)
    assert query(tmp_path, "PRAGMA integrity_check") == [{"integrity_check": "ok"}]


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (lambda data: data.write_text("a file in place of the folder"), "cannot be made"),
        (
            lambda data: (data.mkdir(), (data / "doorman.db").write_text("no database" * 99)),
            "NOTADB",
        ),
    ],
    ids=["no folder", "no database"],
)
def test_a_start_without_database_fails_and_says_why(
    made: Callable[[Path], Any], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made(tmp_path / "data")
    (tmp_path / "config.yaml").write_text(ledger(tmp_path) + "\npolicies: []\n")
    assert main(["serve", "-c", str(tmp_path / "config.yaml"), "--port", "0"]) == 2
    told = capsys.readouterr().err.splitlines()[-1]
    assert told.startswith("doorman: ledger")
    assert said in told
    assert str(tmp_path) not in told


def test_allow_starts_without_database_and_finds_it(tmp_path: Path, gateway: StartGateway) -> None:
    (tmp_path / "data").write_text("a file where the folder should be")
    # The keys of the database cannot be known then: those of the config count.
    key = "keys: [{name: app, key: sk-of-the-config}]\n"
    door = gateway(RULES, key + ledger(tmp_path, ", on_error: allow"))
    assert ask(door).status_code == 200
    (tmp_path / "data").unlink()
    until(lambda: (tmp_path / "data" / "doorman.db").is_file())
    until(lambda: query(tmp_path, "SELECT name FROM sqlite_master WHERE name = 'doorman_marks'"))
    assert ended(tmp_path, 1)[0]["action"] == "forward"


class Target:
    """Fails as it is told to, and keeps what is written."""

    def __init__(self) -> None:
        self.rows: dict[str, Row] = {}
        self.batches: list[int] = []
        self.faults: list[Exception] = []
        self.bad: set[str] = set()
        self.again: list[bool] = []

    async def write(self, rows: list[Row], *, again: bool = False) -> None:
        await asyncio.sleep(0)
        self.again.append(again)
        if self.faults:
            raise self.faults.pop()
        if self.bad & {row["decision_id"] for row in rows}:
            raise Refused("no")
        self.batches.append(len(rows))
        self.rows |= {row["decision_id"]: row for row in rows}


def written(target: Target) -> tuple[Writer, list[str]]:
    faults: list[str] = []
    writer = Writer(target, lambda *_: None, faults.append)
    writer.start()
    return writer, faults


def row(id: str, **more: Any) -> Row:
    return {"decision_id": id, **more}


async def test_what_gathers_during_a_commit_is_one_batch() -> None:
    target = Target()
    writer, _ = written(target)
    await asyncio.gather(*(writer.commit(row(str(n))) for n in range(40)))
    assert target.batches == [40]
    first = writer.commit(row("a"))
    await asyncio.sleep(0)
    rest = [writer.commit(row(f"b{n}")) for n in range(10)]
    await asyncio.gather(first, *rest)
    assert target.batches[1:] == [1, 10]
    assert await writer.stop(1) == 0


async def test_a_row_that_is_refused_harms_no_other() -> None:
    target = Target()
    target.bad = {"3"}
    writer, faults = written(target)
    done = await asyncio.gather(
        *(writer.commit(row(str(n))) for n in range(6)), return_exceptions=True
    )
    assert [type(d) for d in done] == [type(None)] * 3 + [Refused] + [type(None)] * 2
    assert (set(target.rows), faults) == ({"0", "1", "2", "4", "5"}, ["dropped"])
    assert await writer.stop(1) == 0


async def test_what_failed_is_tried_again_with_its_newest_row() -> None:
    target = Target()
    target.faults = [Away("full")]
    writer, faults = written(target)
    with pytest.raises(Away):
        await writer.commit(row("a", state="open"))
    assert writer.away
    writer.put(row("a", state="done"))
    assert await writer.stop(5) == 0
    assert (target.rows["a"]["state"], target.again, faults) == ("done", [False, True], ["commit"])


async def test_stopping_counts_what_is_lost() -> None:
    target = Target()
    target.faults = [Away("full")] * 1000
    writer, _ = written(target)
    for n in range(3):
        writer.put(row(str(n)))
    waiting = writer.commit(row("3"))
    assert await writer.stop(0.2) == 4
    with pytest.raises(Away):
        await waiting
