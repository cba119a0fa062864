"""Look into the ledger, check it, take decisions out of it, or make its tables."""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import sys
import time
from collections.abc import Callable, Coroutine, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from proxy.commands.output import (
    CommandError,
    config_option,
    emit,
    faults,
    json_option,
    read_config,
)

if TYPE_CHECKING:
    from rich.console import Console

    from proxy.ledgers.database import Place

T = TypeVar("T")
_UNITS = {"m": 60, "h": 3600, "d": 86_400}
_FILTERS = ("action", "key", "model", "policy", "rule", "label", "state")
COLUMNS = {
    "time": "time (UTC)",
    "decision_id": "decision",
    "action": "action",
    "status": "status",
    "key": "key",
    "model": "model",
    "rule": "rule",
    "label": "label",
    "saved_usd": "saved $",
}
"""Columns of the table and what stands over them."""
SPARED = ("label", "key", "model", "rule")
"""Those that are left out where the terminal is too narrow for all, the first one first."""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    commands = parser.add_subparsers(dest="what", required=True, metavar="WHAT")
    show = commands.add_parser("show", help="the newest decisions, or one with all it says")
    show.add_argument("decision_id", nargs="?", metavar="DECISION_ID")
    show.add_argument("--limit", type=int, default=20, help="how many (default: 20)")
    for name in _FILTERS:
        show.add_argument(f"--{name}", help=f"those of this {name} alone")
    json_option(show)
    verify = commands.add_parser("verify", help="check the ledger; status 1 if it has a fault")
    json_option(verify)
    export = commands.add_parser("export", help="write decisions to a file, oldest first")
    export.add_argument("--format", choices=("jsonl", "parquet"), default="jsonl")
    export.add_argument("--since", help="a time such as 2026-01-31 or 2026-01-31T12:00, or 7d, 12h")
    export.add_argument(
        "-o", "--output", type=Path, metavar="FILE", help="default: standard output"
    )
    migrate = commands.add_parser("migrate", help="make the tables, or bring them up to date")
    for command in (show, verify, export, migrate):
        config_option(command)


def run(options: argparse.Namespace) -> int:
    """Exit status 1: a fault was found, or there is no such decision."""
    return RUN[options.what](options)


def place_of(options: argparse.Namespace) -> Place:
    """Where the ledger of a config is.

    Raises:
        CommandError: there is none.
    """
    from proxy.config_ledger import NONE
    from proxy.ledgers.database import Place

    settings = read_config(options.config, secrets="ledger").ledger
    with faults():
        if settings.url == NONE:
            raise CommandError("ledger.url is none: there is no ledger; set ledger.url")
        return Place.of(settings.placed(Path.cwd()).url, wait_seconds=settings.wait_seconds)


def done(place: Place, work: Coroutine[Any, Any, T]) -> T:
    """What becomes of work on a ledger.

    Raises:
        CommandError: it cannot be read.
    """
    from proxy.ledgers.database import Away, Refused

    with faults():
        try:
            return asyncio.run(work)
        except (Away, Refused) as error:
            raise CommandError(
                f"the ledger {place.shown} cannot be read: {error}; name its config with -c, or make "
                "its tables by `doorman ledger migrate`"
            ) from None


def _migrate(options: argparse.Namespace) -> int:
    from proxy.ledgers.database import migrate

    place = place_of(options)
    with faults():
        migrate(place)
    print(f"The tables of {place.shown} are up to date.")
    return 0


def _show(options: argparse.Namespace) -> int:
    from proxy.ledgers.read import Reader

    place = place_of(options)
    if options.limit < 1:
        raise CommandError(f"--limit {options.limit} shows nothing; use 1 or more")
    wanted = {name: getattr(options, name) for name in _FILTERS}
    filters = {name: value for name, value in wanted.items() if value is not None}

    async def find() -> list[dict[str, Any]]:
        reader = Reader(place)
        try:
            if options.decision_id is None:
                return await reader.page(filters, limit=options.limit)
            one = await reader.one(options.decision_id)
            return [] if one is None else [one]
        finally:
            await reader.close()

    rows = done(place, find())
    if options.decision_id is not None:
        if not rows:
            print(f"doorman: there is no decision {options.decision_id}", file=sys.stderr)
            return 1
        whole = {"state": rows[0]["state"], **json.loads(rows[0]["record"])}
        print(json.dumps(whole, indent=2, ensure_ascii=False))
        return 0
    shown = [{name: value for name, value in row.items() if name != "record"} for row in rows]
    emit(options, shown, lambda console: _table(console, shown))
    return 0


