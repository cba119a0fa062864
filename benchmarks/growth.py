"""How costs grow: requests a second by workers, latency by the length of the history, by heads and by the
length of a text, memory by packs.

    python -m benchmarks.growth [--rounds N] [--json FILE] [--plot FILE.svg]

One new message after a history that was sent before must cost what it would cost alone; two workers on two
cores should do twice the work of one. All servers take turns, in an order that changes.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import tempfile
from collections import defaultdict
from contextlib import ExitStack
from pathlib import Path

from benchmarks import growth_classifiers, servers
from benchmarks.gateway import Generator
from benchmarks.growth_classifiers import Growth
from benchmarks.load import Job
from benchmarks.report import Check, Result, Table, median, number
from benchmarks.servers import ROOT, Server

POLICY = ROOT / "policies" / "front-line.yaml"
HISTORY = (0, 2, 10, 30, 100)
"""Messages before the new one."""
WORKERS = (1, 2)
PROMISED_HISTORY = 1.3
"""A hundred turns with one new message, over the message alone."""


class Run:
    """What has been counted so far: ``history`` milliseconds of CPU, ``waited`` of wall time, by messages;
    ``rates`` by workers."""

    def __init__(self, alone: Server, fleets: dict[int, Server]) -> None:
        self.alone, self.fleets = alone, fleets
        self.generator = Generator()
        self.history: dict[int, list[float]] = defaultdict(list)
        self.waited: dict[int, list[float]] = defaultdict(list)
        self.rates: dict[int, list[float]] = defaultdict(list)
        self._seed = 0

    def round(self, order: random.Random, *, counted: bool) -> None:
        """Every measurement once."""
        for messages in order.sample(HISTORY, len(HISTORY)):
            self._seed += 1
            port, count = self.alone.port, 12 if counted else 2
            self.generator.run(
                Job(port, "mock", 1, 1, 30.0, 900_000 + self._seed, history=messages)
            )
            before = self.alone.cpu_seconds()
            report = self.generator.run(
                Job(port, "mock", 1, count, 30.0, self._seed, history=messages)
            )
            used = self.alone.cpu_seconds() - before
            if counted and report.milliseconds:
                self.history[messages].append(used / len(report.milliseconds) * 1e3)
                self.waited[messages].append(median(report.milliseconds))
        for workers in order.sample(list(self.fleets), len(self.fleets)):
            job = Job(
                self.fleets[workers].port, "mock", 32, 600 if counted else 64, 20.0, 1, pool=16
            )
            report = self.generator.run(job)
            if counted and report.milliseconds:
                self.rates[workers].append(len(report.milliseconds) / report.elapsed)


def tables(run: Run) -> tuple[tuple[Table, ...], tuple[Check, ...]]:
    """The figures, and whether what was promised holds."""
    alone = median(run.history[HISTORY[0]])
    rows = tuple(
        (
            str(messages),
            number(median(run.history[messages])),
            number(median(run.history[messages]) / alone),
            number(median(run.waited[messages])),
        )
        for messages in HISTORY
    )
    columns = ("messages before the new one", "CPU ms", "times one message", "p50 ms")
    history = Table("One new message of 30 words after a history that is known", columns, rows)
    fleets = tuple(
        (str(workers), number(median(rates), 0), number(max(rates), 0))
        for workers, rates in run.rates.items()
    )
    fleet = Table(
        "Requests a second by workers, 32 clients, texts seen before",
        ("workers", "median", "best round"),
        fleets,
        "The mock upstream and the load generator share the cores with them.",
    )
    ratio = median(run.history[HISTORY[-1]]) / alone
    check = Check(
        f"one new message after {HISTORY[-1]}, CPU time, over the message alone",
        number(ratio),
        f"<= {PROMISED_HISTORY}",
        ratio <= PROMISED_HISTORY,
    )
    return (history, fleet), (check,)


def plot(run: Run, growth: Growth, path: Path) -> None:
    """Four curves, as SVG."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    history = {messages: median(run.history[messages]) for messages in HISTORY}
    figure, axes = pyplot.subplots(1, 4, figsize=(13, 2.6))
    for axis, found, across, up in zip(
        axes,
        (growth.heads, growth.tokens, history, growth.packs),
        ("heads, 64 tokens", "tokens", "messages before the new one", "shipped head packs"),
        ("CPU ms a text", "CPU ms a text", "CPU ms a request", "MiB resident"),
        strict=True,
    ):
        axis.plot(list(found), list(found.values()), marker="o", markersize=3)
        axis.set_xlabel(across)
        axis.set_ylabel(up)
        axis.set_ylim(bottom=0)
        axis.grid(alpha=0.3)
    figure.tight_layout()
    figure.savefig(path, bbox_inches="tight", metadata={"Date": None})


def measure(rounds: int, picture: Path | None = None) -> Result:
    """Run everything, after a round that does not count."""
    order = random.Random(7)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        upstream = stack.enter_context(servers.mock_upstream(folder))

        def gateway(workers: int) -> Server:
            more = ("--workers", str(workers))
            options = {"ledger": {"url": "none"}}
            return stack.enter_context(
                servers.doorman(f"{workers}", upstream.port, [POLICY], [], folder, options, more)
            )

        run = Run(gateway(1), {workers: gateway(workers) for workers in WORKERS})
        for turn in range(-1, rounds):
            run.round(order, counted=turn >= 0)
            print(f"round {turn + 1} of {rounds}", file=sys.stderr, flush=True)
        run.generator.close()
    with tempfile.TemporaryDirectory() as packs:
        growth = growth_classifiers.measure(4 * rounds, Path(packs))
    if picture is not None:
        plot(run, growth, picture)
    found, checks = tables(run)
    notes = (f"{rounds} rounds; load average {os.getloadavg()[0]:.1f}.",)
    return Result("growth", (*found, *growth.tables()), checks, notes)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--plot", type=Path, help="draw the curves there, as SVG")
    parser.add_argument("--json", type=Path, help="keep the figures there")
    given = parser.parse_args()
    measure(given.rounds, given.plot).write(given.json)


if __name__ == "__main__":
    main()
