"""Real parts, small, for the gateway's tests: classifiers that look for words, an upstream that
says what it is told, and the gateway itself, both served on loopback ports."""

from __future__ import annotations

import asyncio
import json
import queue
import re
import socket
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import openai
import uvicorn
from aiohttp import web

from classifiers.types import (
    MODERATION,
    Batch,
    Kind,
    OperatingPoint,
    Prediction,
    Span,
    UnknownLabel,
)
from proxy.app import create_app
from proxy.config import Config, loads
from proxy.ledger import Record
from proxy.server import server_config

T = TypeVar("T")
WAIT = 10.0
"""Seconds after which a test that waits for something gives up."""


@dataclass(frozen=True)
class WordClassifier:
    """Finds labels by regular expressions; a text with the word ``crash`` breaks it."""

    name: str
    patterns: Mapping[str, str]
    kind: Kind = "any_of"
    version: str = "test"
    breaks: bool = True

    @property
    def labels(self) -> tuple[str, ...]:
        return tuple(self.patterns)

    def thresholds(self, labels: Sequence[str], point: OperatingPoint) -> Mapping[str, float]:
        unknown = [label for label in labels if label not in self.patterns]
        if unknown:
            raise UnknownLabel(f"no label {unknown[0]!r}")
        return dict.fromkeys(labels, point.value or 0.5)

    def predict(self, batch: Batch) -> list[tuple[Prediction, ...]]:
        return [tuple(self._one(text)) for text in batch.texts]

    def _one(self, text: str) -> Iterator[Prediction]:
        if self.breaks and "crash" in text:
            raise RuntimeError("the text said so")
        for label, pattern in self.patterns.items():
            finds = list(re.finditer(pattern, text, re.IGNORECASE))
            if self.kind == "spans":
                for find in finds:
                    yield Prediction(self.name, label, 1.0, Span(*find.span()))
            else:
                yield Prediction(self.name, label, 0.99 if finds else 0.01)


def word_classifiers() -> list[WordClassifier]:
    """``guard``, ``intent``, ``topic``, ``pii`` and ``safety``."""
    safety = dict.fromkeys(MODERATION, r"(?!)") | {"violence": r"\bkill\b", "hate": r"\bhateful\b"}
    return [
        WordClassifier("guard", {"attack": r"\battack\b", "secret": r"\bsecret\b"}),
        WordClassifier("intent", {"greeting": r"^hello\b", "thanks": r"^thanks\b"}, breaks=False),
        WordClassifier("topic", {"cheap": r"\bcheap\b"}, breaks=False),
        WordClassifier("pii", {"EMAIL": r"[\w.]+@[\w.]+\w"}, kind="spans", breaks=False),
        WordClassifier("safety", safety),
    ]


