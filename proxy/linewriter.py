"""Log lines written by a thread of their own: whoever reads them slowly must not hold up requests."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import deque

log = logging.getLogger("doorman")

MAX_LINES = 10_000
MAX_BYTES = 64 << 20
"""What waits for a slow reader; beyond it lines are dropped and counted."""

_REPORT_SECONDS = 10.0


class LineWriter(logging.Handler):
    """Writes each record as one line to a file descriptor.

    It writes past :mod:`sys` and its buffers, because a thread that is stuck in those would keep the
    process from ending.

    Args:
        descriptor: of an open file or pipe; not closed here.
        max_lines: lines that may wait.
        max_bytes: bytes that may wait.
    """

    def __init__(
        self, descriptor: int, *, max_lines: int = MAX_LINES, max_bytes: int = MAX_BYTES
    ) -> None:
        super().__init__()
        self._descriptor = descriptor
        self._max_lines = max_lines
        self._max_bytes = max_bytes
        self._waiting: deque[bytes] = deque()
        self._bytes = 0
        self._wake = threading.Condition()
        self._closing = False
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
        while True:
            with self._wake:
                while not self._waiting and not self._closing:
                    self._wake.wait()
                if not self._waiting:
                    return
                line = self._waiting.popleft()
                self._bytes -= len(line)
            try:
                while line:
                    line = line[os.write(self._descriptor, line) :]
            except OSError:
                # Nobody reads any more, or the disk is full; the next line may fare better.
                with self._wake:
                    self.dropped += 1
