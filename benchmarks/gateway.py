"""What a gateway adds to a request: Doorman with and without policies, litellm's proxy, and neither.

    python -m benchmarks.gateway [--rounds N] [--litellm-venv DIR | --no-litellm] [--json FILE]

All servers run at once and take turns within each round, in an order that changes, before one mock upstream
and one load generator, each a process of its own on 127.0.0.1. Requests are conversations of about
300 tokens. p50 and requests/s are medians over the rounds, p99 and CPU are over all requests of all rounds.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from benchmarks import servers
from benchmarks.gateway_figures import BARE, CONCURRENCY, DIRECT, LITELLM, ONE, TEN, Cell, Figures
from benchmarks.load import Job, Report
from benchmarks.report import Result, Table, median, number
from benchmarks.servers import ROOT, Server, StartFailed
from policies import schema

REQUESTS = {1: 200, 16: 480, 64: 640}
"""Requests per cell and round, at most; ``--seconds`` may end a cell before."""
STREAMS = {"mock": 20, "mock-paced": 3}
"""Streams per server and round, one at a time, by the mock's model."""
POOL = 16
"""Different requests of a cell whose texts were seen before."""


@dataclass(frozen=True, slots=True)
class Options:
    """What is measured and how long."""

    rounds: int
    seconds: float
    policy: Path
    classifiers: tuple[str, ...]
    litellm_venv: Path | None


class Generator:
    """The load generator's process."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.load"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

    def run(self, job: Job) -> Report:
        """Do a job and wait for its report."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(asdict(job)).encode() + b"\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("the load generator ended; its message stands above")
        return Report(**json.loads(line))

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(timeout=30)


class Measurement:
    """One run: the servers, the generator, and what has been counted so far."""

    def __init__(self, options: Options, targets: dict[str, Server], generator: Generator) -> None:
        self.options = options
        self.targets = targets
        self.generator = generator
        self.figures = Figures(tuple(targets))
        self._random = random.Random(4)
        self._seed = 0

    def run(self) -> None:
        """All rounds, after one that does not count."""
        cells = [
            Cell(name, seen, concurrency)
            for name in self.targets
            for seen in ((False, True) if name in (ONE, TEN) else (False,))
            for concurrency in CONCURRENCY
        ]
        for turn in range(-1, self.options.rounds):
            self._random.shuffle(cells)
            for cell in cells:
                self._cell(cell, counted=turn >= 0)
            for name in self._random.sample(list(self.targets), len(self.targets)):
                for model, count in STREAMS.items():
                    self._stream(name, model, count, counted=turn >= 0)
            print(f"round {turn + 1} of {self.options.rounds}", file=sys.stderr, flush=True)

    def _cell(self, cell: Cell, *, counted: bool) -> None:
        self._seed += 1
        server = self.targets[cell.server]
        job = Job(
            port=server.port,
            model="mock",
            concurrency=cell.concurrency,
            count=REQUESTS[cell.concurrency] if counted else cell.concurrency,
            seconds=self.options.seconds,
            seed=1 if cell.seen else 1_000_000 + self._seed,
            pool=POOL if cell.seen else 0,
        )
        # Warming up is a job of its own: its CPU must not count.
        self._send(
            replace(
                job, count=1, warm=cell.concurrency, seed=job.seed + 500_000_000 * (not cell.seen)
            )
        )
        before = server.cpu_seconds()
        report = self._send(job)
        used = server.cpu_seconds() - before
        answered = len(report.milliseconds)
        if counted and answered:
            tally = self.figures.cells[cell]
            tally.p50.append(median(report.milliseconds))
            tally.rate.append(answered / report.elapsed)
            tally.cpu.append(used)
            tally.every += report.milliseconds

    def _stream(self, name: str, model: str, count: int, *, counted: bool) -> None:
        self._seed += 1
        port = self.targets[name].port
        job = Job(
            port,
            model,
            1,
            count if counted else 2,
            self.options.seconds * 2,
            self._seed,
            stream=True,
            warm=1,
        )
        report = self._send(job)
        if counted:
            found = self.figures.streams[name, model]
            found["first_byte"] += report.first_byte
            found["first_content"] += report.first_content
            found["whole"] += report.milliseconds

    def _send(self, job: Job) -> Report:
        report = self.generator.run(job)
        self.figures.failures.update(report.failures)
        self.figures.actions.update(report.actions)
        return report


