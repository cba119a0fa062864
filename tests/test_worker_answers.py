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
