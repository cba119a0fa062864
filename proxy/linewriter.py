"""Log lines written by a thread of their own: whoever reads them slowly must not hold up requests."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator

log = logging.getLogger("doorman")

MAX_LINES = 10_000
MAX_BYTES = 64 << 20
"""What waits for a slow reader; beyond it lines are dropped and counted."""

_REPORT_SECONDS = 10.0
GATHER_SECONDS = 0.01
"""How long the first line waits for others: a thread that is woken for every line costs more than all
else that is done for it."""
_BATCH_BYTES = 1 << 14


class LineWriter(logging.Handler):
    """Writes each record as one line to a file descriptor.

    It writes past :mod:`sys` and its buffers, because a thread that is stuck in those would keep the
    process from ending.

    Args:
        descriptor: of an open file or pipe; not closed here.
        max_lines: lines that may wait.
        max_bytes: bytes that may wait.
        turns: of a file whose lock is held while lines are written, where several processes write to
            one place; None where nobody else does.
    """

    def __init__(
        self,
        descriptor: int,
        *,
        max_lines: int = MAX_LINES,
        max_bytes: int = MAX_BYTES,
        turns: int | None = None,
    ) -> None:
        super().__init__()
        self._turns = turns
        self._descriptor = descriptor
        self._max_lines = max_lines
        self._max_bytes = max_bytes
        self._waiting: deque[bytes] = deque()
        self._bytes = 0
        self._wake = threading.Condition()
        self._closing = False
        self._idle = False
        self._reported = 0.0
        self._told = 0
        self.dropped = 0
        """Lines that were not written, in total."""
        self._thread = threading.Thread(target=self._run, name="records", daemon=True)
        self._thread.start()

    def emit(self, record: logging.LogRecord) -> None:
        """Queue a line. Never blocks."""
        try:
            line = self.format(record).encode("utf-8", "replace") + b"\n"
        except Exception:
            self.handleError(record)
            return
        with self._wake:
            full = (
                len(self._waiting) >= self._max_lines or self._bytes + len(line) > self._max_bytes
            )
            if full or self._closing:
                self.dropped += 1
            else:
                self._waiting.append(line)
                self._bytes += len(line)
                if self._idle:
                    self._idle = False
                    self._wake.notify()
        self._report()

    def finish(self, seconds: float = 5.0) -> None:
        """Write what waits, for so long at most; then the rest is given up."""
        with self._wake:
            self._closing = True
            self._wake.notify()
        self._thread.join(seconds)
        with self._wake:
            self.dropped += len(self._waiting)
            self._waiting.clear()
            self._bytes = 0
        self._report(now=True)

    def _report(self, *, now: bool = False) -> None:
        fresh = self.dropped - self._told
        if fresh and (now or time.monotonic() - self._reported >= _REPORT_SECONDS):
            self._reported, self._told = time.monotonic(), self.dropped
            log.warning(
                "%d decision records were dropped: standard output is not read fast enough", fresh
            )

    def _run(self) -> None:
        while lines := self._take():
            try:
                with _turn(self._turns):
                    while lines:
                        lines = lines[os.write(self._descriptor, lines) :]
            except OSError:
                # Nobody reads any more, or the disk is full; the next line may fare better.
                with self._wake:
                    self.dropped += lines.count(b"\n")

    def _take(self) -> bytes:
        """The next lines, as soon as there are some; empty when it is time to stop."""
        with self._wake:
            if not self._waiting and not self._closing:
                while not self._waiting and not self._closing:
                    self._idle = True
                    self._wake.wait()
                if not self._closing:
                    self._wake.wait(GATHER_SECONDS)
            lines: list[bytes] = []
            size = 0
            while self._waiting and size < _BATCH_BYTES:
                lines.append(self._waiting.popleft())
                size += len(lines[-1])
            self._bytes -= size
            return b"".join(lines)


@contextlib.contextmanager
def _turn(file: int | None) -> Iterator[None]:
    """Hold the lock of a file. It belongs to the process, and goes with it."""
    if file is None or sys.platform == "win32":
        yield
        return
    import fcntl

    fcntl.lockf(file, fcntl.LOCK_EX)
    try:
        yield
    finally:
        fcntl.lockf(file, fcntl.LOCK_UN)
