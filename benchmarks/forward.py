"""What the gateway itself costs: texts it has seen before, on one core.

    python -m benchmarks.forward [--rounds N] [--only NAME,...] [--json FILE]

Every server is kept to one core, the mock upstream and the load generator to the other. They take turns in
many short rounds, in an order that changes. CPU time is the server's own, and hardly depends on what
else the machine does; compare the rest with ``direct`` and ``bare`` of the same run.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks import others, servers
from benchmarks.gateway import Generator
from benchmarks.load import Job, Report
from benchmarks.report import Result, Table, median, number
from benchmarks.servers import ROOT, Server, StartFailed
from benchmarks.streams import POLICY as STREAM_POLICY

DIRECT, BARE = "direct", "bare ASGI with aiohttp"
POLICY = ROOT / "policies" / "front-line.yaml"
REQUESTS = {1: 150, 16: 500}
"""Requests of a cell and round, by how many at once."""
STREAMS, PIECES = 20, 50
POOL = 16
IDLE_SECONDS = 5.0
USD_PER_CORE_HOUR = 0.04
"""About what clouds take for a core of a general machine."""


@dataclass(frozen=True, slots=True)
class Options:
    """What is measured.

    Attributes:
        only: servers by name; empty for all.
        litellm_venv, portkey: where those are installed; None leaves them out.
    """

    rounds: int
    only: tuple[str, ...] = ()
    litellm_venv: Path | None = None
    portkey: Path | None = None


@dataclass(slots=True)
class Cell:
    """What the rounds of one server and concurrency gave; ``cpu`` in milliseconds a request."""

    p50: list[float] = field(default_factory=list)
    rate: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    first: list[float] = field(default_factory=list)


class Run:
    """The servers, the generator, and what has been counted so far."""

    def __init__(self, targets: dict[str, Server], streams: Sequence[str]) -> None:
        self.targets = targets
        self.generator = Generator()
        self.cells = {(name, at_once): Cell() for name in targets for at_once in REQUESTS}
        self.streams = {name: Cell() for name in streams}
        self.headers: dict[str, str] = {}
        """Further headers of the requests to a server."""
        self.failures: Counter[str] = Counter()
        self.actions: Counter[str] = Counter()

    def round(self, order: random.Random, *, counted: bool) -> None:
        """Every cell once."""
        keys = [*self.cells, *((name, 0) for name in self.streams)]
        for name, at_once in order.sample(keys, len(keys)):
            if at_once:
                self._cell(name, at_once, counted)
            else:
                self._stream(name, counted)

    def _cell(self, name: str, at_once: int, counted: bool) -> None:
        server = self.targets[name]
        count = REQUESTS[at_once] if counted else 2 * POOL
        # Connections and the pool's texts are old before the clock starts.
        headers = self.headers.get(name, "")
        job = Job(server.port, "mock", at_once, count, 20.0, 1, pool=POOL, headers=headers)
        before = server.cpu_seconds()
        report = self._send(job)
        used = server.cpu_seconds() - before
        if len(report.milliseconds) < count:
            self.failures[name] += count - len(report.milliseconds)
        if counted and report.milliseconds:
            cell = self.cells[name, at_once]
            cell.p50.append(median(report.milliseconds))
            cell.rate.append(len(report.milliseconds) / report.elapsed)
            cell.cpu.append(used / (len(report.milliseconds) + POOL) * 1e3)

    def _stream(self, name: str, counted: bool) -> None:
        server = self.targets[name]
        count = STREAMS if counted else 2
        # Sent at once: what is waited for is the gateway, and not for more text.
        first = self._send(Job(server.port, "mock", 1, count, 20.0, 1, pool=4, stream=True))
        job = Job(server.port, "mock-paced", 1, count, 20.0, 1, pool=4, stream=True)
        before = server.cpu_seconds()
        report = self._send(job)
        used = server.cpu_seconds() - before
        if counted and report.milliseconds:
            cell = self.streams[name]
            cell.first.append(median(first.first_byte))
            cell.cpu.append(used / ((len(report.milliseconds) + 4) * PIECES) * 1e3)

    def _send(self, job: Job) -> Report:
        report = self.generator.run(job)
        self.failures.update(report.failures)
        self.actions.update(report.actions)
        return report

    def request_table(self) -> Table:
        """Latency, throughput and CPU."""
        base = median(self.cells[DIRECT, 1].p50)
        rows = []
        for name in self.targets:
            one, many = self.cells[name, 1], self.cells[name, 16]
            p50 = median(one.p50)
            rows.append(
                (
                    name,
                    number(p50, 3),
                    number(p50 - base, 3),
                    number(min(one.p50) - min(self.cells[DIRECT, 1].p50), 3),
                    number(median(many.rate), 0),
                    number(max(many.rate), 0),
                    number(median(one.cpu), 3),
                    number(median(many.cpu), 3),
                    number(min(many.cpu), 3),
                )
            )
        columns = (
            "server", "p50 ms, one client", "added", "added, best round", "req/s, 16 clients",
            "best round", "CPU ms/request, one", "CPU ms/request, 16", "best round",
        )  # fmt: skip
        return Table("Requests whose texts were seen before, one core", columns, tuple(rows))

    def ratio_table(self) -> Table:
        """What a request costs in money, and how often Doorman would have answered meanwhile."""
        own = [name for name in self.targets if name.startswith("Doorman")]
        rows = []
        for name in self.targets:
            if name == DIRECT:
                continue
            many = self.cells[name, 16]
            cpu = median(many.cpu)
            times = [number(cpu / median(self.cells[of, 16].cpu), 1) for of in own]
            rows.append((name, number(cpu / 1e3 * 1e6 / 3600 * USD_PER_CORE_HOUR, 4), *times))
        columns = ("server", "USD per million requests", *(f"times {name}" for name in own))
        note = f"By CPU time at 16 clients; {USD_PER_CORE_HOUR} USD for a core and hour."
        return Table("CPU time as money, and compared", columns, tuple(rows), note)

    def stream_table(self) -> Table:
        """What streams cost."""
        if not self.streams:
            return Table("Streams", ("server",), ())
        base = median(self.streams[DIRECT].first)
        rows = tuple(
            (
                name,
                number(median(cell.first), 3),
                number(median(cell.first) - base, 3),
                number(median(cell.cpu), 3),
            )
            for name, cell in self.streams.items()
        )
        columns = ("server", "first byte ms", "added", "CPU ms a piece")
        return Table(f"Streams of {PIECES} pieces, one at a time", columns, rows)


def idle_table(targets: dict[str, Server]) -> Table:
    """Start, memory, and what a server does when nobody asks anything."""
    before = {name: server.cpu_seconds() for name, server in targets.items()}
    started = time.perf_counter()
    time.sleep(IDLE_SECONDS)
    seconds = time.perf_counter() - started
    rows = tuple(
        (
            name,
            number(server.start_seconds),
            number(server.memory(), 0),
            number((server.cpu_seconds() - before[name]) / seconds * 100),
        )
        for name, server in targets.items()
        if name != DIRECT
    )
    return Table("At rest", ("server", "seconds to ready", "MiB resident", "CPU %"), rows)


@contextlib.contextmanager
def everything(options: Options, notes: list[str]) -> Iterator[tuple[dict[str, Server], list[str]]]:
    """All servers, by name, and which of them are asked for streams."""
    only = options.only
    cores = sorted(os.sched_getaffinity(0))
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        os.sched_setaffinity(0, cores[1:] or cores)
        pace = ["--pieces", str(PIECES), "--piece-seconds", "0.002"]
        upstream = stack.enter_context(servers.mock_upstream(folder, pace))
        os.sched_setaffinity(0, cores[:1])

        def gateway(
            name: str, policies: Sequence[Path], **options: object
        ) -> contextlib.AbstractContextManager[Server]:
            return servers.doorman(name, upstream.port, policies, [], folder, options)

        def streams(name: str, mode: str) -> contextlib.AbstractContextManager[Server]:
            path = folder / f"{mode}.yaml"
            path.write_text(STREAM_POLICY.format(mode=mode), "utf-8")
            return gateway(name, [path], ledger={"url": "none"})

        makers: dict[str, Callable[[str], contextlib.AbstractContextManager[Server]]] = {
            BARE: lambda name: servers.bare(name, upstream.port, folder),
            "Doorman": lambda name: gateway(name, [POLICY]),
            "Doorman with a relaxed ledger": lambda name: gateway(
                name, [POLICY], ledger={"url": _ledger(folder, "r"), "durability": "relaxed"}
            ),
            "Doorman without a ledger": lambda name: gateway(
                name, [POLICY], ledger={"url": "none"}
            ),
            "Doorman without policies": lambda name: gateway(name, [], ledger={"url": "none"}),
            "stream_check: off": lambda name: streams(name, "off"),
            "stream_check: hold": lambda name: streams(name, "hold"),
        }
        makers |= {others.NGINX: lambda _: others.nginx(upstream.port, folder)}
        if (venv := options.litellm_venv) is not None:
            makers |= {others.LITELLM: lambda _: others.litellm(upstream.port, venv, folder)}
        if (package := options.portkey) is not None:
            makers |= {others.PORTKEY: lambda _: others.portkey(package, folder)}
        targets = {DIRECT: upstream}
        for name, make in makers.items():
            if not only or name in only:
                try:
                    targets[name] = stack.enter_context(make(name))
                except StartFailed as error:
                    notes.append(f"{name} was left out: {str(error).splitlines()[0]}")
        os.sched_setaffinity(0, cores[1:] or cores)
        asked = [name for name in targets if name in (DIRECT, BARE) or name.startswith("stream")]
        yield targets, asked if len(asked) > 2 or not only else []
        os.sched_setaffinity(0, cores)


def _ledger(folder: Path, name: str) -> str:
    return f"sqlite:///{folder / name}.db"


def measure(options: Options) -> Result:
    """Run everything, after a round that does not count."""
    order, rounds, notes = random.Random(6), options.rounds, list[str]()
    with everything(options, notes) as (targets, streams):
        run = Run(targets, streams)
        run.headers[others.PORTKEY] = others.portkey_headers(targets[DIRECT].port)
        for turn in range(-1, rounds):
            run.round(order, counted=turn >= 0)
            print(f"round {turn + 1} of {rounds}", file=sys.stderr, flush=True)
        run.generator.close()
        rest = idle_table(targets)
    failures = ", ".join(f"{name} {count}" for name, count in run.failures.items())
    actions = ", ".join(f"{name} {count}" for name, count in run.actions.items())
    notes += (
        f"{rounds} rounds; load average {os.getloadavg()[0]:.1f}.",
        f"What Doorman did with the requests: {actions or 'nothing'}.",
        f"Failed requests: {failures or 'none'}.",
    )
    tables = (run.request_table(), run.ratio_table(), run.stream_table(), rest)
    return Result("forward", tables, (), tuple(notes))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--only", default="", help="servers by name, by comma; default: all")
    parser.add_argument(
        "--litellm-venv", type=Path, help="an environment with litellm[proxy] in it"
    )
    parser.add_argument("--portkey", type=Path, help="where npm has installed @portkey-ai/gateway")
    parser.add_argument("--json", type=Path, help="keep the figures there")
    given = parser.parse_args()
    only = tuple(filter(None, given.only.split(",")))
    measure(Options(given.rounds, only, given.litellm_venv, given.portkey)).write(given.json)


if __name__ == "__main__":
    main()
