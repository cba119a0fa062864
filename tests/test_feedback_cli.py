"""``doorman feedback``: what was said, taken out, and corrected packs without the dashboard."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

pytest.importorskip("sklearn", reason="scikit-learn is not installed (extra `train`)")

from feedback_kit import (
    NEW,
    ask,
    home_of,
    say,
    served,
    trained,
    with_candidate,
)
from gateway_kit import Door, ScriptedUpstream
from ledger_kit import until
from train_kit import TINY

from proxy.cli import main

APP = "dm-app-0123456789"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pack = with_candidate(trained(tmp_path_factory.mktemp("trained")))
    return home_of(tmp_path_factory.mktemp("home"), pack)


@pytest.fixture(scope="module")
def door(home: Path, _upstream: ScriptedUpstream) -> Iterator[Door]:
    (home / "config.yaml").write_text(
        f"""
model_list: [{{model_name: default, litellm_params: {{model: openai/gpt-4o, api_key: os.environ/NO_SUCH}}}}]
policies: [policy.yaml]
ledger: {{url: "sqlite:///data/doorman.db"}}
classifiers: {{shipped: [], packs: [pack], encoder: "{TINY}"}}
feedback: {{cache: "{home}/cache"}}
"""
    )
    keys = f"[{{name: app, key: {APP}}}, {{name: boss, key: x{APP}, admin: true}}]"
    with served(home, _upstream, f"keys: {keys}") as found:
        yield found


def feedback(home: Path, capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, Any]:
    status = main(["feedback", *arguments, "-c", str(home / "config.yaml"), "--json"])
    out = capsys.readouterr().out
    return status, json.loads(out) if out.startswith(("{", "[")) else out


def test_all_of_it(door: Door, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    id, _ = ask(door, NEW[0], api_key=APP)
    body = {"decision_id": id, "verdict": "wrong", "label": "kitchen", "text": NEW[0]}
    report = say(door, {**body, "classifier": "hobby"}, APP).json()
    status, rows = feedback(home, capsys, "list", "--state", "reported")
    assert (status, [row["id"] for row in rows], "text" in rows[0]) == (0, [1], False)
    seen = f"{rows[0]['id']}@{rows[0]['stamp']}"
    # The one who has reported it says something else after it was read.
    assert say(door, {**body, "label": "garden"}, APP).json()["id"] == report["id"]
    for given in (seen, str(report["id"])):
        assert main(["feedback", "accept", given, "-c", str(home / "config.yaml")]) == 2
    told = capsys.readouterr().err
    assert f"has changed since it was {seen}" in told
    assert "is accepted by ID@STAMP" in told
    say(door, {**body, "classifier": "hobby"}, APP)
    rows = feedback(home, capsys, "list")[1]
    seen = f"{rows[0]['id']}@{rows[0]['stamp']}"
    assert feedback(home, capsys, "accept", seen)[1]["state"] == "accepted"
    assert feedback(home, capsys, "accept", "99")[0] == 1
    with pytest.raises(SystemExit, match="2"):
        main(["feedback", "accept", "1@", "-c", str(home / "config.yaml")])
    assert "'1@' is no ID@STAMP" in capsys.readouterr().err
    assert feedback(home, capsys, "list", "--texts")[1][0]["text"] == NEW[0]

    _, exported = feedback(home, capsys, "export", "hobby")
    assert exported == {"text": NEW[0], "label": ["kitchen"]}
    main(["feedback", "export", "hobby", "--as", "tests", "-c", str(home / "config.yaml")])
    tests = yaml.safe_load(capsys.readouterr().out)["tests"]
    assert tests == [{"user": NEW[0], "expect": "block", "rule": "no-kitchen"}]

    status, [one] = feedback(home, capsys, "candidates", "hobby")
    assert (one["corrections"], one["served"]) == (1, False)
    # A gateway that runs follows.
    assert feedback(home, capsys, "promote", "hobby", one["pack"]) == (
        0,
        {"classifier": "hobby", "pack": one["pack"]},
    )
    until(lambda: ask(door, NEW[0], api_key=APP)[1] == "block")
    assert feedback(home, capsys, "promote", "hobby", one["pack"])[0] == 1
    assert feedback(home, capsys, "undo", "hobby") == (0, {"classifier": "hobby", "pack": None})
    until(lambda: ask(door, NEW[0], api_key=APP)[1] == "forward")
    assert feedback(home, capsys, "undo", "hobby")[0] == 1
    assert main(["feedback", "undo", "nobody", "-c", str(home / "config.yaml")]) == 2

    status, job = feedback(home, capsys, "retrain", "hobby")
    assert (status, job["pack"], job["faults"]) == (0, one["pack"], [])
    main(["keys", "audit", "-c", str(home / "config.yaml")])
    actions = [row["action"] for row in json.loads(capsys.readouterr().out)]
    assert actions == ["retrain", "undo", "promote", "accept"]
