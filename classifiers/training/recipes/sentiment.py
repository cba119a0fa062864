"""Training rows of the pack `sentiment`."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

from classifiers.training.data import Row, without_duplicates
from classifiers.training.recipes.common import benign_rows, ours, public, row_of

SENTIMENT = ("very_negative", "negative", "neutral", "positive", "very_positive")
NEUTRAL = frozenset({"neutral"})
NEUTRAL_WEIGHT = 0.3
"""There are far more ordinary requests than rows of any other label."""
FEELING_INTENTS = {
    *("thank_you", "greeting", "goodbye", "tell_joke", "oos"),
    *("general_praise", "general_joke", "general_negate", "general_quirky", "general_dontcare"),
    *("general_affirm", "general_confirm", "general_explain", "general_commandstop"),
    *("music_likeness", "music_dislikeness", "social_post"),
}
"""Intents whose messages often say how the writer feels; the rest only ask for something."""


def sentiment_rows(data: Path) -> list[Row]:
    """How a writer judges what the text is about; ordinary requests are ``neutral``."""
    rows = [row_of(r, frozenset({r["label"]}), "ours", weight=2.0) for r in ours("sentiment")]
    rows += neutral_rows(data, seed=17)
    return without_duplicates(rows)


def neutral_rows(data: Path, seed: int) -> list[Row]:
    """A sample of ordinary texts and short requests, labelled ``neutral``, of little weight."""
    chooser = random.Random(seed)  # noqa: S311 (not for secrets)
    rows = [
        replace(row, labels=NEUTRAL, weight=NEUTRAL_WEIGHT)
        for row in benign_rows(data)
        if chooser.random() < 0.15
    ]

    def make(r: dict[str, Any], source: str) -> Row | None:
        if r["label"] in FEELING_INTENTS or chooser.random() > 0.1:
            return None
        return row_of(r, NEUTRAL, source, weight=NEUTRAL_WEIGHT, benign=True)

    for source in ("intent/clinc150", "intent/hwu64"):
        rows += public(data, source, lambda r, s=source: make(r, s))  # type: ignore[misc]
    return rows
