"""No user's words where they do not belong: logs, metrics, the ledger, traces, headers and errors.

Marked words are put everywhere a client can put any, through every endpoint and every way out; then
all that the gateway has written is looked through. Only answers hold them: replies of the model, and
what the gateway was asked to say about a text.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import httpx
import pytest
from dashboard_kit import ADMIN, login
from gateway_kit import (
    Door,
    ScriptedUpstream,
    WordClassifier,
    completion,
    make_config,
    respond,
    serve,
    sleeping,
    word_classifiers,
    words,
)
from hostile_kit import say
from ledger_kit import ended, ledger
from otel_kit import collecting

from classifiers.types import Batch, Prediction
from proxy.commands.serve import _log_to_stderr, _records
from proxy.dashboard.keys import KEYS
from proxy.dashboard.pages import PAGES
from proxy.endpoints import ENDPOINTS

MARK = "Zqxmarker"
"""Stands in everything that a client sends, and in all that the model says."""
RULES = """
rules:
  - {name: no-attacks, when: {guard: attack}, do: {block: {message: "Not here.", as: error}}}
  - {name: no-secrets, when: {guard: secret}, do: {block: "Not that."}}
  - {name: greet, when: {intent: greeting}, do: {answer: "Hello!"}}
  - {name: cheaply, when: {topic: cheap}, do: {route: small}}
  - {name: hide, when: {pii: EMAIL}, do: redact}
  - {name: quoted, when: {quoting: loud}, do: {block: "Too loud."}}
  - {name: out, check: output, when: {guard: secret}, do: {block: "Not that."}}
