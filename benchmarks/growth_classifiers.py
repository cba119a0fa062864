"""How the classifiers' costs grow: processor time by heads and by length, memory by packs."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks import texts
from benchmarks.classify import random_pack, shipped
from benchmarks.report import Table, median, number
from benchmarks.servers import ROOT
from classifiers.encoder import Encoder
from classifiers.heads import load_heads
from classifiers.packs import SHIPPED
from classifiers.types import Batch

HEADS = (1, 3, 10, 30, 100)
TOKENS = (16, 64, 128, 256, 512, 1024)
LENGTH = 64
"""Tokens of the texts of which the heads are counted."""


@dataclass(frozen=True, slots=True)
class Growth:
    """Medians: milliseconds of processor time by heads and by tokens, MiB by packs."""

    heads: Mapping[int, float]
    tokens: Mapping[int, float]
    packs: Mapping[int, float]

    def tables(self) -> tuple[Table, ...]:
        """One each."""
        return (
            _table(f"A new text of {LENGTH} tokens by heads", "heads", "CPU ms", self.heads),
            _table("A new text by its length, shipped heads", "tokens", "CPU ms", self.tokens),
            _table("Resident memory by shipped head packs", "packs", "MiB", self.packs, digits=0),
        )


def _table(
    title: str, what: str, unit: str, found: Mapping[int, float], *, digits: int = 2
) -> Table:
    first = next(iter(found.values()))
    rows = tuple(
        (str(key), number(value, digits), number(value / first)) for key, value in found.items()
    )
    return Table(title, (what, unit, "times the first"), rows)


def measure(rounds: int, folder: Path) -> Growth:
    """Everything in turn."""
    encoder = Encoder(SHIPPED / "encoder")
    packs = [random_pack(folder / f"random{n}", encoder, n) for n in range(max(HEADS))]
    sides = {count: load_heads(packs[:count], encoder) for count in HEADS}
    ours = load_heads(shipped(), encoder)
    source = random.Random(4)
    heads: dict[int, list[float]] = defaultdict(list)
    tokens: dict[int, list[float]] = defaultdict(list)
    for turn in range(-1, rounds):
        for count in source.sample(HEADS, len(HEADS)):
            used = _used(sides[count], texts.of_tokens(source, LENGTH, encoder.tokens))
            if turn >= 0:
                heads[count].append(used)
        for length in source.sample(TOKENS, len(TOKENS)):
            used = _used(ours, texts.of_tokens(source, length, encoder.tokens))
            if turn >= 0:
                tokens[length].append(used)
    return Growth(
        {count: median(heads[count]) for count in HEADS},
        {length: median(tokens[length]) for length in TOKENS},
        {count: _memory(shipped()[:count]) for count in range(len(shipped()) + 1)},
    )


def _used(heads: Sequence[object], text: str) -> float:
    batch = Batch([text])
    started = time.process_time()
    for head in heads:
        head.predict(batch)  # type: ignore[attr-defined]
    return (time.process_time() - started) * 1e3


def _memory(packs: Sequence[Path]) -> float:
    """MiB of a process that has loaded the encoder and these, and read a text."""
    program = (
        "import json, psutil, sys\nfrom pathlib import Path\n"
        "from classifiers.encoder import Encoder\nfrom classifiers.heads import load_heads\n"
        "from classifiers.packs import SHIPPED\nfrom classifiers.types import Batch\n"
        "encoder = Encoder(SHIPPED / 'encoder')\n"
        "heads = load_heads([Path(one) for one in json.loads(sys.argv[1])], encoder)\n"
        "encoder.encode(['some words'])\n"
        "[head.predict(Batch(['some words'])) for head in heads]\n"
        "print(psutil.Process().memory_info().rss / 2**20)\n"
    )
    told = json.dumps([str(pack) for pack in packs])
    done = subprocess.run(
        [sys.executable, "-c", program, told], capture_output=True, check=True, cwd=ROOT
    )
    return float(done.stdout)
