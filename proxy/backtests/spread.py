"""Cases judged in other processes: a pipe to each, so that nothing is left when one of them dies or somebody
presses Ctrl-C. A pool of processes may wait for ever then, for locks that the dead hold."""

from __future__ import annotations

import contextlib
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, TypeVar

T = TypeVar("T")
R = TypeVar("R")
PATIENCE = 5.0
"""Seconds until a process that was asked to end is killed."""


class WorkerDied(Exception):
    """A process ended before its work was done."""


def spread(
    prepare: Callable[..., Callable[[T], R]],
    given: Sequence[Any],
    parts: Sequence[T],
    processes: int,
) -> Iterator[R]:
    """Work on parts in other processes; yields results as they come, in no order.

    Args:
        prepare: called in each process; returns what works on a part. Both it and what it is
            given must be picklable.

    Raises:
        WorkerDied: a process was ended from outside.
        Exception: what the work has raised.
    """
    waiting = list(reversed(parts))
    workers: dict[Connection, BaseProcess] = {}
    try:
        with _unheard():
            for _ in range(min(processes, len(waiting))):
                workers.update([_started(prepare, given)])
        busy = set(workers)
        with _alive():
            for mine in busy:
                mine.send(waiting.pop())
        while busy:
            ready = wait(list(busy))
            for mine in [one for one in busy if one in ready]:
                with _alive():
                    found = mine.recv()
                    if isinstance(found, Exception):
                        raise found
                    if waiting:
                        mine.send(waiting.pop())
                    else:
                        busy.discard(mine)
                yield found
    finally:
        for mine, process in workers.items():
            mine.close()
            process.terminate()  # what it may still be at is of no use to anybody
        for process in workers.values():
            process.join(PATIENCE)
            process.kill()


def _started(
    prepare: Callable[..., Callable[[T], R]], given: Sequence[Any]
) -> tuple[Connection, BaseProcess]:
    # Spawned, not forked: a fork would copy locks that threads of the models hold.
    context = get_context("spawn")
    mine, theirs = context.Pipe()
    process = context.Process(target=_work, args=(theirs, prepare, given), daemon=True)
    process.start()
    theirs.close()
    return mine, process


def _work(pipe: Connection, prepare: Callable[..., Callable[[Any], Any]], given: Any) -> None:
    """In a process: work until nobody wants any more."""
    with contextlib.suppress(EOFError, ConnectionError):
        try:
            work = prepare(*given)
        except Exception as error:
            pipe.send(error)
            return
        while True:
            part = pipe.recv()
            try:
                found = work(part)
            except Exception as error:
                found = error
            pipe.send(found)


@contextmanager
def _alive() -> Iterator[None]:
    try:
        yield
    except (EOFError, ConnectionError):
        raise WorkerDied from None


@contextmanager
def _unheard() -> Iterator[None]:
    """Processes that are started within never hear of Ctrl-C; this one does when it is over."""
    if sys.platform == "win32":
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # is inherited
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
