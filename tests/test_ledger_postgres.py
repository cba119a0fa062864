"""The same ledger in PostgreSQL. Skipped where no server takes us in, see ``postgres_kit``."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from gateway_kit import Loop, ScriptedUpstream, StartGateway
from ledger_kit import ASK, RULES, until
from postgres_kit import sql

from benchmarks.ledger import record
from proxy.cli import main
from proxy.ledgers.database import Place, migrate
from proxy.ledgers.rows import row_of
from proxy.ledgers.store import Store
from proxy.yaml_source import ConfigError


def settings(url: str, more: str = "") -> str:
    return f'ledger: {{url: "{url}"{more}}}'


def ask(url: str, text: str = ASK) -> httpx.Response:
    body = {"model": "default", "messages": [{"role": "user", "content": text}]}
    return httpx.post(f"{url}/v1/chat/completions", json=body, timeout=30)


def test_rows_totals_and_commands(
    database: str,
    tmp_path: Path,
    gateway: StartGateway,
    upstream: ScriptedUpstream,
    capsys: pytest.CaptureFixture[str],
) -> None:
    door = gateway(RULES, settings(database))
    for text in ("hello", "attack", ASK, "a cheap attack"):
        assert ask(door.url, text).status_code == 200
    done = "SELECT * FROM doorman_decisions WHERE state = 'done' ORDER BY time"
    found = until(lambda: (kept := sql(database, done))[3:] and kept)
    assert [row["action"] for row in found] == ["answer", "block", "forward", "block"]
    assert [row["shadow"] for row in found] == [False, False, False, True]
    config = tmp_path / "config.yaml"
    config.write_text(settings(database))
    assert main(["ledger", "verify", "-c", str(config)]) == 0
    checks = json.loads(capsys.readouterr().out)
    assert [check["found"] for check in checks[:2]] == ["4 rows", "3 totals"]
    assert main(["ledger", "export", "-c", str(config)]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert lines == [json.loads(row["record"]) for row in found]
    sql(database, "UPDATE doorman_daily SET saved_usd = saved_usd + 1")
    assert main(["ledger", "verify", "-c", str(config)]) == 1


def test_text_that_postgresql_refuses_is_written_all_the_same(
    database: str, gateway: StartGateway
) -> None:
    door = gateway(RULES, "record: {content: full}\n" + settings(database))
    assert ask(door.url, "a NUL: \x00").status_code == 200
    place = Place.of(database)

    async def write() -> None:
        store = Store(place)
        await store.start()
        await store.write([row_of(replace(record(), model="no\x00such"), "done")])
        await store.close()

    asyncio.run(write())
    kept = "SELECT model, record FROM doorman_decisions WHERE state = 'done' ORDER BY time"
    first, second = until(lambda: (kept_now := sql(database, kept))[1:] and kept_now)
    assert json.loads(first["record"])["content"][0]["text"] == "a NUL: \x00"
    assert second["model"] == "no\ufffdsuch"


def test_gateways_share_it_and_know_who_died(database: str) -> None:
    place = Place.of(database)
    migrate(place)

    async def story() -> None:
        first, second = Store(place), Store(place)
        assert (await first.start(), await second.start()) == (0, 0)
        assert (first.instance, second.instance) == (1, 2)
        mine, yours = record(), record()
        await first.write([row_of(mine, "open")])
        await second.write([row_of(yours, "open")])
        await first.close()  # without an end of its row, as if it had died
        third = Store(place)
        assert await third.start() == 1
        assert third.instance == 1
        # A late end counts, once.
        for again in (False, True):
            await third.write([row_of(mine, "done")], again=again)
        await second.write([row_of(yours, "done")])
        await second.close()
        await third.close()

    asyncio.run(story())
    states = sql(database, "SELECT state, instance FROM doorman_decisions ORDER BY instance")
    assert [row["state"] for row in states] == ["done", "done"]
    assert sql(database, "SELECT sum(count)::int AS n FROM doorman_daily") == [{"n": 2}]


class Wire:
    """A TCP path to the server that can be cut."""

    def __init__(self, target: str) -> None:
        self._target = target
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()
        self.port = 0

    async def join(self) -> None:
        self._server = await asyncio.start_server(self._pass, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def cut(self) -> None:
        assert self._server is not None
        self._server.close()
        for writer in self._open:
            writer.transport.abort()
        self._open.clear()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far = await asyncio.open_unix_connection(self._target)
        self._open |= {writer, far}

        async def copy(a: asyncio.StreamReader, b: asyncio.StreamWriter) -> None:
            with contextlib.suppress(OSError):
                while data := await a.read(65536):
                    b.write(data)
                    await b.drain()
            b.close()

        await asyncio.gather(copy(reader, far), copy(far_reader, writer))


@pytest.fixture
def loop() -> Iterator[Loop]:
    loop = Loop()
    yield loop
    loop.close()


def test_a_server_that_goes_away_and_comes_back(
    database: str, loop: Loop, gateway: StartGateway, upstream: ScriptedUpstream
) -> None:
    folder = "/var/run/postgresql"
    if f"host={folder}" not in database:
        pytest.skip("the server is not on the local socket")
    wire = Wire(f"{folder}/.s.PGSQL.5432")
    loop.run(wire.join())
    name = database.partition("?")[0].rpartition("/")[2]
    user = sql(database, "SELECT current_user AS name")[0]["name"]
    url = f"postgresql://{user}@127.0.0.1:{wire.port}/{name}?ssl=disable"
    try:
        door = gateway(RULES, settings(url, ", wait_seconds: 2"))
    except Exception:
        pytest.skip("the server wants a password from loopback addresses")
    assert ask(door.url).status_code == 200
    upstream.seen.clear()
    loop.run(wire.cut())
    for text in (ASK, "attack"):
        reply = ask(door.url, text)
        assert (reply.status_code, reply.json()["error"]["code"]) == (503, "ledger_unavailable")
    assert upstream.seen == []
    loop.run(wire.join())
    until(lambda: ask(door.url).status_code == 200, seconds=30)
    refused = "SELECT count(*)::int AS n FROM doorman_decisions WHERE ended = 'ledger_unavailable'"
    until(lambda: sql(database, refused)[0]["n"] >= 2, seconds=30)


def test_a_server_that_is_not_there_is_named_without_its_password() -> None:
    place = Place.of("postgresql://me:hush-hush@127.0.0.1:1/doorman?sslmode=disable")
    with pytest.raises(ConfigError) as caught:
        migrate(place)
    assert "postgresql on 127.0.0.1, database doorman cannot be opened" in str(caught.value)
    assert "hush" not in str(caught.value) + repr(caught.value.__cause__)
