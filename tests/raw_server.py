"""A server that does to a connection exactly what a script says, byte by byte."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

Step = bytes | float | str
"""Bytes to send, seconds to wait, or ``close``, ``reset``, ``gone`` (wait until the client leaves)."""


@dataclass
class Seen:
    """One request as it came."""

    line: str
    headers: dict[str, str]
    body: bytes
    connection: int


@dataclass
class RawServer:
    """Plays ``script`` for each request; keeps what it was asked."""

    script: Sequence[Step] = ()
    seen: list[Seen] = field(default_factory=list)
    asked: asyncio.Event = field(default_factory=asyncio.Event)
    client_left: asyncio.Event = field(default_factory=asyncio.Event)
    connections: int = 0

    async def __aenter__(self) -> RawServer:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        self.base = f"http://127.0.0.1:{self.port}/v1"
        return self

    async def __aexit__(self, *error: object) -> None:
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        number = self.connections
        try:
            while await self._answer(reader, writer, number):
                pass
        except (ConnectionError, asyncio.IncompleteReadError):
            self.client_left.set()
        finally:
            writer.close()

    async def _answer(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int
    ) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        line, *fields = head.strip().split("\r\n")
        headers = dict(field.split(": ", 1) for field in fields)
        headers = {name.lower(): value for name, value in headers.items()}
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        self.seen.append(Seen(line, headers, body, number))
        self.asked.set()
        for step in self.script:
            if isinstance(step, bytes):
                writer.write(step)
                await writer.drain()
            elif isinstance(step, float):
                await asyncio.sleep(step)
            elif step == "reset":
                writer.transport.abort()
                return False
            elif step == "gone":
                await reader.read()
                self.client_left.set()
                return False
            else:
                return False
        return True


def head(
    status: int = 200,
    content_type: str = "application/json",
    length: int | None = None,
    **more: str,
) -> bytes:
    """The head of a reply; chunked without a length."""
    lines = [f"HTTP/1.1 {status} X", f"content-type: {content_type}"]
    lines.append("transfer-encoding: chunked" if length is None else f"content-length: {length}")
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in more.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def whole(
    body: bytes, status: int = 200, content_type: str = "application/json", **more: str
) -> bytes:
    """A reply with its length."""
    return head(status, content_type, len(body), **more) + body


def piece(data: bytes) -> bytes:
    """A chunk of a chunked reply."""
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


LAST = b"0\r\n\r\n"
STREAM = head(content_type="text/event-stream; charset=utf-8")