def server_table(targets: Mapping[str, Server]) -> Table:
    """How soon the servers were ready and how much memory they take."""
    rows = tuple(
        (name, number(server.start_seconds), number(server.memory(), 0))
        for name, server in targets.items()
        if name != DIRECT
    )
    return Table("Servers", ("server", "seconds to ready", "MiB resident at the end"), rows)


def copies(policy: Path, folder: Path, count: int) -> list[Path]:
    """The policy so many times, under other names."""
    text = policy.read_text("utf-8")
    name = schema.load(policy).name
    paths = []
    for number_ in range(count):
        path = folder / f"copy-{number_}.yaml"
        path.write_text(
            re.sub(
                rf"^name: *{re.escape(name)} *$", f"name: copy-{number_}", text, count=1, flags=re.M
            )
        )
        paths.append(path)
    return paths


@contextlib.contextmanager
def everything(options: Options, notes: list[str]) -> Iterator[dict[str, Server]]:
    """All servers, by name, in the order of the tables."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        upstream = stack.enter_context(servers.mock_upstream(folder))
        targets = {DIRECT: upstream}
        ten = copies(options.policy, folder, 10)
        for name, chosen in ((BARE, []), (ONE, ten[:1]), (TEN, ten)):
            targets[name] = stack.enter_context(
                servers.doorman(name, upstream.port, chosen, options.classifiers, folder)
            )
        if options.litellm_venv is not None:
            try:
                targets[LITELLM] = stack.enter_context(
                    servers.litellm_proxy(LITELLM, upstream.port, options.litellm_venv, folder)
                )
            except StartFailed as error:
                print(error, file=sys.stderr)
                notes.append("litellm's proxy was left out: it did not start.")
        yield targets


def measure(options: Options) -> Result:
    """Run everything."""
    notes: list[str] = []
    versions: list[tuple[str, str]] = []
    if options.litellm_venv is not None:
        try:
            versions.append((LITELLM, servers.litellm_venv(options.litellm_venv)))
        except StartFailed as error:
            notes.append(f"litellm's proxy was left out: {error}.")
            options = replace(options, litellm_venv=None)
    else:
        notes.append("litellm's proxy was left out (`--no-litellm`).")
    with everything(options, notes) as targets:
        generator = Generator()
        measurement = Measurement(options, targets, generator)
        measurement.run()
        generator.close()
        memory = server_table(targets)
    figures = measurement.figures
    ratios, checks = figures.ratio_table()
    tables = (
        *(figures.latency_table(concurrency) for concurrency in CONCURRENCY),
        ratios,
        *(figures.stream_table(model) for model in STREAMS),
        memory,
    )
    notes.append(f"{options.rounds} rounds, at most {options.seconds:g} s a cell.")
    actions = ", ".join(f"{name} {count}" for name, count in figures.actions.most_common())
    notes.append(f"What Doorman did with the requests: {actions or 'nothing'}.")
    failures = ", ".join(f"{name} {count}" for name, count in figures.failures.most_common())
    notes.append(f"Failed requests: {failures or 'none'}.")
    return Result("gateway", tables, checks, tuple(notes), tuple(versions))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=4.0, help="longest time of a cell")
    parser.add_argument("--policy", type=Path, default=ROOT / "policies" / "front-line.yaml")
    parser.add_argument(
        "--classifiers", default="", help="shipped ones to load, by comma; default: all"
    )
    parser.add_argument("--litellm-venv", type=Path, default=ROOT / "build" / "litellm-venv")
    parser.add_argument("--no-litellm", action="store_true", help="leave litellm's proxy out")
    parser.add_argument("--json", type=Path, help="keep the figures there")
    given = parser.parse_args()
    options = Options(
        given.rounds,
        given.seconds,
        given.policy,
        tuple(filter(None, given.classifiers.split(","))),
        None if given.no_litellm else given.litellm_venv,
    )
    measure(options).write(given.json)


if __name__ == "__main__":
    main()
