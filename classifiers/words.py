"""Words of a text, and what their spelling says: the units that are tagged, and their lexical evidence.

A word is a run of letters and digits with its combining marks; every other visible character is a
word of its own, and so is each character of the scripts that are written without spaces. Digits keep
their number but not their value. Linear in the length of the text.
"""

from __future__ import annotations

import re
import unicodedata
import zlib
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt

BITS = 15
BUCKETS = 1 << BITS
FEATURES = 29
"""Buckets that each word has."""
LONGEST = 48
"""Characters of a word that are read; longer ones are no words."""

Places = Sequence[tuple[int, int]]
Buckets = npt.NDArray[np.int64]

_HASH = np.uint64(0x9E3779B97F4A7C15)
_STEP = np.uint64(0xD6E8FEB86659FD93)
_KIND = np.uint64(0xA0761D6478BD642F)
_FOLD = np.uint64(32)
_SHIFT = np.uint64(64 - BITS)
_AFFIXES = (2, 3, 4)


def words(text: str) -> list[tuple[int, int]]:
    """The (start, end) of every word, in characters, ascending; between them is white space only."""
    return [match.span() for match in _WORD.finditer(text)]


def features(text: str, places: Places) -> Buckets:
    """``[words, FEATURES]`` buckets in 0..BUCKETS-1: spelling, shape and neighbours of each word.

    Args:
        text: the text.
        places: its :func:`words`.
    """
    if not places:
        return np.zeros((0, FEATURES), dtype=np.int64)
    rows = [_own(text[start:end][:LONGEST]) for start, end in places]
    own = np.asarray(rows, dtype=np.uint64)  # word, shape, prefixes, suffixes
    word, shape = own[:, 0], own[:, 1]
    gap = np.asarray(_gaps(text, places), dtype=np.uint64)
    # A text without a capital letter says nothing by leaving them out.
    cased = np.uint64(text != text.lower())
    left, right = _shifted(word, 1), _shifted(word, -1)
    left2, right2 = _shifted(word, 2), _shifted(word, -2)
    shape_left, shape_right = _shifted(shape, 1), _shifted(shape, -1)
    columns = [
        word,
        *own[:, 2:].T,
        shape,
        left,
        right,
        left2,
        right2,
        _pair(left, word),
        _pair(word, right),
        _pair(left2, left),
        _pair(right, right2),
        _pair(shape_left, shape),
        _pair(shape, shape_right),
        _pair(_pair(shape_left, shape), shape_right),
        _pair(shape, gap),
        _pair(_pair(shape_left, shape), gap),
        _pair(left, shape),
        _pair(shape, right),
        _pair(shape, cased),
        _pair(_pair(shape, gap), cased),
        _pair(_pair(_shifted(shape, 2), shape_left), shape),
        gap,
        _pair(word, gap),
        _pair(_pair(gap, _shifted(gap, -1)), shape),
    ]
    table = np.stack(columns, axis=1) + np.arange(len(columns), dtype=np.uint64) * _KIND
    mixed = (table ^ (table >> _FOLD)) * _HASH
    buckets: Buckets = ((mixed ^ (mixed >> _FOLD)) * _STEP >> _SHIFT).astype(np.int64)
    return buckets


@lru_cache(8192)  # most words of a text are words of every text
def _own(word: str) -> tuple[int, ...]:
    low = word.lower()
    if any(map(str.isdigit, low)):
        low = _DIGIT.sub("0", low)
    key = low.encode("utf-8", "replace")
    return (
        zlib.crc32(key),
        zlib.crc32(_shape(word).encode("utf-8", "replace")),
        *(zlib.crc32(key[:size]) for size in _AFFIXES),
        *(zlib.crc32(key[-size:]) for size in _AFFIXES),
    )


def _shape(word: str) -> str:
    """What kind of word it is, at a glance: case, digits, or the symbol itself."""
    if word.isdigit():
        return f"d{min(len(word), 6)}"
    if not word.isalpha():
        if not word[0].isalnum():
            return word
        return f"m{word[0].isdigit():d}{word[-1].isdigit():d}{word.islower():d}"
    if word.islower():
        return "x" if len(word) > 3 else f"x{len(word)}"
    if word.isupper():
        return f"X{min(len(word), 4)}"
    if word[0].isupper() and word[1:].islower():
        return "Xx"
    return "xX" if word[0].islower() else "XxX"


def _gaps(text: str, places: Places) -> list[int]:
    """What stands before each word: 0 nothing, 1 a space, 2 a new line, 3 a sentence's end."""
    gaps, previous = [], 0
    for start, _ in places:
        between = text[previous:start]
        if previous == 0 or "\n" in between:
            gaps.append(2)
        elif between and text[previous - 1] in ".!?:":
            gaps.append(3)
        else:
            gaps.append(1 if between else 0)
        previous = places[len(gaps) - 1][1]
    return gaps


def _shifted(values: npt.NDArray[np.uint64], by: int) -> npt.NDArray[np.uint64]:
    """The value of the word ``by`` places to the left; 0 beyond the edges."""
    moved = np.zeros_like(values)
    if by > 0:
        moved[by:] = values[:-by]
    else:
        moved[:by] = values[-by:]
    return moved


def _pair(
    one: npt.NDArray[np.uint64], two: npt.NDArray[np.uint64] | np.uint64
) -> npt.NDArray[np.uint64]:
    return (one * _STEP + two) * _HASH


def _marks() -> str:
    """The combining marks as ranges of a character class."""
    marked = [c for c in (*range(0x300, 0x3100), *range(0xA600, 0xAC00), *range(0xFE00, 0xFE30))
              if unicodedata.category(chr(c)).startswith("M")]  # fmt: skip
    ranges: list[list[int]] = []
    for code in marked:
        if ranges and ranges[-1][1] == code - 1:
            ranges[-1][1] = code
        else:
            ranges.append([code, code])
    return "".join(f"\\u{first:04x}-\\u{last:04x}" for first, last in ranges)


_UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
    "\U00020000-\U0003ffff"
)
_MARKS = _marks()
_WORD = re.compile(
    rf"[{_UNSPACED}][{_MARKS}]*|[^\W{_UNSPACED}](?:[^\W{_UNSPACED}]|[{_MARKS}])*|[^\w\s][{_MARKS}]*"
)
_DIGIT = re.compile(r"\d")
