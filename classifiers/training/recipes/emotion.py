"""Training rows of the pack `emotion`."""

from __future__ import annotations

from pathlib import Path

from classifiers.training.data import Row, without_duplicates
from classifiers.training.recipes.common import ours, row_of
from classifiers.training.recipes.sentiment import neutral_rows

EMOTION = (
    "joy",
    "anger",
    "fear",
    "sadness",
    "surprise",
    "disgust",
    "excitement",
    "neutral",
)


def emotion_rows(data: Path) -> list[Row]:
    """Which feeling a writer shows, named or not; ordinary requests are ``neutral``."""
    rows = [row_of(r, frozenset({r["label"]}), "ours", weight=2.0) for r in ours("emotion")]
    rows += neutral_rows(data, seed=19)
    return without_duplicates(rows)
