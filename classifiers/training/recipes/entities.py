"""Training rows of the pack `entities`: people, organisations, places, dates and the like."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from classifiers.training.data import ROWS, Row, read_jsonl, without_duplicates
from classifiers.training.recipes.common import public

ENTITIES = ("PERSON", "ORG", "LOCATION", "DATE", "TIME", "ADDRESS", "PRODUCT")
Spans = tuple[tuple[int, int, str], ...]

_PRESIDIO = {
    "PERSON": "PERSON",
    "ORGANIZATION": "ORG",
    "GPE": "LOCATION",
    "STREET_ADDRESS": "ADDRESS",
    "ZIP_CODE": "ADDRESS",
    "DATE_TIME": "DATE",
}
"""The other types are left untagged: patterns find cards, e-mails and the like, and titles, ages and
nationalities are no entities of ours."""
_UNTAGGED = (
    ("DATE", r"next week|last month|a few months ago|in a couple of months|the weekend|60s"),
    ("DATE", r"last Sunday before Labor Day"),
    ("TIME", r"this morning|last night|(?<=day )morning"),
    ("ORG", r"Entertainment Weekly|European Union|White Stripes|Metallica|Blink-182|Fuse TV"),
    ("ORG", r"ABC Business"),
)
"""Words of the templates that the set left untagged; tagged here, since they are what is looked for."""
_TIME = re.compile(r"\d\d:\d\d:\d\d$")
_BETWEEN = re.compile(r"[\s,>?]{1,10}$")


def entities_rows(data: Path) -> list[Row]:
    """Texts with spans: our own, and synthetic ones for testing detectors of personal data."""
    source = "pii/presidio_synth_v2"
    rows = [span_row(item, "ours") for item in read_jsonl(ROWS / "entities.jsonl")]
    rows += public(data, source, lambda item: presidio_row(item, source))
    return without_duplicates(rows)


def span_row(item: dict[str, Any], source: str) -> Row:
    """A row of this repository: ``{"text", "spans": [[start, end, label]], "split", "frame"}``."""
    spans = tuple((start, end, label) for start, end, label in item["spans"])
    return Row(
        item["text"],
        frozenset(label for _, _, label in spans),
        source=source,
        split=item["split"],
        benign=not spans,
        group=item.get("frame", ""),
        spans=spans,
    )


def presidio_row(item: dict[str, Any], source: str) -> Row:
    """A row of the set with its types as ours; rows of one template share a group."""
    text = item["text"]
    found = [
        (span["start"], span["end"], _PRESIDIO[span["type"]])
        for span in item["spans"]
        if span["type"] in _PRESIDIO
    ]
    for label, pattern in _UNTAGGED:
        found += [(*match.span(), label) for match in re.finditer(rf"\b(?:{pattern})\b", text)]
    spans = with_times(text, whole_addresses(text, sorted(set(found))))
    return Row(
        text,
        frozenset(label for _, _, label in spans),
        source=source,
        split=item["split"],
        benign=not spans,
        group=f"presidio {item['template_id']}",
        spans=spans,
    )


def whole_addresses(text: str, spans: list[tuple[int, int, str]]) -> Spans:
    """The parts of an address, its town and country among them, as one address.

    The set names house number, street, flat and postcode one by one.
    """
    joined: list[tuple[int, int, str]] = []
    for start, end, label in spans:
        previous = joined[-1] if joined else (0, 0, "")
        if (
            previous[2] == "ADDRESS"
            and label in ("ADDRESS", "LOCATION")
            and _BETWEEN.match(text[previous[1] : start])
        ):
            joined[-1] = (previous[0], end, "ADDRESS")
        else:
            joined.append((start, end, label))
    return tuple(joined)


def with_times(text: str, spans: Spans) -> Spans:
    """Dates that end in a time of day, as a date and a time."""
    result: list[tuple[int, int, str]] = []
    for start, end, label in spans:
        match = _TIME.search(text[start:end]) if label == "DATE" else None
        if match is None:
            result.append((start, end, label))
            continue
        cut = start + match.start()
        result += [(start, start + len(text[start:cut].rstrip()), "DATE"), (cut, end, "TIME")]
    return tuple(result)