"""
TEXTS = (
    f"what is {MARK}?",
    f"attack {MARK}",
    f"a secret {MARK}",
    f"hello {MARK}",
    f"cheap {MARK}",
    f"write to {MARK}@example.org",
    f"quote {MARK}",  # breaks a classifier, which quotes it
)
KEY = "dm-scan-0123456789"


@dataclass(frozen=True)
class Quoting(WordClassifier):
    """Breaks with an exception that quotes the text."""

    def predict(self, batch: Batch) -> list[tuple[Prediction, ...]]:
        for text in batch.texts:
            if "quote" in text:
                raise ValueError(f"cannot read {text!r}")
        return super().predict(batch)


def bodies(text: str) -> dict[str, dict[str, Any]]:
    """A request of each guarded API."""
    turn = {"role": "user", "content": text, "name": MARK}
    chat = {"model": "default", "messages": [turn], "user": MARK, MARK: {MARK: text}}
    return {
        "/v1/chat/completions": chat,
        "/v1/completions": {"model": "default", "prompt": text},
        "/v1/embeddings": {"model": "default", "input": [text]},
        "/v1/responses": {"model": "default", "input": text, "instructions": text},
        "/v1/messages": {"model": "default", "max_tokens": 9, "messages": [turn]},
    }


HEADERS = {
    "authorization": f"Bearer {KEY}",
    "user-agent": MARK,
    "x-custom": MARK,
    "x-doorman-action": MARK,
    "cookie": f"a={MARK}",
    "tracestate": f"a={MARK}",
    "baggage": f"a={MARK}",
    "referer": f"http://x/{MARK}",
}


@dataclass
class Heard:
    """What clients were told that is no answer: the heads of all replies, the bodies of refusals."""

    seen: list[str] = field(default_factory=list)
    statuses: set[int] = field(default_factory=set)

    def take(self, reply: httpx.Response, *, own: bool = True) -> None:
        self.statuses.add(reply.status_code)
        body = reply.text if own and reply.status_code >= 400 else ""
        self.seen.append(f"{reply.status_code} {dict(reply.headers)} {body}")


def guarded(client: httpx.Client, heard: Heard, upstream: ScriptedUpstream) -> None:
    """Every guarded API: plain and as a stream, whatever policies and the model make of it."""
    for text in TEXTS:
        for path, body in bodies(text).items():
            upstream.script = completion(f"said {MARK}")
            heard.take(client.post(path, json=body, params={"q": MARK}))
            if path != "/v1/embeddings":
                heard.take(client.post(path, json={**body, "stream": True}))
    chat = bodies(TEXTS[0])["/v1/chat/completions"]
    upstream.script = words("a ", MARK, " secret ", MARK)
    heard.take(client.post("/v1/chat/completions", json={**chat, "stream": True}))
    upstream.script = completion(f"a secret {MARK}")
    heard.take(client.post("/v1/chat/completions", json=chat))
    page = f"<html>{MARK}</html>".encode()
    for status, said in ((500, page), (200, page), (502, {"detail": MARK}), (401, {"error": MARK})):
        upstream.script = respond(status, said)
        for path, body in bodies(TEXTS[0]).items():
            heard.take(client.post(path, json=body))
    for stream in (False, True):  # the upstream's own words about the request are the client's
        upstream.script = respond(400, {"error": {"message": f"bad {MARK}"}})
        heard.take(client.post("/v1/chat/completions", json={**chat, "stream": stream}), own=False)
    upstream.script = sleeping(9)
    with pytest.raises(httpx.ReadTimeout):
        client.post("/v1/chat/completions", json=chat, timeout=0.3)
    upstream.script = completion(f"said {MARK}")


def refused(door: Door, client: httpx.Client, heard: Heard) -> None:
    """What never gets as far as a policy."""
    chat = bodies(TEXTS[0])["/v1/chat/completions"]
    image = {"type": "image_url", "image_url": {"url": f"https://x/{MARK}.png"}}
    odd: Sequence[Any] = (
        {**chat, "model": MARK},
        {**chat, "messages": MARK},
        {**chat, "messages": [{"role": MARK, "content": MARK}]},
        {**chat, "messages": [{"role": "user", "content": [image]}]},
        {**chat, "tools": [{"type": MARK, MARK: MARK}], "tool_choice": MARK},
        {**chat, "api_base": MARK, "temperature": MARK, "moderation": MARK},
        [MARK],
    )
    for path in ENDPOINTS:
        for body in odd:
            heard.take(client.post(path, json=body))
        kinds = {"content-type": "application/json"}
        for raw in (f'{{"{MARK}": ', f'{{"a": "{MARK}\ud800"', f'"{MARK}"', "[" * 300 + MARK):
            data = raw.encode("utf-8", "surrogatepass")
            heard.take(client.post(path, content=data, headers=kinds))
        heard.take(client.post(path, content=MARK, headers={"content-type": f"text/{MARK}"}))
        heard.take(client.post(path, json=chat, headers={"authorization": f"Bearer {MARK}"}))
        heard.take(client.get(f"{path}?q={MARK}"))
    for path in (f"/v1/{MARK}", f"/{MARK}?q={MARK}", f"/v1/models/{MARK}", f"/v1/x?{MARK}={MARK}"):
        for method in ("GET", "POST", "DELETE", "OPTIONS"):
            heard.take(client.request(method, path))
    for line in (b"x: " + MARK.encode() + b"\x00", MARK.encode(), b"host: " + MARK.encode()):
        head = b"POST /v1/" + MARK.encode() + b" HTTP/1.1\r\nhost: x\r\n" + line + b"\r\n\r\n"
        told = say(door.url, head)
        heard.seen.append(f"raw {told.headers} {told.body!r}")


def local(client: httpx.Client, heard: Heard) -> None:
    """What is answered here."""
    for text in TEXTS:
        heard.take(client.post("/v1/moderations", json={"input": text, "model": MARK}))
        heard.take(client.post("/v1/classify", json={"input": text, "explain": True}))
        heard.take(client.post("/v1/classify", json={"input": text, "classifiers": [MARK]}))
        question = {"type": "predicate", "name": MARK, "instructions": text}
        asked = {"model": MARK, "input": text, "questions": [question]}
        heard.take(client.post("/v1/decisions", json=asked))
    for body in ({"input": MARK, "questions": MARK}, {"input": {MARK: MARK}}, {MARK: MARK}):
        for path in ("/v1/moderations", "/v1/classify", "/v1/decisions", "/v1/feedback"):
            heard.take(client.post(path, json=body))
    chat = client.post("/v1/chat/completions", json=bodies(TEXTS[0])["/v1/chat/completions"])
    known = {"decision_id": chat.headers["x-doorman-decision-id"], "verdict": "wrong"}
    for more in (
        {"classifier": MARK},
        {"classifier": "guard", "label": MARK},
        {"verdict": MARK},
        {"decision_id": MARK},
        {MARK: MARK},
    ):
        heard.take(client.post("/v1/feedback", json={**known, **more}))
    for path in ("/dashboard", "/dashboard/login"):
        heard.take(client.get(path, params={"q": MARK, "next": f"/{MARK}"}))
        heard.take(client.post(path, data={"key": MARK, "text": MARK, "csrf": MARK}))


def visited(door: Door, heard: Heard) -> None:
    """Every page of the dashboard, by somebody who has logged in and writes the mark into every field."""
    visitor = login(door)
    fields = dict.fromkeys(("text", "comment", "label", "decision_id", "policy"), MARK)
    fields["name"] = fields["classifier"] = "guard"
    token = visitor.token()
    for page in PAGES:
        if page.open or page.path.endswith("/logout"):
            continue
        path = re.sub(r"{[^}]*}", MARK, page.path)
        if "GET" in page.methods:
            heard.take(visitor.http.get(path, params={"q": MARK, "model": MARK, "before": MARK}))
            heard.take(visitor.http.get(path))
        if "POST" in page.methods and not path.startswith(KEYS):  # their names are the operator's
            # A form that comes back with its mistake shows what its own writer has put into it.
            heard.take(visitor.http.post(path, data={"csrf": token, **fields}), own=False)
            heard.take(visitor.http.post(path, data={"csrf": MARK, **fields}))


@contextmanager
def logged(form: Literal["text", "json"]) -> Iterator[None]:
    """Logs as ``doorman serve`` writes them, in place of those of the tests."""
    kept, logging.root.handlers = logging.root.handlers, []
    level = logging.root.level
    try:
        _log_to_stderr(form)
        with _records(None):
            yield
    finally:
        logging.root.handlers = kept
        logging.root.setLevel(level)


@pytest.mark.parametrize(
    ("form", "content"), [("text", "hash"), ("json", "none")], ids=["text", "json"]
)
def test_no_words_of_users_where_they_do_not_belong(
    form: Literal["text", "json"],
    content: str,
    tmp_path: Path,
    upstream: ScriptedUpstream,
    capfd: pytest.CaptureFixture[str],
) -> None:
    more = f"""
