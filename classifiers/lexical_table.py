"""The lexical weights of all heads side by side, and what some texts score by them.

Few of the rows are touched by a text, and windows of one text touch the same ones. Rows are kept in
half precision, gathered once for several windows, and widened there.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from classifiers import lexical

Array = npt.NDArray[np.float32]

AT_ONCE = 8
"""Texts that share their rows: of more, few touch the same, and the product is dense."""

_SIGN_EXPONENT_FRACTION = np.int32(-0x70002000)
"""What remains of a half, extended to 32 bits and shifted by the 13 that its fraction lacks."""
_RAISED = np.float32(2.0**112)
"""The exponent's bias is 127 instead of 15."""


class LexicalTable:
    """Weights of n-grams.

    Args:
        weights: ``[lexical.BUCKETS, labels]``, half precision.
    """

    def __init__(self, weights: npt.NDArray[Any]) -> None:
        self.weights = np.ascontiguousarray(weights, dtype=np.float16)

    def score(self, texts: Sequence[str]) -> Array:
        """``[texts, labels]``: the sum of the weights of each text's n-grams, by their values."""
        result = np.empty((len(texts), self.weights.shape[1]), dtype=np.float32)
        for first in range(0, len(texts), AT_ONCE):
            some = texts[first : first + AT_ONCE]
            found = lexical.features_of(some)
            touched = np.zeros(lexical.BUCKETS, dtype=np.bool_)
            touched[found.buckets] = True
            rows = np.flatnonzero(touched)
            place = np.empty(lexical.BUCKETS, dtype=np.int32)
            place[rows] = np.arange(len(rows))
            values = np.zeros((len(some), len(rows)), dtype=np.float32)
            values[found.texts, place[found.buckets]] = found.values
            np.matmul(values, widened(self.weights[rows]), out=result[first : first + len(some)])
        return result


def widened(halves: npt.NDArray[np.float16]) -> Array:
    """Finite halves in single precision, exactly; five times as fast as ``astype``."""
    bits = halves.view(np.int16).astype(np.int32)
    bits <<= 13
    bits &= _SIGN_EXPONENT_FRACTION
    wide = bits.view(np.float32)
    wide *= _RAISED
    return wide
