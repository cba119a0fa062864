"""From a wrong decision to a corrected pack that is served, and back."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import pytest

pytest.importorskip("sklearn", reason="scikit-learn is not installed (extra `train`)")

from feedback_kit import (
    NEW,
    RULES,
    ask,
    candidate,
    correct,
    home_of,
    promote,
    retrain,
    served,
    trained,
    with_candidate,
)
from gateway_kit import Door, ScriptedUpstream
from ledger_kit import query, until
from train_kit import TINY

from classifiers.candidates import Pointer, Shelf
from classifiers.packs import hash_of_pack, read_pack
from classifiers.training.candidate import Order
from proxy.errors import NotFound, NotPromoted, Unavailable
from proxy.feedback import trainer
from proxy.feedback.give import judge
from proxy.ledgers.database import Away


@pytest.fixture(scope="module")
def pack(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return with_candidate(trained(tmp_path_factory.mktemp("trained")))


@pytest.fixture
def home(pack: Path, tmp_path: Path) -> Path:
    return home_of(tmp_path, pack)


@pytest.fixture
def door(home: Path, upstream: ScriptedUpstream) -> Iterator[Door]:
    with served(home, upstream) as found:
        yield found


def test_a_wrong_decision_is_corrected_promoted_and_undone(door: Door, home: Path) -> None:
    loop = door.app.state.gateway.feedback
    assert ask(door, NEW[0])[1] == "forward"
    said = correct(door, NEW[0], "kitchen")
    assert (said["state"], said["label"]) == ("accepted", ["kitchen"])

    job = retrain(door)
    assert job.faults == ()
    [made] = loop.shelf.candidates("hobby")
    lines = {line.name: line for line in made.table}
    assert (lines["corrections"].live, lines["corrections"].after) == (0, 1)
    assert not any(line.worse for line in made.table)
    assert ask(door, NEW[0])[1] == "forward"  # nothing has changed yet

    trial = door.loop.run(loop.try_beside("hobby", made.short, "ann"))
    assert ask(door, NEW[0])[1] == "forward"
    assert ask(door, "roses and the lawn")[1] == "forward"
    until(lambda: trial.requests == 2)
    assert trial.same == 1
    assert trial.changes == {("forward", "block by no-kitchen"): 1}

    promote(door, made.short)
    assert loop.served.trials == {}
    decision, action = ask(door, NEW[0])
    assert action == "block"
    [row] = query(home, "SELECT * FROM doorman_decisions WHERE decision_id = ?", decision)
    assert row["classifier"] == f"hobby@{made.short}"

    door.loop.run(loop.undo("hobby", "ann"))
    assert ask(door, NEW[0])[1] == "forward"
    actions = [row["action"] for row in query(home, "SELECT action, actor FROM doorman_audit")]
    assert actions == ["accept", "retrain", "try beside", "promote", "undo"]


def test_what_was_promoted_is_served_after_a_restart_and_so_is_the_undo(
    home: Path, upstream: ScriptedUpstream
) -> None:
    with served(home, upstream) as door:
        short = candidate(door)
        promote(door, short)
    with served(home, upstream) as door:
        assert ask(door, NEW[0])[1] == "block"
        loop = door.app.state.gateway.feedback
        door.loop.run(loop.undo("hobby", "ann"))
    with served(home, upstream) as door:
        assert ask(door, NEW[0])[1] == "forward"


def test_two_rounds_of_corrections_both_hold_and_one_can_be_taken_back(door: Door) -> None:
    gateway = door.app.state.gateway
    first = candidate(door)
    promote(door, first)
    said = correct(door, NEW[1], "kitchen")
    second = retrain(door)
    promote(door, second.hash)
    assert [ask(door, text)[1] for text in NEW[:2]] == ["block", "block"]
    [latest, *_] = gateway.feedback.shelf.candidates("hobby")
    lines = {line.name: line for line in latest.table}
    assert (lines["corrections"].base, lines["corrections"].live) == (0, 1)
    assert lines["corrections"].after == 2

    # The first candidate lacks what the second has taught: it cannot come back but by undo.
    with pytest.raises(NotPromoted, match="lacks corrections"):
        promote(door, first)
    taken_back = door.loop.run(judge(gateway, said["id"], "ann", None))
    assert (taken_back.state, taken_back.text) == ("rejected", None)
    third = retrain(door)
    assert third.hash == first
    promote(door, third.hash)
    assert ask(door, NEW[0])[1] == "block"


def test_nothing_is_promoted_that_fails_a_test(home: Path, upstream: ScriptedUpstream) -> None:
    held = RULES + f"  - {{user: '{NEW[0]}', expect: forward}}\n"
    with served(home, upstream, rules=held) as door:
        loop = door.app.state.gateway.feedback
        correct(door, NEW[0], "kitchen")
        job = retrain(door)
        assert any("expected forward, got block by no-kitchen" in fault for fault in job.faults)
        with pytest.raises(NotPromoted, match="expected forward"):
            promote(door, job.hash)
        assert loop.shelf.pointer("hobby").live is None
        assert ask(door, NEW[0])[1] == "forward"


def test_nothing_is_promoted_that_leaves_a_correction_wrong(
    home: Path, upstream: ScriptedUpstream
) -> None:
    strict = RULES.replace("{hobby: kitchen}", "{hobby: kitchen, at: 0.9999999}")
    with served(home, upstream, rules=strict) as door:
        short = candidate(door)
        with pytest.raises(NotPromoted, match="correction 1: test@1: expected block") as caught:
            promote(door, short)
        assert NEW[0] not in str(caught.value)


def test_a_pack_that_was_changed_on_disk_is_refused(door: Door) -> None:
    loop = door.app.state.gateway.feedback
    short = candidate(door)
    head = loop.shelf.place("hobby", short) / "head.safetensors"
    head.write_bytes(head.read_bytes()[:-1] + b"x")
    with pytest.raises(NotPromoted, match="changed since the pack was made"):
        promote(door, short)
    assert ask(door, NEW[0])[1] == "forward"


def test_another_process_is_followed(door: Door) -> None:
    loop = door.app.state.gateway.feedback
    short = candidate(door)
    base = hash_of_pack(loop.served.base("hobby"))
    loop.shelf.point("hobby", Pointer(short, (None,), base, "elsewhere", 0.0))
    until(lambda: ask(door, NEW[0])[1] == "block")
    loop.shelf.point("hobby", Pointer())
    until(lambda: ask(door, NEW[0])[1] == "forward")


def test_a_trainer_that_dies_leaves_all_as_it_was(
    door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway = door.app.state.gateway
    candidate(door)
    # Killed as soon as it has begun, whatever it was doing then.
    monkeypatch.setattr(trainer, "MODULE", "tests_no_such_module")
    door.loop.run(gateway.feedback.retrain("hobby", "ann"))
    job = door.loop.run(gateway.feedback.finished())
    assert job.fault.startswith("the trainer ended with status 1")
    assert len(gateway.feedback.shelf.candidates("hobby")) == 1
    assert ask(door, NEW[0])[1] == "forward"


def test_a_trial_ends_without_a_trace(door: Door) -> None:
    loop = door.app.state.gateway.feedback
    short = candidate(door)
    for _ in range(2):
        door.loop.run(loop.try_beside("hobby", short, "ann"))
        assert door.app.state.gateway.engine.roster.beside.keys() == {"hobby"}
        door.loop.run(loop.stop_trial("hobby", "ann"))
        assert door.app.state.gateway.engine.roster.beside == {}
    assert loop.served.trials == {}
    assert ask(door, NEW[0])[1] == "forward"


def test_a_trial_follows_policies_that_are_reloaded(door: Door) -> None:
    gateway = door.app.state.gateway
    short = candidate(door)
    trial = door.loop.run(gateway.feedback.try_beside("hobby", short, "ann"))
    assert door.loop.run(gateway.policies.reload())
    until(lambda: trial.is_bound_to(gateway.policies.current))
    ask(door, NEW[0])
    until(lambda: trial.changes)
    assert trial.left_out == 0


def test_what_loses_too_much_is_promoted_by_a_word_more(door: Door) -> None:
    loop = door.app.state.gateway.feedback
    short = candidate(door)
    path = loop.shelf.place("hobby", short).with_suffix(".json")
    said = json.loads(path.read_text("utf-8"))
    said["table"][1]["after"] = said["table"][1]["live"] - said["table"][1]["may_lose"] - 1
    path.write_text(json.dumps(said), "utf-8")
    with pytest.raises(NotPromoted, match="loses more than it may: must hold: 4 of 4 -> 3"):
        promote(door, short)
    door.loop.run(loop.promote("hobby", short, "ann", losing=True))
    assert ask(door, NEW[0])[1] == "block"


@pytest.mark.parametrize("lines", [1, 2, 3])
def test_a_trainer_that_is_killed_leaves_a_whole_candidate_or_none(home: Path, lines: int) -> None:
    """SIGKILL right after each step that it tells of."""
    row = {"id": 7, "text": NEW[2], "label": ["travel"]}
    shelf = Shelf(home / "doorman-data" / "packs")
    order = Order(
        str(home / "pack"), None, str(TINY), [row], str(shelf.folder / "hobby"), str(home / "cache")
    )
    with subprocess.Popen(
        [sys.executable, "-m", trainer.MODULE], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdin.write(json.dumps(asdict(order)).encode())
        child.stdin.close()
        for _ in range(lines):
            child.stdout.readline()
        child.kill()
    for one in shelf.candidates("hobby"):
        assert read_pack(shelf.place("hobby", one.short), kind="head")["hash"] == one.hash
    left = list((shelf.folder / "hobby").glob(".*"))
    shelf.sweep("hobby", 600)
    assert all(path.exists() for path in left)  # somebody may be at it
    shelf.sweep("hobby", -600)
    assert not any(path.exists() for path in left)


def test_a_pointer_that_cannot_be_written_changes_nothing(
    door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = door.app.state.gateway.feedback
    short = candidate(door)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("classifiers.candidates.os.replace", full)
    with pytest.raises(NotPromoted, match="No space left"):
        promote(door, short)
    monkeypatch.undo()
    assert loop.shelf.pointer("hobby").live is None
    assert ask(door, NEW[0])[1] == "forward"
    assert sorted(path.name for path in (loop.shelf.folder / "hobby").iterdir()) == [
        short,
        f"{short}.json",
    ]
    promote(door, short)
    assert ask(door, NEW[0])[1] == "block"


def test_a_candidate_counts_only_once_it_is_whole(door: Door) -> None:
    loop = door.app.state.gateway.feedback
    short = candidate(door)
    said = loop.shelf.place("hobby", short).with_suffix(".json")
    whole = said.read_text("utf-8")
    said.write_text(whole[: len(whole) // 2], "utf-8")
    assert loop.shelf.candidates("hobby") == []
    with pytest.raises(NotFound):
        promote(door, short)
    said.write_text(whole, "utf-8")
    promote(door, short)


def test_the_database_must_be_there_to_promote(door: Door, home: Path) -> None:
    loop = door.app.state.gateway.feedback
    short = candidate(door)
    database = home / "data" / "doorman.db"
    database.rename(home / "data" / "away.db")
    with pytest.raises((Unavailable, Away)):
        promote(door, short)
    (home / "data" / "away.db").rename(database)
    assert loop.shelf.pointer("hobby").live is None


def test_the_gateway_never_loads_the_trainer() -> None:
    """The serving process makes candidates without importing what makes them."""
    code = (
        "import sys, proxy.app, proxy.feedback.loop, proxy.dashboard.pages\n"
        "print([m for m in ('sklearn', 'torch', 'transformers', 'classifiers.training.update') "
        "if m in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
