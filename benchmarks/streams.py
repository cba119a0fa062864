"""What output rules add to a stream: time to the first text and to the next, for every ``stream_check``.

    python -m benchmarks.streams [--rounds N] [--streams N] [--pieces N] [--piece-seconds S] [--json FILE]

All servers run at once and take turns within each round, in an order that changes, before one mock upstream.
A round sends all its streams at the same time, each on a connection of its own; every request is new.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import random
import re
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import uvloop

from benchmarks import servers
from benchmarks.gateway_figures import BARE, DIRECT
from benchmarks.load import body
from benchmarks.report import Result, Table, median, number, percentile
from benchmarks.servers import Server

MODES = ("off", "after", "hold")
_CONTENT = re.compile(rb'"content":\s?"[^"]')
POLICY = """name: streams-{mode}
stream_check: {mode}
rules:
  - name: no-harm
    when: {{safety: [illicit/violent, violence/graphic]}}
    check: output
    do: {{block: "I can't help with that."}}
"""


@dataclass(frozen=True, slots=True)
class Options:
    """What is measured."""

    rounds: int
    streams: int
    pieces: int
    piece_seconds: float


@dataclass(slots=True)
class Times:
    """Milliseconds, one figure for each stream that came whole."""

    first: list[float] = field(default_factory=list)
    mean_next: list[float] = field(default_factory=list)
    longest: list[float] = field(default_factory=list)
    whole: list[float] = field(default_factory=list)
    failures: int = 0

    def take(self, started: float, arrivals: list[float], ended: float) -> None:
        """Count a stream by when each of its pieces of text came."""
        gaps = [later - earlier for earlier, later in pairwise(arrivals)]
        self.first.append((arrivals[0] - started) * 1e3)
        self.mean_next.append((arrivals[-1] - arrivals[0]) / len(gaps) * 1e3)
        self.longest.append(max(gaps) * 1e3)
        self.whole.append((ended - started) * 1e3)


async def one_stream(port: int, content: bytes, pieces: int, times: Times) -> None:
    """Ask for a stream and note when each of its pieces of text comes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 20)
    try:
        started = time.perf_counter()
        writer.write(
            b"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n"
            b"content-type: application/json\r\nauthorization: Bearer sk-benchmark\r\n"
            b"content-length: %d\r\n\r\n" % len(content) + content
        )
        arrivals: list[float] = []
        ended = False
        async for line in reader:
            if line.startswith(b"data: "):
                ended = line.startswith(b"data: [DONE]")
                if _CONTENT.search(line):
                    arrivals.append(time.perf_counter())
            if ended:
                break
        # A piece more or less: the reply's length is not a multiple of their size.
        if not ended or len(arrivals) < 0.8 * pieces:
            times.failures += 1
        else:
            times.take(started, arrivals, time.perf_counter())
    finally:
        writer.close()


async def one_round(server: Server, options: Options, seed: int, times: Times) -> None:
    """All streams of a round at once."""
    source = random.Random(seed)
    bodies = [body(source, "mock-paced", True) for _ in range(options.streams)]
    async with asyncio.timeout(120):
        await asyncio.gather(
            *(one_stream(server.port, content, options.pieces, times) for content in bodies)
        )


@contextlib.contextmanager
def everything(options: Options) -> Iterator[dict[str, Server]]:
    """All servers, by name, in the order of the table."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        pace = ["--pieces", str(options.pieces), "--piece-seconds", str(options.piece_seconds)]
        upstream = stack.enter_context(servers.mock_upstream(folder, pace))
        targets = {DIRECT: upstream}
        targets[BARE] = stack.enter_context(
            servers.doorman(BARE, upstream.port, [], ["safety"], folder)
        )
        for mode in MODES:
            policy = folder / f"{mode}.yaml"
            policy.write_text(POLICY.format(mode=mode), "utf-8")
            targets[mode] = stack.enter_context(
                servers.doorman(mode, upstream.port, [policy], ["safety"], folder)
            )
        yield targets


def table(figures: dict[str, Times], options: Options) -> Table:
    """Medians and p99, with what each adds to ``direct``."""
    rows = []
    direct = figures[DIRECT]
    for name, times in figures.items():
        cells: list[str] = []
        for what in ("first", "mean_next", "longest", "whole"):
            own, base = getattr(times, what), getattr(direct, what)
            p50 = median(own)
            cells += [
                number(p50),
                number(percentile(own, 99)),
                number(p50 - median(base)),
                number(p50 / median(base), 3),
            ]
        rows.append((name if name in (DIRECT, BARE) else f"stream_check: {name}", *cells))
    columns = ["server"]
    for what in ("first text ms", "next text ms, mean", "longest pause ms", "whole ms"):
        columns += [what, "p99", "added", "ratio"]
    title = (
        f"{options.streams} streams at once, {options.pieces} pieces, one every "
        f"{options.piece_seconds * 1e3:g} ms"
    )
    return Table(title, tuple(columns), tuple(rows), "Added and ratio: of the medians.")


def measure(options: Options) -> Result:
    """Run everything, after a round that does not count."""
    order = random.Random(5)
    with everything(options) as targets:
        figures = {name: Times() for name in targets}
        for turn in range(-1, options.rounds):
            for place, name in enumerate(order.sample(list(targets), len(targets))):
                times = figures[name] if turn >= 0 else Times()
                seed = 1_000 * (turn + 2) + place
                uvloop.run(one_round(targets[name], options, seed, times))
            print(f"round {turn + 1} of {options.rounds}", file=sys.stderr, flush=True)
    failures = ", ".join(f"{name} {t.failures}" for name, t in figures.items() if t.failures)
    notes = (f"{options.rounds} rounds.", f"Streams that did not come whole: {failures or 'none'}.")
    return Result("streams", (table(figures, options),), (), notes)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--streams", type=int, default=64)
    parser.add_argument("--pieces", type=int, default=50)
    parser.add_argument("--piece-seconds", type=float, default=0.02)
    parser.add_argument("--json", type=Path, help="keep the figures there")
    given = parser.parse_args()
    options = Options(given.rounds, given.streams, given.pieces, given.piece_seconds)
    measure(options).write(given.json)


if __name__ == "__main__":
    main()
