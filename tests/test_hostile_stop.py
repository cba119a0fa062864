"""Being stopped, killed and given new policies while requests run."""

from __future__ import annotations

import json
import os
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from aiohttp import web
from gateway_kit import WAIT, ScriptedUpstream, StartGateway, chunk, events, reply_body
from hostile_kit import CHAT, Served, chat, connected, heard, is_served, post, process, until

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals")


def records_of(served: Served) -> list[dict[str, Any]]:
    return [json.loads(line) for line in served.records.read_text().splitlines()]


def test_sigterm_finishes_every_request_and_takes_no_new_one(
    tmp_path: Path, upstream: ScriptedUpstream
) -> None:
    go = threading.Event()
    stream = events(chunk({"content": "one "}), 0.5, chunk({"content": "two"}, finish="stop"))

    async def script(request: web.Request) -> web.StreamResponse:
        if json.loads(await request.read()).get("stream"):
            return await stream(request)
        await web.asyncio.to_thread(go.wait, WAIT)
        return web.json_response(reply_body("late but whole"))

    upstream.script = script
    with process(tmp_path, upstream) as served, ThreadPoolExecutor(8) as pool:
        url = f"{served.url}{CHAT}"

        def ask(stream: bool) -> str:
            body = {**json.loads(chat()), "stream": stream}
            return httpx.post(url, json=body, timeout=2 * WAIT).text

        with connected(served.url) as idle:
            plain = [pool.submit(ask, False) for _ in range(4)]
            streams = [pool.submit(ask, True) for _ in range(4)]
            until(lambda: len(upstream.seen) == 8)
            served.process.send_signal(signal.SIGTERM)
            assert idle.recv(100) == b""  # an idle connection is closed
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"{served.url}/health")
        go.set()
        assert all("late but whole" in answer.result() for answer in plain)
        assert all(answer.result().endswith("data: [DONE]\n\n") for answer in streams)
        assert served.process.wait(2 * WAIT) == 0
        records = records_of(served)
    assert [record["ended"] for record in records] == ["complete"] * 8
    assert "Traceback" not in served.log.read_text()


def test_a_request_that_takes_too_long_to_finish_is_given_up(
    tmp_path: Path, upstream: ScriptedUpstream
) -> None:
    upstream.script = events(chunk({"content": "one "}), 6 * WAIT, chunk({}, finish="stop"))
    with process(tmp_path, upstream, "server: {drain_seconds: 1}") as served:
        with connected(served.url, 6 * WAIT) as sock:
            sock.sendall(post(chat(stream=True)))
            until(lambda: len(upstream.seen) == 1)
            served.process.send_signal(signal.SIGTERM)
            assert not heard(sock).body.endswith(b"[DONE]\n\n")
        assert served.process.wait(2 * WAIT) == 0
        assert len(records_of(served)) == 1


def test_kill_loses_no_record_that_was_written(tmp_path: Path, upstream: ScriptedUpstream) -> None:
    """Records are written right after their answer, through no buffer that dies with the process:
    what a kill can lose is the record of an answer of this very moment."""
    body = json.loads(chat())
    with process(tmp_path, upstream) as served, ThreadPoolExecutor(4) as pool:
        with httpx.Client() as client:
            answers = [client.post(f"{served.url}{CHAT}", json=body) for _ in range(20)]
        first = {answer.headers["x-doorman-decision-id"] for answer in answers}
        # No further request, and so nothing that could push them out, comes before this.
        until(lambda: {record["decision_id"] for record in records_of(served)} == first)
        answered: list[str] = []

        def ask() -> None:
            try:
                with httpx.Client(timeout=WAIT) as client:
                    while True:
                        answer = client.post(f"{served.url}{CHAT}", json=body)
                        answered.append(answer.headers["x-doorman-decision-id"])
            except httpx.TransportError:
                return

        asking = [pool.submit(ask) for _ in range(4)]
        until(lambda: len(answered) > 20)
        served.process.kill()
        for future in asking:
            future.result(2 * WAIT)
        lines = served.records.read_text().split("\n")
        ids = [json.loads(line)["decision_id"] for line in lines[:-1]]
    assert lines[-1] == ""  # no half line
    assert len(ids) == len(set(ids))
    assert first <= set(ids)


RULE = "name: test\nversion: %d\nrules: [{name: r, when: {guard: attack}, do: {block: 'No %d.'}}]"


def test_policies_change_twenty_times_while_requests_run(
    gateway: StartGateway, upstream: ScriptedUpstream, tmp_path: Path
) -> None:
    door = gateway(
        "rules: [{name: r, when: {guard: attack}, do: {block: 'No 1.'}}]", "watch_policies: true"
    )
    store = door.app.state.gateway.policies
    stop = threading.Event()
    seen: set[str] = set()
    body = json.loads(chat(messages=[{"role": "user", "content": "attack"}]))

    def ask() -> int:
        asked = 0
        with httpx.Client(timeout=WAIT) as client:
            while not stop.is_set():
                answer = client.post(f"{door.url}{CHAT}", json=body)
                assert answer.status_code == 200
                policy = answer.headers["x-doorman-policy"]
                said = answer.json()["choices"][0]["message"]["content"]
                assert said == f"No {policy.removeprefix('test@')}."
                seen.add(policy)
                asked += 1
        return asked

    with ThreadPoolExecutor(4) as pool:
        asking = [pool.submit(ask) for _ in range(4)]
        try:
            for version in range(2, 22):
                fresh = tmp_path / "new.yaml"
                fresh.write_text(RULE % (version, version))
                fresh.replace(tmp_path / "policy.yaml")
                until(lambda version=version: store.current[0].id == f"test@{version}")  # type: ignore[misc]
                until(lambda version=version: f"test@{version}" in seen)  # type: ignore[misc]
        finally:
            stop.set()
        assert sum(future.result(WAIT) for future in asking) >= 21
    assert seen >= {f"test@{version}" for version in range(2, 22)}
    assert upstream.seen == []
    is_served(door.url)
