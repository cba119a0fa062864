"""A server with OpenAI's chat and moderation interfaces that writes and labels texts by rule, and
misbehaves in the ways that a test names."""

from __future__ import annotations

import json
import random
import re
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

WORDS = (
    "hello thanks good morning order card mail code python help weather joke where what how my "
    "your free yes now here please system click day week house river stone paper green early "
    "window garden letter number train water coffee music market bridge doctor engine folder"
).split()


@dataclass(frozen=True)
class Asked:
    """A request: to write texts, to label them, or to moderate them."""

    kind: str
    headers: Mapping[str, str]
    body: dict[str, Any]

    @property
    def prompt(self) -> str:
        return str(self.body["messages"][-1]["content"])

    @property
    def count(self) -> int:
        """Texts that are asked for, or about."""
        if self.kind == "write":
            match = re.search(r"Write (\d+) texts in", self.prompt)
            assert match
            return int(match[1])
        return len(self.texts)

    @property
    def texts(self) -> list[str]:
        """Texts that are to be labelled."""
        if self.kind == "moderate":
            return list(self.body["input"])
        line = next(line for line in self.prompt.splitlines() if line.startswith('[{"n": 1'))
        return [item["text"] for item in json.loads(line)]


@dataclass
class Wire:
    """What goes over the wire; ``hang`` waits until the client is gone, ``drop`` closes at once."""

    content: str = ""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    finish: str = "stop"
    usage: bool = True
    act: str = ""


Fault = Callable[["ScriptedLlm", Asked], Wire]


class ScriptedLlm:
    """The server.

    Attributes:
        keywords: label -> the word that texts of the label hold.
        faults: by the kind of request, what goes wrong with the next ones.
        always: by the kind, what goes wrong with every one...
        only: ... whose prompt holds this.
        prompt_tokens: of each chat request, by its own count.
        asked: every request so far.
    """

    def __init__(self, keywords: Mapping[str, str]) -> None:
        self.keywords = dict(keywords)
        self.faults: dict[str, deque[str]] = {
            "write": deque(),
            "label": deque(),
            "moderate": deque(),
        }
        self.always: dict[str, str] = {}
        self.only = ""
        self.prompt_tokens = 100
        self.asked: list[Asked] = []
        self.most_at_once = 0
        self._at_once = 0
        self._lock = threading.Lock()
        self._released = threading.Event()
        self._number = 0
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                server._serve(self)

            def log_message(self, format: str, *args: object) -> None:
                return

        class Http(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 64

            def handle_error(self, request: Any, client_address: Any) -> None:
                return  # clients leave

        self._http = Http(("127.0.0.1", 0), Handler)
        self.base = f"http://127.0.0.1:{self._http.server_address[1]}/v1"
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.05,), daemon=True)

    def __enter__(self) -> ScriptedLlm:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._released.set()
        self._http.shutdown()
        self._http.server_close()

    def count(self, kind: str = "") -> int:
        """Requests so far, of one kind or of all."""
        with self._lock:
            return sum(not kind or asked.kind == kind for asked in self.asked)

    # -- what it says -----------------------------------------------------------------------------

    def good(self, asked: Asked) -> Wire:
        """The reply that was asked for."""
        if asked.kind == "moderate":
            return Wire(json.dumps({"results": [self._moderated(text) for text in asked.texts]}))
        if asked.kind == "label":
            verdicts = [{"n": n, "labels": self.labels(t)} for n, t in enumerate(asked.texts, 1)]
            return Wire(json.dumps({"verdicts": verdicts}))
        return Wire(json.dumps({"examples": self.written(asked)}))

    def written(
        self, asked: Asked, text: Callable[[str], str] | None = None
    ) -> list[dict[str, Any]]:
        """Texts as the prompt wants them."""
        near = re.search(r'Write near misses of ("[^"]*")', asked.prompt)
        positive = re.search(r'Write texts that belong to ("[^"]*")', asked.prompt)
        word = self.keywords[json.loads(positive[1])] if positive else ""
        other = "none"
        if near and '"none"' not in asked.prompt.partition("Say in belongs_to")[2]:
            other = next(label for label in self.keywords if label != json.loads(near[1]))
            word = self.keywords[other]
        items = []
        for n in range(1, asked.count + 1):
            made = self.text(word)
            item: dict[str, Any] = {"n": n, "text": made if text is None else text(made)}
            items.append({**item, "belongs_to": other} if near else item)
        return items

    def text(self, word: str) -> str:
        """A text like no other, with a word in it."""
        with self._lock:
            self._number += 1
            rng = random.Random(self._number)
        some = [rng.choice(WORDS) for _ in range(rng.randint(4, 14))]
        made = "".join(rng.choice("bcdfghklmnprstvw") + rng.choice("aeiou") for _ in range(4))
        return " ".join([made, *some[:3], *([word] if word else []), *some[3:]]).capitalize() + "."

    def labels(self, text: str) -> list[str]:
        """The labels of a text, by the words in it."""
        words = text.lower().rstrip(".").split()
        return [label for label, word in self.keywords.items() if word in words]

    def _moderated(self, text: str) -> dict[str, Any]:
        flags = {label: label in self.labels(text) for label in self.keywords}
        scores = {label: 0.9 if flag else 0.1 for label, flag in flags.items()}
        return {"flagged": any(flags.values()), "categories": flags, "category_scores": scores}

    # -- the wire ---------------------------------------------------------------------------------

    def _serve(self, handler: BaseHTTPRequestHandler) -> None:
        body = json.loads(handler.rfile.read(int(handler.headers["content-length"])))
        kind = "moderate"
        if handler.path.endswith("/chat/completions"):
            writes = "You write realistic texts" in body["messages"][0]["content"]
            kind = "write" if writes else "label"
        headers = {name.lower(): value for name, value in handler.headers.items()}
        asked = Asked(kind, headers, body)
        with self._lock:
            self.asked.append(asked)
            fault = self.always.get(kind, "")
            if self.only and self.only not in asked.prompt:
                fault = ""
            if self.faults[kind]:
                fault = self.faults[kind].popleft()
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            self._send(handler, asked, FAULTS[fault](self, asked) if fault else self.good(asked))
        finally:
            with self._lock:
                self._at_once -= 1

    def _send(self, handler: BaseHTTPRequestHandler, asked: Asked, wire: Wire) -> None:
        if wire.act == "hang":
            self._released.wait(20)
        if wire.act:
            handler.close_connection = True
            handler.connection.close()
            return
        if wire.status >= 400:
            reply: Any = {"error": {"message": wire.content, "type": "x", "code": None}}
        elif asked.kind == "moderate":
            reply = wire.content
        else:
            reply = {
                "id": "c1", "object": "chat.completion", "created": int(time.time()),
                "model": asked.body["model"],
                "choices": [{
                    "index": 0, "finish_reason": wire.finish,
                    "message": {"role": "assistant", "content": wire.content},
                }],
            }  # fmt: skip
            if wire.usage:
                down = len(wire.content) // 4
                reply["usage"] = {
                    "prompt_tokens": self.prompt_tokens, "completion_tokens": down,
                    "total_tokens": self.prompt_tokens + down,
                }  # fmt: skip
        data = (reply if isinstance(reply, str) else json.dumps(reply)).encode()
        handler.send_response(wire.status)
        for name, value in {"content-type": "application/json", **wire.headers}.items():
            handler.send_header(name, value)
        handler.send_header("content-length", str(len(data)))
        handler.end_headers()
        handler.wfile.write(data)


