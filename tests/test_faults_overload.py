"""More than the gateway can take: everybody is answered, memory stays bounded, and then all is well."""

from __future__ import annotations

import asyncio
import resource
import time
from collections import Counter
from pathlib import Path

import aiohttp
import httpx
import pytest
from faults_kit import ASK, good, place, post, said
from gateway_kit import WAIT

MODELS = "- {model_name: a, litellm_params: {model: openai/gpt-4o, {0}}}"
MANY, IN_FLIGHT = 2000, 100
PATH = "/v1/chat/completions"


def memory_mb() -> float:
    """The most that this process ever held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


@pytest.mark.parametrize("streams", [False, True])
async def test_a_flood_with_a_model_that_hangs(tmp_path: Path, streams: bool) -> None:
    with place(tmp_path, 1) as made:
        server = made.servers[0]
        server.play(("gone",))
        more = (
            f"limits: {{max_in_flight: {IN_FLIGHT}}}\nbreaker: {{failures: 100000}}\n"
            "timeouts: {first_byte: 3, total: 30}"
        )
        door = made.gateway(MODELS, more)
        before = memory_mb()
        # A body of some size each, so that keeping them all would show.
        body = {**ASK, "model": "a", "stream": streams, "metadata": {"x": "x" * 5_000}}
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=400)) as client:

            async def one() -> tuple[int, str, str | None]:
                async with client.post(door.url + PATH, json=body) as answer:
                    code = (await answer.json())["error"]["code"]
                    return answer.status, code, answer.headers.get("retry-after")

            seen = Counter(await asyncio.gather(*(one() for _ in range(MANY))))
        assert seen.keys() == {(503, "overloaded", "1"), (504, "upstream_timeout", None)}
        assert seen[503, "overloaded", "1"] > IN_FLIGHT
        assert seen[504, "upstream_timeout", None] >= IN_FLIGHT
        assert memory_mb() - before < 300
        server.play(good())
        # Connections that were cut off end in their own time.
        assert [said(post(door)) for _ in range(5)] == ["The answer."] * 5
        until = time.monotonic() + WAIT
        while door.app.state.gateway.requests and time.monotonic() < until:  # noqa: ASYNC110
            await asyncio.sleep(0.05)  # the client has its answer a moment before it is counted off
        assert door.app.state.gateway.requests == 0


def test_what_shows_the_state_of_the_gateway_is_not_counted(tmp_path: Path) -> None:
    with place(tmp_path, 1) as made:
        door = made.gateway(MODELS, "limits: {max_in_flight: 1}")
        with door.app.state.gateway.in_flight():
            answer = post(door)
            assert (answer.status_code, answer.json()["error"]["code"]) == (503, "overloaded")
            for path in ("/health", "/ready", "/metrics", "/v1/models"):
                assert httpx.get(door.url + path).status_code == 200
        made.servers[0].play(good())
        assert post(door).status_code == 200
