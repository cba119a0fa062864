"""A small OpenAI-compatible upstream that costs next to nothing: what is in front of it is measured.

    python -m benchmarks.mock_upstream --port PORT [--pieces N] [--piece-seconds S]

Raw HTTP/1.1 with keep-alive on 127.0.0.1. The model's name says how it answers a stream:
``mock`` all at once, ``mock-paced`` one piece every ten milliseconds (``--piece-seconds``). The words
of a reply depend on the request's bytes, so that new requests get replies that nobody has seen before.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import zlib
from typing import Final, cast

import orjson
import uvloop

from benchmarks import texts

PIECES: Final = 120
PIECE_SECONDS: Final = 0.01
REPLY_WORDS: Final = 60
_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
_STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
)
_REFUSED = b"HTTP/1.1 411 Length Required\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"


class Connection(asyncio.Protocol):
    """One client connection; requests are answered one after the other."""

    def __init__(self, pieces: int, piece_seconds: float) -> None:
        self._pieces = pieces
        self._piece_seconds = piece_seconds
        self._transport: asyncio.Transport | None = None
        self._held = bytearray()
        self._busy: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's own are not of that class

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if self._busy is not None:
            self._busy.cancel()

    def data_received(self, data: bytes) -> None:
        self._held += data
        self._next()

    def _next(self) -> None:
        while self._transport is not None and self._busy is None:
            end = self._held.find(b"\r\n\r\n")
            if end < 0:
                return
            head = bytes(self._held[:end]).lower()
            if b"transfer-encoding:" in head:
                self._transport.write(_REFUSED)
                self._transport.close()
                return
            at = head.find(b"content-length:")
            length = int(head[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
            if len(self._held) < end + 4 + length:
                return
            body = bytes(self._held[end + 4 : end + 4 + length])
            del self._held[: end + 4 + length]
            self._answer(body)

    def _answer(self, body: bytes) -> None:
        assert self._transport is not None
        request = orjson.loads(body) if body else {}
        reply = texts.sentences(random.Random(zlib.crc32(body)), REPLY_WORDS)
        if not request.get("stream"):
            content = orjson.dumps(_completion(reply))
            self._transport.write(_HEAD % len(content) + content)
        elif request.get("model") == "mock-paced":
            self._busy = asyncio.ensure_future(self._paced(reply))
        else:
            self._transport.write(
                _STREAM_HEAD + b"".join(map(_chunk, _events(reply, self._pieces))) + b"0\r\n\r\n"
            )

    async def _paced(self, reply: str) -> None:
        assert self._transport is not None
        self._transport.write(_STREAM_HEAD)
        for event in _events(reply, self._pieces):
            self._transport.write(_chunk(event))
            await asyncio.sleep(self._piece_seconds)
        self._transport.write(b"0\r\n\r\n")
        self._busy = None
        self._next()


def _completion(reply: str) -> dict[str, object]:
    return {
        "id": "chatcmpl-mock",
        "object": "chat.completion",
        "created": 1,
        "model": "mock",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": reply},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": {"prompt_tokens": 300, "completion_tokens": 80, "total_tokens": 380},
    }


def _events(reply: str, pieces: int) -> list[bytes]:
    size = -(-len(reply) // pieces)
    deltas: list[dict[str, str]] = [{"role": "assistant", "content": ""}]
    deltas += [{"content": reply[at : at + size]} for at in range(0, len(reply), size)]
    last: list[tuple[dict[str, str], str | None]] = [(delta, None) for delta in deltas]
    return [_event(delta, finish) for delta, finish in [*last, ({}, "stop")]] + [
        b"data: [DONE]\n\n"
    ]


def _event(delta: dict[str, str], finish: str | None) -> bytes:
    event = {
        "id": "chatcmpl-mock",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "mock",
        "choices": [{"index": 0, "delta": delta, "finish_reason": finish}],
    }
    return b"data: " + orjson.dumps(event) + b"\n\n"


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


async def serve(port: int, pieces: int = PIECES, piece_seconds: float = PIECE_SECONDS) -> None:
    """Serve on 127.0.0.1 until the process ends."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: Connection(pieces, piece_seconds), "127.0.0.1", port, backlog=1024
    )
    await server.serve_forever()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--pieces", type=int, default=PIECES)
    parser.add_argument("--piece-seconds", type=float, default=PIECE_SECONDS)
    given = parser.parse_args()
    uvloop.run(serve(given.port, given.pieces, given.piece_seconds))


if __name__ == "__main__":
    main()
