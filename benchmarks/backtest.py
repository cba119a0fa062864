"""How long a backtest takes: texts of a file with what the encoder made of them on disk, and recorded scores.

    python -m benchmarks.backtest --data DIR [--texts 10000] [--jobs N] [--cache FOLDER]

The texts are questions and requests of the public sets; the candidate is the shipped
policy with another threshold. The first run, which fills the cache, is not measured. Prints figures only.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from classifiers.training.data import read_jsonl
from policies.engine import evaluate
from proxy.backtests import sides
from proxy.backtests.cases import Case, of_record
from proxy.backtests.given import Unusable
from proxy.backtests.given import read as read_given
from proxy.backtests.replay import Bench, load, replayer
from proxy.backtests.run import Run
from proxy.config import SHIPPED_POLICY, defaults
from proxy.ledger import stage
from proxy.loading import cores

TEXTS = 10_000
SOURCES = (
    "benign/mmlu_sample",
    "benign/gpteacher_roleplay_codegen",
    "injection/deepset_prompt_injections",
)
BUDGET = "max_false_positive_rate: 0.35%"


def texts(folder: Path, most: int) -> list[str]:
    """So many different texts."""
    kept: dict[str, None] = {}
    for name in SOURCES:
        kept.update(dict.fromkeys(row["text"] for row in read_jsonl(folder / f"{name}.jsonl.gz")))
    if len(kept) < most:
        raise SystemExit(f"--texts {most}: there are {len(kept)} different ones")
    return list(kept)[:most]


def measured(run: Run, cases: list[Case]) -> float:
    """Seconds until all cases are judged."""
    started = time.perf_counter()
    for case in cases:
        run.take(case)
    tally = run.finish()
    assert tally.kept + sum(tally.changes.values()) == len(cases)
    return time.perf_counter() - started


def recorded(bench: Bench, cases: list[Case]) -> Iterator[Case]:
    """The same cases as the ledger has them by default: scores, and no text."""
    for first in range(0, len(cases), 256):
        some = cases[first : first + 256]
        names = frozenset[str]().union(*(policy.classifiers for policy in bench.policies))
        found = bench.engine.classify_blocking(
            [case.request[0].content for case in some if case.request], names
        )
        for case, result in zip(some, found, strict=True):
            decision = evaluate(bench.policies, "input", list(case.request or ()), [result])
            record = {
                "decision_id": case.id, "model": case.model, "key": None, "endpoint": "chat.completions",
                "policies": [policy.id for policy in bench.policies], "stages": {"input": stage(decision)},
                "texts": 1, "unscanned": [], "milliseconds": {}, "tokens": None, "cost_usd": None,
                "saved_usd": None, "content": [],
            }  # fmt: skip
            yield of_record(json.loads(json.dumps(record)))


def main() -> None:
    """Measure, and print what was found."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--texts", type=int, default=TEXTS)
    parser.add_argument("--jobs", type=int, default=cores())
    parser.add_argument(
        "--cache", type=Path, help="default: a folder that is made, filled and removed"
    )
    options = parser.parse_args()
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch) / "texts.jsonl"
        own = texts(options.data, options.texts)
        file.write_text("".join(f"{json.dumps({'text': text})}\n" for text in own))
        memory = options.cache or Path(scratch) / "cache"
        old = sides.read(SHIPPED_POLICY)
        assert BUDGET in old.text, f"{SHIPPED_POLICY.name} has no {BUDGET!r} to change"
        new = replace(
            old, text=old.text.replace(BUDGET, "at: 0.5").replace("version: 1", "version: 2")
        )
        config = defaults().classifiers
        both = sides.both(
            sides.side(config, [old], (), memory), sides.side(config, [new], (), memory)
        )
        benches = load(both)
        policies = [bench.policies for bench in benches]
        replay = replayer(both, benches, options.jobs)
        rows = [row for row in read_given(file, "default") if not isinstance(row, Unusable)]
        for what in ("first run, encoding", "encoder's work cached"):
            seconds = measured(Run(policies[0], policies[1], replay), rows)
            print(
                f"{len(rows)} texts, {options.jobs} processes, {what}: {seconds:.1f} s", flush=True
            )
        past = list(recorded(benches[0], rows[:2000]))
        seconds = measured(Run(policies[0], policies[1]), past)
        print(f"{len(past)} recorded requests by their scores: {seconds:.2f} s, one process")
        for bench in benches:
            bench.close()


if __name__ == "__main__":
    main()
