"""New texts through the engine: how many a second, and how long each takes, by how many come at once.

    python -m benchmarks.newtexts [--rounds N] [--json FILE]

Every text is new and has 64 tokens; the shipped heads and the finder of personal data look at it, in a
process of its own for each setting, with an event loop as in the gateway. Settings take turns within a
round, so that their ratios tell even where something else runs on the machine.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks import texts
from benchmarks.report import Check, Result, Table, cores, median, number, percentile
from benchmarks.servers import ROOT

AT_ONCE = (1, 2, 4, 16)
COUNTS = {1: 24, 2: 40, 4: 60, 16: 96}
"""Texts of a cell, by how many come at once."""
TOKENS = 64
PROMISED_RATE, PROMISED_P50, PROMISED_P99 = 150.0, 9.0, 15.0
"""Texts a second at the most of AT_ONCE; milliseconds of one at a time."""


@dataclass(frozen=True, slots=True)
class Setting:
    """How an engine is set.

    Attributes:
        name: in the tables.
        threads: of the engine, for ordinary texts.
        batch: texts handed to the classifiers at once, at most.
        encoder: stretches that the encoder reads at once.
    """

    name: str
    threads: int
    batch: int
    encoder: int


def settings() -> tuple[Setting, ...]:
    """What is compared; the last one is how the gateway serves."""
    count = min(4, len(cores()))
    return (
        Setting("one thread, one core", 1, 32, 1),
        Setting("one thread, batches over the cores", 1, 32, count),
        Setting("a thread a core, one text each", count, 1, count),
        Setting("a thread a core, batches of 4", count, 4, count),
        Setting("a thread a core, batches of 32", count, 32, count),
    )


async def cell(engine: object, made: Sequence[str], at_once: int) -> tuple[list[float], float]:
    """Milliseconds of each text, and seconds in all."""
    waiting = list(made)
    found: list[float] = []

    async def client() -> None:
        while waiting:
            text = waiting.pop()
            started = time.perf_counter()
            await engine.classify([text])  # type: ignore[attr-defined]
            found.append((time.perf_counter() - started) * 1e3)

    started = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(at_once)))
    return found, time.perf_counter() - started


def child(setting: Setting) -> None:
    """A process of its own: reads (at once, count, seed) from stdin, answers with its figures."""
    from classifiers.encoder import Encoder
    from classifiers.engine import ClassifierEngine
    from classifiers.heads import load_heads
    from classifiers.packs import SHIPPED, SHIPPED_HEADS
    from classifiers.pii import PiiClassifier

    encoder = Encoder(SHIPPED / "encoder", threads=setting.encoder)
    heads = load_heads([SHIPPED / name for name in SHIPPED_HEADS], encoder)
    engine = ClassifierEngine(
        [*heads, PiiClassifier()], threads=setting.threads, max_batch=setting.batch
    )
    for line in sys.stdin:
        at_once, count, seed = json.loads(line)
        source = random.Random(seed)
        made = [texts.of_tokens(source, TOKENS, encoder.tokens) for _ in range(count)]
        used = time.process_time()
        found, elapsed = asyncio.run(cell(engine, made, at_once))
        print(json.dumps([found, elapsed, time.process_time() - used]), flush=True)
    engine.close()


class Child:
    """A running process of a setting."""

    def __init__(self, setting: Setting) -> None:
        words = ["-m", "benchmarks.newtexts", "--child", json.dumps(asdict(setting))]
        self._process = subprocess.Popen(
            [sys.executable, *words],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(self, at_once: int, count: int, seed: int) -> tuple[list[float], float, float]:
        """Milliseconds of each text, seconds in all, and seconds of processor time."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps([at_once, count, seed]) + "\n")
        self._process.stdin.flush()
        found, elapsed, used = json.loads(self._process.stdout.readline())
        return found, elapsed, used

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(60)


@dataclass(slots=True)
class Figures:
    """Of one setting and one number at once, over all rounds."""

    each: list[float]
    rates: list[float]
    used: list[float]


def measure(rounds: int) -> Result:
    """All settings in turn, after a round that does not count."""
    known = settings()
    children = {setting: Child(setting) for setting in known}
    found: dict[tuple[Setting, int], Figures] = defaultdict(lambda: Figures([], [], []))
    order = random.Random(3)
    seed = 0
    for turn in range(-1, rounds):
        for at_once in AT_ONCE:
            for setting in order.sample(known, len(known)):
                seed += 1
                count = COUNTS[at_once] if turn >= 0 else 2 * at_once
                each, elapsed, used = children[setting].run(at_once, count, seed)
                if turn >= 0:
                    own = found[setting, at_once]
                    own.each += each
                    own.rates.append(count / elapsed)
                    own.used.append(used / count * 1e3)
        print(f"round {turn + 1} of {rounds}", file=sys.stderr, flush=True)
    for one in children.values():
        one.close()
    load = os.getloadavg()[0]
    notes = (f"{rounds} rounds; {len(cores())} cores; load average at the end {load:.1f}.",)
    return Result("newtexts", (_table(found),), _checks(found, known[-1]), notes)


def _table(found: Mapping[tuple[Setting, int], Figures]) -> Table:
    rows = [
        (
            str(at_once),
            setting.name,
            number(median(own.rates), 0),
            number(max(own.rates), 0),
            number(median(own.each)),
            number(percentile(own.each, 99)),
            number(median(own.used)),
        )
        for (setting, at_once), own in sorted(
            found.items(), key=lambda item: (item[0][1], settings().index(item[0][0]))
        )
    ]
    columns = ("at once", "setting", "texts/s", "best round", "p50 ms", "p99 ms", "CPU ms/text")
    return Table(f"New texts of {TOKENS} tokens through ClassifierEngine", columns, tuple(rows))


def _checks(found: Mapping[tuple[Setting, int], Figures], served: Setting) -> tuple[Check, ...]:
    one, many = found[served, AT_ONCE[0]], found[served, AT_ONCE[-1]]
    rate, p50, p99 = median(many.rates), median(one.each), percentile(one.each, 99)
    return (
        Check(
            f"new texts a second, {AT_ONCE[-1]} at once", number(rate, 0),
            f">= {PROMISED_RATE:g}", rate >= PROMISED_RATE,
        ),
        Check("one new text at a time, p50", f"{p50:.2f} ms", f"<= {PROMISED_P50:g} ms", p50 <= PROMISED_P50),
        Check("one new text at a time, p99", f"{p99:.2f} ms", f"<= {PROMISED_P99:g} ms", p99 <= PROMISED_P99),
    )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--json", type=Path, help="keep the figures there")
    given = parser.parse_args()
    if given.child:
        child(Setting(**json.loads(given.child)))
    else:
        measure(given.rounds).write(given.json)


if __name__ == "__main__":
    main()
