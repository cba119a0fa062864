"""Many streams at once, each held back and checked: all of them come whole, and none in another's words."""

from __future__ import annotations

import asyncio
import json
import re
import time

import httpx
import pytest
from aiohttp import web
from gateway_kit import ScriptedUpstream, StartGateway, WordClassifier, chunk

from classifiers.types import Batch, Prediction

STREAMS, PIECES = 64, 50
RULES = "rules: [{name: r, when: {guard: attack}, check: [output], do: {block: 'No.'}}]"


class Slow(WordClassifier):
    """Takes as long as an encoder does, so that checks of all streams wait for each other."""

    def predict(self, batch: Batch) -> list[tuple[Prediction, ...]]:
        time.sleep(0.002 * len(batch.texts))
        return super().predict(batch)


async def echo(request: web.Request) -> web.StreamResponse:
    """Stream words that name the request."""
    asked = json.loads(await request.read())["messages"][0]["content"]
    response = web.StreamResponse(headers={"content-type": "text/event-stream"})
    await response.prepare(request)
    for number in range(PIECES):
        piece = chunk(
            {"content": f"{asked}.{number} "}, finish="stop" if number == PIECES - 1 else None
        )
        await response.write(b"data: " + json.dumps(piece).encode() + b"\n\n")
        await asyncio.sleep(0.005)
    await response.write(b"data: [DONE]\n\n")
    return response


@pytest.mark.parametrize("mode", ["hold", "after"])
def test_64_guarded_streams_at_once_all_come_whole(
    gateway: StartGateway, upstream: ScriptedUpstream, mode: str
) -> None:
    upstream.script = echo
    door = gateway(
        f"stream_check: {mode}\n{RULES}", classifiers=[Slow("guard", {"attack": "attack"})]
    )

    async def one(client: httpx.AsyncClient, number: int) -> str:
        asked = [{"role": "user", "content": f"s{number}"}]
        body = {"model": "default", "messages": asked, "stream": True}
        answer = await client.post(f"{door.url}/v1/chat/completions", json=body)
        assert answer.status_code == 200
        return answer.text

    async def everyone() -> list[str]:
        limits = httpx.Limits(max_connections=STREAMS)
        async with httpx.AsyncClient(timeout=60, limits=limits) as client:
            return await asyncio.gather(*(one(client, number) for number in range(STREAMS)))

    for number, stream in enumerate(asyncio.run(everyone())):
        events = re.findall(r"^data: (.*)$", stream, re.M)
        assert events[-1] == "[DONE]", number
        said = "".join(json.loads(e)["choices"][0]["delta"].get("content", "") for e in events[:-1])
        assert said == "".join(f"s{number}.{n} " for n in range(PIECES))
    endings = {door.records.next().ended for _ in range(STREAMS)}
    assert endings == {"complete"}
