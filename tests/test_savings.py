"""Savings: every figure is what the decisions say, in both databases, by the command and on the page."""

from __future__ import annotations

import asyncio
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from alembic.script import ScriptDirectory
from dashboard_kit import login, settings
from gateway_kit import Door, ScriptedUpstream, StartGateway, completion, make_config, serve
from ledger_kit import ASK, RULES, ended, query
from sqlalchemy import insert, inspect

from benchmarks.ledger import record
from proxy.cli import main
from proxy.config import defaults
from proxy.ledger import Record
from proxy.ledgers import database as databases
from proxy.ledgers.database import Place, migrate
from proxy.ledgers.read import Reader
from proxy.ledgers.rows import bucket_of, limit_of, row_of
from proxy.ledgers.savings import HOW, By, Savings, percentile, savings
from proxy.ledgers.store import Store
from proxy.ledgers.tables_feedback import feedback
from proxy.ledgers.verify import verify

NOON = 1_750_075_200.0
"""2025-06-16T12:00Z"""
DAY = 86_400.0
ROUTES = RULES + "  - {name: cheaply, when: {pii: EMAIL}, do: {route: small}}\n"


def ask(door: Door, text: str, **more: Any) -> httpx.Response:
    body = {"model": "default", "messages": [{"role": "user", "content": text}], **more}
    return httpx.post(
        f"{door.url}/v1/chat/completions",
        json=body,
        timeout=30,
        headers={"x-api-key": "dm-client-0123456789"},
    )


def made(action: str, **changes: Any) -> Record:
    """A record that a saving can be read off."""
    outcome = "forward" if action == "cache" else action
    stage = {"outcome": outcome, "cause": None, "shadow": [], "unscannable": None}
    cause = {"policy": "p@1", "rule": "r", "classifier": "c", "label": "l", "score": 0.9}
    if action in ("block", "answer", "route"):
        stage["cause"] = cause
    avoided = action in ("block", "answer", "cache")
    called = {"upstream_called": False, "upstream_model": None, "tokens": None, "cost_usd": None}
    return replace(
        record(),
        **{
            "time": NOON,
            "action": action,
            "stages": {"input": stage},
            "milliseconds": {"overhead": 5.0},
            **(called if avoided else {}),
            **changes,
        },
    )


STORY = (
    made("block", saved_usd=0.5),
    made("block", saved_usd=0.25, model="b", time=NOON + DAY),
    made("block", saved_usd=None),  # its model has no price
    made("block", saved_usd=None, upstream_called=True, upstream_model="gpt-4o", cost_usd=0.01),
    made("answer", saved_usd=0.125),
    made("cache", saved_usd=0.0625),
    made("route", saved_usd=-0.03125),
    made("route", saved_usd=None),
    made("forward"),
    made("forward", cost_usd=None),
    made("error", tokens=None, cost_usd=None, upstream_called=False, upstream_model=None),
)
"""Decisions of two days."""


@pytest.fixture
def place(ledger_url: str) -> Place:
    """A ledger with the story in it."""
    place = Place.of(ledger_url)
    migrate(place)

    async def tell() -> None:
        store = Store(place)
        await store.start()
        await store.write([row_of(one, "open") for one in STORY])
        await store.write([row_of(one, "done") for one in STORY])
        await store.close()

    asyncio.run(tell())
    return place


def report(place: Place, since: str = "2025-06-16", by: By = "day") -> Savings:
    async def read() -> Savings:
        reader = Reader(place)
        try:
            return await savings(reader, since, by)
        finally:
            await reader.close()

    return asyncio.run(read())


