"""Work in other processes: all of it comes back, or what went wrong."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Any

import pytest

from proxy.backtests.spread import WorkerDied, spread


def doubling(*given: int) -> Callable[[int], tuple[int, int]]:
    if given == (0,):
        raise ValueError("not with 0")
    return lambda part: (os.getpid(), part * 2 // given[0])


def ending(*given: Any) -> Callable[[int], int]:
    def work(part: int) -> int:
        os.kill(os.getpid(), signal.SIGKILL)
        return part

    return work


def test_every_part_comes_back_once() -> None:
    found = list(spread(doubling, (1,), range(20), 2))
    assert sorted(value for _, value in found) == [2 * part for part in range(20)]
    workers = {worker for worker, _ in found}
    assert 0 < len(workers) <= 2
    assert os.getpid() not in workers


def test_faults_of_the_work_are_told() -> None:
    with pytest.raises(ValueError, match="not with 0"):
        list(spread(doubling, (0,), [1, 2, 3], 2))
    parts: list[Any] = [1, None]
    with pytest.raises(TypeError):
        list(spread(doubling, (1,), parts, 1))


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="nothing to kill with")
def test_a_process_that_was_killed_is_told() -> None:
    with pytest.raises(WorkerDied):
        list(spread(ending, (), [1, 2, 3], 1))


def test_who_stops_listening_leaves_nothing_behind() -> None:
    results = spread(doubling, (1,), range(100), 2)
    worker, _ = next(results)
    results.close()  # type: ignore[attr-defined]
    with pytest.raises(ProcessLookupError):
        os.kill(worker, 0)
