"""Text that people do not see and models read: tag characters, bytes in variation selectors; and letters
written as regional indicators."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import re2

from classifiers.decode_kit import Segment, as_text, language

_HIDDEN = re2.compile(
    r"[\x{e0020}-\x{e007e}]{3}|[\x{fe00}-\x{fe0f}\x{e0100}-\x{e01ef}]{4}|[\x{1f1e6}-\x{1f1ff}]"
)
_TAGS = re.compile("[\U000e0020-\U000e007e]{3,}")
_FLAG = "\U0001f3f4"
_SELECTORS = re.compile("[\ufe00-\ufe0f\U000e0100-\U000e01ef]{4,}")
_INDICATORS = re.compile(
    "[\U0001f1e6-\U0001f1ff](?:[\\s\u200b-\u200d\u2060,.;:!?'\"()0-9-]{0,8}[\U0001f1e6-\U0001f1ff]){5,}"
    "(?:[\u200b-\u200d\u2060]?[.!?])?"
)
_AS_LETTERS = {0x1F1E6 + i: chr(97 + i) for i in range(26)} | dict.fromkeys(
    (0x200B, 0x200C, 0x200D, 0x2060), ""
)
_A_WORD = re.compile("[a-z]{3}")


def may_hide(text: str) -> bool:
    """Whether the searches below could find anything, in one scan."""
    return not text.isascii() and _HIDDEN.search(text.encode("utf-8", "replace")) is not None


def tags(text: str) -> Iterator[Segment]:
    """ASCII as tag characters; the flags of England, Scotland and Wales say nothing."""
    for found in _TAGS.finditer(text):
        if text[found.start() - 1 : found.start()] == _FLAG and len(found.group()) <= 6:
            continue
        meant = "".join(chr(ord(tag) - 0xE0000) for tag in found.group())
        yield Segment(found.start(), found.end(), meant, inline=False)


def selectors(text: str) -> Iterator[Segment]:
    """Bytes as the variation selectors 1 to 256."""
    for found in _SELECTORS.finditer(text):
        codes = (ord(sign) for sign in found.group())
        data = bytes(code - 0xFE00 if code < 0xFE10 else code - 0xE0100 + 16 for code in codes)
        if (meant := as_text(data, letters=0.3)) is not None:
            yield Segment(found.start(), found.end(), meant, inline=False)


def indicators(text: str) -> Iterator[Segment]:
    """Letters as regional indicators; a row of flags is no language."""
    for found in _INDICATORS.finditer(text):
        meant = found.group().translate(_AS_LETTERS)
        if _A_WORD.search(meant) and language(meant) >= 5.5:
            yield Segment(found.start(), found.end(), meant)


HIDDEN: tuple[Callable[[str], Iterator[Segment]], ...] = (tags, selectors, indicators)
