"""Classifiers that crash, hang or talk nonsense, through the gateway: never taken for a pass."""

from __future__ import annotations

import asyncio
import math
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from gateway_kit import (
    Door,
    ScriptedUpstream,
    StartGateway,
    WordClassifier,
    word_classifiers,
    words,
)

from classifiers.types import Batch, Prediction
from proxy.config import ClassifiersConfig, ConfigError
from proxy.loading import load_classifiers

RULES = 'rules: [{name: guard, when: {guard: attack}, do: {block: "No."}}]'


@dataclass(frozen=True)
class Faulty(WordClassifier):
    """Misbehaves on texts with the word ``odd``."""

    way: str = ""
    gate: threading.Event = field(default_factory=threading.Event)

    def predict(self, batch: Batch) -> Any:
        found = super().predict(batch)
        if not any("odd" in text for text in batch.texts):
            return found
        return WAYS[self.way](self, found)


def crash(_: Faulty, found: Any) -> Any:
    raise RuntimeError("odd: the user's own words")


def panic(_: Faulty, found: Any) -> Any:
    raise SystemExit("odd: the user's own words")  # no Exception, as Rust's panics are none


def hang(classifier: Faulty, found: Any) -> Any:
    assert classifier.gate.wait(60)
    return found


WAYS = {
    "crashes": crash,
    "panics": panic,
    "hangs": hang,
    "NaN": lambda _, found: [(Prediction("guard", "attack", math.nan),) for _ in found],
    "nothing": lambda _, found: None,
    "too few": lambda _, found: found[1:],
    "too many": lambda _, found: found + found,
    "empty": lambda _, found: [() for _ in found],
    "other labels": lambda _, found: [(Prediction("guard", "kind", 0.0),) for _ in found],
}


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    gate = threading.Event()
    yield gate
    gate.set()


def faulty(way: str, gate: threading.Event) -> list[WordClassifier]:
    guard = Faulty("guard", {"attack": r"\battack\b", "secret": r"\bsecret\b"}, way=way, gate=gate)
    return [guard, *(c for c in word_classifiers() if c.name != "guard")]


def ask(door: Door, text: str, **more: Any) -> httpx.Response:
    body = {"model": "default", "messages": [{"role": "user", "content": text}], **more}
    return httpx.post(f"{door.url}/v1/chat/completions", json=body, timeout=30)


@pytest.mark.parametrize("on_error", ["block", "allow"])
@pytest.mark.parametrize("way", WAYS)
def test_on_error_says_what_happens_and_the_record_says_who(
    gateway: StartGateway,
    upstream: ScriptedUpstream,
    gate: threading.Event,
    way: str,
    on_error: str,
) -> None:
    door = gateway(
        f"on_error: {on_error}\n{RULES}",
        "limits: {classify_seconds: 2}",
        classifiers=faulty(way, gate),
    )
    answer = ask(door, "something odd")
    record = door.records.next()
    [error] = record.stages["input"]["errors"]
    assert (error["classifier"], error["rule"], error["outcome"]) == ("guard", "guard", on_error)
    assert "guard" in error["reason"]
    assert "own words" not in str(record) + answer.text
    if on_error == "block":
        code = "classify_timeout" if way == "hangs" else "policy_unavailable"
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, code)
        assert (record.action, record.upstream_called) == ("error", False)
        assert upstream.seen == []
    else:
        assert answer.status_code == 200
        assert len(upstream.seen) == 1
    # And it goes on.
    assert ask(door, "an attack").json()["choices"][0]["finish_reason"] == "content_filter"
    assert ask(door, "all is well").json()["choices"][0]["message"]["content"] == "ok"


@pytest.mark.parametrize("way", ["crashes", "panics", "hangs"])
async def test_fifty_who_wait_are_all_answered(
    gateway: StartGateway, gate: threading.Event, way: str
) -> None:
    door = gateway(RULES, "limits: {classify_seconds: 4}", classifiers=faulty(way, gate))

    async with httpx.AsyncClient(timeout=60, limits=httpx.Limits(max_connections=60)) as client:

        async def one(number: int) -> int:
            text = f"{'odd' if number % 10 == 0 else 'fine'} {number}"
            body = {"model": "default", "messages": [{"role": "user", "content": text}]}
            answer = await client.post(f"{door.url}/v1/chat/completions", json=body)
            return answer.status_code

        statuses = await asyncio.gather(*map(one, range(50)))
        assert set(statuses) <= {200, 503}
        assert all(statuses[number] == 503 for number in range(0, 50, 10))
        if way != "hangs":  # else those of its batch had no verdict either
            assert statuses.count(503) == 5
        assert await one(51) == 200


def test_threads_that_hang_are_bounded_and_come_back(
    gateway: StartGateway, gate: threading.Event
) -> None:
    others = set(threading.enumerate())
    more = "limits: {classify_seconds: 0.5}\nclassifiers: {threads: 1}"
    door = gateway(RULES, more, classifiers=faulty("hangs", gate))
    codes = [ask(door, f"odd {number}").json()["error"]["code"] for number in range(5)]
    assert codes == ["classify_timeout"] * 4 + ["classifiers_stuck"]
    stuck = [one for one in threading.enumerate() if one.name == "classifier" and one not in others]
    assert len(stuck) == 4
    answer = ask(door, "fine")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "10")
    gate.set()
    for thread in stuck:
        thread.join(10)
    assert ask(door, "fine").status_code == 200


@pytest.mark.parametrize(
    ("way", "limits", "code"),
    [
        ("NaN", "", "policy_unavailable"),
        ("hangs", "limits: {classify_seconds: 2}", "classify_timeout"),
    ],
)
def test_a_stream_ends_where_its_guard_fails(
    gateway: StartGateway,
    upstream: ScriptedUpstream,
    gate: threading.Event,
    way: str,
    limits: str,
    code: str,
) -> None:
    upstream.script = words("Fine. " * 60, "odd ", "words " * 60)
    rules = 'rules: [{name: guard, check: output, when: {guard: attack}, do: {block: "No."}}]'
    door = gateway(rules, limits, classifiers=faulty(way, gate))
    answer = ask(door, "hi", stream=True)
    assert code in answer.text
    assert "odd" not in answer.text
    record = door.records.next()
    assert record.ended == code
    assert record.stages["output"]["errors"][0]["classifier"] == "guard"


DAMAGED: list[tuple[str, dict[str, str] | None]] = [
    ("no folder", None),
    ("no manifest", {}),
    ("no JSON", {"pack.json": "{"}),
    ("of no kind", {"pack.json": '{"kind": "soup"}'}),
]


@pytest.mark.parametrize(("name", "files"), DAMAGED, ids=[row[0] for row in DAMAGED])
def test_packs_that_cannot_be_loaded_stop_the_start(
    tmp_path: Path, name: str, files: dict[str, str] | None
) -> None:
    folder = tmp_path / "my-pack"
    if files is not None:
        folder.mkdir()
        for file, text in files.items():
            (folder / file).write_text(text)
    with pytest.raises(ConfigError, match=r"the classifiers cannot be loaded: .*my-pack"):
        load_classifiers(ClassifiersConfig(shipped=(), packs=(folder,)))
