"""Whatever becomes of a batch, everyone who waits for it is answered."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import pytest

from classifiers import worker as workers
from classifiers.worker import EngineClosed, Worker


@pytest.mark.parametrize("results", [[], ["a"], ["a", "b", "c"], None])
def test_a_wrong_number_of_results_is_a_fault_that_all_are_told(results: Any) -> None:
    gate = threading.Event()

    def work(jobs: Sequence[str]) -> Any:
        assert gate.wait(30)
        return list(jobs) if "fine" in jobs else results

    worker: Worker[str, str] = Worker("counts", work, max_waiting=100, max_batch=2)
    futures = worker.submit(["one", "two"])
    gate.set()
    for future in futures:
        with pytest.raises(EngineClosed, match="worker died of"):
            future.result(10)
    assert worker.submit(["fine"])[0].result(10) == "fine"
    worker.close()


def test_who_waits_for_a_stuck_batch_is_told_of_the_close(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "CLOSE_SECONDS", 0.05)
    entered, gate = threading.Event(), threading.Event()

    def work(jobs: Sequence[str]) -> Sequence[str]:
        entered.set()
        assert gate.wait(30)
        return jobs

    worker: Worker[str, str] = Worker("stuck", work, max_waiting=100, max_batch=1)
    [in_hand, waiting] = worker.submit(["in hand", "waiting"])
    assert entered.wait(10)
    worker.close()
    for future in (in_hand, waiting):
        with pytest.raises(EngineClosed, match="was closed"):
            future.result(10)
    gate.set()  # its results come too late, and do no harm


def test_a_thread_that_cannot_be_started_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    worker: Worker[str, str] = Worker("late", lambda jobs: jobs, max_waiting=10, max_batch=2)
    with monkeypatch.context() as patch:

        def fails(_: threading.Thread) -> None:
            raise RuntimeError("can't start new thread")

        patch.setattr(threading.Thread, "start", fails)
        with pytest.raises(RuntimeError):
            worker.submit(["one"])
    assert worker.submit(["two"])[0].result(30) == "two"
    worker.close()


def test_several_threads_share_what_waits() -> None:
    both, gate = threading.Barrier(3), threading.Event()
    sizes: list[int] = []

    def work(jobs: Sequence[str]) -> Sequence[str]:
        if "first" in jobs:
            both.wait(30)
            assert gate.wait(30)
        sizes.append(len(jobs))
        return jobs

    worker: Worker[str, str] = Worker("pair", work, max_waiting=100, max_batch=32, threads=2)
    first = worker.submit(["first", "first"])
    both.wait(30)
    waiting = worker.submit([str(number) for number in range(10)])
    gate.set()
    assert [future.result(10) for future in [*first, *waiting]] == ["first"] * 2 + [
        str(number) for number in range(10)
    ]
    assert max(sizes[2:]) <= 5
    worker.close()


def test_the_death_of_one_thread_leaves_what_waits_to_the_other() -> None:
    both, gate = threading.Barrier(3), threading.Event()

    def work(jobs: Sequence[str]) -> Sequence[str]:
        if jobs[0] in ("dies", "lives"):
            both.wait(30)
        if jobs[0] == "dies":
            raise SystemExit
        assert gate.wait(30)
        return jobs

    worker: Worker[str, str] = Worker("pair", work, max_waiting=100, max_batch=1, threads=2)
    dies, lives = worker.submit(["dies", "lives"])
    both.wait(30)
    waiting = worker.submit(["waits"])[0]
    with pytest.raises(EngineClosed, match="SystemExit"):
        dies.result(10)
    gate.set()
    assert lives.result(10) == "lives"
    assert waiting.result(10) == "waits"
    worker.close()
