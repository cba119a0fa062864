"""Named threads with one bounded queue: batches without a timer, and every waiter gets an answer.

While the threads work on their batches the queue fills, and whatever waits when one is done becomes the
next batch, in equal shares: under light load a job is done at once, under heavy load batches grow by
themselves. A thread that is stuck in a batch is left behind and another one takes its place.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, InvalidStateError
from typing import Generic, TypeVar

J = TypeVar("J")
R = TypeVar("R")
_log = logging.getLogger("doorman.classifiers")

MAX_STUCK = 4
"""Threads of one worker that may be stuck at once, for each that may work: a fault that many texts meet at
the same time takes all that work. Python cannot end a thread, so each of them keeps
its memory, and maybe a core, until it comes back by itself."""
CLOSE_SECONDS = 10.0
"""How long a close waits for the batch in hand."""
_LOOKS = 8
"""How often within its patience a watch looks."""


class Overloaded(Exception):
    """The queue is full; the caller is told at once instead of waiting (HTTP 503, retry-after)."""


class EngineClosed(Exception):
    """The engine was closed, or its thread died, while texts were waiting."""


class Stuck(Exception):
    """As many threads as may be left behind are stuck; nothing is taken on until one comes back."""


class _Hand(Generic[J, R]):
    """What a thread works on: its jobs, and since when; None while it waits."""

    __slots__ = ("batch", "since")

    def __init__(self) -> None:
        self.batch: list[tuple[J, Future[R]]] = []
        self.since: float | None = None


class Worker(Generic[J, R]):
    """Does jobs in batches on threads of its own, started when there are jobs for them.

    Args:
        name: of the threads.
        work: jobs in, as many results out.
        max_waiting: jobs that may wait before :class:`Overloaded` is raised.
        max_batch: jobs handed to ``work`` at once.
        threads: how many work at the same time; what waits is shared out among them.
        patience: seconds after which :meth:`relieve` takes a batch for stuck; None: never.
        instead: the results of a batch that was given up, from its jobs and the identifier of the
            thread; needed with ``patience``.
        clock: seconds, for ``patience``.
    """

    def __init__(
        self,
        name: str,
        work: Callable[[Sequence[J]], Sequence[R]],
        *,
        max_waiting: int,
        max_batch: int,
        threads: int = 1,
        patience: float | None = None,
        instead: Callable[[Sequence[J], int], Sequence[R]] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._name = name
        self._work = work
        self._max_waiting = max_waiting
        self._max_batch = max_batch
        self._threads = threads
        self._most_stuck = MAX_STUCK * threads
        self._patience = patience
        self._instead = instead
        self._clock = clock
        # One line per submission, served in turn: a caller with a thousand jobs delays the next
        # caller by one batch, not by a thousand jobs.
        self._lines: deque[deque[tuple[J, Future[R]]]] = deque()
        self._wake = threading.Condition()
        self._closed = False
        self._team: dict[threading.Thread, _Hand[J, R]] = {}
        self._stuck: list[threading.Thread] = []

    @property
    def waiting(self) -> int:
        """Jobs that nobody works on yet."""
        return sum(map(len, self._lines))

    @property
    def stuck(self) -> int:
        """Threads that were left behind and have not come back."""
        self._stuck = [thread for thread in self._stuck if thread.is_alive()]
        return len(self._stuck)

    def submit(self, jobs: Sequence[J]) -> list[Future[R]]:
        """Queue jobs; a future each, in order. A cancelled future's job is skipped.

        Raises:
            Overloaded: too many jobs wait already, or these are too many.
            EngineClosed: the worker is closed.
            Stuck: too many threads are stuck.
        """
        with self._wake:
            if self._closed:
                raise EngineClosed("the classifier engine was closed")
            if self.waiting + len(jobs) > self._max_waiting:
                raise Overloaded(
                    f"{self.waiting} texts wait for the classifiers, {len(jobs)} more would exceed "
                    f"max_waiting {self._max_waiting}"
                )
            if not self._has_threads(self.waiting + len(jobs)):
                raise Stuck(f"{self.stuck} threads of {self._name} are stuck")
            futures: list[Future[R]] = [Future() for _ in jobs]
            self._lines.append(deque(zip(jobs, futures, strict=True)))
            self._wake.notify(len(jobs))
        return futures

    def relieve(self) -> None:
        """Give up the batches that have taken longer than ``patience``: they get the results of
        ``instead``, their threads are left behind, and new ones take on what waits."""
        given_up: list[tuple[threading.Thread, list[tuple[J, Future[R]]]]] = []
        with self._wake:
            if self._closed or self._patience is None:
                return
            now = self._clock()
            for thread, hand in list(self._team.items()):
                if hand.since is not None and now - hand.since >= self._patience:
                    given_up.append((thread, hand.batch))
                    self._stuck.append(thread)
                    del self._team[thread]
            if not given_up:
                return
            waiting = self.waiting
            refused = [] if not waiting or self._has_threads(waiting) else self._drain()
        for thread, batch in given_up:
            _log.error(
                "a thread of %s is stuck for %g s and was left behind", self._name, self._patience
            )
            if self._instead is not None:
                _finish(batch, self._instead([job for job, _ in batch], thread.ident or 0))
        _fail(refused, Stuck(f"{self._most_stuck} threads of {self._name} are stuck"))

    def close(self) -> None:
        """Stop after the batch in hand; whoever still waits gets :class:`EngineClosed`, and so does
        who waits for that batch if it takes over ``CLOSE_SECONDS``. Blocking."""
        with self._wake:
            self._closed = True
            self._wake.notify_all()
            team = list(self._team)
        until = time.monotonic() + CLOSE_SECONDS
        for thread in team:
            thread.join(timeout=max(0.0, until - time.monotonic()))
        with self._wake:
            # A batch that is still in hand is stuck: nobody relieves it any more.
            waiting = [job for hand in self._team.values() for job in hand.batch] + self._drain()
            self._team.clear()
        _fail(waiting, EngineClosed("the classifier engine was closed"))

    def _has_threads(self, jobs: int) -> bool:
        """Whether somebody works, after starting as many threads as there may be and are jobs for."""
        idle = sum(hand.since is None for hand in self._team.values())
        while idle < jobs and len(self._team) < self._threads and self.stuck < self._most_stuck:
            thread = threading.Thread(target=self._run, name=self._name, daemon=True)
            thread.start()  # raises where there can be no more; it waits for the lock that is held here
            self._team[thread] = _Hand()
            idle += 1
        return bool(self._team)

    def _next_batch(self) -> list[tuple[J, Future[R]]]:
        """One job of each line in turn, until the batch is full, a thread's share, or nobody waits."""
        batch: list[tuple[J, Future[R]]] = []
        most = min(self._max_batch, -(-self.waiting // self._threads))
        while self._lines and len(batch) < most:
            line = self._lines.popleft()
            if line:
                job = line.popleft()
                # A caller that went away has cancelled its future: no work for nobody.
                if job[1].set_running_or_notify_cancel():
                    batch.append(job)
            if line:
                self._lines.append(line)
        return batch

    def _drain(self) -> list[tuple[J, Future[R]]]:
        jobs = [job for line in self._lines for job in line]
        self._lines.clear()
        return jobs

    def _run(self) -> None:
        me = threading.current_thread()
        try:
            while batch := self._take(me):
                results = self._work([job for job, _ in batch])
                if len(results) != len(batch):
                    # Before the batch counts as done, so that all of it is told.
                    raise ValueError(f"{len(batch)} jobs need as many results, got {len(results)}")
                with self._wake:
                    if (hand := self._team.get(me)) is None:
                        return  # left behind: the results come too late
                    hand.batch, hand.since = [], None
                _finish(batch, results)
        except BaseException as error:
            # Nobody may be left hanging: the batch in hand is told and, where no other thread works,
            # all who wait; the next call starts a new thread. Only the fault's type is named: a
            # message may quote a text.
            with self._wake:
                if (hand := self._team.pop(me, None)) is None:
                    return
                orphans = hand.batch + ([] if self._team else self._drain())
            died = EngineClosed(f"the classifier worker died of {type(error).__name__}")
            _fail(orphans, died)
            _log.error("%s; the next request starts a new one", died)

    def _take(self, me: threading.Thread) -> list[tuple[J, Future[R]]]:
        """Wait for a batch; empty when it is time to stop."""
        with self._wake:
            while not self._closed and (hand := self._team.get(me)) is not None:
                if batch := self._next_batch():
                    hand.batch, hand.since = batch, self._clock()
                    return batch
                self._wake.wait()
        return []


class Watch:
    """A thread that relieves workers whose batch takes longer than their patience.

    Args:
        workers: all with the same patience.
        patience: theirs, in seconds.
    """

    def __init__(self, workers: Sequence[Worker[J, R]], patience: float) -> None:
        self._workers = workers
        self._seconds = patience / _LOOKS
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="classifier-watch", daemon=True)
        self._starting = threading.Lock()

    def start(self) -> None:
        """Begin to watch, once."""
        with self._starting:
            if self._thread.ident is None and not self._stop.is_set():
                self._thread.start()

    def stop(self) -> None:
        """Watch no longer."""
        self._stop.set()

    def _run(self) -> None:
        while not self._stop.wait(self._seconds):
            for worker in self._workers:
                worker.relieve()


def _finish(jobs: Sequence[tuple[J, Future[R]]], results: Sequence[R]) -> None:
    for (_, future), result in zip(jobs, results, strict=True):
        with contextlib.suppress(InvalidStateError):
            future.set_result(result)


def _fail(jobs: Iterable[tuple[J, Future[R]]], error: Exception) -> None:
    for _, future in jobs:
        with contextlib.suppress(InvalidStateError):
            future.set_exception(error)