def _table(console: Console, rows: list[dict[str, Any]]) -> None:
    """Whole columns: what does not fit is left out and named, never cut."""
    from rich.markup import escape
    from rich.table import Table

    lines = [_cells(row) for row in rows]
    wide = {
        name: max([len(title), *(len(line[name]) for line in lines)])
        for name, title in COLUMNS.items()
    }
    shown, left = list(COLUMNS), list[str]()
    for name in SPARED:
        if sum(wide[n] + 2 for n in shown) <= console.width:
            break
        shown.remove(name)
        left.append(name)
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for name in shown:
        table.add_column(
            COLUMNS[name], no_wrap=True, justify="right" if name == "saved_usd" else "left"
        )
    for line in lines:
        table.add_row(*(escape(line[name]) for name in shown))
    console.print(table)
    if left:
        told = f"Left out for want of room: {', '.join(left)}. A wider terminal shows all, so does --json."
        console.print(told)


def _cells(row: Mapping[str, Any]) -> dict[str, str]:
    cells = {name: "" if row[name] is None else str(row[name]) for name in COLUMNS}
    cells["time"] = datetime.fromtimestamp(row["time"], UTC).strftime("%Y-%m-%d %H:%M:%S")
    if row["state"] != "done":
        cells["status"] = row["state"]
    if row["saved_usd"] is not None:
        cells["saved_usd"] = f"{row['saved_usd']:.5f}"
    return cells


def _verify(options: argparse.Namespace) -> int:
    from dataclasses import asdict

    from proxy.ledgers.verify import verify

    place = place_of(options)
    checks = done(place, verify(place))

    def draw(console: Console) -> None:
        for check in checks:
            verdict = f"[red]FAULT[/] {check.fault}" if check.fault else "[green]ok[/]"
            console.print(f"{check.name}: {check.found}: {verdict}")

    emit(options, [asdict(check) for check in checks], draw)
    return int(any(check.fault for check in checks))


def _export(options: argparse.Namespace) -> int:
    from proxy.ledgers.export import jsonl, parquet

    place, since = place_of(options), since_of(options.since, time.time())
    file: Path | None = options.output
    if options.format == "parquet" and file is None:
        raise CommandError("Parquet cannot be written to standard output; name a file with -o")
    try:
        if options.format == "parquet" and file is not None:
            count = done(place, parquet(place, since, file))
        elif file is None:
            count = done(place, jsonl(place, since, sys.stdout.buffer))
        else:
            with file.open("wb") as out:
                count = done(place, jsonl(place, since, out))
    except BrokenPipeError:
        raise
    except OSError as error:
        raise CommandError(f"{file}: cannot be written ({error.strerror}); name another") from None
    print(f"{count} decisions", file=sys.stderr)
    return 0


def since_of(text: str | None, now: float) -> float:
    """Unix seconds of a time in words; UTC where it names no zone.

    Raises:
        CommandError: it is none.
    """
    if text is None:
        return 0.0
    if ago := re.fullmatch(r"(\d+)([mhd])", text):
        return now - int(ago[1]) * _UNITS[ago[2]]
    try:
        given = datetime.fromisoformat(text)
    except ValueError:
        raise CommandError(
            f"--since {text!r} is no time; write 2026-01-31, 2026-01-31T12:00 or 7d"
        ) from None
    return (given if given.tzinfo else given.replace(tzinfo=UTC)).timestamp()


RUN: Mapping[str, Callable[[argparse.Namespace], int]] = {
    "show": _show,
    "verify": _verify,
    "export": _export,
    "migrate": _migrate,
}
