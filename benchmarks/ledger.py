"""The ledger under load: what a request waits for its record, and whether kill -9 ever loses one.

python -m benchmarks.ledger                       # latency and throughput, SQLite
python -m benchmarks.ledger --url postgresql://…  # the same on PostgreSQL
python -m benchmarks.ledger --kills 100           # a gateway is killed under load, again and again
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import random
import secrets
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import yaml
from aiohttp import web

from proxy.config_ledger import LedgerConfig
from proxy.ledger import Record, Tokens
from proxy.ledgers.ledger import DatabaseLedger
from proxy.metrics import Metrics

ROOT = Path(__file__).resolve().parent.parent
START_SECONDS = 60.0
CLIENTS = 16
LEAST = 5
"""Answers of one round."""
POLICY = "name: p\nrules: [{name: r, when: {words: ATTACK}, do: {block: 'No.'}}]\n"


@dataclass(frozen=True, slots=True)
class Waits:
    """Milliseconds that requests waited until their decision was committed."""

    p50: float
    p90: float
    p99: float
    per_second: float


def record() -> Record:
    """A record of ordinary size: one rule fired, hashes of two texts."""
    cause = {
        "policy": "front-line@1", "rule": "small-talk", "action": "flag", "enforced": True,
        "classifier": "intent@3", "label": "greeting", "score": 0.97, "threshold": 0.9, "text": 1,
        "address": ["messages", 1, "content"], "role": "user", "span": None,
    }  # fmt: skip
    stage = {
        "outcome": "forward", "cause": cause, "route": None, "redactions": [],
        "redactions_left_out": 0, "tags": ["greeting"], "fired": [cause], "shadow": [], "errors": [],
        "unscannable": None,
    }  # fmt: skip
    hashed = {"address": ["messages", 1, "content"], "role": "user", "hmac_sha256": "0" * 64}
    return Record(
        time.time(), f"dec_{secrets.token_hex(12)}", "req_1", "app", "chat.completions", False,
        "default", "forward", 200, "complete", ("front-line@1",), {"input": stage, "output": stage},
        texts=2, upstream_called=True, upstream_model="gpt-4o", provider="openai",
        milliseconds={"classify_input": 4.1, "upstream": 700.0, "total": 705.0, "overhead": 5.0},
        tokens=Tokens(120, 80, "upstream"), cost_usd=0.0011, content=(hashed, hashed),
    )  # fmt: skip


async def waits(url: str, requests: int, clients: int, upstream: float, **options: Any) -> Waits:
    """Strict mode: each request is entered, waits for ``upstream`` seconds on average, and is ended."""
    ledger = DatabaseLedger(LedgerConfig(url=url, **options), Metrics())
    await asyncio.to_thread(ledger.prepare)
    await ledger.start()
    took: list[float] = []

    async def client() -> None:
        for _ in range(requests // clients):
            one = record()
            started = time.perf_counter()
            await ledger.decided(one)
            took.append(time.perf_counter() - started)
            # Models do not answer in step.
            await asyncio.sleep(random.expovariate(1 / upstream) if upstream else 0)
            ledger.ended(one)

    started = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(clients)))
    await ledger.stop()
    seconds = time.perf_counter() - started
    took.sort()
    at = [took[int(len(took) * share)] * 1000 for share in (0.5, 0.9, 0.99)]
    return Waits(*at, len(took) / seconds)


class Witness:
    """The model's server: remembers which requests have reached it."""

    def __init__(self) -> None:
        self.seen: set[str] = set()
        self.port = 0

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator[Witness]:
        """Serve on a free loopback port."""
        app = web.Application()
        app.router.add_post("/v1/chat/completions", self._answer)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self.port = runner.addresses[0][1]
        try:
            yield self
        finally:
            await runner.cleanup()

    async def _answer(self, request: web.Request) -> web.Response:
        body = await request.json()
        self.seen.add(body["user"])
        await asyncio.sleep(random.uniform(0, 0.03))
        choice = {
            "index": 0,
            "message": {"role": "assistant", "content": "ok"},
            "finish_reason": "stop",
        }
        return web.json_response(
            {
                "id": "c",
                "object": "chat.completion",
                "created": 1,
                "model": "m",
                "choices": [choice],
            }
        )


def configure(folder: Path, port: int, url: str) -> Path:
    """A gateway without models to load, in front of the witness. Records name their requests."""
    (folder / "policy.yaml").write_text(POLICY, "utf-8")
    base = f"http://127.0.0.1:{port}/v1"
    model = {"model": "openai/gpt-4o", "api_base": base, "api_key": "sk-none"}
    patterns = [{"name": "words", "patterns": [{"label": "ATTACK", "keywords": ["attack"]}]}]
    config = {
        "model_list": [{"model_name": "default", "litellm_params": model}],
        "policies": ["policy.yaml"],
        "watch_policies": False,
        "classifiers": {"shipped": [], "patterns": patterns},
        "ledger": {"url": url},
    }
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(config), "utf-8")
    return path