keys: [{{name: k, key: {KEY}}}, {{name: boss, key: {ADMIN}, admin: true}}]
record: {{content: {content}}}
cache: {{exact: {{models: [small]}}}}
breaker: {{failures: 1000000}}
{ledger(tmp_path)}
"""
    known = [*word_classifiers(), Quoting("quoting", {"loud": r"\bloud\b"})]
    heard = Heard()
    with collecting() as collector:
        more += f'telemetry: {{endpoint: "{collector.url}"}}'
        config = make_config(tmp_path, upstream.port, RULES, more)
        with logged(form), serve(config, classifiers=known, ledger=None) as door:
            with httpx.Client(base_url=door.url, headers=HEADERS, timeout=30) as client:
                guarded(client, heard, upstream)
                refused(door, client, heard)
                local(client, heard)
                visited(door, heard)
                metrics = client.get(
                    "/metrics", headers={"x-api-key": ADMIN, "authorization": ""}
                ).text
            logging.getLogger("somebody.elses").error("they say %s", MARK)
            logging.getLogger("doorman").error("broken", exc_info=ValueError(MARK))
            kept = ended(tmp_path, 60)
        files = list((tmp_path / "data").iterdir())
    out, err = capfd.readouterr()
    stored = b"".join(path.read_bytes() for path in files)
    # It was all there to be looked through.
    assert {200, 400, 401, 404, 405, 415, 500, 502, 503} <= heard.statuses
    assert {row["action"] for row in kept} >= {
        "answer",
        "block",
        "error",
        "forward",
        "redact",
        "route",
    }
    assert out.count('"decision_id"') >= len(kept)
    assert b"no-attacks" in stored
    assert "doorman_requests_total" in metrics
    assert len(collector.spans) > len(kept)
    assert "ValueError" in err
    if form == "json":
        assert all(json.loads(line)["level"] for line in err.splitlines())
    for where, text in {
        "standard output": out,
        "standard error": err,
        "metrics": metrics,
        "ledger": stored.decode("latin-1"),
        "traces": b"".join(collector.raw).decode("latin-1"),
        **{f"answer {n}": text for n, text in enumerate(heard.seen)},
    }.items():
        at = text.lower().find(MARK.lower())
        assert at < 0, f"{where}: {text[max(0, at - 300) : at + 300]}"
