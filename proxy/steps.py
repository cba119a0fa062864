"""The steps of a request, timed."""

from __future__ import annotations

import time


class Step:
    """Adds the time spent within it to the sum of a step. A class, because a generator as a context costs
    several times as much, and a stream takes two for each of its pieces.

    Args:
        seconds: sums by step.
        spans: by step, when it was first begun and last ended.
    """

    __slots__ = ("_name", "_seconds", "_spans", "_started")

    def __init__(
        self, seconds: dict[str, float], spans: dict[str, tuple[float, float]], name: str
    ) -> None:
        self._seconds = seconds
        self._spans = spans
        self._name = name

    def __enter__(self) -> None:
        self._started = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        ended, name, started = time.perf_counter(), self._name, self._started
        self._seconds[name] = self._seconds.get(name, 0.0) + ended - started
        self._spans[name] = (self._spans.get(name, (started,))[0], ended)