async def killed(config: Path, seconds: float, answered: set[str], log: Path) -> None:
    """One round: start the gateway, load it, kill it without warning after some time."""
    command = [sys.executable, "-m", "proxy.cli", "serve", "-c", str(config), "--port", "0"]
    with log.open("wb") as errors:
        process = await asyncio.create_subprocess_exec(
            *command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=errors
        )
    try:
        url = await _address(process, log)
        async with aiohttp.ClientSession(url) as session:
            before, limit = len(answered), time.monotonic() + START_SECONDS
            load = [asyncio.create_task(_client(session, answered)) for _ in range(CLIENTS)]
            while True:
                await asyncio.sleep(seconds)
                # On a machine that is busy with other things nothing may have been answered by then.
                if len(answered) >= before + LEAST or time.monotonic() > limit:
                    break
            process.send_signal(signal.SIGKILL)
            await asyncio.gather(*load)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def _address(process: Process, log: Path) -> str:
    limit = time.monotonic() + START_SECONDS
    while "listening on" not in (text := await asyncio.to_thread(log.read_text)):
        if process.returncode is not None or time.monotonic() > limit:
            raise RuntimeError(f"the gateway did not start:\n{text}")
        await asyncio.sleep(0.05)
    return next(line for line in text.splitlines() if "listening on" in line).split()[-1]


async def _client(session: aiohttp.ClientSession, answered: set[str]) -> None:
    """Send requests until the gateway is gone; every third is blocked there."""
    while True:
        id = f"req_{secrets.token_hex(8)}"
        text = "attack" if random.random() < 1 / 3 else "hello there"
        body = {"model": "default", "user": id, "messages": [{"role": "user", "content": text}]}
        try:
            async with session.post(
                "/v1/chat/completions", json=body, headers={"x-request-id": id}
            ) as reply:
                await reply.read()
                assert reply.status == 200, reply.status
                answered.add(id)
        except (aiohttp.ClientError, OSError):
            return


def faults(file: Path, seen: set[str], answered: set[str]) -> list[str]:
    """What is wrong with a SQLite ledger after kills; empty where nothing is."""
    with contextlib.closing(sqlite3.connect(file)) as connection:
        whole = [row[0] for row in connection.execute("PRAGMA integrity_check")]
        kept = list(connection.execute("SELECT decision_id, record FROM doorman_decisions"))
    requests = [json.loads(text)["request_id"] for _, text in kept]
    found = [] if whole == ["ok"] else [f"integrity_check: {whole[0]}"]
    for what, ids in {"reached upstream": seen, "were answered": answered}.items():
        if lost := ids - set(requests):
            found.append(f"{len(lost)} of {len(ids)} requests that {what} have no row")
    if len(set(requests)) != len(requests):
        found.append("a request has two rows")
    return found


async def kills(rounds: int, folder: Path) -> tuple[list[str], int, int]:
    """Kill a gateway so often. Returns faults, requests upstream, requests answered."""
    answered: set[str] = set()
    file = folder / "doorman.db"
    found: list[str] = []
    async with Witness().serving() as witness:
        config = configure(folder, witness.port, f"sqlite:///{file}")
        for number in range(rounds):
            await killed(config, random.uniform(0.1, 0.6), answered, folder / "log.txt")
            found += [f"kill {number + 1}: {f}" for f in faults(file, witness.seen, answered)]
            if found:
                break
        return found, len(witness.seen), len(answered)


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status 1 if a kill has lost something."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--url", help="ledger.url to measure (default: a new SQLite file)")
    parser.add_argument("--requests", type=int, default=4000)
    parser.add_argument("--kills", type=int, default=0, metavar="N", help="kill a gateway N times")
    options = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as name:
        if options.kills:
            found, seen, answered = asyncio.run(kills(options.kills, Path(name)))
            print(f"{options.kills} kills: {seen} requests upstream, {answered} answered")
            print("\n".join(found) or "every one has its row, the database is whole")
            return int(bool(found))
        url = options.url or f"sqlite:///{name}/doorman.db"
        print(f"load of the machine: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
        for title, upstream, options_ in (
            ("16 at once, upstream takes 50 ms on average", 0.05, {}),
            ("16 at once, as fast as it goes", 0.0, {}),
            ("64 at once, as fast as it goes", 0.0, {}),
        ):
            count = CLIENTS if title.startswith("16") else 64
            got = asyncio.run(waits(url, options.requests, count, upstream, **options_))
            print(
                f"{title}: waited p50 {got.p50:.2f} ms, p90 {got.p90:.2f}, p99 {got.p99:.2f}; "
                f"{got.per_second:.0f} decisions/s"
            )
    return 0


if __name__ == "__main__":
    sys.exit(main())