def test_totals(place: Place) -> None:
    found, later = report(place), report(place, "2025-06-17", "model")
    total = found.total
    assert total.requests == len(STORY)
    assert total.avoided == {"block": 3, "answer": 1, "cache": 1}
    assert total.stopped == 1
    assert total.routed == 2
    assert total.saved == {"block": 0.75, "answer": 0.125, "cache": 0.0625, "route": -0.03125}
    assert total.cost_usd == pytest.approx(0.0011 * 3 + 0.01)
    assert (total.unpriced, total.uncosted) == (2, 1)
    assert found.unpriced == {"default": 2}
    assert [group.name for group in found.groups] == ["2025-06-16", "2025-06-17"]
    assert [group.name for group in later.groups] == ["b"]
    assert later.total.saved_usd == 0.25
    policies = report(place, by="policy").groups
    assert {group.name: group.requests for group in policies} == {"p@1": 7, "": 4}
    assert found.taken.requests == len(STORY)
    assert found.taken.mean_ms == pytest.approx(5.0)
    assert 5.0 <= (found.taken.p50_ms or 0) <= 5.0 * 1.13
    assert found.taken.p50_ms == found.taken.p99_ms
    assert found.taken.cpu_seconds > 0
    assert not [check for check in asyncio.run(verify(place)) if check.fault]


def test_mistakes_are_taken_off(place: Place) -> None:
    said = [
        (STORY[0], "wrong", "accepted"),
        (STORY[1], "wrong", "reported"),  # nobody has judged it yet
        (STORY[2], "wrong", "accepted"),  # without a price
        (STORY[4], "wrong", "rejected"),
        (STORY[5], "correct", "noted"),
        (STORY[8], "wrong", "accepted"),  # should not have been forwarded
    ]
    rows = [
        {"decision_id": one.decision_id, "verdict": verdict, "state": state, "reporter": "me",
         "time": NOON + DAY, "stage": "input", "policy": "", "rule": "", "classifier": ""}
        for one, verdict, state in said
    ]  # fmt: skip

    async def write() -> None:
        engine = place.engine(write=True)
        async with engine.begin() as connection:
            await connection.execute(insert(feedback), rows)
        await engine.dispose()

    asyncio.run(write())
    found = report(place)
    assert found.mistakes.checked == 4
    assert found.mistakes.wrong == {"block": 2, "forward": 1}
    assert found.mistakes.saved_usd == 0.5
    assert found.mistakes.cost_usd == pytest.approx(0.0011)
    assert found.mistakes.unpriced == 1
    assert found.net_usd == pytest.approx(found.total.saved_usd - 0.5)


