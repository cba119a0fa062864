"""What was saved and how: calls avoided, dollars, mistakes among them, and what the gateway itself took."""

from __future__ import annotations

import argparse
import time
from typing import TYPE_CHECKING, Any

from proxy.commands.ledger import done, place_of, since_of
from proxy.commands.output import config_option, emit, json_option

if TYPE_CHECKING:
    from rich.console import Console

    from proxy.ledgers.savings import Savings, Sums

BY = ("day", "policy", "model")


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "--since",
        default="30d",
        help="a time such as 2026-01-31, or 7d; whole UTC days are counted (default: 30d)",
    )
    parser.add_argument("--by", choices=BY, default="day", help="rows of the table (default: day)")
    config_option(parser)
    json_option(parser)


def run(options: argparse.Namespace) -> int:
    """Print the report."""
    from proxy.ledgers.rows import day_of
    from proxy.ledgers.savings import savings

    place, since = place_of(options), since_of(options.since, time.time())

    async def report() -> Savings:
        from proxy.ledgers.read import Reader

        reader = Reader(place)
        try:
            return await savings(reader, day_of(since), options.by)
        finally:
            await reader.close()

    found = done(place, report())
    emit(options, shown(found), lambda console: _draw(console, found))
    return 0


def shown(found: Savings) -> dict[str, Any]:
    """The report as JSON, with how each figure is computed."""
    from dataclasses import asdict

    from proxy.ledgers.savings import HOW

    return {
        "since": found.since,
        "by": found.by,
        "total": _sums(found.total),
        "net_usd": found.net_usd,
        "groups": [_sums(group) for group in found.groups],
        "unpriced_by_model": dict(found.unpriced),
        "mistakes": asdict(found.mistakes),
        "gateway": asdict(found.taken),
        "how": dict(HOW),
    }


def _sums(sums: Sums) -> dict[str, Any]:
    return {
        "name": sums.name,
        "requests": sums.requests,
        "avoided": sums.avoided,
        "stopped": sums.stopped,
        "routed": sums.routed,
        "saved_usd": sums.saved_usd,
        "saved_usd_by_way": sums.saved,
        "cost_usd": sums.cost_usd,
        "unpriced": sums.unpriced,
        "uncosted": sums.uncosted,
    }


def _draw(console: Console, found: Savings) -> None:
    from rich.markup import escape
    from rich.table import Table

    table = Table(title=f"Since {found.since} (UTC)", box=None, pad_edge=False)
    table.add_column(found.by)
    for name in (
        "requests",
        *found.total.avoided,
        "route",
        "stopped",
        "saved",
        "spent",
        "no price",
    ):
        table.add_column(name, justify="right")
    for sums in (*found.groups, found.total):
        counts = (sums.requests, *sums.avoided.values(), sums.routed, sums.stopped)
        table.add_row(
            escape(sums.name or "(no rule)"),
            *(f"{count:,}" for count in counts),
            f"${sums.saved_usd:,.4f}",
            f"${sums.cost_usd:,.4f}",
            f"{sums.unpriced:,}",
        )
    console.print(table)
    for line in _told(found):
        console.print(escape(line))


def _told(found: Savings) -> list[str]:
    wrong, taken = found.mistakes, found.taken
    by_action = ", ".join(f"{count} {action}" for action, count in wrong.wrong.items())
    lines = [
        f"Called wrong: {sum(wrong.wrong.values())} of {wrong.checked} decisions that people spoke of"
        f"{f' ({by_action})' if by_action else ''}. ${wrong.saved_usd:,.4f} of the savings were theirs; "
        f"${wrong.cost_usd:,.4f} was spent on requests that should not have been forwarded.",
        f"Saved by decisions that nobody has called wrong: ${found.net_usd:,.4f}",
    ]
    if taken.p50_ms is not None:
        lines.append(
            f"The gateway itself took {taken.p50_ms:.1f} ms of a request (median; 95 %: "
            f"{taken.p95_ms:.1f}, 99 %: {taken.p99_ms:.1f}), and {taken.cpu_seconds:,.1f} s of CPU."
        )
    lines += [
        f"No price is known for {model}: {count:,} savings are not in the sum."
        for model, count in found.unpriced.items()
    ]
    return lines
