"""The load generator: a process of its own that reads jobs from stdin and answers each with one JSON line.

A job sends ``count`` requests over ``concurrency`` kept-alive connections, or as many as ``seconds``
allow. Bodies are made before the clock starts.
"""

from __future__ import annotations

import asyncio
import json
import random
import re
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

import uvloop

from benchmarks import texts

_CONTENT = re.compile(rb'"content":\s?"[^"]')
HEADER_BYTES = 1 << 16
ANSWER_SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class Job:
    """What to send.

    Attributes:
        port: on 127.0.0.1.
        seed: of the texts; two jobs of one seed send the same.
        pool: number of different bodies, 0 for a new one each time.
        stream: ask for server-sent events.
        warm: requests before the clock starts (the whole pool, if it has one).
        headers: further ones, as lines.
        history: messages before the last one; None for the usual conversation.
    """

    port: int
    model: str
    concurrency: int
    count: int
    seconds: float
    seed: int
    pool: int = 0
    stream: bool = False
    warm: int = 0
    headers: str = ""
    history: int | None = None


@dataclass(slots=True)
class Report:
    """What came of it: times in milliseconds, one per request that was answered with 200."""

    milliseconds: list[float] = field(default_factory=list)
    first_byte: list[float] = field(default_factory=list)
    first_content: list[float] = field(default_factory=list)
    elapsed: float = 0.0
    failures: dict[str, int] = field(default_factory=dict)
    actions: dict[str, int] = field(default_factory=dict)


def body(source: random.Random, model: str, stream: bool, history: int | None = None) -> bytes:
    """A conversation of about 300 tokens: instructions, a question, an answer, another question.

    With a ``history`` of so many messages, always the same ones, there is one new question after them.
    """
    messages = [
        {"role": "system", "content": texts.sentences(random.Random(0), 35)},
        {"role": "user", "content": texts.sentences(source, 60)},
        {"role": "assistant", "content": texts.sentences(source, 70)},
        {"role": "user", "content": texts.sentences(source, 70)},
    ]
    if history is not None:
        past, roles = random.Random(history), ("user", "assistant")
        messages = [
            {"role": roles[(n + history) % 2], "content": texts.sentences(past, 30)}
            for n in range(history)
        ]
        messages.append({"role": "user", "content": texts.sentences(source, 30)})
    request: dict[str, Any] = {"model": model, "messages": messages, "temperature": 0.5}
    return json.dumps({**request, "stream": True} if stream else request).encode()


class Client:
    """One kept-alive connection."""

    def __init__(self, job: Job, report: Report) -> None:
        self._job = job
        self._report = report
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def open(self) -> None:
        self._reader, self._writer = await asyncio.open_connection(
            "127.0.0.1", self._job.port, limit=HEADER_BYTES
        )

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
        self._reader = self._writer = None

    async def send(self, content: bytes, *, counted: bool) -> None:
        """One request; whatever goes wrong is counted by its kind."""
        report = self._report
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                if self._writer is None:
                    await self.open()
                await self._exchange(content, counted)
        except (OSError, EOFError, ValueError, TimeoutError) as error:
            name = type(error).__name__
            report.failures[name] = report.failures.get(name, 0) + 1
            self.close()

    async def _exchange(self, content: bytes, counted: bool) -> None:
        assert self._reader is not None
        assert self._writer is not None
        report = self._report
        started = time.perf_counter()
        self._writer.write(
            b"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\n"
            b"content-type: application/json\r\nauthorization: Bearer sk-benchmark\r\n"
            b"%bcontent-length: %d\r\n\r\n" % (self._job.headers.encode(), len(content)) + content
        )
        head = (await self._reader.readuntil(b"\r\n\r\n")).lower()
        status = head[9:12].decode()
        first = first_content = 0.0
        if b"transfer-encoding: chunked" in head:
            async for piece in self._chunks():
                now = time.perf_counter()
                first = first or now
                if not first_content and _CONTENT.search(piece):
                    first_content = now
        else:
            length = int(_header(head, b"content-length") or b"0")
            await self._reader.readexactly(length)
        ended = time.perf_counter()
        if status != "200":
            report.failures[status] = report.failures.get(status, 0) + 1
            return
        if counted:
            report.milliseconds.append((ended - started) * 1e3)
            if first and self._job.stream:
                report.first_byte.append((first - started) * 1e3)
            if first_content and self._job.stream:
                report.first_content.append((first_content - started) * 1e3)
            if action := _header(head, b"x-doorman-action"):
                name = action.decode()
                report.actions[name] = report.actions.get(name, 0) + 1
        if b"connection: close" in head:
            self.close()

    async def _chunks(self) -> Any:
        assert self._reader is not None
        while True:
            size = int((await self._reader.readuntil(b"\r\n")).split(b";")[0], 16)
            piece = await self._reader.readexactly(size + 2)
            if not size:
                return
            yield piece[:-2]


def _header(head: bytes, name: bytes) -> bytes | None:
    at = head.find(b"\r\n" + name + b":")
    return None if at < 0 else head[at + len(name) + 3 :].split(b"\r\n", 1)[0].strip()


def _bodies(job: Job) -> tuple[list[bytes], list[bytes]]:
    """Requests to warm up with, and those that count."""
    source = random.Random(job.seed)
    if job.pool:
        pool = [body(source, job.model, job.stream, job.history) for _ in range(job.pool)]
        return pool, [pool[n % job.pool] for n in range(job.count)]
    whole = job.warm + job.count
    every = [body(source, job.model, job.stream, job.history) for _ in range(whole)]
    return every[: job.warm], every[job.warm :]


async def run(job: Job) -> Report:
    """Do a job."""
    report = Report()
    warm, counted = _bodies(job)
    clients = [Client(job, report) for _ in range(job.concurrency)]
    await _send(clients, iter(warm), float("inf"), counted=False)
    started = time.perf_counter()
    await _send(clients, iter(counted), started + job.seconds, counted=True)
    report.elapsed = time.perf_counter() - started
    for client in clients:
        client.close()
    return report


async def _send(
    clients: list[Client], bodies: Iterator[bytes], until: float, *, counted: bool
) -> None:
    async def one(client: Client) -> None:
        for content in bodies:  # shared: whoever is free takes the next
            await client.send(content, counted=counted)
            if time.perf_counter() > until:
                return

    await asyncio.gather(*(one(client) for client in clients))


def main() -> None:
    for line in sys.stdin:
        report = uvloop.run(run(Job(**json.loads(line))))
        print(json.dumps(asdict(report)), flush=True)


if __name__ == "__main__":
    main()
