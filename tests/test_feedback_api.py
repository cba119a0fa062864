"""``POST /v1/feedback``: whose decision, which label, which text, and what becomes of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("sklearn", reason="scikit-learn is not installed (extra `train`)")

from feedback_kit import NEW, ask, correct, home_of, retrain, say, served, trained
from gateway_kit import Door, ScriptedUpstream
from ledger_kit import query, samples

ADMIN, APP, OTHER = "dm-admin-0123456789", "dm-app-0123456789", "dm-other-0123456789"
KEYS = f"""
keys:
  - {{name: boss, key: {ADMIN}, admin: true}}
  - {{name: app, key: {APP}}}
  - {{name: other, key: {OTHER}}}
"""
SECRET = "unusual words that nobody logs"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    trained_at = trained(tmp_path_factory.mktemp("trained"))
    return home_of(tmp_path_factory.mktemp("home"), trained_at)


@pytest.fixture(scope="module")
def door(home: Path, _upstream: ScriptedUpstream) -> Iterator[Door]:
    with served(home, _upstream, KEYS) as found:
        yield found


def rows(home: Path) -> list[dict[str, Any]]:
    return query(home, "SELECT * FROM doorman_feedback ORDER BY id")


def wrong(id: str, **more: Any) -> dict[str, Any]:
    return {"decision_id": id, "verdict": "wrong", "classifier": "hobby", **more}


def test_a_clients_word_is_a_report_until_an_admin_says_it_too(door: Door, home: Path) -> None:
    id, _ = ask(door, NEW[0], api_key=APP)
    first = say(door, wrong(id, label="kitchen", text=NEW[0], comment="why?"), APP)
    assert (first.status_code, first.json()["state"]) == (200, "reported")
    again = say(door, wrong(id, label="kitchen", text=NEW[0], comment="why?"), APP)
    assert again.json() == first.json()
    other = say(door, wrong(id, label="travel", text=NEW[0]), APP)
    assert (other.json()["id"], other.json()["label"]) == (first.json()["id"], ["travel"])
    assert other.json().keys().isdisjoint({"text", "comment"})

    boss = say(door, wrong(id, label="garden", text=NEW[0]), ADMIN)
    assert boss.json()["state"] == "accepted"
    mine = [row for row in rows(home) if row["decision_id"] == id]
    assert [(r["reporter"], r["state"], r["judge"]) for r in mine] == [
        ("app", "reported", None),
        ("boss", "accepted", "boss"),
    ]
    table = door.app.state.gateway.feedback.table
    assert [c.labels for c in door.loop.run(table.corrections("hobby"))] == [("garden",)]
    counted = samples(door.app.state.gateway.metrics.text().decode(), "doorman_feedback_total")
    assert sum(counted.values()) == 2


def test_decisions_of_others_do_not_exist(door: Door) -> None:
    id, _ = ask(door, NEW[1], api_key=APP)
    denied = say(door, wrong(id), OTHER)
    unknown = say(door, wrong("dec_" + "0" * 24), OTHER)
    assert denied.status_code == unknown.status_code == 404
    assert denied.json() == unknown.json()
    assert say(door, wrong(id), ADMIN).status_code == 200
    assert say(door, wrong(id), "no-such-key").status_code == 401


def test_the_text_must_be_that_of_the_request(door: Door, home: Path) -> None:
    id, _ = ask(door, NEW[2], api_key=APP)
    for key in (APP, ADMIN):
        refused = say(door, wrong(id, label="kitchen", text=SECRET), key)
        assert refused.json()["error"]["code"] == "text_mismatch"
        assert SECRET not in refused.text
    # Without the text it is no correction yet: what was recorded is a hash.
    assert say(door, wrong(id, label="kitchen"), ADMIN).json()["state"] == "reported"
    assert not [row for row in rows(home) if row["text"] == SECRET]


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"decision_id": "x"}, "decision_id"),
        ({"verdict": "maybe"}, "verdict"),
        ({"verdict": "correct", "label": "kitchen"}, "label"),
        ({"label": "bicycle"}, "label"),
        ({"label": ["kitchen", "garden"]}, "label"),
        ({"label": None}, "label"),
        ({"label": 7}, "label"),
        ({"classifier": "nobody", "label": "kitchen"}, "classifier"),
        ({"classifier": 3}, "classifier"),
        ({"text": ""}, "text"),
        ({"text": "a" * 50_000}, "text"),
        ({"comment": "a" * 2001}, "comment"),
        ({"surprise": 1}, None),
    ],
)
def test_mistakes_are_told(door: Door, body: dict[str, Any], param: str | None) -> None:
    id, _ = ask(door, NEW[3], api_key=APP)
    answer = say(door, wrong(id) | body, APP)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == param


def test_the_classifier_may_be_left_out_where_the_label_says_it(door: Door) -> None:
    id, _ = ask(door, NEW[4], api_key=ADMIN_MODELS)
    body = {"decision_id": id, "verdict": "wrong", "label": "travel", "text": NEW[4]}
    assert say(door, body, ADMIN).json()["classifier"] == "hobby"


ADMIN_MODELS = APP
"""Admin keys call no models."""


def test_correct_asks_for_nothing(door: Door, home: Path) -> None:
    id, _ = ask(door, NEW[5], api_key=APP)
    answer = say(door, {"decision_id": id, "verdict": "correct", "text": NEW[5]}, APP)
    assert (answer.json()["state"], answer.json()["label"]) == ("noted", None)
    assert [row["text"] for row in rows(home) if row["decision_id"] == id] == [None]


def test_without_recorded_content_a_client_cannot_send_a_text(
    home: Path, upstream: ScriptedUpstream
) -> None:
    with served(home, upstream, KEYS + "record: {content: none}\n") as door:
        id, _ = ask(door, NEW[6], api_key=APP)
        refused = say(door, wrong(id, label="kitchen", text=NEW[6]), APP)
        assert refused.status_code == 400
        assert "record.content" in refused.json()["error"]["message"]
        assert say(door, wrong(id, label="kitchen", text=NEW[6]), ADMIN).status_code == 200


def test_what_was_recorded_in_full_need_not_be_sent(home: Path, upstream: ScriptedUpstream) -> None:
    with served(home, upstream, KEYS + "record: {content: full}\n") as door:
        id, _ = ask(door, NEW[7], api_key=APP)
        say(door, wrong(id, label="kitchen"), APP)
        assert [r["text"] for r in rows(home) if r["decision_id"] == id] == [None]
        say(door, wrong(id, label="kitchen"), ADMIN)
        assert [r["text"] for r in rows(home) if r["decision_id"] == id] == [None, NEW[7]]


def test_without_a_database_there_is_no_feedback(home: Path, upstream: ScriptedUpstream) -> None:
    with served(home, upstream, "ledger: {url: none}") as door:
        answer = say(door, wrong("dec_" + "0" * 24))
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "no_ledger")


def test_without_keys_whoever_asks_runs_the_gateway(home: Path, upstream: ScriptedUpstream) -> None:
    with served(home, upstream) as door:
        assert correct(door, NEW[8], "garden")["state"] == "accepted"


def test_nothing_of_a_text_is_logged(
    door: Door, home: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    id, _ = ask(door, SECRET, api_key=APP)
    say(door, wrong(id, label="kitchen", text=SECRET), ADMIN)
    retrain(door)
    assert SECRET not in caplog.text
    assert SECRET not in door.app.state.gateway.metrics.text().decode()
    for file in (home / "doorman-data").rglob("*.json"):
        assert SECRET not in file.read_text("utf-8")