def _wrong_labels(server: ScriptedLlm, asked: Asked) -> Wire:
    names = list(server.keywords)
    verdicts = [
        {"n": n, "labels": [names[0]] if server.labels(text) != [names[0]] else []}
        for n, text in enumerate(asked.texts, 1)
    ]
    return Wire(json.dumps({"verdicts": verdicts}))


def _unknown_labels(server: ScriptedLlm, asked: Asked) -> Wire:
    verdicts = [{"n": n, "labels": ["unheard of"]} for n in range(1, asked.count + 1)]
    return Wire(json.dumps({"verdicts": verdicts}))


def _examples(server: ScriptedLlm, asked: Asked, text: Callable[[str], str]) -> Wire:
    return Wire(json.dumps({"examples": server.written(asked, text)}))


def _some_labels(server: ScriptedLlm, asked: Asked) -> Wire:
    verdicts = [
        {"n": n, "labels": [label.upper() for label in server.labels(text)]}
        for n, text in enumerate(asked.texts, 1)
        if n % 3
    ]
    return Wire(json.dumps({"verdicts": verdicts}))


FAULTS: Mapping[str, Fault] = {
    "malformed": lambda server, asked: Wire(server.good(asked).content[:-9]),
    "fenced": lambda server, asked: Wire(
        f"Here you are:\n```json\n{server.good(asked).content}\n```\nAnything else?"
    ),
    "thinking": lambda server, asked: Wire(f"<think>{{}} hm</think>\n{server.good(asked).content}"),
    "truncated": lambda server, asked: Wire(server.good(asked).content[:60], finish="length"),
    "wrong labels": _wrong_labels,
    "some labels": _some_labels,
    "unknown labels": _unknown_labels,
    "duplicates": lambda server, asked: _examples(
        server, asked, lambda _: "The same again, please."
    ),
    "off label": lambda server, asked: _examples(
        server,
        asked,
        lambda text: " ".join(w for w in text.split() if w not in server.keywords.values()),
    ),
    "empty": lambda server, asked: Wire(""),
    "no items": lambda server, asked: Wire('{"examples": [], "verdicts": []}'),
    "extra key": lambda server, asked: Wire('{"note": 1, ' + server.good(asked).content[1:]),
    "numbers": lambda server, asked: Wire('{"examples": [{"n": 1, "text": 5}]}'),
    "busy": lambda server, asked: Wire("Slow down", 429, {"retry-after": "7"}),
    "busy for hours": lambda server, asked: Wire("Slow down", 429, {"retry-after": "7200"}),
    "500": lambda server, asked: Wire("boom", 500),
    "400": lambda server, asked: Wire("no such thing", 400),
    "401": lambda server, asked: Wire("bad key sk-secret-of-the-test-0001", 401),
    "filtered": lambda server, asked: (
        Wire("Your request was rejected as a result of the safety system", 400)
        if "forbidden" in asked.prompt
        else server.good(asked)
    ),
    "no schema": lambda server, asked: (
        Wire("response_format is not supported", 400)
        if "response_format" in asked.body
        else server.good(asked)
    ),
    "hang": lambda server, asked: Wire(act="hang"),
    "drop": lambda server, asked: Wire(act="drop"),
    "refusal": lambda server, asked: Wire("I'm sorry, but I can't help with that."),
    "refusals inside": lambda server, asked: _examples(
        server, asked, lambda text: f"I'm sorry, I can't help with {text}"
    ),
    "huge": lambda server, asked: Wire("x" * 2_000_000),
    "long texts": lambda server, asked: _examples(server, asked, lambda text: text * 400),
    "no usage": lambda server, asked: Wire(server.good(asked).content, usage=False),
}
"""What can go wrong, by name."""
