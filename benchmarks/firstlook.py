"""Less work for new texts: would the words, or the encoder's first layers, be enough for some of them?

    python -m benchmarks.firstlook --data DIR [--rows N] [--seed N] [--json FILE]

The encoder may only be left out, or left early, where every pack that a rule asks is certain. Here only the
rules that block are asked (packs safety and jailbreak): the easiest case, since the default policy also asks
packs that tell one of many topics, of which none is ever certain. Ordinary texts and attacks are single
messages of the splits train and dev; "saved" is of the encoder's work on ordinary texts, as if it could go on
from the layer where it stopped. Prints figures only, never a text.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from benchmarks.across import FOLDERS, LONGEST, SHORTEST
from benchmarks.quality_policy import POLICY
from benchmarks.report import Result, Table, percent
from benchmarks.rows import benign_names, requests
from classifiers import glance
from classifiers.encoder import Encoder
from classifiers.heads import HeadClassifier, load_heads
from classifiers.packs import REPLAY, SHIPPED, read_tensors
from classifiers.types import Batch
from policies import schema
from policies.attached import Attached

PACKS = ("safety", "jailbreak")
MARGINS = (1.0, 2.0, 3.0, 4.0)
MODEL_LAYERS = 6
Numbers = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Stage:
    """Where one could stop: after the words, or after one of the layers that heads read (0: the words)."""

    name: str
    layer: int
    cost: float


@dataclass(slots=True)
class Kind:
    """Texts of a kind: which the policy blocks, and by stage how far below its thresholds they are
    expected, ``[texts]`` logits of the nearest label."""

    blocked: list[bool]
    nearest: dict[str, list[float]]


class Stages:
    """The heads and their lines, by stage."""

    def __init__(self) -> None:
        self.encoder = Encoder(SHIPPED / "encoder", threads=2)
        self.heads = load_heads([SHIPPED / name for name in PACKS], self.encoder)
        layers = self.encoder.layers
        self.stages = [Stage("words", 0, 0.0)]
        for layer in sorted(layers)[:-1]:
            self.stages.append(Stage(f"layer {layer}", layer, layer / MODEL_LAYERS))
        policy = schema.load(POLICY)
        rules = [rule for rule in policy.rules if rule.do.across_turns and "input" in rule.check]
        bound = schema.bind(
            policy.model_copy(update={"rules": tuple(rules), "tests": ()}),
            {head.name: head for head in self.heads},
        )
        across = Attached([bound]).across
        assert across is not None
        self.floors = {id.split("@")[0]: labels for id, labels in across.lowest.items()}
        self.lines = {
            (head.name, stage.name): self._line(head, stage)
            for head in self.heads
            for stage in self.stages
        }

    def _partial(self, head: HeadClassifier, stage: Stage) -> npt.NDArray[np.float32]:
        """The weights of the layers that a stage has read, zeros elsewhere."""
        weight = head.head.weight.copy()
        for place, layer in enumerate(self.encoder.layers):
            if layer > stage.layer:
                weight[place * self.encoder.width : (place + 1) * self.encoder.width] = 0
        return weight

    def _line(self, head: HeadClassifier, stage: Stage) -> glance.Line:
        features, words = glance.remembered(head.head, read_tensors(head.head.folder / REPLAY))
        part = features @ self._partial(head, stage) + words
        return glance.through(part, features @ head.head.weight + head.head.bias + words)

    def add(self, kind: Kind, text: str) -> None:
        """Judge a text at every stage."""
        batch = Batch([text])
        stack = self.heads[0]._stack
        judged, scored = stack.judged(batch), stack.scored(batch)
        windows = judged.views.encoded.windows
        said = [judged.views.forms[w.text][w.start : w.end] for w in windows]
        words = stack.lexical.score(said)
        nearest = {stage.name: -np.inf for stage in self.stages}
        blocked = False
        for head in self.heads:
            own = head._columns
            floors = self.floors[head.name]
            index = [head.labels.index(label) for label in floors]
            cuts = np.asarray([np.log(f / (1 - f)) for f in floors.values()])
            blocked |= bool((scored.pooled[0, own][index] >= cuts).any())
            for stage in self.stages:
                part = judged.views.encoded.features @ self._partial(head, stage) + words[:, own]
                line = self.lines[head.name, stage.name]
                over = line.expected(part.astype(np.float64))[index] - cuts
                # Where words tell little the margin is wider.
                over += line.margin[index] - line.margin.min()
                nearest[stage.name] = max(nearest[stage.name], float(over.max()))
        kind.blocked.append(blocked)
        for name, value in nearest.items():
            kind.nearest[name].append(value)


def texts(data: Path, rows: int, source: random.Random, *, ordinary: bool) -> Iterator[str]:
    """Single messages."""
    names = benign_names(data) if ordinary else [
        f"{folder}/{path.name.removesuffix('.jsonl.gz')}"
        for folder in FOLDERS
        for path in sorted((data / folder).glob("*.jsonl.gz"))
    ]  # fmt: skip
    for name in names:
        found = [
            text
            for row in requests(
                data, name, lambda r: r.split != "test" and (ordinary or "benign" not in r.label)
            )
            for text in row.user_texts
            if SHORTEST <= len(text) <= LONGEST
        ]
        yield from source.sample(found, min(rows, len(found)))


def measure(data: Path, rows: int, seed: int) -> Result:
    """Both kinds, every stage and margin."""
    stages = Stages()
    kinds = {}
    for name, ordinary in (("ordinary", True), ("attacks", False)):
        kind = kinds[name] = Kind([], {stage.name: [] for stage in stages.stages})
        for text in texts(data, rows, random.Random(seed), ordinary=ordinary):
            stages.add(kind, text)
    blocked = np.asarray(kinds["attacks"].blocked)
    lines = []
    for stage in stages.stages:
        ordinary_near = np.asarray(kinds["ordinary"].nearest[stage.name])
        attacks_near = np.asarray(kinds["attacks"].nearest[stage.name])[blocked]
        for margin in MARGINS:
            certain = int((ordinary_near < -margin).sum())
            lost = int((attacks_near < -margin).sum())
            lines.append(
                (
                    stage.name,
                    f"{margin:g}",
                    percent(certain, len(ordinary_near), 1),
                    f"{100 * certain / len(ordinary_near) * (1 - stage.cost):.1f} %",
                    f"{lost} of {len(attacks_near)}",
                )
            )
    columns = ("stopped after", "margin", "ordinary texts certain", "saved", "attacks lost")
    title = f"Stopping early, {len(ordinary_near)} ordinary texts"
    return Result(
        "firstlook",
        (Table(title, columns, tuple(lines)),),
        (),
        (f"{rows} rows a file, seed {seed}.",),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of the public data sets")
    parser.add_argument("--rows", type=int, default=40, help="of each file")
    parser.add_argument("--seed", type=int, default=5)
    parser.add_argument("--json", type=Path, help="keep the figures there")
    given = parser.parse_args()
    measure(given.data, given.rows, given.seed).write(given.json)


if __name__ == "__main__":
    main()
