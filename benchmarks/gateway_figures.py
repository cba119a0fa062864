"""What the gateway benchmark has counted, and the tables it comes to."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field

from benchmarks.report import Check, Table, median, number, percentile

CONCURRENCY = (1, 16, 64)
PROMISED_RATIO = 1.05
DIRECT, BARE, ONE, TEN = (
    "direct",
    "Doorman, no policy",
    "Doorman, 1 policy",
    "Doorman, 10 policies",
)
LITELLM = "litellm proxy"


@dataclass(frozen=True, slots=True)
class Cell:
    """What is sent in one go: to which server, new texts or seen ones, how many at once."""

    server: str
    seen: bool
    concurrency: int


@dataclass(slots=True)
class Tally:
    """What a cell's rounds gave; ``cpu`` is in seconds."""

    p50: list[float] = field(default_factory=list)
    rate: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    every: list[float] = field(default_factory=list)

    def cpu_milliseconds(self) -> float:
        """Per request, over all rounds: the system counts in steps of ten milliseconds."""
        return sum(self.cpu) / len(self.every) * 1e3 if self.every else float("nan")


@dataclass(slots=True)
class Figures:
    """Everything counted so far.

    Attributes:
        servers: names, in the order of the tables.
        streams: milliseconds by server, by the mock's model, by what was timed.
    """

    servers: tuple[str, ...]
    cells: dict[Cell, Tally] = field(default_factory=lambda: defaultdict(Tally))
    streams: dict[tuple[str, str], dict[str, list[float]]] = field(
        default_factory=lambda: defaultdict(lambda: defaultdict(list))
    )
    failures: Counter[str] = field(default_factory=Counter)
    actions: Counter[str] = field(default_factory=Counter)

    def latency_table(self, concurrency: int) -> Table:
        rows = []
        base = median(self.cells[Cell(DIRECT, False, concurrency)].p50)
        for name in self.servers:
            for seen in (False, True):
                tally = self.cells.get(Cell(name, seen, concurrency))
                if tally is None or not tally.p50:
                    continue
                which = ("seen texts" if seen else "new texts") if name in (ONE, TEN) else ""
                p50 = median(tally.p50)
                figures = (p50, p50 - base, percentile(tally.every, 99))
                rows.append(
                    (
                        f"{name}, {which}" if which else name,
                        *(number(value) for value in figures),
                        number(median(tally.rate), 0),
                        number(tally.cpu_milliseconds()),
                        str(len(tally.every)),
                    )
                )
        columns = (
            "server",
            "p50 ms",
            "added ms",
            "p99 ms",
            "requests/s",
            "CPU ms/request",
            "requests",
        )
        return Table(f"Plain requests, {concurrency} at once", columns, tuple(rows))

    def ratio_table(self) -> tuple[Table, tuple[Check, ...]]:
        """Ten policies over one, round by round."""
        rows, checks = [], []
        for seen in (False, True):
            for concurrency in CONCURRENCY:
                one = self.cells[Cell(ONE, seen, concurrency)]
                ten = self.cells[Cell(TEN, seen, concurrency)]
                slower = median([t / o for t, o in zip(ten.p50, one.p50, strict=False)])
                busier = ten.cpu_milliseconds() / (one.cpu_milliseconds() or float("nan"))
                rate = median([o / t for t, o in zip(ten.rate, one.rate, strict=False)])
                texts = "seen" if seen else "new"
                rows.append(
                    (texts, str(concurrency), number(slower, 3), number(rate, 3), number(busier, 3))
                )
                if not seen:
                    checks.append(
                        Check(
                            f"ten policies / one, end to end p50, new texts, {concurrency} at once",
                            number(slower, 3),
                            f"<= {PROMISED_RATIO}",
                            slower <= PROMISED_RATIO,
                        )
                    )
        columns = ("texts", "at once", "p50", "seconds per request", "CPU")
        note = "Medians of the ratios of the same round; CPU over all rounds."
        return Table("Ten policies / one policy", columns, tuple(rows), note), tuple(checks)

    def stream_table(self, model: str) -> Table:
        rows = []
        base = self.streams[DIRECT, model]
        for name in self.servers:
            own = self.streams[name, model]
            figures = [median(own[key]) for key in ("first_byte", "first_content", "whole")]
            added = [value - median(base[key]) for value, key in zip(figures, base, strict=False)]
            pairs = [x for pair in zip(figures, added, strict=True) for x in pair]
            rows.append((name, *(number(value) for value in pairs), str(len(own["whole"]))))
        columns = (
            "server", "first byte ms", "added", "first content ms", "added", "whole ms", "added", "streams",
        )  # fmt: skip
        paced = "about 100 pieces a second" if model == "mock-paced" else "all pieces at once"
        note = (
            "First content is the first piece of text, which output rules hold back until it is checked "
            "(`streaming.hold_chars`)."
        )
        return Table(f"Streams, {paced}, one at a time, new texts", columns, tuple(rows), note)
