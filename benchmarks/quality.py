"""Quality of the shipped packs on public splits, and false positives of the default policy.

    python -m benchmarks.quality --data DIR [--cache DIR] [--limit N] [--only PART,...] [--json FILE]

Verdicts are those of serving: each classifier's default operating points, long texts in windows, and for the
policy the gateway's own path from a request's body to a decision. Prints figures only, never a text.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks import quality_packs, quality_policy, quality_training
from benchmarks.judging import Bench, Options, Part
from benchmarks.report import Check, Result, Table
from classifiers.packs import SHIPPED_HEADS

PARTS: dict[str, Callable[[Bench], Part]] = {
    "spam": quality_packs.spam,
    "jailbreak": quality_packs.jailbreak,
    "injection": quality_packs.injection,
    "safety": quality_packs.safety,
    "chat": quality_packs.chat,
    "clinc150": quality_training.clinc150,
    "false_positives": quality_policy.false_positives,
}


def measure(options: Options, parts: Sequence[str]) -> Result:
    """Run the parts."""
    bench = Bench(options)
    notes = []
    if missing := [name for name in SHIPPED_HEADS if name not in bench.heads]:
        notes.append(f"Not built, so not measured: {', '.join(missing)}.")
        if "false_positives" in parts:
            notes.append(
                "The default policy needs all packs: its false positives were not measured."
            )
            parts = [part for part in parts if part != "false_positives"]
    if options.limit:
        notes.append(f"A trial: at most {options.limit} rows of each file.")
    tables: list[Table] = []
    checks: list[Check] = []
    for part in parts:
        started = time.perf_counter()
        more_tables, more_checks = PARTS[part](bench)
        tables += more_tables
        checks += more_checks
        print(f"{part}: {time.perf_counter() - started:.0f} s", file=sys.stderr, flush=True)
    return Result("quality", tuple(tables), tuple(checks), tuple(notes))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of the public data sets")
    parser.add_argument("--cache", type=Path, default=Path.home() / ".cache" / "doorman")
    parser.add_argument("--limit", type=int, help="rows of each file, for a trial")
    parser.add_argument(
        "--only", default=",".join(PARTS), help=f"parts, by comma: {', '.join(PARTS)}"
    )
    parser.add_argument("--json", type=Path, help="keep the figures there")
    given = parser.parse_args()
    parts = given.only.split(",")
    if unknown := set(parts) - set(PARTS):
        parser.error(f"no part {', '.join(unknown)}; there are {', '.join(PARTS)}")
    measure(Options(given.data, given.cache, given.limit), parts).write(given.json)


if __name__ == "__main__":
    main()
