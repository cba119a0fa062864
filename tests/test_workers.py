"""Several processes on one port: real ones, as ``doorman serve --workers`` starts them."""

from __future__ import annotations

import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from gateway_kit import ScriptedUpstream, chunk, events, free_port

pytestmark = pytest.mark.skipif(os.name != "posix", reason="forks")

SECONDS = 60.0
PATH = "/v1/chat/completions"
POLICY = "name: p\nversion: %d\nrules: [{name: r, when: {words: ATTACK}, do: {block: 'No.'}}]"


def until(holds: Callable[[], bool], what: str) -> None:
    limit = time.monotonic() + SECONDS
    while not holds():
        assert time.monotonic() < limit, what
        time.sleep(0.02)


@dataclass
class Fleet:
    """The first process, and the workers below it."""

    process: subprocess.Popen[str]
    url: str
    folder: Path

    def workers(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children()

    def ask(self, content: str = "hi") -> httpx.Response:
        """A request on a connection of its own, which any of the workers may take."""
        body = {"model": "default", "messages": [{"role": "user", "content": content}]}
        return httpx.post(f"{self.url}{PATH}", json=body, timeout=SECONDS)

    def answered(self) -> int:
        """Requests that were answered with 200, by the metrics of whoever is asked."""
        text = httpx.get(f"{self.url}/metrics", timeout=SECONDS).text
        found = re.search(
            rf'^doorman_requests_total{{path="{PATH}",status="200"}} (\S+)', text, re.M
        )
        return int(float(found[1])) if found else 0


@pytest.fixture
def fleet(tmp_path: Path, upstream: ScriptedUpstream) -> Iterator[Fleet]:
    """Two workers with a policy of patterns, so that there are no models to load."""
    (tmp_path / "policy.yaml").write_text(POLICY % 1)
    (tmp_path / "config.yaml").write_text(f"""
model_list:
  - model_name: default
    litellm_params: {{model: openai/gpt-4o, api_base: "http://127.0.0.1:{upstream.port}/v1"}}
policies: [policy.yaml]
watch_policies: false
classifiers:
  shipped: []
  patterns: [{{name: words, patterns: [{{label: ATTACK, keywords: [attack]}}]}}]
""")
    port = free_port()
    command = [sys.executable, "-m", "proxy.cli", "serve", "-c", str(tmp_path / "config.yaml")]
    with (tmp_path / "out").open("w") as out, (tmp_path / "err").open("w") as err:
        process = subprocess.Popen(
            [*command, "--port", str(port), "--workers", "2"],
            stdout=out,
            stderr=err,
            text=True,
            cwd=Path(__file__).parent.parent,
        )
    try:
        until(lambda: "listening on" in (tmp_path / "err").read_text(), "it does not listen")
        yield Fleet(process, f"http://127.0.0.1:{port}", tmp_path)
    finally:
        left = psutil.Process(process.pid).children() if process.poll() is None else []
        process.kill()
        process.wait()
        for worker in left:
            worker.kill()


def test_workers_share_a_ledger_and_their_metrics_add_up(fleet: Fleet) -> None:
    assert len(fleet.workers()) == 2
    for number in range(30):
        assert fleet.ask(f"hello {number}").status_code == 200
    # Whoever is asked tells of all; a scrape may come before the last request is counted.
    until(lambda: all(fleet.answered() == 30 for _ in range(5)), "requests are missing")
    database = fleet.folder / "doorman-data" / "doorman.db"

    def recorded() -> bool:
        with sqlite3.connect(database) as connection:
            rows = "SELECT count(*), count(DISTINCT instance) FROM doorman_decisions WHERE state = 'done'"
            done, instances = connection.execute(rows).fetchone()
        return bool(done == 30 and instances >= 1)

    until(recorded, "decisions are missing")
    until(lambda: len((fleet.folder / "out").read_text().splitlines()) == 30, "lines are missing")
    lines = [json.loads(line) for line in (fleet.folder / "out").read_text().splitlines()]
    assert {line["action"] for line in lines} == {"forward"}


def test_a_worker_that_dies_is_replaced_and_nobody_is_turned_away(fleet: Fleet) -> None:
    for _ in range(10):
        fleet.ask()
    until(lambda: fleet.answered() == 10, "requests are missing")
    before = {worker.pid for worker in fleet.workers()}
    gone = fleet.workers()[0]
    gone.kill()
    for _ in range(10):
        assert fleet.ask().status_code == 200
    until(lambda: len(fleet.workers()) == 2 and gone.pid not in _pids(fleet), "none is replaced")
    assert len(_pids(fleet) - before) == 1
    # What the dead one has counted stays counted.
    until(lambda: fleet.answered() == 20, "requests are missing")
    assert "starting another" in (fleet.folder / "err").read_text()


def test_one_hangup_reloads_every_worker(fleet: Fleet) -> None:
    assert fleet.ask("attack").headers["x-doorman-policy"] == "p@1"
    (fleet.folder / "policy.yaml").write_text(POLICY % 2)
    fleet.process.send_signal(signal.SIGHUP)

    def reloaded() -> bool:
        return all(fleet.ask("attack").headers["x-doorman-policy"] == "p@2" for _ in range(12))

    until(reloaded, "some worker has the old policy")
    assert len(fleet.workers()) == 2


def test_sigterm_finishes_what_every_worker_has_begun(
    fleet: Fleet, upstream: ScriptedUpstream
) -> None:
    slow: list[dict[str, Any] | bytes | float] = [chunk({"content": "slowly "}), 0.05] * 20
    upstream.script = events(*slow)
    body = {"model": "default", "messages": [{"role": "user", "content": "hi"}], "stream": True}
    workers = fleet.workers()
    with (
        httpx.stream("POST", f"{fleet.url}{PATH}", json=body, timeout=SECONDS) as one,
        httpx.stream("POST", f"{fleet.url}{PATH}", json=body, timeout=SECONDS) as other,
    ):
        texts = [one.iter_lines(), other.iter_lines()]
        for lines in texts:
            next(lines)
        fleet.process.send_signal(signal.SIGTERM)
        assert all("".join(lines).endswith("data: [DONE]") for lines in texts)
    assert fleet.process.wait(SECONDS) == 0
    until(lambda: not any(worker.is_running() for worker in workers), "a worker is left")
    assert "Traceback" not in (fleet.folder / "err").read_text()


def test_workers_end_with_the_first_process(fleet: Fleet) -> None:
    workers = fleet.workers()
    fleet.process.kill()
    until(lambda: not any(_runs(worker) for worker in workers), "a worker is left")


def test_a_worker_that_cannot_start_ends_all(tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text("policies: [missing.yaml]\nclassifiers: {shipped: []}")
    done = _serve(config, "--workers", "2", "--port", str(free_port()))
    assert done.returncode == 1
    assert "missing.yaml" in done.stderr
    assert "did not start" in done.stderr


def test_limits_that_workers_would_count_for_themselves_are_refused(tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(
        "policies: []\nclassifiers: {shipped: []}\n"
        "keys: [{name: app, key: sk-123456789012345678901234567890, rpm: 5}]"
    )
    done = _serve(config, "--workers", "2", "--port", str(free_port()))
    assert done.returncode != 0
    assert "set redis.url, or workers: 1" in done.stderr


def _serve(config: Path, *more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "proxy.cli", "serve", "-c", str(config), *more],
        capture_output=True,
        text=True,
        timeout=SECONDS,
        cwd=Path(__file__).parent.parent,
    )


def _pids(fleet: Fleet) -> set[int]:
    return {worker.pid for worker in fleet.workers()}


def _runs(worker: psutil.Process) -> bool:
    try:
        return worker.is_running() and worker.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
