"""Servers that fail as a script says, byte by byte, and gateways in front of them."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from gateway_kit import Door, Loop, reply_body, serve
from gateway_kit import chunk as delta
from raw_server import LAST, STREAM, RawServer, Step, piece, whole

from proxy.config import loads
from proxy.sse import DONE, encode

ASK = {"messages": [{"role": "user", "content": "hi"}]}
KEY = "sk-the-operators-own-key"
SAYS = "The answer."


def good(model: str = "m") -> tuple[Step, ...]:
    return (whole(json.dumps({**reply_body(SAYS), "model": model}).encode()),)


def good_stream() -> tuple[Step, ...]:
    said = (delta({"role": "assistant", "content": SAYS}), delta({}, finish="stop"))
    return (STREAM, *(piece(encode(event)) for event in said), piece(DONE), LAST)


def either(streams: bool) -> tuple[Step, ...]:
    return good_stream() if streams else good()


def error(status: int, code: str | None = None, message: str = "no", **more: str) -> tuple[Step]:
    told = {"error": {"message": message, "type": None, "code": code}}
    return (whole(json.dumps(told).encode(), status, **more),)


@dataclass
class Server(RawServer):
    """Plays one script after the other, the last one for ever."""

    plays: deque[Sequence[Step]] = field(default_factory=deque)

    async def _answer(self, *connection: Any) -> bool:
        return await super()._answer(*connection)

    def play(self, *scripts: Sequence[Step]) -> None:
        self.plays = deque(scripts)
        self.seen.clear()

    @property
    def script(self) -> Sequence[Step]:
        return self.plays.popleft() if len(self.plays) > 1 else self.plays[0]

    @script.setter
    def script(self, script: Sequence[Step]) -> None:
        self.plays = deque([script or good()])


@dataclass
class Place:
    """Some servers, and what is needed to put gateways in front of them."""

    folder: Path
    servers: list[Server]
    stack: ExitStack

    def gateway(self, models: str, more: str = "", policy: str = "", **options: Any) -> Door:
        """Serve. In ``models`` the first server stands as ``{0}``, and so on."""
        bases = [f"api_base: {s.base}, api_key: {KEY}" for s in self.servers]
        for number, base in enumerate(bases):
            models = models.replace(f"{{{number}}}", base)
        (self.folder / "policy.yaml").write_text("name: test\nversion: 1\n" + policy)
        text = (
            f"model_list:\n{models}\npolicies: [{'policy.yaml' if policy else ''}]\n"
            f"watch_policies: false\n{more}"
        )
        config = loads(text, self.folder / "config.yaml")
        return self.stack.enter_context(serve(config, **options))


@contextmanager
def place(folder: Path, count: int) -> Iterator[Place]:
    loop = Loop()
    servers = [Server() for _ in range(count)]
    for server in servers:
        loop.run(server.__aenter__())
    with ExitStack() as stack:
        yield Place(folder, servers, stack)
    for server in servers:
        loop.run(server.__aexit__())
    loop.close()


def post(door: Door, model: str = "a", **more: Any) -> httpx.Response:
    body = {**ASK, "model": model, **more}
    return httpx.post(f"{door.url}/v1/chat/completions", json=body, timeout=30)


def said(answer: httpx.Response) -> str:
    """The text of a reply, plain or as events."""
    if "event-stream" not in answer.headers["content-type"]:
        return str(answer.json()["choices"][0]["message"]["content"])
    return "".join(
        choice["delta"].get("content") or ""
        for event in events(answer)
        for choice in event.get("choices", ())
    )


def events(answer: httpx.Response) -> list[Any]:
    lines = [line[6:] for line in answer.text.splitlines() if line.startswith("data: ")]
    return [json.loads(line) for line in lines if line != "[DONE]"]
