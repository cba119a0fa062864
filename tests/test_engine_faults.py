"""Classifiers that crash, talk nonsense or hang: nobody is left waiting, and the engine recovers."""

from __future__ import annotations

import asyncio
import math
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import replace
from typing import Any

import pytest
from test_engine import Lengths

from classifiers.engine import ClassifierEngine, EngineClosed, Stuck
from classifiers.types import Batch, Kind, Prediction, Span
from classifiers.worker import MAX_STUCK, Worker


async def test_a_dead_worker_leaves_nobody_waiting_and_comes_back() -> None:
    def work(jobs: Sequence[str]) -> list[str]:
        if "die" in jobs:
            raise SystemExit("the worker dies")
        return list(jobs)

    worker: Worker[str, str] = Worker("mortal", work, max_waiting=100, max_batch=2)
    doomed = worker.submit(["die", "b", "c", "d"])
    for future in doomed:
        with pytest.raises(EngineClosed, match="worker died of SystemExit"):
            future.result(10)
    assert worker.submit(["alive"])[0].result(10) == "alive"
    worker.close()


# -- nonsense -------------------------------------------------------------------------------------

GOOD = Prediction("odd", "a", 0.5), Prediction("odd", "b", 0.5)
FIND = Prediction("odd", "a", 1.0, Span(0, 1))
NONSENSE: list[tuple[str, Kind, object]] = [
    ("nothing", "any_of", None),
    ("an empty result", "any_of", ()),
    ("no tuple", "any_of", "ab"),
    ("a label is missing", "any_of", GOOD[:1]),
    ("no number", "any_of", (replace(GOOD[0], score=math.nan), GOOD[1])),
    ("endless", "any_of", (replace(GOOD[0], score=math.inf), GOOD[1])),
    ("no probability", "one_of", (replace(GOOD[0], score=1.5), GOOD[1])),
    ("below nothing", "one_of", (replace(GOOD[0], score=-0.5), GOOD[1])),
    ("a score in words", "any_of", (replace(GOOD[0], score="high"), GOOD[1])),  # type: ignore[arg-type]
    ("another label", "any_of", (*GOOD, Prediction("odd", "c", 0.5))),
    ("another's name", "any_of", (Prediction("other", "a", 0.5), GOOD[1])),
    ("other things", "any_of", ({"label": "a"}, {"label": "b"})),
    ("a find without a place", "spans", GOOD),
    ("a find beyond the text", "spans", (replace(FIND, span=Span(0, 99)),)),
    ("a find of no label", "spans", (replace(FIND, label="c"),)),
]


class Odd(Lengths):
    """Says what it is told to say of the text ``odd``."""

    labels = ("a", "b")  # type: ignore[assignment]

    def __init__(self, kind: Kind, said: object) -> None:
        super().__init__("odd")
        self.kind = kind  # type: ignore[assignment]
        self.said = said

    def predict(self, batch: Batch) -> Any:
        good = (FIND,) if self.kind == "spans" else GOOD
        return [self.said if text == "odd" else good for text in batch.texts]


@pytest.mark.parametrize(("name", "kind", "said"), NONSENSE, ids=[row[0] for row in NONSENSE])
async def test_nonsense_is_an_error_and_is_not_remembered(
    name: str, kind: Kind, said: object
) -> None:
    engine = ClassifierEngine([Odd(kind, said)])
    for _ in range(2):
        found, fine = await engine.classify(["odd", "fine"])
        assert found.errors == {"odd": "a result that is no verdict from classifier odd"}
        assert not found.predictions
        assert not found.cached
        assert fine.predictions
        assert not fine.errors
    engine.close()


@pytest.mark.parametrize("said", [None, [], [GOOD] * 3, {"a": 1}, 7])
async def test_a_whole_answer_that_is_none(said: object) -> None:
    class Whole(Odd):
        def predict(self, batch: Batch) -> Any:
            return self.said

    engine = ClassifierEngine([Whole("any_of", said)])
    for found in await engine.classify(["x", "y"]):
        assert found.errors == {"odd": "ClassifierError in classifier odd"}
    engine.close()


async def test_scores_of_single_precision_are_sound() -> None:
    said = (replace(GOOD[0], score=1.0000001), replace(GOOD[1], score=-1e-9))
    engine = ClassifierEngine([Odd("any_of", said)])
    assert (await engine.classify(["odd"]))[0].predictions["odd"] == said
    engine.close()


# -- threads that hang ----------------------------------------------------------------------------


class Hanging:
    """Work that hangs on the job ``hang`` until the gate opens, with a clock of its own."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.entered = threading.Semaphore(0)
        self.now = 0.0
        self.worker: Worker[str, str] = Worker(
            "hanging", self.work, max_waiting=100, max_batch=1, patience=10,
            instead=lambda jobs, _: [f"gave up {job}" for job in jobs], clock=lambda: self.now,
        )  # fmt: skip

    def work(self, jobs: Sequence[str]) -> list[str]:
        if jobs[0] == "hang":
            self.entered.release()
            assert self.gate.wait(30)
        return [f"did {job}" for job in jobs]

    def hang(self) -> Future[str]:
        future = self.worker.submit(["hang"])[0]
        assert self.entered.acquire(timeout=10)
        return future


def test_a_thread_that_hangs_is_left_behind_and_replaced() -> None:
    hanging = Hanging()
    stuck = hanging.hang()
    waiting = hanging.worker.submit(["next"])[0]
    hanging.now = 9.9
    hanging.worker.relieve()
    assert not stuck.done()
    hanging.now = 10.0
    hanging.worker.relieve()
    assert stuck.result(10) == "gave up hang"
    assert waiting.result(10) == "did next"
    assert hanging.worker.stuck == 1
    hanging.gate.set()
    assert hanging.worker.submit(["later"])[0].result(10) == "did later"
    hanging.worker.close()


def test_no_more_threads_are_left_behind_than_may_be() -> None:
    hanging = Hanging()
    for number in range(MAX_STUCK):
        stuck = hanging.hang()
        waiting = hanging.worker.submit(["next"])[0]
        hanging.now += 10
        hanging.worker.relieve()
        assert stuck.result(10) == "gave up hang"
        if number < MAX_STUCK - 1:
            assert waiting.result(10) == "did next"
    with pytest.raises(Stuck):
        waiting.result(10)
    with pytest.raises(Stuck):
        hanging.worker.submit(["refused"])
    left = list(hanging.worker._stuck)
    hanging.gate.set()
    for thread in left:
        thread.join(10)
    assert hanging.worker.submit(["again"])[0].result(10) == "did again"
    hanging.worker.close()


async def test_who_hangs_is_named() -> None:
    slow = Lengths("slow")
    engine = ClassifierEngine([Lengths("quick"), slow, Lengths("behind")], patience=0.5)
    slow.gate.clear()
    found = (await asyncio.wait_for(engine.classify(["x"]), 10))[0]
    assert not found.predictions
    assert found.errors["slow"] == "no verdict within 0.5 s from classifier slow"
    assert found.errors["behind"].endswith("from classifier behind, behind classifier slow")
    slow.gate.set()
    assert (await engine.classify(["y"]))[0].predictions.keys() == {"quick", "slow", "behind"}
    engine.close()
