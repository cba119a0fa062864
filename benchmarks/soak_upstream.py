"""The scripted model of the soak: answers with the request's reference, or fails as it is told.

    python -m benchmarks.soak_upstream --port PORT

The system message holds the script: ``REFERENCE WORD``, where WORD is ``say`` (repeat what the user said),
``slow``, ``hang``, ``fail`` or ``cut``. ``GET /seen`` tells how often each reference was asked for, which of
the callers left early and when, and who let a mail address through.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from collections import Counter
from typing import Any

from aiohttp import web

PIECE_CHARS = 24
SLOW_SECONDS = 20.0

seen: Counter[str] = Counter()
left: dict[str, float] = {}
leaked: list[str] = []


def answer(reference: str, said: str) -> str:
    """What the model says."""
    return f"Reference {reference}. You said: {said} That was all for {reference}."


async def complete(request: web.Request) -> web.StreamResponse:
    """``POST /v1/chat/completions``."""
    body = await request.json()
    reference, word = body["messages"][0]["content"].split()[:2]
    said = body["messages"][-1]["content"]
    seen[reference] += 1
    if "@" in said:
        leaked.append(reference)
    try:
        return await act(request, body, word, answer(reference, said))
    except (asyncio.CancelledError, ConnectionResetError):
        left[reference] = time.monotonic()
        raise


async def act(
    request: web.Request, body: dict[str, Any], word: str, text: str
) -> web.StreamResponse:
    """Do what the script says."""
    if word == "fail":
        return web.json_response({"error": {"message": "out of order"}}, status=500)
    if word == "hang":
        await asyncio.sleep(SLOW_SECONDS)
    if not body.get("stream"):
        if word == "slow":
            await asyncio.sleep(SLOW_SECONDS)
        choice = {"index": 0, "message": {"role": "assistant", "content": text}}
        whole = json.dumps(
            head("chat.completion") | {"choices": [choice | {"finish_reason": "stop"}]}
        ).encode()
        if word != "cut":
            return web.Response(body=whole, content_type="application/json")
        response = web.StreamResponse(headers={"content-type": "application/json"})
        response.content_length = len(whole)
        await response.prepare(request)
        await response.write(whole[: len(whole) // 2])
        return drop(request, response)
    response = web.StreamResponse(headers={"content-type": "text/event-stream"})
    await response.prepare(request)
    pieces = [text[at : at + PIECE_CHARS] for at in range(0, len(text), PIECE_CHARS)]
    for number, piece in enumerate(pieces):
        if word == "slow":
            await asyncio.sleep(SLOW_SECONDS / len(pieces))
        if word == "cut" and number > len(pieces) // 2:
            return drop(request, response)
        await response.write(event({"content": piece}, None))
    await response.write(event({}, "stop") + b"data: [DONE]\n\n")
    await response.write_eof()
    return response


def drop(request: web.Request, response: web.StreamResponse) -> web.StreamResponse:
    """Break off in the middle."""
    if request.transport is not None:
        request.transport.abort()
    return response


def head(kind: str) -> dict[str, Any]:
    return {"id": "chatcmpl-soak", "object": kind, "created": 1, "model": "soak"}


def event(delta: dict[str, str], finish: str | None) -> bytes:
    choices = [{"index": 0, "delta": delta, "finish_reason": finish}]
    whole = json.dumps(head("chat.completion.chunk") | {"choices": choices})
    return f"data: {whole}\n\n".encode()


async def told(_: web.Request) -> web.Response:
    """``GET /seen``."""
    return web.json_response({"seen": seen, "left": left, "leaked": leaked})


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--port", type=int, required=True)
    app = web.Application(client_max_size=1 << 24)
    app.router.add_post("/v1/chat/completions", complete)
    app.router.add_get("/seen", told)
    web.run_app(
        app,
        host="127.0.0.1",
        port=parser.parse_args().port,
        handler_cancellation=True,
        access_log=None,
        print=None,
    )


if __name__ == "__main__":
    main()
