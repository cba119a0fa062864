"""The ledger behind a running gateway: one row per request, before anything comes of it."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import openai
import pytest
from aiohttp import web
from gateway_kit import ScriptedUpstream, StartGateway, completion, sleeping, words
from ledger_kit import ASK, RULES, ended, ledger, query, rows, until


def ask(client: openai.OpenAI, text: str, **options: Any) -> Any:
    messages: Any = [{"role": "user", "content": text}]
    return client.chat.completions.create(model="default", messages=messages, **options)


def test_every_kind_of_request_has_one_row(
    tmp_path: Path, gateway: StartGateway, upstream: ScriptedUpstream
) -> None:
    client = gateway(RULES, ledger(tmp_path)).client(max_retries=0)
    ask(client, ASK)
    ask(client, "hello")
    ask(client, "attack")
    ask(client, "a cheap one")
    upstream.script = completion("the secret")
    ask(client, ASK)
    upstream.script = words("one ", "two")
    assert "".join(c.choices[0].delta.content or "" for c in ask(client, ASK, stream=True))
    with pytest.raises(openai.NotFoundError):
        client.chat.completions.create(model="none", messages=[{"role": "user", "content": ASK}])

    found = ended(tmp_path, 7)
    assert len(found) == 7
    told = [(r["action"], r["status"], r["ended"], r["rule"], r["shadow"]) for r in found]
    assert told == [
        ("forward", 200, "complete", None, 0),
        ("answer", 200, "complete", "greet", 0),
        ("block", 200, "complete", "no-attacks", 0),
        ("forward", 200, "complete", None, 1),
        ("block", 200, "complete", "no-secrets", 0),
        ("forward", 200, "complete", None, 0),
        ("error", 404, "model_not_found", None, 0),
    ]
    first, blocked = found[0], found[2]
    assert (first["model"], first["upstream_model"]) == ("default", "gpt-4o")
    assert (first["prompt_tokens"], first["completion_tokens"]) == (1000, 100)
    assert first["cost_usd"] == pytest.approx(0.0035)
    assert (blocked["policy"], blocked["classifier"], blocked["label"]) == (
        "test@1", "guard@test", "attack",
    )  # fmt: skip
    assert blocked["score"] == pytest.approx(0.99)
    assert blocked["saved_usd"] > 0
    assert blocked["day"] == datetime.fromtimestamp(blocked["time"], UTC).strftime("%Y-%m-%d")
    assert all(row["record"]["decision_id"] == row["decision_id"] for row in found)
    assert ASK not in json.dumps(found)


def test_totals_are_those_of_the_rows(tmp_path: Path, gateway: StartGateway) -> None:
    client = gateway(RULES, ledger(tmp_path)).client(max_retries=0)
    for text in ("hello", "attack", ASK, "attack", ASK, "hello again, attack"):
        ask(client, text)
    ended(tmp_path, 6)
    sums = "sum(coalesce(cost_usd, 0)) AS cost, sum(coalesce(saved_usd, 0)) AS saved"
    by = "day, coalesce(policy, '') AS policy, model, action"
    wanted = query(
        tmp_path,
        f"SELECT {by}, count(*) AS count, {sums} FROM doorman_decisions GROUP BY 1, 2, 3, 4",
    )
    kept = query(
        tmp_path,
        "SELECT day, policy, model, action, count, cost_usd AS cost, saved_usd AS saved "
        "FROM doorman_daily ORDER BY 1, 2, 3, 4",
    )
    assert [row["count"] for row in kept] == [2, 1, 3]
    for left, right in zip(wanted, kept, strict=True):
        assert left == pytest.approx(right)


def test_the_row_is_there_before_upstream_is_asked(
    tmp_path: Path, gateway: StartGateway, upstream: ScriptedUpstream
) -> None:
    at_upstream: list[dict[str, Any]] = []

    async def script(request: web.Request) -> web.StreamResponse:
        at_upstream.extend(await asyncio.to_thread(rows, tmp_path))
        return await completion("ok")(request)

    upstream.script = script
    client = gateway(RULES, ledger(tmp_path)).client(max_retries=0)
    reply = ask(client.with_options(default_headers={"x-request-id": "mine"}), ASK)
    assert reply.choices[0].message.content == "ok"
    (row,) = at_upstream
    assert (row["state"], row["action"], row["status"], row["ended"]) == (
        "open", "forward", None, None,
    )  # fmt: skip
    assert (row["model"], row["upstream_model"], row["endpoint"]) == (
        "default", "gpt-4o", "chat.completions",
    )  # fmt: skip
    assert row["record"]["stages"]["input"]["outcome"] == "forward"
    assert (row["record"]["request_id"], row["record"]["upstream_called"]) == ("mine", True)
    (after,) = ended(tmp_path, 1)
    assert after["decision_id"] == row["decision_id"]
    assert after["record"]["milliseconds"]["ledger"] > 0


@pytest.mark.parametrize("text", ["attack", "hello"])
def test_an_answer_given_here_has_its_row_before_it_leaves(
    text: str, tmp_path: Path, gateway: StartGateway
) -> None:
    client = gateway(RULES, ledger(tmp_path)).client(max_retries=0)
    raw = client.chat.completions.with_raw_response.create(
        model="default", messages=[{"role": "user", "content": text}]
    )
    # No waiting: it left after its row was committed.
    assert [row["decision_id"] for row in rows(tmp_path)] == [raw.headers["x-doorman-decision-id"]]


def test_a_client_that_leaves_has_one_row(
    tmp_path: Path, gateway: StartGateway, upstream: ScriptedUpstream
) -> None:
    upstream.script = sleeping(30)
    client = gateway(RULES, ledger(tmp_path)).client(max_retries=0, timeout=0.5)
    with pytest.raises(openai.APITimeoutError):
        ask(client, ASK)
    (row,) = ended(tmp_path, 1)
    assert (row["status"], row["ended"]) == (499, "client_left")


def test_relaxed_writes_behind(tmp_path: Path, gateway: StartGateway) -> None:
    client = gateway(RULES, ledger(tmp_path, ", durability: relaxed")).client(max_retries=0)
    for text in ("hello", "attack", ASK):
        ask(client, text)
    assert [row["action"] for row in ended(tmp_path, 3)] == ["answer", "block", "forward"]


def test_without_a_ledger_there_is_no_file(tmp_path: Path, gateway: StartGateway) -> None:
    door = gateway(RULES, "ledger: {url: none}")
    ask(door.client(), ASK)
    assert door.records.next().action == "forward"
    assert door.app.state.gateway.database is None
    assert not list(tmp_path.rglob("*.db"))


def test_without_settings_the_file_is_beside_the_config(tmp_path: Path) -> None:
    from proxy.config import defaults, loads

    file = f"{tmp_path}/doorman-data/doorman.db"
    assert loads("", tmp_path / "config.yaml").ledger.url == f"sqlite:///{file}"
    assert defaults().ledger.url == "sqlite:///doorman-data/doorman.db"
    assert loads("ledger: {url: null}", tmp_path / "config.yaml").ledger.url == "none"


def test_stopping_writes_what_waits(tmp_path: Path, gateway: StartGateway) -> None:
    door = gateway(RULES, ledger(tmp_path, ", durability: relaxed"))
    client = door.client(max_retries=0)
    for _ in range(20):
        ask(client, "attack")
    door.server.should_exit = True
    until(lambda: not door.app.state.gateway.ready)
    found = ended(tmp_path, 20)
    assert len(found) == 20
    assert {row["state"] for row in found} == {"done"}
