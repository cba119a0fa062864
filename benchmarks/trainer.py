"""Figures of the trainer: how fast it is, what its heads reach, whether its promises hold.

    python -m benchmarks.trainer --data DIR [--cache DIR] [--only PART,...] [--quick] [--json FILE]

Heads are trained by the trainer's own methods and judged on rows that they were not trained on. Prints
figures only, never a text.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.report import Check, Result, Table
from benchmarks.servers import ROOT
from benchmarks.trainer_bench import Bench, Options, Part

PARTS = ("seconds", "public", "finetune", "setfit", "promise", "sources", "languages")
"""Each is a function of that name in ``trainer_NAME.py``."""


def part_of(name: str) -> Callable[[Bench], Part]:
    """The function of a part."""
    found: Callable[[Bench], Part] = getattr(
        importlib.import_module(f"benchmarks.trainer_{name}"), name
    )
    return found


def measure(options: Options, parts: Sequence[str]) -> Result:
    """Run the parts."""
    bench = Bench(options)
    notes = []
    if options.quick:
        notes.append("A trial: few rows; these figures mean nothing.")
    tables: list[Table] = []
    checks: list[Check] = []
    for part in parts:
        started = time.perf_counter()
        more_tables, more_checks, more_notes = part_of(part)(bench)
        tables += more_tables
        checks += more_checks
        notes += more_notes
        print(f"{part}: {time.perf_counter() - started:.0f} s", file=sys.stderr, flush=True)
    return Result("trainer", tuple(tables), tuple(checks), tuple(notes))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of the public data sets")
    parser.add_argument("--cache", type=Path, default=Path.home() / ".cache" / "doorman")
    parser.add_argument(
        "--only", default=",".join(PARTS), help=f"parts, by comma: {', '.join(PARTS)}"
    )
    parser.add_argument("--quick", action="store_true", help="few rows, for a trial")
    parser.add_argument("--setfit-venv", type=Path, default=ROOT / "build" / "setfit-venv")
    parser.add_argument(
        "--setfit-seconds", type=float, default=480.0, help="for all runs of setfit (default: 480)"
    )
    parser.add_argument("--json", type=Path, help="keep the figures there")
    given = parser.parse_args()
    parts = given.only.split(",")
    if unknown := set(parts) - set(PARTS):
        parser.error(f"no part {', '.join(unknown)}; there are {', '.join(PARTS)}")
    options = Options(given.data, given.cache, given.quick, given.setfit_venv, given.setfit_seconds)
    measure(options, parts).write(given.json)


if __name__ == "__main__":
    main()