class Loop:
    """An event loop in a thread of its own, so that blocking clients can be tested."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(WAIT)

    def close(self) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(WAIT)
        self.loop.close()


@dataclass(frozen=True)
class Seen:
    """A request that reached the upstream."""

    raw: bytes
    headers: Mapping[str, str]

    @property
    def json(self) -> Any:
        return json.loads(self.raw)


Script = Callable[[web.Request], Awaitable[web.StreamResponse]]


class ScriptedUpstream:
    """An OpenAI-compatible server that answers as the test says and remembers what it was asked."""

    def __init__(self) -> None:
        self.seen: list[Seen] = []
        self.gone: queue.Queue[str] = queue.Queue()
        """Gets ``left`` when a caller goes away before it was answered."""
        self.script: Script = completion("ok")
        self.port = 0
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        app = web.Application(client_max_size=1 << 26)
        app.router.add_route("*", "/{path:.*}", self._answer)
        self._runner = web.AppRunner(
            app, handler_cancellation=True, access_log=None, shutdown_timeout=0.1
        )
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        assert self._runner is not None
        await self._runner.cleanup()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        headers = {name.lower(): value for name, value in request.headers.items()}
        self.seen.append(Seen(await request.read(), headers))
        try:
            return await self.script(request)
        except (asyncio.CancelledError, ConnectionResetError):
            self.gone.put("left")
            raise


def reply_body(*contents: str | None, **extra: Any) -> dict[str, Any]:
    """A complete chat completion with one choice per content."""
    return {
        "id": "chatcmpl-upstream",
        "object": "chat.completion",
        "created": 1,
        "model": "upstream-model",
        "choices": [
            {
                "index": index,
                "message": {"role": "assistant", "content": content},
                "finish_reason": "stop",
            }
            for index, content in enumerate(contents)
        ],
        "usage": {"prompt_tokens": 1000, "completion_tokens": 100, "total_tokens": 1100},
        **extra,
    }


def completion(*contents: str | None, **extra: Any) -> Script:
    return respond(200, reply_body(*contents, **extra))


def respond(status: int, body: Any, headers: Mapping[str, str] | None = None) -> Script:
    """Answer with JSON, or with bytes as they are."""

    async def script(_: web.Request) -> web.StreamResponse:
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        given = {"content-type": "application/json", **(headers or {})}
        return web.Response(status=status, body=raw, headers=given)

    return script


def chunk(delta: dict[str, Any], index: int = 0, finish: str | None = None) -> dict[str, Any]:
    return {
        "id": "chatcmpl-upstream",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "upstream-model",
        "choices": [{"index": index, "delta": delta, "finish_reason": finish}],
    }


def events(*chunks: dict[str, Any] | bytes | float, done: bool = True) -> Script:
    """Stream chunks; bytes go out as they are, a number is a pause in seconds."""

    async def script(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        for item in chunks:
            if isinstance(item, int | float):
                await asyncio.sleep(item)
            else:
                raw = (
                    item
                    if isinstance(item, bytes)
                    else b"data: " + json.dumps(item).encode() + b"\n\n"
                )
                await response.write(raw)
        if done:
            await response.write(b"data: [DONE]\n\n")
        await response.write_eof()
        return response

    return script


def sleeping(seconds: float) -> Script:
    """Say nothing for a while."""

    async def script(_: web.Request) -> web.StreamResponse:
        await asyncio.sleep(seconds)
        return web.json_response({})

    return script


def words(*pieces: str) -> Script:
    """Stream a text piece by piece."""
    head = chunk({"role": "assistant", "content": ""})
    return events(head, *(chunk({"content": piece}) for piece in pieces), chunk({}, finish="stop"))


class KeptRecords:
    """A ledger that tests can read."""

    def __init__(self) -> None:
        self._records: queue.Queue[Record] = queue.Queue()

    def write(self, record: Record) -> None:
        self._records.put(record)

    def next(self) -> Record:
        return self._records.get(timeout=WAIT)


@dataclass
class Door:
    """A gateway that is being served."""

    url: str
    app: Any
    server: uvicorn.Server
    records: KeptRecords
    loop: Loop
    clients: list[openai.OpenAI] = field(default_factory=list)

    def client(self, **options: Any) -> openai.OpenAI:
        client = openai.OpenAI(**{"base_url": f"{self.url}/v1", "api_key": "any-key", **options})
        self.clients.append(client)
        return client

    def async_client(self, **options: Any) -> openai.AsyncOpenAI:
        return openai.AsyncOpenAI(**{"base_url": f"{self.url}/v1", "api_key": "any-key", **options})


@contextmanager
def serve(config: Config, **options: Any) -> Iterator[Door]:
    """The real application behind a real uvicorn on a free loopback port."""
    records = KeptRecords()
    options = {"classifiers": word_classifiers(), "ledger": records, **options}
    app = create_app(config, **options)
    loop = Loop()
    # With its protocol named, accepted connections get TCP_NODELAY from asyncio.
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    sock.bind(("127.0.0.1", 0))
    server_settings = server_config(app, config)
    server_settings.timeout_graceful_shutdown = 5
    server = uvicorn.Server(server_settings)
    serving = asyncio.run_coroutine_threadsafe(server.serve(sockets=[sock]), loop.loop)
    try:
        while not server.started and not serving.done():
            threading.Event().wait(0.005)
        if serving.done():
            serving.result()
            raise RuntimeError("the gateway did not start")
        door = Door(f"http://127.0.0.1:{sock.getsockname()[1]}", app, server, records, loop)
        yield door
        for client in door.clients:
            client.close()
    finally:
        server.should_exit = True
        serving.result(WAIT)
        loop.close()


def make_config(folder: Path, port: int, policy: str = "", more: str = "") -> Config:
    """A config in front of the scripted upstream; ``policy`` are the rules of one policy."""
    (folder / "policy.yaml").write_text("name: test\nversion: 1\n" + policy)
    target = f'api_base: "http://127.0.0.1:{port}/v1", api_key: sk-upstream'
    text = f"""
model_list:
  - model_name: default
    litellm_params: {{model: openai/gpt-4o, {target}}}
  - model_name: small
    litellm_params: {{model: openai/gpt-4o-mini, {target}}}
policies: [{"policy.yaml" if policy else ""}]
{"" if "watch_policies" in more else "watch_policies: false"}
{"" if "ledger:" in more else "ledger: {url: none}"}
{more}
"""
    return loads(text, folder / "config.yaml")


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


StartGateway = Callable[..., Door]
