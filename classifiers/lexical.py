"""Hashed word and character n-grams: the evidence of spelling, beside the encoder's of meaning.

Linear in the length of the text, and exact to explain: each n-gram knows the characters it covers.
Hashing is polynomial over code points, vectorised; buckets are the top bits of a multiplicative
hash (Knuth, TAOCP 3, 6.4). Case and the value of digits are ignored.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Hashes = npt.NDArray[np.uint64]

CHARACTER_SIZES = (3, 4, 5)
BITS = 16
BUCKETS = 2 << BITS
"""Half for character n-grams, half for words and pairs of words."""

_HASH = np.uint64(0x9E3779B97F4A7C15)
_STEP = np.uint64(0xD6E8FEB86659FD93)
_SHIFT = np.uint64(64 - BITS)
_FOLD = np.uint64(32)
_LONGEST_WORD = 64


@dataclass(frozen=True, slots=True)
class Grams:
    """Every n-gram of a text, in no particular order.

    Attributes:
        buckets: ``[n]`` bucket of each n-gram, 0..BUCKETS-1.
        starts, ends: ``[n]`` characters of the text that it covers.
    """

    buckets: Ints
    starts: Ints
    ends: Ints


@dataclass(frozen=True, slots=True)
class Features:
    """The sparse feature vectors of some texts, by text and bucket ascending.

    Attributes:
        texts: ``[k]`` which text a value belongs to.
        buckets: ``[k]`` and which bucket.
        values: ``[k]``.
    """

    texts: Ints
    buckets: Ints
    values: npt.NDArray[np.float32]


def grams(text: str) -> Grams:
    """All n-grams of the text with their places."""
    buckets, _, starts, ends = _all_grams([text])
    return Grams(buckets, starts, ends)


def weigh(found: Grams) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    """Buckets of a text and their values: square root of the count, each half of unit length / √2.

    Returns:
        ``(buckets [k], values [k])``, buckets ascending and without repeats.
    """
    buckets, counts = np.unique(found.buckets, return_counts=True)
    values = np.sqrt(counts, dtype=np.float32)
    border = int(np.searchsorted(buckets, 1 << BITS))
    for half in (values[:border], values[border:]):
        if len(half):
            half /= np.linalg.norm(half) * np.float32(2**0.5)
    return buckets, values


def features(text: str) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    """``weigh(grams(text))``: the sparse feature vector of a text."""
    return weigh(grams(text))


def features_of(texts: Sequence[str]) -> Features:
    """:func:`features` of several texts in one go: a short text costs mostly the calls."""
    buckets, owners, _, _ = _all_grams(texts)
    keys, counts = np.unique((owners << (BITS + 1)) | buckets, return_counts=True)
    # The squares of the values of a half sum to one half: its counts over twice their sum.
    totals = np.bincount(keys >> BITS, counts, minlength=2 * len(texts))
    values = np.sqrt(counts / (2 * totals[keys >> BITS])).astype(np.float32)
    return Features(keys >> (BITS + 1), keys & (BUCKETS - 1), values)


def _all_grams(texts: Sequence[str]) -> tuple[Ints, Ints, Ints, Ints]:
    """Every n-gram of some texts: ``(buckets, texts, starts, ends)``, ``[n]`` each.

    Starts and ends count from the beginning of the first text, with one character between texts.
    """
    raw = "\0".join(texts).encode("utf-32-le", "replace")
    codes = np.frombuffer(raw, dtype=np.uint32)
    folded = np.where(codes < len(_FOLDED), _FOLDED[np.minimum(codes, len(_FOLDED) - 1)], codes)
    sizes = np.fromiter(map(len, texts), np.int64, len(texts))
    borders = np.cumsum(sizes[:-1] + 1) - 1
    owners = np.repeat(np.arange(len(texts)), sizes + 1)[:-1]
    folded[borders], owners[borders] = 0, -1
    # A run of white space counts as one space.
    blank = folded == 32
    keep = np.ones(len(folded), dtype=bool)
    keep[1:] = ~(blank[1:] & blank[:-1])
    places = np.flatnonzero(keep)
    letters = folded[places].astype(np.uint64)
    owners = owners[places]
    found: list[tuple[Ints, Ints, Ints]] = []  # bucket, first and last letter of each
    rolling = letters
    for size in range(2, max(CHARACTER_SIZES) + 1):
        if len(letters) < size:
            break
        rolling = rolling[:-1] * _STEP + letters[size - 1 :]
        if size in CHARACTER_SIZES:
            first = np.arange(len(rolling), dtype=np.int64)
            found.append((_bucket(rolling + np.uint64(size)), first, first + size - 1))
    found += [(_bucket(one) + (1 << BITS), first, last) for one, first, last in _words(letters)]
    if not found:
        nothing = np.zeros(0, dtype=np.int64)
        return nothing, nothing, nothing, nothing
    buckets, first, last = (np.concatenate(part) for part in zip(*found, strict=True))
    if len(texts) > 1:  # no n-gram reaches from one text into another
        own = np.flatnonzero((owners[first] == owners[last]) & (owners[first] >= 0))
        buckets, first, last = buckets[own], first[own], last[own]
    return buckets, owners[first], places[first], places[last] + 1


def _words(letters: Hashes) -> list[tuple[Hashes, Ints, Ints]]:
    """Words and pairs of words: their hashes, and first and last letter of each."""
    inside = np.where(
        letters < len(_IN_WORD), _IN_WORD[np.minimum(letters, len(_IN_WORD) - 1).astype(int)], True
    )
    edges = np.flatnonzero(np.diff(np.concatenate(([False], inside, [False])).astype(np.int8)))
    if not len(edges):
        return []
    first, last = edges[::2], edges[1::2]
    position = np.arange(len(letters)) - np.repeat(
        np.concatenate(([0], first)), np.diff(np.concatenate(([0], first, [len(letters)])))
    )
    scaled = letters * _POWERS[np.minimum(position, _LONGEST_WORD - 1)]
    sums = np.add.reduceat(np.where(inside, scaled, np.uint64(0)), first)
    sums = sums + (last - first).astype(np.uint64)
    pairs = sums[:-1] * _STEP + sums[1:] * _HASH
    return [(sums, first, last - 1), (pairs, first[:-1], last[1:] - 1)]


def _bucket(hashes: Hashes) -> Ints:
    mixed = (hashes ^ (hashes >> _FOLD)) * _HASH
    return (mixed >> _SHIFT).astype(np.int64)


def _tables() -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.bool_]]:
    folded = np.arange(0x3000, dtype=np.uint32)
    for code in range(len(folded)):
        character = chr(code)
        lower = character.lower()
        if character.isspace() or code < 32:
            folded[code] = 32
        elif character.isdecimal():
            folded[code] = ord("0")
        elif len(lower) == 1:
            folded[code] = ord(lower)
    words = np.fromiter((chr(c).isalnum() or c == 0x27 for c in range(len(folded))), dtype=bool)
    return folded, words


_FOLDED, _IN_WORD = _tables()
_POWERS = np.cumprod(np.full(_LONGEST_WORD, _STEP, dtype=np.uint64), dtype=np.uint64)
