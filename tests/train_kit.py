"""What the tests of the trainer share: harmless rows, task files, and a run of the command line."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from classifiers.training.train import Options, Report, train

TINY = Path(__file__).parent / "fixtures" / "tiny-encoder"
WORDS: Mapping[str, tuple[str, ...]] = {
    "garden": ("roses", "tulips", "compost", "seeds", "hedge", "lawn", "tomatoes", "soil"),
    "kitchen": ("soup", "oven", "bread", "pan", "recipe", "flour", "cheese", "sauce"),
    "travel": ("train", "ticket", "hotel", "airport", "luggage", "passport", "bus", "harbour"),
}
BEGIN = (
    "please tell me about the", "how do I look after the", "yesterday we saw a", "my aunt likes her",
    "is it too late for the", "nobody remembered the", "what does it cost to change the",
    "we argued for hours over the", "can you find me another", "somebody painted over the",
    "the children asked for a", "it rained so much on the",
)  # fmt: skip
END = (
    "this morning", "in the old town", "before the holidays", "with my neighbour", "again and again",
    "when it gets cold", "for a friend of mine", "without asking", "on a Sunday", "near the river",
)  # fmt: skip
Rows = list[dict[str, Any]]


def text_of(label: str, number: int) -> str:
    """A text about a label; each number gives another one."""
    lot = random.Random(f"{label} {number}")
    one, two = lot.sample(WORDS[label], 2)
    return (
        f"{lot.choice(BEGIN)} {one} and the {two} {lot.choice(END)}, number {lot.randrange(10**6)}"
    )


def rows_of(count: int, labels: Sequence[str] = ("garden", "kitchen", "travel")) -> Rows:
    """So many rows of each label."""
    return [{"text": text_of(name, n), "label": name} for n in range(count) for name in labels]


def span_rows(count: int) -> Rows:
    """Texts with the plant and the day marked."""
    found = []
    for number in range(count):
        lot = random.Random(f"span {number}")
        plant, day = lot.choice(WORDS["garden"]), lot.choice(("Monday", "Tuesday", "Friday"))
        text = f"{lot.choice(BEGIN)} {plant} on {day} {lot.choice(END)}"
        spans = [
            [text.index(plant), text.index(plant) + len(plant), "plant"],
            [text.index(day), text.index(day) + len(day), "day"],
        ]
        found.append({"text": text, "spans": spans})
    return found


def write_jsonl(path: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path


def write_task(folder: Path, rows: Sequence[Mapping[str, Any]] | None = None, **more: Any) -> Path:
    """A task file, with its data beside it."""
    values: dict[str, Any] = {"name": "hobby", "labels": ["garden", "kitchen", "travel"], **more}
    if rows is not None:
        write_jsonl(folder / "rows.jsonl", rows)
        values.setdefault("data", ["rows.jsonl"])
    path = folder / "task.yaml"
    path.write_text(yaml.safe_dump(values, sort_keys=False), "utf-8")
    return path


def options(folder: Path, **more: Any) -> Options:
    return Options(**{"encoder": TINY, "cache": folder / "cache", "report": False, **more})


def run(folder: Path, rows: Rows | None = None, **more: Any) -> Report:
    """Train on the tiny encoder; the pack is ``folder/pack``."""
    return train(write_task(folder, rows, **more), folder / "pack", options(folder))


def doorman(
    *arguments: str | Path, cwd: Path, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """``doorman ARGUMENTS``, as a user runs it."""
    return subprocess.run(
        [sys.executable, "-m", "proxy.cli", *map(str, arguments)],
        cwd=cwd,
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1", **(env or {})},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def contents(folder: Path) -> dict[str, bytes]:
    """Every file under a folder, but for the cache."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and "cache" not in path.relative_to(folder).parts
    }
