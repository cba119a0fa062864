"""Limits that several processes share in a real Redis, and what happens while it is away."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import openai
import pytest
from gateway_kit import Door, Loop, ScriptedUpstream, StartGateway, free_port, words
from test_keys import KEY, ask, eventually
from test_limits import REDIS, redis_counters

ROOT = Path(__file__).resolve().parent.parent

PROCESS = """
import asyncio, sys
from proxy.config_keys import RedisConfig
from proxy.grants import Allowance
from proxy.limits_redis import RedisCounters

async def main():
    url, prefix, limit, tries = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    config = RedisConfig(url=url, prefix=prefix, timeout_seconds=30)
    counters = RedisCounters(config, 60)
    allowed = Allowance(requests=limit, tokens=limit * 10)
    print("ready", flush=True)
    sys.stdin.readline()

    async def one(number):
        verdict = await counters.admit("k", allowed, str(number), None, 0.0)
        if verdict.refused is None:
            verdict = await counters.reserve("k", allowed, 10, 0.0)
        return verdict.refused is None

    print(sum(await asyncio.gather(*(one(n) for n in range(tries)))))
    await counters.close()

asyncio.run(main())
"""


@pytest.fixture(autouse=True)
def _redis() -> None:
    asyncio.run(_close())


async def _close() -> None:
    counters = await redis_counters()
    await counters.close()


def test_two_processes_never_pass_the_limit_together() -> None:
    prefix, limit, tries = f"doorman-test-{uuid.uuid4().hex}", 60, 50
    command = [sys.executable, "-c", PROCESS, REDIS, prefix, str(limit), str(tries)]
    pipes: Any = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "cwd": ROOT}
    processes = [subprocess.Popen(command, **pipes) for _ in range(2)]
    try:
        for process in processes:
            assert process.stdout.readline() == "ready\n"
        for process in processes:
            process.stdin.write("go\n")
            process.stdin.flush()
        passed = [int(process.communicate(timeout=60)[0]) for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.wait()
    assert sum(passed) == limit
    assert all(0 < own <= tries for own in passed)


def shared(url: str, terms: str, more: str = "") -> str:
    return (
        f"keys: [{{name: k0, key: {KEY}0, {terms}}}]\n{more}\nredis: {{url: '{url}', {PREFIX}}}\n"
    )


PREFIX = f"prefix: doorman-test-{uuid.uuid4().hex}"


def test_two_gateways_share_limits_and_budgets(gateway: StartGateway) -> None:
    config = shared(REDIS, "rpm: 3, budget_usd: 0.5/day")
    doors = [gateway("", config), gateway("", config)]
    left = [ask(doors[n % 2]).headers["x-ratelimit-remaining-requests"] for n in range(3)]
    assert left == ["2", "1", "0"]
    for door in doors:
        with pytest.raises(openai.RateLimitError, match="3 requests per minute"):
            ask(door)
    money = shared(REDIS, "budget_usd: 0.005/day").replace("k0", "k-money")
    doors = [gateway("", money), gateway("", money)]
    ask(doors[0])
    ask(doors[1])
    for door in doors:
        with pytest.raises(openai.RateLimitError) as caught:
            ask(door)
        assert caught.value.code == "insufficient_quota"


class Wire:
    """A way to the real Redis that can be cut."""

    def __init__(self) -> None:
        self.port = free_port()
        self.seconds = 0.0
        """By how much the first connection is slower than those that overtake it."""
        self._joined = 0
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()

    async def join(self) -> None:
        self._server = await asyncio.start_server(self._carry, "127.0.0.1", self.port)

    async def cut(self) -> None:
        assert self._server is not None
        self._server.close()
        for writer in self._open:
            writer.close()
        await self._server.wait_closed()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        to = urlsplit(REDIS)
        far = await asyncio.open_connection(to.hostname, to.port or 6379)
        self._open |= {writer, far[1]}
        seconds = 0.0 if self._joined else self.seconds
        self._joined += 1

        async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
            try:
                while piece := await source.read(1 << 16):
                    await asyncio.sleep(seconds)
                    sink.write(piece)
                    await sink.drain()
            except OSError:
                pass
            finally:
                sink.close()

        await asyncio.gather(pump(reader, far[1]), pump(far[0], writer))
        self._open -= {writer, far[1]}


@contextmanager
def wire() -> Iterator[tuple[Wire, Loop]]:
    loop, made = Loop(), Wire()
    loop.run(made.join())
    try:
        yield made, loop
    finally:
        loop.run(made.cut())
        loop.close()


@pytest.mark.parametrize("stream", [False, True])
def test_one_after_the_other_is_never_too_many(
    gateway: StartGateway, upstream: ScriptedUpstream, stream: bool
) -> None:
    with wire() as (way, _):
        way.seconds = 0.05
        if stream:
            upstream.script = words("a", "b")
        url = f"redis://127.0.0.1:{way.port}"
        door = gateway("", shared(url, "max_parallel: 1").replace("k0", f"k-line-{stream}"))
        for _ in range(4):
            reply = ask(door, stream=stream).parse()
            if stream:
                list(reply)


@pytest.mark.parametrize(
    ("on_error", "told"), [("block", "get 503"), ("allow", "are let in without them")]
)
def test_a_redis_that_is_not_there_is_told_at_the_start(
    gateway: StartGateway, caplog: pytest.LogCaptureFixture, on_error: str, told: str
) -> None:
    url = f"redis://127.0.0.1:{free_port()}"
    door = gateway("", shared(url, "rpm: 9", f"limits: {{on_error: {on_error}}}"))
    (said,) = [r for r in caplog.records if r.name == "doorman.limits"]
    assert said.levelname == "WARNING"
    assert told in said.getMessage()
    if on_error == "block":
        with pytest.raises(openai.InternalServerError) as caught:
            ask(door)
        assert caught.value.code == "limits_unavailable"
        assert caught.value.response.headers["retry-after"] == "1"


def refused(door: Door) -> str | None:
    try:
        ask(door)
    except openai.APIStatusError as error:
        return error.code
    return None


@pytest.mark.parametrize("on_error", ["block", "allow"])
def test_redis_goes_away_and_comes_back(gateway: StartGateway, on_error: str) -> None:
    with wire() as (way, loop):
        url = f"redis://127.0.0.1:{way.port}"
        more = f"limits: {{on_error: {on_error}}}"
        door = gateway("", shared(url, "rpm: 1000", more).replace("k0", f"k-{on_error}"))
        limited = "x-ratelimit-limit-requests"
        assert ask(door).headers[limited] == "1000"
        loop.run(way.cut())
        if on_error == "block":
            assert refused(door) == "limits_unavailable"
        else:
            assert limited not in ask(door).headers
        metrics = httpx.get(f"{door.url}/metrics", headers={"x-api-key": f"{KEY}0"}).text
        assert "doorman_limits_errors_total 0.0" not in metrics
        loop.run(way.join())
        eventually(lambda: refused(door) is None and limited in ask(door).headers)
