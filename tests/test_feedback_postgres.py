"""The same loop with PostgreSQL, where several gateways share what people say."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("sklearn", reason="scikit-learn is not installed (extra `train`)")
pytest.importorskip("asyncpg", reason="asyncpg is not installed (extra `postgres`)")

from feedback_kit import NEW, ask, candidate, home_of, promote, say, served, trained, with_candidate
from gateway_kit import Door, ScriptedUpstream
from postgres_kit import sql


@pytest.fixture
def door(
    database: str,
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
    upstream: ScriptedUpstream,
) -> Iterator[Door]:
    home = home_of(tmp_path, with_candidate(trained(tmp_path_factory.mktemp("trained"))))
    with served(home, upstream, f'ledger: {{url: "{database}"}}') as found:
        yield found


def test_the_loop_on_postgresql(door: Door, database: str) -> None:
    loop = door.app.state.gateway.feedback
    short = candidate(door)
    id, _ = ask(door, NEW[1])
    for _ in range(2):
        assert say(door, {"decision_id": id, "verdict": "correct"}).json()["state"] == "noted"
    promote(door, short)
    assert ask(door, NEW[0])[1] == "block"
    door.loop.run(loop.undo("hobby", "ann"))
    assert ask(door, NEW[0])[1] == "forward"
    rows = sql(database, "SELECT verdict, state, labels FROM doorman_feedback ORDER BY id")
    assert [tuple(row.values()) for row in rows] == [
        ("wrong", "accepted", '["kitchen"]'),
        ("correct", "noted", None),
    ]
    audit = sql(database, "SELECT action FROM doorman_audit ORDER BY id")
    assert [row["action"] for row in audit] == ["accept", "promote", "undo"]
    assert door.loop.run(loop.table.counts()) == {("hobby", "accepted"): 1, ("", "noted"): 1}
