"""A named thread with a bounded queue: batches without a timer, and every waiter gets an answer.

While the thread works on a batch the queue fills, and whatever waits when it is done becomes the
next batch: under light load a job is done at once, under heavy load batches grow by themselves.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, InvalidStateError
from typing import Generic, TypeVar

J = TypeVar("J")
R = TypeVar("R")
_log = logging.getLogger("doorman.classifiers")


class Overloaded(Exception):
    """The queue is full; the caller is told at once instead of waiting (HTTP 503, retry-after)."""


class EngineClosed(Exception):
    """The engine was closed, or its thread died, while texts were waiting."""


class Worker(Generic[J, R]):
    """Does jobs in batches on a thread of its own, started with the first job.

    Args:
        name: of the thread.
        work: jobs in, as many results out.
        max_waiting: jobs that may wait before :class:`Overloaded` is raised.
        max_batch: jobs handed to ``work`` at once.
    """

    def __init__(
        self,
        name: str,
        work: Callable[[Sequence[J]], Sequence[R]],
        *,
        max_waiting: int,
        max_batch: int,
    ) -> None:
        self._name = name
        self._work = work
        self._max_waiting = max_waiting
        self._max_batch = max_batch
        # One line per submission, served in turn: a caller with a thousand jobs delays the next
        # caller by one batch, not by a thousand jobs.
        self._lines: deque[deque[tuple[J, Future[R]]]] = deque()
        self._wake = threading.Condition()
        self._closed = False
        self._thread: threading.Thread | None = None

    @property
    def waiting(self) -> int:
        """Jobs that nobody works on yet."""
        return sum(map(len, self._lines))

    def submit(self, jobs: Sequence[J]) -> list[Future[R]]:
        """Queue jobs; a future each, in order. A cancelled future's job is skipped.

        Raises:
            Overloaded: too many jobs wait already, or these are too many.
            EngineClosed: the worker is closed.
        """
        with self._wake:
            if self._closed:
                raise EngineClosed("the classifier engine was closed")
            if self.waiting + len(jobs) > self._max_waiting:
                raise Overloaded(
                    f"{self.waiting} texts wait for the classifiers, {len(jobs)} more would exceed "
                    f"max_waiting {self._max_waiting}"
                )
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
                self._thread.start()
            futures: list[Future[R]] = [Future() for _ in jobs]
            self._lines.append(deque(zip(jobs, futures, strict=True)))
            self._wake.notify()
        return futures

    def close(self) -> None:
        """Stop after the batch in hand; whoever still waits gets :class:`EngineClosed`."""
        with self._wake:
            self._closed = True
            self._wake.notify_all()
            thread = self._thread
        if thread is not None:
            thread.join(timeout=10)
        with self._wake:
            waiting = self._drain()
        _fail(waiting, EngineClosed("the classifier engine was closed"))

    def _next_batch(self) -> list[tuple[J, Future[R]]]:
        """One job of each line in turn, until the batch is full or nobody waits."""
        batch: list[tuple[J, Future[R]]] = []
        while self._lines and len(batch) < self._max_batch:
            line = self._lines.popleft()
            if line:
                batch.append(line.popleft())
            if line:
                self._lines.append(line)
        return batch

    def _drain(self) -> list[tuple[J, Future[R]]]:
        jobs = [job for line in self._lines for job in line]
        self._lines.clear()
        return jobs

    def _run(self) -> None:
        batch: list[tuple[J, Future[R]]] = []
        try:
            while True:
                with self._wake:
                    while not self._lines and not self._closed:
                        self._wake.wait()
                    if self._closed:
                        return
                    batch = self._next_batch()
                # A caller that went away has cancelled its future: no work for nobody.
                batch = [job for job in batch if job[1].set_running_or_notify_cancel()]
                results = self._work([job for job, _ in batch])
                for (_, future), result in zip(batch, results, strict=True):
                    future.set_result(result)
                batch = []
        except BaseException as error:
            # Nobody may be left hanging: the batch in hand and all who wait are told, and the next
            # call starts a new thread. Only the fault's type is named: a message may quote a text.
            with self._wake:
                self._thread = None
                batch += self._drain()
            died = EngineClosed(f"the classifier worker died of {type(error).__name__}")
            _fail(batch, died)
            _log.error("%s; the next request starts a new one", died)


def _fail(jobs: Iterable[tuple[J, Future[R]]], error: Exception) -> None:
    for _, future in jobs:
        with contextlib.suppress(InvalidStateError):
            future.set_exception(error)