def test_the_command_and_the_page(
    gateway: StartGateway,
    upstream: ScriptedUpstream,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    door = gateway(ROUTES, settings(tmp_path))
    for text in ("an attack", "hello", ASK, "write to me@example.org"):
        assert ask(door, text).status_code == 200
    rows = ended(tmp_path, 4)
    config = tmp_path / "savings.yaml"
    config.write_text(f'ledger: {{url: "sqlite:///{tmp_path}/data/doorman.db"}}')
    assert main(["savings", "--by", "policy", "--json", "-c", str(config)]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["total"]["avoided"] == {"block": 1, "answer": 1, "cache": 0}
    assert found["total"]["routed"] == 1
    assert found["total"]["saved_usd"] == pytest.approx(sum(row["saved_usd"] or 0 for row in rows))
    assert found["total"]["cost_usd"] == pytest.approx(sum(row["cost_usd"] or 0 for row in rows))
    assert found["total"]["unpriced"] == 0
    assert {group["name"] for group in found["groups"]} == {"test@1", ""}
    assert found["gateway"]["requests"] == 4
    assert found["gateway"]["cpu_seconds"] > 0
    assert found["how"] == dict(HOW)
    page = login(door).get("/savings")
    assert page.status_code == 200
    for told_ in ("By policy", "test@1", "Calls avoided", "How it is computed", *HOW):
        assert told_ in page.text
    assert login(door).get("/savings?days=0").status_code == 400


def tile(page: str, name: str) -> tuple[str, str]:
    """The value of a figure, and what stands below it."""
    found = re.search(
        rf'<div class="name">{name}</div><div class="value">(.*?)</div>(?:<div class="more">(.*?)</div>)?',
        page,
    )
    assert found is not None, name
    return found[1], found[2] or ""


def test_the_pages_say_the_same(
    gateway: StartGateway, upstream: ScriptedUpstream, tmp_path: Path
) -> None:
    """Replies that were stopped are blocked and avoid no call; mistakes are taken off on both."""
    door = gateway(ROUTES, settings(tmp_path))
    upstream.script = completion("it is the secret")
    for text in ("an attack", "another attack", "hello", ASK):
        assert ask(door, text).status_code == 200
    rows = ended(tmp_path, 4)
    visitor = login(door)
    first = next(row for row in rows if row["action"] == "block" and not row["upstream_model"])
    body = {"decision_id": first["decision_id"], "verdict": "wrong"}
    said = httpx.post(
        f"{door.url}/v1/feedback", json=body, headers={"x-api-key": "dm-admin-0123456789"}
    )
    assert said.status_code == 200, said.text
    overview, page = visitor.get("").text, visitor.get("/savings?days=7").text
    assert tile(overview, "Blocked") == ("3", "2 before a model was called")
    assert tile(page, "Calls avoided") == ("3", "of 4 requests")
    why = "1 reply that the model had written was blocked or replaced, which avoids no call."
    assert why in overview
    assert why in page
    for name in ("Saved", "Spent"):
        assert tile(overview, name)[0] == tile(page, name)[0]
    (day,) = re.findall(rf"<tr><td>{rows[0]['day']}</td>(.*?)</tr>", page)
    assert re.findall(r'<td class="number">(.*?)</td>', day)[:6] == ["4", "2", "1", "0", "0", "1"]


def test_what_is_free_is_said(tmp_path: Path) -> None:
    config = make_config(tmp_path, 1, "", settings(tmp_path))
    with serve(config.model_copy(update={"model_list": defaults().model_list})) as door:
        page = login(door).get("/savings").text
    assert tile(page, "Spent") == ("$0.00", "doorman/echo is free")


def test_buckets() -> None:
    for milliseconds in (0.0, 0.01, 0.4, 5.0, 123.4, 60_000.0):
        bucket = bucket_of(milliseconds)
        assert milliseconds <= limit_of(bucket) * 1.000001
        assert not bucket or milliseconds > limit_of(bucket - 1)
    assert percentile([], 0.5) is None
    assert percentile([(1, 50), (9, 49), (40, 1)], 0.5) == limit_of(1)
    assert percentile([(1, 50), (9, 49), (40, 1)], 0.99) == limit_of(9)
    assert percentile([(1, 50), (9, 49), (40, 1)], 0.999) == limit_of(40)


def test_the_head_is_known_without_alembic() -> None:
    scripts = ScriptDirectory(str(databases.MIGRATIONS))
    assert databases.head() == scripts.get_current_head()


def test_totals_of_an_older_ledger_are_brought_up_to_date(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Made by the migrations before 0004, with rows, then migrated."""
    import alembic.command
    import alembic.config
    from sqlalchemy import create_engine, text

    file = tmp_path / "data" / "doorman.db"
    file.parent.mkdir()
    engine = create_engine(f"sqlite:///{file}")
    with engine.begin() as connection:
        config = alembic.config.Config()
        config.set_main_option("script_location", str(databases.MIGRATIONS))
        config.attributes["connection"] = connection
        alembic.command.upgrade(config, "0003")
        columns = {c["name"] for c in inspect(connection).get_columns("doorman_decisions")}
        row = row_of(STORY[2], "done") | {"instance": 1}
        names = sorted(columns)
        connection.execute(
            text(
                f"INSERT INTO doorman_decisions ({', '.join(names)}) "
                f"VALUES ({', '.join(':' + n for n in names)})"
            ),
            {name: row[name] for name in names},
        )
        connection.execute(
            text(
                "INSERT INTO doorman_daily VALUES ('2025-06-16','p@1','default','block',1,0,0,0,0)"
            )
        )
    engine.dispose()
    place = Place.of(f"sqlite:///{file}")
    migrate(place)
    (total,) = query(tmp_path, "SELECT * FROM doorman_daily")
    assert (total["avoided"], total["unpriced"], total["uncosted"]) == (1, 1, 0)
    migrate(place)  # nothing left to do
