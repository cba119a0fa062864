"""Rows of an example: the slots of a request to an assistant that books journeys and tables."""

from __future__ import annotations

from pathlib import Path

from classifiers.training.data import ROWS, Row, read_jsonl, without_duplicates
from classifiers.training.recipes.entities import span_row

SLOTS = (
    "from_place",
    "to_place",
    "place",
    "date",
    "time",
    "people_count",
    "price_limit",
    "cuisine",
    "name",
)


def slots_rows(data: Path) -> list[Row]:
    """Requests to the assistant with their slots; all our own, the folder of data sets is not read."""
    return without_duplicates(span_row(row, "ours") for row in read_jsonl(ROWS / "slots.jsonl"))
