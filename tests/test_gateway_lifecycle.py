"""Start, reload, clients that leave, and the end."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from gateway_kit import (
    WAIT,
    Door,
    ScriptedUpstream,
    StartGateway,
    WordClassifier,
    chunk,
    events,
    free_port,
    sleeping,
    words,
)

from classifiers.types import Batch, Prediction
from policies.schema import PolicyError
from proxy.config import defaults
from proxy.config_ledger import LedgerConfig
from proxy.gateway import Gateway
from proxy.ledger import Record

RULE = "rules: [{name: r, when: {guard: %s}, do: {block: 'No %s.'}}]"
BODY: dict[str, Any] = {"model": "default", "messages": [{"role": "user", "content": "attack"}]}


def action(door: Door) -> str:
    answer = httpx.post(f"{door.url}/v1/chat/completions", json=BODY, timeout=10)
    return answer.headers["x-doorman-action"]


def until(true: Any) -> None:
    """Wait for something that another thread does."""
    deadline = time.monotonic() + WAIT
    while not true():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.01)


# -- policies are exchanged as a whole ---------------------------------------------------------


def policy_file(folder: Path, label: str, more: str = "") -> None:
    text = "name: test\nversion: 2\n" + RULE % (label, label) + more
    fresh = folder / "new.yaml"
    fresh.write_text(text)
    fresh.replace(folder / "policy.yaml")  # as editors do


def test_reload_when_the_file_changes(gateway: StartGateway, tmp_path: Path) -> None:
    door = gateway(RULE % ("attack", "attack"), WATCHED)
    assert action(door) == "block"
    policy_file(tmp_path, "secret")
    until(lambda: door.app.state.gateway.policies.current[0].id == "test@2")
    assert action(door) == "forward"


WATCHED = "watch_policies: true"

BROKEN = {
    "not yaml": "rules: [",
    "unknown label": RULE % ("nope", "nope"),
    "failing test": RULE % ("attack", "x") + "\ntests: [{user: fine, expect: block}]",
    "unknown model": "rules: [{name: r, when: {guard: attack}, do: {route: nowhere}}]",
}


@pytest.mark.parametrize("text", BROKEN.values(), ids=BROKEN)
async def test_a_bad_reload_keeps_the_last_good_one(tmp_path: Path, text: str) -> None:
    gateway = offline(tmp_path, RULE % ("attack", "attack"))
    gateway.load()
    good = gateway.policies.current
    (tmp_path / "policy.yaml").write_text("name: test\n" + text)
    assert not await gateway.policies.reload()
    assert gateway.policies.current is good
    assert b'doorman_policy_errors_total{kind="reload",policy=""} 1.0' in gateway.metrics.text()
    gateway.engine.close()


async def test_a_reload_says_where_a_route_leads_nowhere(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    gateway = offline(tmp_path, RULE % ("attack", "attack"))
    gateway.load()
    file = tmp_path / "policy.yaml"
    file.write_text(
        "name: test\nrules:\n- {name: r, when: {guard: attack}, do: {route: smal-model}}\n"
    )
    assert not await gateway.policies.reload()
    assert f"{file}:3: rule 'r' routes to 'smal-model'" in caplog.text
    assert "did you mean 'small-model'?" in caplog.text
    gateway.engine.close()


@pytest.mark.parametrize("text", BROKEN.values(), ids=BROKEN)
def test_a_bad_policy_does_not_start(tmp_path: Path, text: str) -> None:
    with pytest.raises(PolicyError):
        offline(tmp_path, text).load()


def offline(folder: Path, policy: str) -> Gateway:
    (folder / "policy.yaml").write_text("name: test\n" + policy)
    changes = {"policies": (folder / "policy.yaml",), "ledger": LedgerConfig(url="none")}
    config = defaults().model_copy(update=changes)
    return Gateway(config, classifiers=[WordClassifier("guard", {"attack": "attack"})])


def test_one_bad_file_keeps_all_of_them(tmp_path: Path) -> None:
    first, second = tmp_path / "policy.yaml", tmp_path / "second.yaml"
    gateway = offline(tmp_path, RULE % ("attack", "a"))
    second.write_text("name: second\n" + RULE % ("attack", "b"))
    both = gateway.config.model_copy(update={"policies": (first, second)})
    gateway = Gateway(both, classifiers=[WordClassifier("guard", {"attack": "attack"})])
    gateway.load()
    first.write_text("name: test\nversion: 2\n" + RULE % ("attack", "c"))
    second.write_text("rules: 7")
    with pytest.raises(PolicyError, match=r"second\.yaml"):
        gateway.policies.load()
    assert [policy.id for policy in gateway.policies.current] == ["test@1", "second@1"]
    gateway.engine.close()


def test_two_policies_of_one_name(tmp_path: Path) -> None:
    gateway = offline(tmp_path, RULE % ("attack", "a"))
    (tmp_path / "copy.yaml").write_text("name: test\n" + RULE % ("attack", "a"))
    files = (tmp_path / "policy.yaml", tmp_path / "copy.yaml")
    config = gateway.config.model_copy(update={"policies": files})
    with pytest.raises(PolicyError, match="'test'"):
        Gateway(config, classifiers=[WordClassifier("guard", {"attack": "attack"})]).load()


def test_requests_in_flight_keep_the_set_they_started_with(
    gateway: StartGateway, upstream: ScriptedUpstream, tmp_path: Path
) -> None:
    rule = RULE.replace("when", "check: [output], when")
    door = gateway(rule % ("secret", "secret"))
    store = door.app.state.gateway.policies
    pieces = [chunk({"content": "all is well. " * 40}), 0.5, chunk({"content": "the secret"})]
    upstream.script = events(*pieces, chunk({}, finish="stop"))
    body = {**BODY, "messages": [{"role": "user", "content": "hi"}], "stream": True}
    with httpx.stream("POST", f"{door.url}/v1/chat/completions", json=body, timeout=10) as answer:
        lines = answer.iter_lines()
        next(lines)
        policy_file(tmp_path, "attack")
        store.load()
        assert store.current[0].id == "test@2"
        rest = "".join(lines)
    assert "the secret" not in rest
    assert door.records.next().policies == ("test@1",)


# -- clients that leave --------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_leaves_ends_the_upstream_call(
    gateway: StartGateway, upstream: ScriptedUpstream, stream: bool
) -> None:
    upstream.script = sleeping(WAIT * 2)
    door = gateway()
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(f"{door.url}/v1/chat/completions", json={**BODY, "stream": stream}, timeout=0.8)
    assert upstream.gone.get(timeout=WAIT) == "left"
    record = door.records.next()
    assert (record.ended, record.status, record.upstream_called) == ("client_left", 499, True)


def test_a_client_that_leaves_in_the_middle_of_a_stream(
    gateway: StartGateway, upstream: ScriptedUpstream
) -> None:
    pieces = (item for i in range(400) for item in (chunk({"content": f"word{i} " * 20}), 0.02))
    upstream.script = events(*pieces)
    door = gateway()
    body = {**BODY, "stream": True}
    with httpx.stream("POST", f"{door.url}/v1/chat/completions", json=body, timeout=10) as answer:
        next(answer.iter_lines())
    assert upstream.gone.get(timeout=WAIT) == "left"
    record = door.records.next()
    assert (record.ended, record.status) == ("client_left", 200)
    assert record.tokens is not None
    assert record.tokens.basis == "estimated"


# -- the end ---------------------------------------------------------------------------------------


class Slow(WordClassifier):
    """Takes its time."""

    def predict(self, batch: Batch) -> list[tuple[Prediction, ...]]:
        time.sleep(0.05)
        return super().predict(batch)


def test_open_requests_are_finished_first(
    gateway: StartGateway, upstream: ScriptedUpstream
) -> None:
    upstream.script = words(*(["slowly "] * 30))
    door = gateway(
        RULE.replace("when", "check: [output], when") % ("attack", "attack"),
        "streaming: {hold_chars: 20, overlap_chars: 10, tail_chars: 0}",
        classifiers=[Slow("guard", {"attack": "attack"})],
    )
    body = {**BODY, "stream": True}
    with httpx.stream("POST", f"{door.url}/v1/chat/completions", json=body, timeout=10) as answer:
        lines = answer.iter_lines()
        first = next(lines)
        door.server.should_exit = True
        text = first + "".join(lines)
    assert text.count("slowly") == 30
    assert text.endswith("data: [DONE]")
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{door.url}/health")


def start_process(folder: Path, upstream: ScriptedUpstream) -> tuple[subprocess.Popen[str], str]:
    """``doorman serve`` as operators run it, with a policy of patterns and no models to load."""
    (folder / "policy.yaml").write_text(
        "name: p\nrules: [{name: r, when: {words: ATTACK}, do: {block: 'No.'}}]"
    )
    base = f"http://127.0.0.1:{upstream.port}/v1"
    (folder / "config.yaml").write_text(f"""
