"""A client that says exactly the bytes it is told, and what every answer to it must be like."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPResponse, IncompleteRead, RemoteDisconnected
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
from gateway_kit import WAIT, ScriptedUpstream

CHAT = "/v1/chat/completions"
ASK: dict[str, Any] = {"model": "default", "messages": [{"role": "user", "content": "hi"}]}
PRIVATE = ("Traceback", "sk-upstream", "/proxy/", "site-packages", 'File "')
"""What no client may ever see."""


@dataclass(frozen=True)
class Said:
    """An answer; ``status`` 0 where the connection was closed without one."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> str | None:
        return self.json["error"]["code"]


@contextmanager
def connected(url: str, seconds: float = WAIT) -> Iterator[socket.socket]:
    """A connection to a server."""
    parts = urlsplit(url)
    assert parts.hostname is not None
    with socket.create_connection((parts.hostname, parts.port), timeout=seconds) as sock:
        yield sock


def heard(sock: socket.socket, method: str = "POST") -> Said:
    """The next answer on a connection."""
    answer = HTTPResponse(sock, method=method)
    try:
        answer.begin()
        body = answer.read()
    except IncompleteRead as cut:
        body = cut.partial
    except (ConnectionError, RemoteDisconnected):
        return Said(0, {}, b"")
    return Said(answer.status, {k.lower(): v for k, v in answer.getheaders()}, body)


def say(url: str, *pieces: bytes, seconds: float = WAIT) -> Said:
    """Send bytes on a connection of their own, and hear the answer."""
    with connected(url, seconds) as sock:
        try:
            for piece in pieces:
                sock.sendall(piece)
        except ConnectionError:
            pass  # refused before all was sent; the answer may be there all the same
        method = pieces[0].split(b" ", 1)[0].decode("latin-1")
        return heard(sock, method)


def head(
    *lines: bytes, target: bytes = CHAT.encode(), method: bytes = b"POST", host: bool = True
) -> bytes:
    """The head of a request: these header lines after the usual two."""
    usual = [b"host: x"] if host else []
    return b"\r\n".join([method + b" " + target + b" HTTP/1.1", *usual, *lines, b"", b""])


def post(
    body: bytes, *lines: bytes, kind: bytes = b"application/json", target: bytes = CHAT.encode()
) -> bytes:
    """A whole request with a body."""
    length = b"content-length: %d" % len(body)
    return head(b"content-type: " + kind, length, *lines, target=target) + body


def chat(**more: Any) -> bytes:
    """The body of a chat request."""
    return json.dumps({**ASK, **more}).encode()


def is_refusal(said: Said, status: int | range = range(400, 500)) -> None:
    """The answer is a refusal in OpenAI's shape that tells nothing."""
    assert said.status in ([status] if isinstance(status, int) else status), said
    error = said.json["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["type"] == ("invalid_request_error" if said.status < 500 else "server_error")
    assert isinstance(error["message"], str)
    assert error["message"]
    assert said.headers["content-type"] == "application/json"
    assert not [word for word in PRIVATE if word in said.body.decode()]


def is_served(url: str) -> None:
    """The gateway goes on answering others."""
    said = say(url, post(chat()))
    assert said.status == 200, said
    assert said.json["choices"][0]["message"]["content"] == "ok"


def until(holds: Callable[[], bool], seconds: float = 2 * WAIT) -> None:
    """Wait for something that happens elsewhere."""
    limit = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < limit, "it did not happen"
        time.sleep(0.01)


@dataclass(frozen=True)
class Served:
    """``doorman serve`` as operators run it; ``records`` and ``log`` are its output."""

    process: subprocess.Popen[bytes]
    url: str
    records: Path
    log: Path


@contextmanager
def process(folder: Path, upstream: ScriptedUpstream, more: str = "") -> Iterator[Served]:
    """The gateway as a process of its own, with a policy of patterns and no models to load."""
    (folder / "policy.yaml").write_text(
        "name: p\nrules: [{name: r, when: {words: ATTACK}, do: {block: 'No.'}}]"
    )
    base = f"http://127.0.0.1:{upstream.port}/v1"
    target = f'{{model: openai/gpt-4o, api_base: "{base}", api_key: sk-upstream}}'
    (folder / "config.yaml").write_text(f"""
model_list: [{{model_name: default, litellm_params: {target}}}]
policies: [policy.yaml]
classifiers:
  shipped: []
  patterns: [{{name: words, patterns: [{{label: ATTACK, keywords: [attack]}}]}}]
{"" if "ledger:" in more else "ledger: {url: none}"}
{more}
""")
    records, log = folder / "records.jsonl", folder / "log.txt"
    command = [sys.executable, "-m", "proxy.cli", "serve", "-c", str(folder / "config.yaml")]
    with records.open("wb") as out, log.open("wb") as err:
        own = subprocess.Popen(
            [*command, "--port", "0"], stdout=out, stderr=err, cwd=Path(__file__).parent.parent
        )

    def listening() -> bool:
        assert own.poll() is None, log.read_text()
        return "listening on" in log.read_text()

    try:
        until(listening, 60)
        line = next(line for line in log.read_text().splitlines() if "listening on" in line)
        url = line.split()[-1]
        until(lambda: httpx.get(f"{url}/ready").status_code == 200, 60)
        yield Served(own, url, records, log)
    finally:
        own.kill()
        own.wait()
