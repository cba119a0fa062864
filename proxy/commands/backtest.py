"""What another policy or pack would have done: doorman backtest --policy NEW.yaml [--against FILE.jsonl].

Recorded decisions are judged by their recorded scores, or by their texts where those were kept; the rows of a
file by their texts."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from proxy.commands.ledger import done, place_of, since_of
from proxy.commands.output import (
    CommandError,
    config_option,
    emit,
    faults,
    json_option,
    one_blas_thread,
    read_config,
)

if TYPE_CHECKING:
    from rich.console import Console

    from proxy.backtests.run import Run
    from proxy.config import Config
    from proxy.ledgers.database import Place

LEDGER = "ledger"
MOST = 100_000
Progress = Callable[[int], None]


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "--policy", action="append", type=Path, default=[], metavar="FILE",
        help="a candidate; takes the place of the configured policy of its name, or stands beside them",
    )  # fmt: skip
    parser.add_argument(
        "--pack", action="append", type=Path, default=[], metavar="FOLDER",
        help="a candidate pack; takes the place of the classifier of its name",
    )  # fmt: skip
    parser.add_argument(
        "--against", default=LEDGER, metavar="ledger|FILE",
        help="recorded decisions (default), or JSON lines, CSV or Parquet with a request a row",
    )  # fmt: skip
    parser.add_argument(
        "--since", default="7d", help="decisions since 2026-01-31, or of the last 7d (default), 12h"
    )
    parser.add_argument(
        "--limit", type=int, default=MOST, help=f"the newest so many decisions (default: {MOST:,})"
    )
    parser.add_argument("--text", metavar="COLUMN", help="of the texts of a file (default: found)")
    parser.add_argument("--jobs", type=int, help="processes that classify (default: one a core)")
    parser.add_argument("--cache", type=Path, metavar="FOLDER", help="of the features of texts")
    parser.add_argument(
        "-o", "--output", type=Path, metavar="FILE", help="write all of it, as .json or .html"
    )
    config_option(parser)
    json_option(parser)


def run(options: argparse.Namespace) -> int:
    """Judge, and say what changes. Exit status 0 whatever that is."""
    one_blas_thread()
    if not options.policy and not options.pack:
        raise CommandError("nothing to compare with; name a candidate with --policy or --pack")
    if options.limit < 1:
        raise CommandError(f"--limit {options.limit} judges nothing; use 1 or more")
    suffix = options.output.suffix if options.output else ".json"
    if suffix not in (".json", ".html"):
        raise CommandError(f"{options.output}: write .json or .html")
    found = _backtest(options)
    if options.output is not None:
        _write(options.output, found)
    emit(options, found, lambda console: _render(console, found))
    return 0


def _backtest(options: argparse.Namespace) -> dict[str, Any]:
    from classifiers.training.features import CACHE
    from proxy.backtests import sides
    from proxy.backtests.replay import load, replayer
    from proxy.backtests.result import figures
    from proxy.backtests.run import Run
    from proxy.backtests.tally import Tally, price_of
    from proxy.loading import cores

    recorded = options.against == LEDGER
    config = read_config(options.config, secrets="ledger" if recorded else False)
    place = place_of(options) if recorded else None
    with faults():
        memory = options.cache or CACHE
        old = [sides.read(path) for path in config.policies]
        new = sides.replaced(old, map(sides.read, options.policy))
        before = sides.side(config.classifiers, old, (), memory)
        after = sides.side(config.classifiers, new, options.pack, memory)
        both = sides.both(before, after)
        benches = load(both)
    try:
        policies = [bench.policies for bench in benches]
        with faults():
            packs = sides.exchanged(options.pack, policies[0], policies[1])
        replays = replayer(both, benches, options.jobs or cores())
        run = Run(policies[0], policies[1], replays, tally=Tally(price_of(config)))
        unusable: list[str] = []
        with _watched(run):
            if place is not None:
                done(place, _ledger(options, config, place, run))
            else:
                unusable = _file(options, config, run)
            with _readable():
                tally = run.finish()
        ids = [[policy.id for policy in side] for side in policies]
        return figures(tally, ids[0], ids[1], unusable, packs)
    finally:
        for bench in benches:
            bench.close()


async def _ledger(options: argparse.Namespace, config: Config, place: Place, run: Run) -> None:
    from proxy.backtests.cases import of_record
    from proxy.ledgers import traffic
    from proxy.ledgers.read import Reader

    since = since_of(options.since, time.time())
    altered = config.record.content != "full"
    reader = Reader(place)
    try:
        run.expect(await traffic.count(reader, since, options.limit))
        said = await traffic.opinions(reader, since)
        async for records in traffic.newest(reader, since, options.limit):
            for record in records:
                run.take(of_record(record, altered=altered, right=said.get(record["decision_id"])))
    finally:
        await reader.close()


def _file(options: argparse.Namespace, config: Config, run: Run) -> list[str]:
    """Judges the rows of a file; returns those that cannot be."""
    from proxy.backtests.given import Unusable, read

    unusable: list[str] = []
    with _readable():
        rows = list(read(Path(options.against), config.model_list[0].model_name, options.text))
    run.expect(len(rows))
    for row in rows:
        if isinstance(row, Unusable):
            unusable.append(f"{row.place}: {row.reason}")
            run.progress(1)
        else:
            run.take(row)
    if len(unusable) == len(rows):
        raise CommandError("\n".join(unusable[:5]))
    return unusable


@contextmanager
def _readable() -> Iterator[None]:
    """What is wrong with files of data, in words."""
    from proxy.backtests.spread import WorkerDied

    try:
        yield
    except ValueError as error:  # DataError too
        raise CommandError(str(error)) from None
    except WorkerDied:
        raise CommandError(
            "a process that classifies was ended from outside, perhaps for want of memory; use --jobs 1"
        ) from None


@contextmanager
def _watched(run: Run) -> Iterator[None]:
    """A bar on a terminal, else nothing."""
    if not sys.stderr.isatty():
        yield
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (TextColumn("judging"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("judging", total=None)
        run.expect = lambda total: bar.update(task, total=total)
        run.progress = lambda count: bar.advance(task, count)
        yield


def _write(path: Path, found: dict[str, Any]) -> None:
    from proxy.backtests.page import page

    text = (
        page(found) if path.suffix == ".html" else json.dumps(found, indent=2, ensure_ascii=False)
    )
    try:
        path.write_text(text, "utf-8", errors="replace")
    except OSError as error:
        raise CommandError(f"{path}: cannot be written ({error.strerror}); name another") from None


def _render(console: Console, found: dict[str, Any]) -> None:
    from rich.markup import escape
    from rich.table import Table

    from proxy.backtests.result import certain, lines

    changes = Table(title="decided otherwise")
    for head in ("before", "after", "requests", "for example"):
        changes.add_column(head, justify="right" if head == "requests" else "left")
    for change in found["changes"]:
        shown = [f"{one['text'] or one['id']} ({one['rule']})" for one in change["examples"][:3]]
        cells = (change["before"], change["after"], f"{change['requests']:,}", "\n".join(shown))
        changes.add_row(*map(escape, cells))
    rules = Table(title="rules that fired")
    for head in ("rule", "before", "after", "new", "gone"):
        rules.add_column(head, justify="left" if head == "rule" else "right")
    for rule in found["rules"]:
        before, new, gone = (f"{rule[head]:,}" for head in ("before", "new", "gone"))
        after = certain(rule["after"], rule["untold"])
        rules.add_row(escape(f"{rule['policy']}: {rule['rule']}"), before, after, new, gone)
    if found["changes"]:
        console.print(changes)
    console.print(rules)
    for line in lines(found):
        console.print(escape(line))
