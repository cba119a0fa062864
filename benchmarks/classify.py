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
from collections.abc import Sequence
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
CACHED_CALLS = 200


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


def once(heads: Sequence[HeadClassifier], text: str) -> tuple[float, float]:
    """Milliseconds in all, and thereof after the encoder."""
    batch = Batch([text])
    stack = heads[0]._stack
    started = time.perf_counter()
    batch.shared((stack, "views"), stack.views)
    encoded = time.perf_counter()
    for head in heads:
        head.predict(batch)
    ended = time.perf_counter()
    return (ended - started) * 1e3, (ended - encoded) * 1e3


def latencies(rounds: int, folder: Path) -> dict[Setting, list[tuple[float, float]]]:
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
    found: dict[Setting, list[tuple[float, float]]] = defaultdict(list)
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
            found["the same text again"].append((time.perf_counter() - started) * 1e3)
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


def measure(rounds: int) -> Result:
    """Run everything."""
    with tempfile.TemporaryDirectory() as folder:
        found = latencies(rounds, Path(folder))
    tables, checks = [], []
    for count in sorted({setting.cores for setting in found}):
        rows = []
        for tokens in TOKENS:
            for heads in dict.fromkeys(s.heads for s in found if s.cores == count):
                own = found[Setting(count, heads, tokens)]
                total, after = [t for t, _ in own], [a for _, a in own]
                figures = (median(total), percentile(total, 95), median(after))
                rows.append((str(tokens), heads, *(number(value) for value in figures)))
                if tokens == 64 and "shipped" in heads:
                    limit = PROMISED[count]
                    what = f"64 tokens, encoder and all shipped heads, p50, cores: {count}"
                    checks.append(
                        Check(what, f"{figures[0]:.2f} ms", f"<= {limit:g} ms", figures[0] <= limit)
                    )
        rows.sort(key=lambda row: (int(row[0]), "shipped" in row[1], int(row[1].split()[0])))
        columns = ("tokens", "heads", "p50 ms", "p95 ms", "p50 ms after the encoder")
        title = f"One new text, {'one core' if count == 1 else f'{count} cores'}"
        tables.append(Table(title, columns, tuple(rows)))
    engine_rows = []
    if shipped():
        for what, values in asyncio.run(through_engine(max(rounds, 10))).items():
            engine_rows.append(
                (
                    what,
                    number(median(values), 3),
                    number(percentile(values, 95), 3),
                    str(len(values)),
                )
            )
            if "again" in what:
                value = median(values)
                checks.append(
                    Check(
                        "a repeated text through the engine, p50",
                        f"{value:.3f} ms",
                        f"<= {PROMISED_REPEATED} ms",
                        value <= PROMISED_REPEATED,
                    )
                )
        tables.append(
            Table(
                "64 tokens through ClassifierEngine (shipped heads and pii)",
                ("text", "p50 ms", "p95 ms", "calls"),
                tuple(engine_rows),
            )
        )
    before, loaded, used = memory()
    sizes = ("bare interpreter", before), ("everything loaded", loaded), ("after 512 tokens", used)
    tables.append(
        Table(
            "Resident memory of the classifiers alone",
            ("when", "MiB"),
            tuple((what, number(size, 0)) for what, size in sizes),
        )
    )
    missing = [name for name in SHIPPED_HEADS if SHIPPED / name not in shipped()]
    notes = [f"{rounds} rounds."]
    if missing:
        notes.append(f"Not built, so not measured: {', '.join(missing)}.")
    return Result("classify", tuple(tables), tuple(checks), tuple(notes))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--json", type=Path, help="keep the figures there")
    options = parser.parse_args()
    measure(options.rounds).write(options.json)


if __name__ == "__main__":
    main()
