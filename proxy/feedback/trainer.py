"""Makes candidates in a process of its own: the gateway that serves never loads the trainer."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from classifiers.candidates import Candidate

log = logging.getLogger("doorman.feedback")

MODULE = "classifiers.training.candidate"
_LONGEST = 1 << 20
"""Bytes of one line that the process may say."""
NEEDS = {"sklearn": "scikit-learn", "scipy": "scipy", "threadpoolctl": "threadpoolctl"}
"""The packages of the extra ``correct``, as they are imported and as they are installed."""
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


class TrainingFailed(Exception):
    """There is no candidate; the message says why, without texts."""


@dataclass(slots=True)
class Job:
    """A candidate that is being made, or the last one.

    Attributes:
        classifier: whose.
        by: who asked for it.
        begun, ended: unix seconds.
        step: what it is doing.
        fault: why there is no candidate.
        faults: why the candidate could not be promoted as things stand.
        hash: the beginning of the candidate's hash.
    """

    classifier: str
    by: str
    begun: float
    step: str = "starting"
    ended: float | None = None
    fault: str = ""
    faults: tuple[str, ...] = ()
    hash: str = ""

    @property
    def running(self) -> bool:
        """Whether it is under way."""
        return self.ended is None

    @property
    def seconds(self) -> float:
        """How long it has taken so far."""
        return (self.ended or time.time()) - self.begun


def missing() -> list[str]:
    """The packages that it needs and that are not installed. Nothing is imported."""
    return [package for module, package in NEEDS.items() if find_spec(module) is None]


async def run(order: Mapping[str, Any], say: Callable[[str], None], seconds: float) -> Candidate:
    """Have a candidate made.

    Args:
        order: see :class:`classifiers.training.candidate.Order`.
        say: told each step.
        seconds: after which it is given up.

    Raises:
        TrainingFailed: there is none.
    """
    threads = dict.fromkeys(THREADS, str(order["threads"]))
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", MODULE,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        limit=_LONGEST,
        env={**os.environ, **threads},
    )  # fmt: skip
    try:
        async with asyncio.timeout(seconds):
            errors = asyncio.create_task(_drained(process))
            found = await _talk(process, order, say)
            await process.wait()
            trace = await errors
    except TimeoutError:
        raise TrainingFailed(
            f"it took longer than {seconds:g} s (feedback.seconds) and was given up"
        ) from None
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    if found is None:
        # What it wrote may hold texts: only its last line's beginning, the type of the fault, is told.
        kind = trace.strip().rpartition(b"\n")[2].partition(b":")[0].decode("utf-8", "replace")
        raise TrainingFailed(
            f"the trainer ended with status {process.returncode} ({kind[:80] or 'no reason given'})"
        )
    return found


async def _talk(
    process: asyncio.subprocess.Process, order: Mapping[str, Any], say: Callable[[str], None]
) -> Candidate | None:
    assert process.stdin is not None
    assert process.stdout is not None
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        process.stdin.write(json.dumps(dict(order)).encode())
        await process.stdin.drain()
        process.stdin.close()
    found: Candidate | None = None
    async for line in process.stdout:
        try:
            said = json.loads(line)
        except ValueError:
            continue  # a library's
        if "fault" in said:
            raise TrainingFailed(said["fault"])
        if "candidate" in said:
            found = Candidate.of(said["candidate"])
        if "step" in said:
            say(said["step"])
    return found


async def _drained(process: asyncio.subprocess.Process) -> bytes:
    """The end of what the process complains of; read, so that it never waits for a reader."""
    assert process.stderr is not None
    kept = b""
    while piece := await process.stderr.read(4096):
        kept = (kept + piece)[-4096:]
    return kept
