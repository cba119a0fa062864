"""How certain a find of personal data is, and the words around it that decide."""

from __future__ import annotations

from typing import Any

import re2

CHECKED, EXACT, CONTEXT, LOOSE, ALONE = 1.0, 0.95, 0.85, 0.75, 0.7
"""The grades; ``classifiers.pii_detectors`` says what they mean."""

Verdict = tuple[int, int, float] | None
"""Start, end and score of a find; None for no find."""


def words_of(expression: str) -> Any:
    """An expression of words, in any case. On RE2: such expressions are run at every candidate."""
    return re2.compile("(?i)" + expression)


def near(text: str, start: int, end: int, words: Any, before: int = 48) -> bool:
    """Whether one of the words stands in front of ``text[start:end]`` or just behind it."""
    front, behind = text[max(0, start - before) : start], text[end : end + 24]
    return bool(words.search(front) or words.search(behind))


OTHER_NUMBER = words_of(
    r"\b(?:order|tracking|invoice|ticket|imei|isbn|ean|upc|barcode|serial|shipment|parcel|transaction id"
    r"|request id|trace|uid|uuid|guid|sku|tweet|video|status)\b"
)
"""Words in front of numbers that are no one's."""
