"""Retraining needs the extra `correct` alone, and says so before the click where it is missing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import httpx
import pytest

pytest.importorskip("sklearn", reason="scikit-learn is not installed (extra `train`)")

from dashboard_kit import KEYS, login
from feedback_kit import NEW, candidate, home_of, retrain, served, trained, with_candidate
from gateway_kit import Door, ScriptedUpstream
from train_kit import TINY

from classifiers.candidates import CORRECT, Line
from classifiers.training.candidate import Order
from proxy.dashboard import retrain as page_of
from proxy.feedback import trainer

PROJECT = Path(__file__).parent.parent / "pyproject.toml"
OTHERS = ("torch", "transformers", "onnx", "matplotlib", "pyarrow")


@pytest.fixture(scope="module")
def pack(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return with_candidate(trained(tmp_path_factory.mktemp("trained")))


@pytest.fixture
def home(pack: Path, tmp_path: Path) -> Path:
    return home_of(tmp_path, pack)


@pytest.fixture
def door(home: Path, upstream: ScriptedUpstream) -> Iterator[Door]:
    rules = """
rules:
  - {name: no-kitchen, when: {hobby: kitchen, max_false_positive_rate: 20%}, do: {block: "No."}}
"""
    with served(home, upstream, rules=rules) as found:
        yield found


def make(home: Path, absent: tuple[str, ...]) -> dict[str, Any]:
    """What the trainer's process says in the end, where some packages are not there."""
    for name in absent:
        fault = f"raise ModuleNotFoundError('no {name}', name={name!r})\n"
        (home / "absent" / name).mkdir(parents=True)
        (home / "absent" / name / "__init__.py").write_text(fault)
    row = {"id": 7, "text": NEW[2], "label": ["travel"]}
    order = Order(
        str(home / "pack"), None, str(TINY), [row], str(home / "shelf"), str(home / "cache")
    )
    ran = subprocess.run(
        [sys.executable, "-m", trainer.MODULE],
        input=json.dumps(asdict(order)),
        env={**os.environ, "PYTHONPATH": str(home / "absent")},
        capture_output=True,
        text=True,
        check=False,
    )
    told: dict[str, Any] = json.loads(ran.stdout.splitlines()[-1])
    return told


def test_the_extra_is_enough(home: Path) -> None:
    assert make(home, OTHERS)["candidate"]["corrections"] == [7]
    extras = tomllib.loads(PROJECT.read_text("utf-8"))["project"]["optional-dependencies"]
    assert [need.partition(">")[0] for need in extras["correct"]] == list(trainer.NEEDS.values())
    assert set(extras["correct"]) <= set(extras["train"])


@pytest.mark.parametrize("absent", list(trainer.NEEDS))
def test_a_missing_package_is_named_with_what_installs_it(home: Path, absent: str) -> None:
    assert make(home, (absent,)) == {"fault": f"{absent} is not installed; run: {CORRECT}"}


def test_the_page_says_so_before_the_click(
    home: Path, upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    with served(home, upstream, KEYS) as door:
        visitor = login(door)
        assert trainer.missing() == []
        assert "this installation lacks" not in visitor.get("/retrain/hobby").text
        monkeypatch.setattr(page_of, "missing", lambda: ["scikit-learn"])
        page = visitor.get("/retrain/hobby").text
        assert "Retraining needs scikit-learn, which this installation lacks." in page
        assert "doorman[correct]" in page
        assert 'id="start" disabled' in page


def shown(door: Door, path: str) -> str:
    """A page of a gateway without keys."""
    return httpx.get(f"{door.url}/dashboard{path}", timeout=30).text


def test_the_page_of_a_candidate(door: Door) -> None:
    short = candidate(door)
    loop = door.app.state.gateway.feedback
    page = shown(door, "/retrain/hobby")
    [cut] = loop.served.cuts("hobby", short)
    assert (cut.policy, cut.rule, cut.label) == ("test@1", "no-kitchen", "kitchen")
    # That of the rule, not the pack's own.
    own = loop.shelf.candidate("hobby", short).thresholds["kitchen"]
    assert cut.before != own[0]
    bound = door.app.state.gateway.policies.current[0].rules[0].condition
    assert cut.before == dict(next(bound.leaves())[0].thresholds)["kitchen"]
    door.loop.run(loop.promote("hobby", short, "ann", losing=True))
    bound = door.app.state.gateway.policies.current[0].rules[0].condition
    assert cut.after == dict(next(bound.leaves())[0].thresholds)["kitchen"]
    assert f"{cut.before:.3f}</td>" in page
    for told in (
        "<h3>Thresholds of the policies in force</h3>",
        "May be lost",
        "begin a new history of scores",
        "fitted in",
    ):
        assert told in page, told
    assert 'href="/dashboard/classifiers" aria-current="page"' in page


def test_how_much_is_lost_is_said(door: Door) -> None:
    short = candidate(door)
    loop = door.app.state.gateway.feedback
    path = loop.shelf.place("hobby", short).with_suffix(".json")
    said = json.loads(path.read_text("utf-8"))
    said["table"] = [
        asdict(Line("remembered: a", 430, 430, 430, 427, 3)),
        asdict(Line("remembered: b", 430, 430, 430, 426, 3)),
    ]
    path.write_text(json.dumps(said), "utf-8")
    page = shown(door, "/retrain/hobby")
    assert "<td>3 lost, within what may be</td>" in page
    assert "<td>4 lost, more than may be</td>" in page


def test_a_candidate_that_is_made_is_told_once(door: Door) -> None:
    candidate(door)
    job = retrain(door)
    page = shown(door, "/retrain/hobby?done=started")
    assert "A candidate is being made." not in page
    assert f"Candidate {job.hash} was made in" in page
    door.loop.run(door.app.state.gateway.feedback.try_beside("hobby", job.hash, "ann"))
    page = shown(door, "/retrain/hobby")
    assert "Beside since" not in page
    assert "Begun" in page
