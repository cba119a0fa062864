"""Training texts as windows: what a head is fitted on, cut as serving cuts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_matrix

from classifiers import lexical
from classifiers.encoder import Encoder, Window
from classifiers.training.data import Row
from classifiers.training.features import FeatureCache

Array = npt.NDArray[np.float32]
Wide = npt.NDArray[np.float64]
SHOWS, SHOWS_NOTHING = 0.6, 0.1
"""Overlap of a window and a focus, as a share of the shorter one."""


@dataclass(frozen=True, slots=True)
class Windows:
    """Training texts as windows.

    Attributes:
        features: ``[windows, features]`` of the encoder.
        grams: ``[windows, BUCKETS]`` sparse.
        owner: ``[windows]`` index of the row.
        focus: ``[windows]`` 1 within the focus of its row (or the row has none), -1 outside, 0 partly.
        sentence: ``[windows]`` True where the window is a single sentence of a longer text, and
            nothing says whether it carries the label.
    """

    features: Array
    grams: csr_matrix
    owner: npt.NDArray[np.int64]
    focus: npt.NDArray[np.int8]
    sentence: npt.NDArray[np.bool_]


def make_windows(
    rows: Sequence[Row], encoder: Encoder, cache: FeatureCache, pooling: str
) -> Windows:
    """Windows of all rows; with ``mean`` pooling each row is one averaged window."""
    texts = [row.text for row in rows]
    encoded = cache.get(texts)
    cuts = encoder.windows(texts)
    owner = np.asarray([cut.text for cut in cuts])
    features = np.concatenate(encoded)
    parts = [lexical.features(texts[cut.text][cut.start : cut.end]) for cut in cuts]
    indptr = np.concatenate(([0], np.cumsum([len(buckets) for buckets, _ in parts])))
    grams = csr_matrix(
        (
            np.concatenate([values for _, values in parts]),
            np.concatenate([buckets for buckets, _ in parts]),
            indptr,
        ),
        shape=(len(cuts), lexical.BUCKETS),
    )
    if pooling == "mean":
        # As it is served: the windows that cover the text, not its sentences once more.
        kept = np.asarray([not cut.sentence for cut in cuts], dtype=np.float32)
        share = kept / np.bincount(owner, weights=kept, minlength=len(rows))[owner]
        average = csr_matrix((share, (owner, np.arange(len(owner)))), shape=(len(rows), len(owner)))
        own = np.arange(len(rows))
        pooled = np.asarray(average @ features, dtype=np.float32)
        return Windows(
            pooled,
            csr_matrix(average @ grams, dtype=np.float32),
            own,
            np.ones(len(rows), np.int8),
            np.zeros(len(rows), bool),
        )
    focus = np.asarray([_focus(cut, rows[cut.text].focus) for cut in cuts], dtype=np.int8)
    unclear = [cut.sentence and rows[cut.text].focus is None for cut in cuts]
    return Windows(features, grams, owner, focus, np.asarray(unclear))


def _focus(window: Window, focus: tuple[int, int] | None) -> int:
    """1 where the window shows the focus, or fills it; -1 where it shows next to nothing of it.

    A sentence shows it only where it is most of it: one of the several sentences of an attack may be
    innocent.
    """
    if focus is None:
        return 1
    overlap = min(window.end, focus[1]) - max(window.start, focus[0])
    share = overlap / max(min(window.end - window.start, focus[1] - focus[0]), 1)
    whole = overlap / max(focus[1] - focus[0], 1)
    if share <= SHOWS_NOTHING:
        return -1
    return 1 if share >= SHOWS and (not window.sentence or whole >= SHOWS) else 0


def pool_max(logits: Wide, owner: npt.NDArray[np.int64], rows: int) -> Wide:
    """``[rows, labels]`` the greatest logit among each row's windows."""
    pooled = np.full((rows, logits.shape[1]), -np.inf)
    np.maximum.at(pooled, owner, logits)
    return pooled
