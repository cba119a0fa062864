"""Accuracy of questions to ``/v1/decisions`` that no classifier was trained for.

    python -m benchmarks.zero_shot --data DIR [--limit N] [--json FILE]

Every label of a data set is a choice, with its description where there is one; every text is asked
which one it is (choice), and whether the statement of its own label and that of another one drawn at
random hold (predicate). Prints figures only, never a text.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.report import Result, Table, number
from classifiers import zero_shot
from classifiers.encoder import Encoder
from classifiers.packs import SHIPPED
from classifiers.training.data import ROWS, read_jsonl
from classifiers.training.recipes.descriptions import LABELS

SEED = 7
LIMIT = 500
NOTE = (
    "Chance is one label of all; the commonest is what always naming the commonest label would get. "
    "Calibration error: mean distance of confidence and accuracy over ten bins. AUC: how often the true "
    "statement scores above the false one."
)


@dataclass(frozen=True, slots=True)
class Source:
    """Labelled rows.

    Attributes:
        path: below the folder of public data; one of our own files if it is a bare name.
        split: rows that the temperature was not chosen on, but for ``topic``; the figures of predicates were
            chosen on part of them.
        field: that holds the label.
    """

    name: str
    path: str
    split: str = "test"
    field: str = "label"


SOURCES = (
    Source("topic (own, dev)", "topic", "dev"),
    Source("ticket (own)", "ticket"),
    Source("sentiment (own)", "sentiment"),
    Source("bitext intents", "tickets/bitext_customer_support.jsonl.gz", field="intent"),
    Source("stackoverflow tags", "tickets/stackoverflow_titles.jsonl.gz"),
    Source("banking77", "intent/banking77.jsonl.gz"),
)


def rows(data: Path, source: Source, limit: int) -> list[tuple[str, str]]:
    """Texts with their label, in an order drawn once."""
    own = "/" not in source.path
    path = ROWS / f"{source.path}.jsonl" if own else data / source.path
    if not path.is_file():
        return []
    found = [
        (row["text"], row[source.field])
        for row in read_jsonl(path)
        if row["split"] == source.split and isinstance(row.get(source.field), str)
    ]
    random.Random(SEED).shuffle(found)
    return found[:limit]


def calibration_error(confidence: Sequence[float], right: Sequence[bool]) -> float:
    """Expected calibration error over ten bins of equal width."""
    bins = np.minimum((np.asarray(confidence) * 10).astype(int), 9)
    gaps = 0.0
    for index in range(10):
        inside = bins == index
        if inside.any():
            gap = np.asarray(confidence)[inside].mean() - np.asarray(right)[inside].mean()
            gaps += abs(float(gap)) * float(inside.mean())
    return gaps


def measure(encoder: Encoder, data: Path, limit: int) -> Result:
    """Ask everything of every source."""
    table: list[tuple[str, ...]] = []
    notes: list[str] = []
    for source in SOURCES:
        started = time.perf_counter()
        found = rows(data, source, limit)
        if not found:
            notes.append(f"{source.name}: no such file, not measured.")
            continue
        meant = LABELS.get(source.path, {})
        labels = [*meant] or sorted({label for _, label in found})
        found = [row for row in found if row[1] in labels]
        table.append(_judged(encoder, source.name, found, labels, meant))
        print(f"{source.name}: {time.perf_counter() - started:.0f} s", file=sys.stderr, flush=True)
    columns = (
        "rows of", "rows", "labels", "accuracy", "chance", "commonest", "mean confidence",
        "calibration error", "predicate AUC", "predicate accuracy",
    )  # fmt: skip
    title = f"Zero-shot answers, {encoder.name}"
    return Result("zero_shot", (Table(title, columns, tuple(table), NOTE),), (), tuple(notes))


def _judged(
    encoder: Encoder,
    name: str,
    found: Sequence[tuple[str, str]],
    labels: Sequence[str],
    meant: Mapping[str, str],
) -> tuple[str, ...]:
    phrases = [zero_shot.statements(label, meant.get(label)) for label in labels]
    choices = [zero_shot.vectors(encoder, some) for some in phrases]
    said = [
        meant.get(label) or f"The text is about {some[0]}."
        for label, some in zip(labels, phrases, strict=True)
    ]
    claims = zero_shot.vectors(encoder, said)
    anchors = zero_shot.vectors(encoder, zero_shot.ANCHORS)
    drawn = random.Random(SEED)
    confidence, right, true, false = [], [], [], []
    for text, label in found:
        own = zero_shot.vectors(encoder, [text])[0]
        shares = zero_shot.shares([zero_shot.nearness(own, choice) for choice in choices])
        best = int(np.argmax(shares))
        confidence.append(shares[best])
        right.append(labels[best] == label)
        index = labels.index(label)
        other = drawn.choice([i for i in range(len(labels)) if i != index])
        true.append(zero_shot.agreement(own, claims[index], anchors))
        false.append(zero_shot.agreement(own, claims[other], anchors))
    wins = np.asarray(true)[:, None] - np.asarray(false)[None]
    auc = float((wins > 0).mean() + 0.5 * (wins == 0).mean())
    sided = [p > 0.5 for p in true] + [p <= 0.5 for p in false]
    commonest = Counter(label for _, label in found).most_common(1)[0][1] / len(found)
    figures = (
        float(np.mean(right)), 1 / len(labels), commonest, float(np.mean(confidence)),
        calibration_error(confidence, right), auc, float(np.mean(sided)),
    )  # fmt: skip
    return (name, str(len(found)), str(len(labels)), *(number(figure) for figure in figures))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of the public data sets")
    parser.add_argument("--limit", type=int, default=LIMIT, help="rows of each set")
    parser.add_argument("--encoder", type=Path, default=SHIPPED / "encoder", help="encoder pack")
    parser.add_argument("--json", type=Path, help="keep the figures there")
    given = parser.parse_args()
    measure(Encoder(given.encoder), given.data, given.limit).write(given.json)


if __name__ == "__main__":
    main()