model_list: [{{model_name: default, litellm_params: {{model: openai/gpt-4o, api_base: "{base}"}}}}]
policies: [policy.yaml]
classifiers:
  shipped: []
  patterns: [{{name: words, patterns: [{{label: ATTACK, keywords: [attack]}}]}}]
""")
    port = free_port()
    command = [sys.executable, "-m", "proxy.cli", "serve", "-c", str(folder / "config.yaml")]
    process = subprocess.Popen(
        [*command, "--port", str(port)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parent.parent,
    )
    url = f"http://127.0.0.1:{port}"

    def ready() -> bool:
        assert process.poll() is None, process.communicate()[1]
        try:
            return httpx.get(f"{url}/ready").status_code == 200
        except httpx.TransportError:
            return False

    until(ready)
    return process, url


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_the_process_reloads_on_sighup_and_drains_on_sigterm(
    tmp_path: Path, upstream: ScriptedUpstream
) -> None:
    process, url = start_process(tmp_path, upstream)
    try:
        answer = httpx.post(f"{url}/v1/chat/completions", json=BODY)
        assert answer.headers["x-doorman-policy"] == "p@1"
        (tmp_path / "policy.yaml").write_text(
            "name: p\nversion: 2\nrules: [{name: r, when: {words: ATTACK}, do: {block: 'No.'}}]"
        )
        process.send_signal(signal.SIGHUP)
        until(
            lambda: (
                httpx.post(f"{url}/v1/chat/completions", json=BODY).headers["x-doorman-policy"]
                == "p@2"
            )
        )
        upstream.script = events(*[chunk({"content": "slowly "}), 0.05] * 20)
        body = {**BODY, "messages": [{"role": "user", "content": "hi"}], "stream": True}
        with httpx.stream("POST", f"{url}/v1/chat/completions", json=body, timeout=10) as answer:
            lines = answer.iter_lines()
            next(lines)
            process.send_signal(signal.SIGTERM)
            assert "".join(lines).endswith("data: [DONE]")
        out, err = process.communicate(timeout=WAIT)
        assert process.returncode == 0, err
    finally:
        process.kill()
        process.communicate()
    records = [json.loads(line) for line in out.splitlines()]
    assert {record["action"] for record in records} == {"block", "forward"}
    assert records[-1]["ended"] == "complete"
    said = out.lower().replace('"label":"attack"', "").replace('{"attack":', "")  # the label
    assert "attack" not in said
    assert "Traceback" not in err


def test_listening_is_said_when_connections_are_accepted(
    tmp_path: Path, upstream: ScriptedUpstream
) -> None:
    (tmp_path / "policy.yaml").write_text(
        "name: p\nrules: [{name: r, when: {pii: EMAIL}, do: flag}]"
    )
    config = tmp_path / "config.yaml"
    config.write_text("policies: [policy.yaml]\nclassifiers: {shipped: [pii]}")
    process = subprocess.Popen(
        [sys.executable, "-m", "proxy.cli", "serve", "-c", str(config), "--port", "0"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parent.parent,
    )
    try:
        assert process.stderr is not None
        said = next(line for line in process.stderr if "listening on" in line)
        assert httpx.get(f"{said.split()[-1]}/ready").status_code == 200
    finally:
        process.kill()
        process.communicate()


# -- too much ----------------------------------------------------------------------------------------


class Gated(WordClassifier):
    """Waits until it may go on."""

    gate = threading.Event()
    entered = threading.Event()

    def predict(self, batch: Batch) -> list[tuple[Prediction, ...]]:
        self.entered.set()
        self.gate.wait(WAIT)
        return super().predict(batch)


def test_overload_is_answered_at_once(gateway: StartGateway) -> None:
    rule = RULE % ("attack", "attack")
    classifiers = [Gated("guard", {"attack": "attack"})]
    Gated.gate.set()
    door = gateway(rule, "classifiers: {max_waiting: 1, threads: 1}", classifiers=classifiers)
    Gated.gate.clear()
    Gated.entered.clear()

    def ask(text: str) -> httpx.Response:
        body = {**BODY, "messages": [{"role": "user", "content": text}]}
        return httpx.post(f"{door.url}/v1/chat/completions", json=body, timeout=WAIT)

    with ThreadPoolExecutor() as pool:
        working = pool.submit(ask, "one")
        assert Gated.entered.wait(WAIT)
        waiting = pool.submit(ask, "two")
        until(lambda: door.app.state.gateway.engine.waiting == 1)
        refused = ask("three")
        Gated.gate.set()
        assert [working.result().status_code, waiting.result().status_code] == [200, 200]
    assert refused.status_code == 503
    assert refused.json()["error"]["code"] == "overloaded"
    assert refused.headers["retry-after"] == "1"


def test_a_body_that_does_not_come(gateway: StartGateway) -> None:
    door = gateway("", "limits: {body_seconds: 0.2}")
    host, port = door.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=WAIT) as sock:
        sock.sendall(
            b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
            b"content-length: 1000\r\n\r\n{"
        )
        assert sock.recv(4096).startswith(b"HTTP/1.1 408 ")


def test_a_record_that_cannot_be_written_harms_no_answer(
    gateway: StartGateway, caplog: pytest.LogCaptureFixture
) -> None:
    door = gateway(ledger=Full())
    answer = httpx.post(f"{door.url}/v1/chat/completions", json=BODY, timeout=WAIT)
    assert answer.status_code == 200
    assert answer.json()["choices"][0]["message"]["content"] == "ok"
    until(lambda: "OSError" in caplog.text)


class Full:
    """A ledger without room."""

    def write(self, record: Record) -> None:
        raise OSError("no space left")
