"""The least that a Python proxy can be: bare ASGI on uvicorn, aiohttp towards the upstream, no checks.

    python -m benchmarks.bare --port PORT --upstream PORT

What Doorman adds beyond this is its own; what this adds to a direct call is Python's and its libraries'.
"""

from __future__ import annotations

import argparse
from typing import Any

import aiohttp
import orjson
import uvicorn

_SENT = {"content-type": "application/json", "authorization": "Bearer sk-none"}
_CONNECTIONS = 1000


class Bare:
    """Forwards ``/v1/*`` as it comes; answers everything else with 200."""

    def __init__(self, base: str) -> None:
        self._base = base
        self._session: aiohttp.ClientSession | None = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
            return
        if not scope["path"].startswith("/v1/"):
            await _answer(send, 200, b"{}")
            return
        raw = b""
        while True:
            message = await receive()
            raw += message.get("body", b"")
            if not message.get("more_body"):
                break
        streamed = orjson.loads(raw).get("stream") is True
        assert self._session is not None
        url = self._base + scope["path"]
        async with self._session.post(url, data=raw, headers=_SENT) as reply:
            if not streamed:
                await _answer(send, reply.status, await reply.read())
                return
            kind = reply.headers["content-type"].encode()
            await send(_head(reply.status, [(b"content-type", kind)]))
            async for piece in reply.content.iter_any():
                await send({"type": "http.response.body", "body": piece, "more_body": True})
            await send({"type": "http.response.body", "body": b""})

    async def _lifespan(self, receive: Any, send: Any) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                connector = aiohttp.TCPConnector(limit=_CONNECTIONS)
                self._session = aiohttp.ClientSession(connector=connector)
                await send({"type": "lifespan.startup.complete"})
            else:
                assert self._session is not None
                await self._session.close()
                await send({"type": "lifespan.shutdown.complete"})
                return


def _head(status: int, headers: list[tuple[bytes, bytes]]) -> dict[str, Any]:
    return {"type": "http.response.start", "status": status, "headers": headers}


async def _answer(send: Any, status: int, body: bytes) -> None:
    size = str(len(body)).encode()
    await send(_head(status, [(b"content-type", b"application/json"), (b"content-length", size)]))
    await send({"type": "http.response.body", "body": body})


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--upstream", type=int, required=True)
    given = parser.parse_args()
    uvicorn.run(
        Bare(f"http://127.0.0.1:{given.upstream}"),
        port=given.port,
        loop="uvloop",
        http="httptools",
        log_level="critical",
        access_log=False,
    )


if __name__ == "__main__":
    main()
