"""Training rows of the pack `spam`."""

from __future__ import annotations

from pathlib import Path

from classifiers.training.data import Row, without_duplicates
from classifiers.training.recipes.common import (
    NONE,
    benign_rows,
    everyday_rows,
    ours,
    public,
    row_of,
)


def spam_rows(data: Path) -> list[Row]:
    """Unwanted advertising and fraud in short messages."""
    hit = frozenset({"spam"})
    source = "spam/sms_spam"
    rows = list(
        public(
            data,
            source,
            lambda r: row_of(
                r, hit if r["label"] == "spam" else NONE, source, benign=r["label"] == "ham"
            ),
        )
    )
    rows += [row_of(r, hit, "ours") for r in ours("spam") if r["label"] == "spam"]
    rows += benign_rows(data) + everyday_rows(data)
    return without_duplicates(rows)
