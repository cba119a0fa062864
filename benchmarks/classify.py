"""Latency of the shipped encoder and heads, by length, number of heads and cores.

    python -m benchmarks.classify [--rounds N] [--json FILE]

Every text is new, of an exact number of tokens, and classified as serving does it: normalised,
encoded, scored by all heads. All combinations take turns within each round, so that a slow moment of the
machine hits them alike; a combination's figures are over its rounds.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil

from benchmarks import texts
from benchmarks.report import Check, Result, Table, cores, median, number, percentile
from classifiers import lexical
from classifiers.encoder import Encoder
from classifiers.engine import ClassifierEngine
from classifiers.heads import HeadClassifier, load_heads
from classifiers.packs import MANIFEST, SHIPPED, SHIPPED_HEADS, write_manifest, write_tensors
from classifiers.pii import PiiClassifier
from classifiers.types import Batch, Classifier

TOKENS = (16, 64, 256, 512)
HEADS = (1, 10, 100)
PROMISED = {1: 12.0, 2: 9.0}
"""Milliseconds for 64 tokens through the encoder and all shipped heads, by cores."""
PROMISED_REPEATED = 0.3
PROMISED_HEADS = 1.1
"""The most heads of :data:`HEADS` over one, 64 tokens on one core, processor time."""
CACHED_CALLS = 200
AGAIN = "the same text again"
Part = tuple[list[Table], list[Check]]
Times = tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class Setting:
    """One combination that is measured."""

    cores: int
    heads: str
    tokens: int


def shipped() -> list[Path]:
    """The shipped head packs that are there."""
    return [SHIPPED / name for name in SHIPPED_HEADS if (SHIPPED / name / MANIFEST).is_file()]


def random_pack(folder: Path, encoder: Encoder, seed: int) -> Path:
    """A head pack of one label with random weights: its verdicts mean nothing, its cost is real."""
    folder.mkdir(parents=True)
    source = np.random.default_rng(seed)
    write_tensors(
        folder / "head.safetensors",
        {
            "encoder": source.normal(size=(encoder.features, 1)).astype(np.float32),
            "lexical": source.normal(size=(lexical.BUCKETS, 1)).astype(np.float16),
            "bias": np.zeros(1, dtype=np.float32),
        },
    )
    truth = np.asarray([[0], [1]], dtype=np.int8)
    logits = truth.astype(np.float32)
    write_tensors(folder / "calibration.safetensors", {"logits": logits, "truth": truth})
    write_manifest(
        folder,
        {
            "kind": "head",
            "name": folder.name,
            "labels": ["label"],
            "decision": "any_of",
            "pooling": "max",
            "encoder": encoder.hash,
            "operating_points": {"label": {"threshold": 0.5}},
        },
    )
    return folder


def restrict(allowed: Sequence[int]) -> None:
    """Keep every thread of this process to these cores; threads started later inherit it."""
    for thread in psutil.Process().threads():
        os.sched_setaffinity(thread.id, allowed)


def once(heads: Sequence[HeadClassifier], text: str) -> Times:
    """Milliseconds in all, thereof after the encoder, and of processor time."""
    batch = Batch([text])
    stack = heads[0]._stack
    used = time.process_time()
    started = time.perf_counter()
    stack.reader.views(batch)
    encoded = time.perf_counter()
    for head in heads:
        head.predict(batch)
    ended = time.perf_counter()
    used = time.process_time() - used
    return (ended - started) * 1e3, (ended - encoded) * 1e3, used * 1e3


def latencies(rounds: int, folder: Path) -> dict[Setting, list[Times]]:
    """Every combination, in turns."""
    available = cores()
    sides: dict[tuple[int, str], list[HeadClassifier]] = {}
    packs: list[Path] = []
    for count in (1, 2)[: len(available)]:
        encoder = Encoder(SHIPPED / "encoder", threads=count)
        packs = packs or [random_pack(folder / f"h{n}", encoder, n) for n in range(max(HEADS))]
        for heads in HEADS:
            sides[count, f"{heads} random"] = load_heads(packs[:heads], encoder)
        if folders := shipped():
            labels = load_heads(folders, encoder)
            sides[count, f"{len(folders)} shipped"] = labels
    count_tokens = Encoder(SHIPPED / "encoder").tokens
    source = random.Random(1)
    found: dict[Setting, list[Times]] = defaultdict(list)
    settings = [Setting(n, heads, tokens) for n, heads in sides for tokens in TOKENS]
    for turn in range(-2, rounds):  # two rounds warm up
        source.shuffle(settings)
        for setting in settings:
            text = texts.of_tokens(source, setting.tokens, count_tokens)
            restrict(available[: setting.cores])
            measured = once(sides[setting.cores, setting.heads], text)
            if turn >= 0:
                found[setting].append(measured)
    restrict(available)
    return found


async def through_engine(rounds: int) -> dict[str, list[float]]:
    """Milliseconds of 64 tokens through the engine, with its thread and its memory."""
    encoder = Encoder(SHIPPED / "encoder")
    classifiers: list[Classifier] = [*load_heads(shipped(), encoder), PiiClassifier()]
    engine = ClassifierEngine(classifiers)
    source = random.Random(2)
    found: dict[str, list[float]] = defaultdict(list)
    for turn in range(-2, rounds):
        text = texts.of_tokens(source, 64, encoder.tokens)
        started = time.perf_counter()
        first = await engine.classify([text])
        new = time.perf_counter() - started
        if turn < 0:
            continue
        found["new text"].append(new * 1e3)
        for _ in range(max(1, CACHED_CALLS // rounds)):
            started = time.perf_counter()
            again = await engine.classify([text])
            found[AGAIN].append((time.perf_counter() - started) * 1e3)
            if not again[0].cached or again[0].predictions != first[0].predictions:
                raise RuntimeError("a repeated text was not answered from memory")
    await asyncio.to_thread(engine.close)
    return found


def memory() -> tuple[float, float, float]:
    """MiB resident in a process of its own: before, with everything loaded, after 512 tokens."""
    program = (
        "import json, psutil, sys; size = lambda: psutil.Process().memory_info().rss / 2**20\n"
        "a = size()\n"
        "from benchmarks.classify import *\n"
        "encoder = Encoder(SHIPPED / 'encoder')\n"
        "heads = load_heads(shipped(), encoder)\n"
        "pii = PiiClassifier()\n"
        "b = size()\n"
        "for n in range(20):\n"
        "    text = texts.of_tokens(random.Random(n), 512, encoder.tokens)\n"
        "    batch = Batch([text])\n"
        "    [c.predict(batch) for c in (*heads, pii)]\n"
        "print(json.dumps([a, b, size()]))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    before, loaded, used = json.loads(done.stdout)
    return before, loaded, used


def latency_tables(found: Mapping[Setting, list[Times]]) -> Part:
    """One table for each number of cores."""
    tables: list[Table] = []
    checks: list[Check] = []
    for count in sorted({setting.cores for setting in found}):
        rows = []
        own = [setting for setting in found if setting.cores == count]
        # By length, then by number of heads, the shipped ones last.
        for setting in sorted(
            own, key=lambda s: (s.tokens, "shipped" in s.heads, _number(s.heads))
        ):
            total, after, used = zip(*found[setting], strict=True)
            p50 = median(total)
            figures = (p50, percentile(total, 95), median(after), median(used))
            rows.append((str(setting.tokens), setting.heads, *(number(v) for v in figures)))
            if setting.tokens == 64 and "shipped" in setting.heads:
                what = f"64 tokens, encoder and all shipped heads, p50, cores: {count}"
                limit = PROMISED[count]
                checks.append(Check(what, f"{p50:.2f} ms", f"<= {limit:g} ms", p50 <= limit))
        columns = ("tokens", "heads", "p50 ms", "p95 ms", "p50 ms after the encoder", "CPU ms")
        title = f"One new text, {'one core' if count == 1 else f'{count} cores'}"
        tables.append(Table(title, columns, tuple(rows)))
    return tables, [*checks, heads_check(found)]


def heads_check(found: Mapping[Setting, list[Times]]) -> Check:
    """Whether many heads cost next to nothing, by processor time: what the neighbours do counts less."""
    few, many = (
        median([cpu for _, _, cpu in found[Setting(1, f"{heads} random", 64)]])
        for heads in (HEADS[0], HEADS[-1])
    )
    what = f"{HEADS[-1]} heads over {HEADS[0]}, 64 tokens, one core, CPU time"
    ratio = many / few
    return Check(what, number(ratio), f"<= {PROMISED_HEADS}", ratio <= PROMISED_HEADS)


def engine_table(rounds: int) -> Part:
    """A new text and a repeated one through the engine."""
    found = asyncio.run(through_engine(rounds))
    rows = [
        (what, number(median(values), 3), number(percentile(values, 95), 3), str(len(values)))
        for what, values in found.items()
    ]
    title = "64 tokens through ClassifierEngine (shipped heads and pii)"
    p50, limit = median(found[AGAIN]), f"<= {PROMISED_REPEATED} ms"
    what = "a repeated text through the engine, p50"
    return [Table(title, ("text", "p50 ms", "p95 ms", "calls"), tuple(rows))], [
        Check(what, f"{p50:.3f} ms", limit, p50 <= PROMISED_REPEATED)
    ]


def memory_table() -> Table:
    """Resident memory of a process that only classifies."""
    steps = ("bare interpreter", "everything loaded", "after texts of 512 tokens")
    rows = tuple((step, number(size, 0)) for step, size in zip(steps, memory(), strict=True))
    return Table("Resident memory of the classifiers alone", ("when", "MiB"), rows)


def measure(rounds: int) -> Result:
    """Run everything."""
    with tempfile.TemporaryDirectory() as folder:
        found = latencies(rounds, Path(folder))
    tables, checks = latency_tables(found)
    notes = [f"{rounds} rounds."]
    if shipped():
        more_tables, more_checks = engine_table(max(rounds, 10))
        tables += more_tables
        checks += more_checks
    tables.append(memory_table())
    if missing := [name for name in SHIPPED_HEADS if SHIPPED / name not in shipped()]:
        notes.append(f"Not built, so not measured: {', '.join(missing)}.")
    return Result("classify", tuple(tables), tuple(checks), tuple(notes))


def _number(heads: str) -> int:
    return int(heads.split()[0])


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--json", type=Path, help="keep the figures there")
    options = parser.parse_args()
    measure(options.rounds).write(options.json)


if __name__ == "__main__":
    main()
