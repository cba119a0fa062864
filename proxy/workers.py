"""Several processes on one port: started, watched, told what the first one is told, replaced.

The first process binds the port and answers nothing itself. It forks before anything is loaded, so that
every worker has threads, models and connections of its own; all of them accept from the one socket,
so that nothing waits for a worker that has died.
"""

from __future__ import annotations

import logging
import os
import selectors
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from proxy.yaml_source import ConfigError

log = logging.getLogger("doorman")

FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0
"""Seconds until a worker is replaced that died before it was ready; doubled each time."""
_READY = b"r"
_PASSED_ON = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP) if os.name == "posix" else ()
_HANDLED = (*_PASSED_ON, signal.SIGCHLD) if os.name == "posix" else ()
_STOPPING = frozenset({signal.SIGTERM, signal.SIGINT})


@dataclass(frozen=True, slots=True)
class Link:
    """What a worker shares with the first process and the other workers.

    Attributes:
        folder: where all workers keep the numbers of their metrics.
        ready: written to when the worker accepts connections.
        alive: at its end when the first process is gone, however it went.
        turns: a file that is locked to write a line as a whole.
    """

    folder: Path
    ready: int
    alive: int
    turns: int

    def say_ready(self) -> None:
        """Tell the first process that connections are accepted."""
        os.write(self.ready, _READY)


@dataclass(slots=True)
class _Worker:
    number: int
    pid: int = 0
    ready: int = -1
    pause: float = FIRST_PAUSE
    start_at: float = 0.0
    """When it is to be started; 0 while it runs."""
    was_ready: bool = False


class Workers:
    """The first process.

    Args:
        count: how many workers.
        sock: bound; workers accept from it.
        work: what a worker does until it is told to stop; returns its exit status.
        listening: called once when all workers are ready.
    """

    def __init__(
        self,
        count: int,
        sock: socket.socket,
        work: Callable[[Link], int],
        listening: Callable[[], None],
    ) -> None:
        self._sock = sock
        self._work = work
        self._listening = listening
        self._workers = [_Worker(number) for number in range(1, count + 1)]
        self._stopping = False
        self._said = False
        self._status = 0

    def run(self) -> int:
        """Serve until SIGTERM or SIGINT, then until every worker has finished. Returns the exit status:
        1 where a worker never became ready, or did not end well.

        Raises:
            ConfigError: this system cannot fork.
        """
        if os.name != "posix":
            raise ConfigError("server.workers: only 1 on this system; start several gateways")
        self._sock.listen(socket.SOMAXCONN)  # from now on nobody is turned away
        self._folder = Path(tempfile.mkdtemp(prefix="doorman-workers-"))
        self._turns = os.open(self._folder / "turns", os.O_RDWR | os.O_CREAT, 0o600)
        self._alive, self._mine = os.pipe()
        woken, wake = os.pipe()
        for end in (woken, wake):
            os.set_blocking(end, False)
        self._selector = selectors.DefaultSelector()
        self._selector.register(woken, selectors.EVENT_READ)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        before = {number: signal.signal(number, _noted) for number in _HANDLED}
        try:
            self._supervise(woken)
        finally:
            signal.set_wakeup_fd(-1)
            for number, handler in before.items():
                signal.signal(number, handler)
            shutil.rmtree(self._folder, ignore_errors=True)
        return self._status

    def _supervise(self, woken: int) -> None:
        while True:
            now = time.monotonic()
            for worker in self._workers:
                if not worker.pid and not self._stopping and worker.start_at <= now:
                    self._start(worker)
            if self._stopping and not any(worker.pid for worker in self._workers):
                return
            due = [worker.start_at for worker in self._workers if not worker.pid]
            wait = None if self._stopping or not due else max(0.0, min(due) - now)
            for key, _ in self._selector.select(wait):
                if key.fd == woken:
                    for number in os.read(woken, 1024):
                        self._heard(number)
                else:
                    self._is_ready(key.fd)
            self._reap()

    def _heard(self, number: int) -> None:
        if number == signal.SIGINT and self._stopping:
            self._tell(signal.SIGKILL)  # asked twice by somebody who does not want to wait
        elif number in _PASSED_ON:
            self._stopping = self._stopping or number in _STOPPING
            self._tell(signal.SIGTERM if number == signal.SIGINT else signal.Signals(number))

    def _tell(self, number: signal.Signals) -> None:
        for worker in self._workers:
            if worker.pid:
                os.kill(worker.pid, number)

    def _start(self, worker: _Worker) -> None:
        ready, told = os.pipe()
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        # What is told to a worker before it can listen must wait for it.
        signal.pthread_sigmask(signal.SIG_BLOCK, _HANDLED)
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                status = self._be_worker(told)
            finally:
                for stream in (sys.stdout, sys.stderr):
                    stream.flush()
                os._exit(status)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _HANDLED)
        os.close(told)
        worker.pid, worker.ready, worker.was_ready = pid, ready, False
        self._selector.register(ready, selectors.EVENT_READ)

    def _be_worker(self, told: int) -> int:
        signal.set_wakeup_fd(-1)
        for number in _HANDLED:
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _HANDLED)
        os.setpgid(0, 0)  # a terminal's Ctrl-C is for the first process, which passes it on
        self._selector.close()
        os.close(self._mine)  # or no worker would see the end of it
        return self._work(Link(self._folder, told, self._alive, self._turns))

    def _is_ready(self, descriptor: int) -> None:
        worker = next(worker for worker in self._workers if worker.ready == descriptor)
        worker.was_ready = os.read(descriptor, 1) == _READY
        self._forget_pipe(worker)
        if worker.was_ready:
            worker.pause = FIRST_PAUSE
        if not self._said and all(worker.was_ready for worker in self._workers):
            self._said = True
            self._listening()

    def _forget_pipe(self, worker: _Worker) -> None:
        if worker.ready >= 0:
            self._selector.unregister(worker.ready)
            os.close(worker.ready)
            worker.ready = -1

    def _reap(self) -> None:
        for worker in self._workers:
            if not worker.pid:
                continue
            pid, status = os.waitpid(worker.pid, os.WNOHANG)
            if pid:
                self._ended(worker, os.waitstatus_to_exitcode(status))

    def _ended(self, worker: _Worker, status: int) -> None:
        from proxy.metrics_shared import forget_process

        forget_process(self._folder, worker.pid)
        pid, worker.pid = worker.pid, 0
        self._forget_pipe(worker)
        if self._stopping:
            self._status = self._status or int(status != 0)
            return
        if not worker.was_ready and not self._said:
            log.error("worker %d did not start; stopping", worker.number)
            self._status, self._stopping = 1, True
            self._tell(signal.SIGTERM)
            return
        log.error(
            "worker %d (process %d) ended with %d; starting another", worker.number, pid, status
        )
        if worker.was_ready:
            worker.start_at = 0.0
        else:
            worker.start_at = time.monotonic() + worker.pause
            worker.pause = min(2 * worker.pause, LONGEST_PAUSE)


def _noted(*_: object) -> None:
    """The number of the signal is in the pipe."""
