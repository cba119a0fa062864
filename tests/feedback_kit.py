"""A gateway with a small trained pack that can be corrected, and what its tests do again and again."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import httpx
from gateway_kit import WAIT, Door, ScriptedUpstream, make_config, serve
from ledger_kit import ledger
from train_kit import BEGIN, TINY, rows_of, run, text_of

from classifiers.training.candidate import Order, make
from proxy.feedback.trainer import Job

RULES = """
rules:
  - {name: no-kitchen, when: {hobby: kitchen}, do: {block: "Not in here."}}
tests:
  - {user: "roses, tulips, compost and the lawn in the soil", expect: forward}
"""
NEW = [f"{begin} quibble" for begin in BEGIN]
"""Texts about none of what was trained; the pack finds no label in them."""


def trained(folder: Path) -> Path:
    """A folder with the pack ``pack``: one_of garden, kitchen and travel, on the tiny encoder."""
    slices = {
        "must hold": [{"text": text_of("garden", n), "label": "garden"} for n in range(900, 904)]
    }
    run(folder, rows_of(40), slices=slices)
    return folder


def with_candidate(folder: Path) -> Path:
    """The same folder, with a candidate that holds one correction, of id 1: NEW[0] is kitchen."""
    row = {"id": 1, "text": NEW[0], "label": ["kitchen"]}
    order = Order(
        str(folder / "pack"), None, str(TINY), [row], str(folder / "shelf"), str(folder / "cache")
    )
    make(order, lambda _: None)
    return folder


def home_of(folder: Path, pack: Path) -> Path:
    """A folder for a gateway, with a copy of the pack and of its candidate, if there is one."""
    shutil.copytree(pack / "pack", folder / "pack")
    if (pack / "shelf").is_dir():
        shutil.copytree(pack / "shelf", folder / "doorman-data" / "packs" / "hobby")
    return folder


def candidate(door: Door) -> str:
    """The candidate that came with the home, once its correction is there too."""
    assert correct(door, NEW[0], "kitchen")["id"] == 1
    [one] = door.app.state.gateway.feedback.shelf.candidates("hobby")
    return str(one.short)


def served(
    home: Path, upstream: ScriptedUpstream, more: str = "", rules: str = RULES
) -> AbstractContextManager[Door]:
    """The gateway of a home; serving it again is a restart."""
    settings = f"""
classifiers: {{shipped: [], packs: [pack], encoder: "{TINY}"}}
{more}
"""
    if "feedback:" not in more:
        settings += f'feedback: {{cache: "{home}/cache"}}\n'
    if "ledger:" not in more:
        settings += ledger(home) + "\n"
    config = make_config(home, upstream.port, rules, settings)
    return serve(config, classifiers=None)


def ask(door: Door, text: str, **options: Any) -> tuple[str, str]:
    """Send a text; the id of the decision, and the action."""
    client = door.client(max_retries=0, **options)
    raw = client.chat.completions.with_raw_response.create(
        model="default", messages=[{"role": "user", "content": text}]
    )
    return raw.headers["x-doorman-decision-id"], raw.headers["x-doorman-action"]


def say(door: Door, body: Mapping[str, Any], key: str = "any-key") -> httpx.Response:
    """``POST /v1/feedback``."""
    headers = {"authorization": f"Bearer {key}"}
    return httpx.post(f"{door.url}/v1/feedback", json=body, headers=headers, timeout=WAIT)


def correct(door: Door, text: str, label: Any, key: str = "any-key") -> dict[str, Any]:
    """Ask, and say that the decision was wrong."""
    id, _ = ask(door, text, api_key=key)
    given = {"decision_id": id, "verdict": "wrong", "classifier": "hobby", "label": label}
    answer = say(door, {**given, "text": text}, key)
    assert answer.status_code == 200, answer.text
    said: dict[str, Any] = answer.json()
    return said


def retrain(door: Door, name: str = "hobby", by: str = "ann") -> Job:
    """Make a candidate; returns the job when it has ended."""
    loop = door.app.state.gateway.feedback
    door.loop.run(loop.retrain(name, by))
    job: Job = door.loop.run(loop.finished())
    assert not job.fault, job.fault
    return job


def promote(door: Door, short: str, by: str = "ann") -> None:
    door.loop.run(door.app.state.gateway.feedback.promote("hobby", short, by))
