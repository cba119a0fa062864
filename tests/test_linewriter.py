"""Records reach standard output in order, and a reader that stops holds up nobody."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from proxy.commands.demo import MAX_RECORDS, Collected
from proxy.ledger import Record
from proxy.linewriter import LineWriter

WAIT = 10.0


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reading, writing = os.pipe()
    yield reading, writing
    for descriptor in (reading, writing):
        try:
            os.close(descriptor)
        except OSError:
            continue


def line(text: str) -> logging.LogRecord:
    return logging.LogRecord("doorman.decisions", logging.INFO, "", 0, "%s", (text,), None)


def test_lines_come_in_order_and_all_are_written_at_the_end(pipe: tuple[int, int]) -> None:
    reading, writing = pipe
    writer = LineWriter(writing)
    for number in range(200):
        writer.emit(line(f"line {number} é"))
    writer.finish()
    os.close(writing)
    with open(reading, "rb", closefd=False) as out:
        assert out.read().decode().splitlines() == [f"line {number} é" for number in range(200)]
    assert writer.dropped == 0


@pytest.mark.parametrize(
    "bounds", [{"max_lines": 10}, {"max_bytes": 200_000}], ids=["lines", "bytes"]
)
def test_what_nobody_reads_is_dropped_counted_and_said(
    pipe: tuple[int, int], bounds: dict[str, int], caplog: pytest.LogCaptureFixture
) -> None:
    writer = LineWriter(pipe[1], **bounds)
    for _ in range(100):
        writer.emit(line("x" * 20_000))  # a pipe takes 64 KB
    assert 80 <= writer.dropped < 100
    held = writer._thread
    finishing = threading.Thread(target=writer.finish, args=(0.1,))
    finishing.start()
    finishing.join(WAIT)
    assert not finishing.is_alive()
    assert "were dropped" in caplog.text
    while held.is_alive():  # so that it does not write to a closed descriptor
        os.read(pipe[0], 1 << 16)
        held.join(0.01)


def test_a_reader_that_is_gone_is_no_failure(pipe: tuple[int, int]) -> None:
    writer = LineWriter(pipe[1])
    os.close(pipe[0])
    writer.emit(line("x"))
    writer.finish()
    assert writer.dropped == 1


STUCK = """
import logging, sys
from proxy.linewriter import LineWriter
writer = LineWriter(sys.stdout.fileno())
logger = logging.getLogger("doorman.decisions")
logger.addHandler(writer)
logger.setLevel(logging.INFO)
for _ in range(100):
    logger.info("x" * 20_000)
writer.finish(0.2)
"""


def test_a_process_ends_although_nobody_reads() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", STUCK], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        try:
            # Standard output is read only when the process has got to its end.
            assert process.stderr is not None
            said = process.stderr.read().decode()
        finally:
            process.kill()
    assert "were dropped" in said


def test_the_demos_ledger_keeps_the_newest_only() -> None:
    ledger = Collected()
    for number in range(MAX_RECORDS + 5):
        ledger.write(
            Record(0.0, f"dec_{number}", "", None, "", False, "", "forward", 200, "complete")
        )
    assert len(ledger.records) == MAX_RECORDS
    assert "dec_4" not in ledger.records
    assert f"dec_{MAX_RECORDS + 4}" in ledger.records
