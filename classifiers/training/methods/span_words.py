"""Rows with spans as words with tags: the features that a token head is fitted on, computed once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_matrix

from classifiers import words
from classifiers.chain import Wide, tags_of
from classifiers.encoder import Encoder
from classifiers.tokens import word_rows
from classifiers.training.data import Row
from classifiers.training.methods.chain_fit import Sentences

DIRECTIONS = 256
"""Main directions of the states that are fitted; the rest is noise to so few rows."""
SAMPLE = 10_000
"""Words from which the directions are reckoned."""


@dataclass(frozen=True, slots=True)
class ReadWords:
    """The words of all rows.

    Attributes:
        places: of each row, (start, end) of its words.
        sentences: their features and true tags.
        basis: ``[features, directions]`` of the encoder's states.
        buckets: ``[columns]`` the lexical bucket of each column that occurs.
        tags: how many there are.
    """

    places: tuple[list[tuple[int, int]], ...]
    sentences: Sentences
    basis: npt.NDArray[np.float64]
    buckets: npt.NDArray[np.int64]
    tags: int

    def spread(self, lexical: Wide) -> Wide:
        """Weights of the columns that occur as weights of all buckets."""
        full = np.zeros((words.BUCKETS, lexical.shape[1]))
        full[self.buckets] = lexical
        return full


def read_words(rows: Sequence[Row], labels: Sequence[str], encoder: Encoder) -> ReadWords:
    """Words of the rows, each with its states, its spelling and its true tag."""
    places: list[list[tuple[int, int]]] = []
    states: list[npt.NDArray[np.float16]] = []
    buckets: list[npt.NDArray[np.int64]] = []
    tags: list[int] = []
    for row in rows:
        own = words.words(row.text)
        cuts = [window for window in encoder.windows([row.text]) if not window.sentence]
        read = [(window, encoder.token_states(window)) for window in cuts]
        places.append(own)
        states.append(word_rows(own, read).astype(np.float16))
        buckets.append(words.features(row.text, own))
        tags += true_tags(own, row.spans, labels)
    everything = np.concatenate(states)
    basis = main_directions(everything)
    parts = [part.astype(np.float32) @ basis.astype(np.float32) for part in states]
    used, columns = np.unique(np.concatenate(buckets), return_inverse=True)
    count = len(everything)
    table = csr_matrix(
        (
            np.ones(columns.size),
            columns.ravel(),
            np.arange(0, columns.size + 1, words.FEATURES),
        ),
        shape=(count, len(used)),
    )
    sentences = Sentences(
        np.concatenate(parts),
        table,
        np.asarray(tags, dtype=np.int64),
        np.concatenate(([0], np.cumsum([len(own) for own in places]))),
        np.asarray([row.weight for row in rows]),
    )
    return ReadWords(tuple(places), sentences, basis, used, len(tags_of(labels)))


def true_tags(
    places: words.Places, spans: Sequence[tuple[int, int, str]], labels: Sequence[str]
) -> list[int]:
    """The tag of each word: a word belongs to the first span that it touches."""
    tags = [0] * len(places)
    for start, end, label in sorted(spans):
        if label not in labels:
            continue
        tag = 1 + 2 * labels.index(label)
        for word, (first, last) in enumerate(places):
            if first < end and last > start and not tags[word]:
                tags[word] = tag
                tag = 2 + 2 * labels.index(label)
    return tags


def main_directions(states: npt.NDArray[np.float16]) -> npt.NDArray[np.float64]:
    """The main directions of the states, ``[features, directions]``, orthonormal."""
    chosen = np.random.default_rng(0).permutation(len(states))[:SAMPLE]
    sample = states[chosen].astype(np.float64)
    _, vectors = np.linalg.eigh(np.cov(sample, rowvar=False))
    basis: npt.NDArray[np.float64] = vectors[:, ::-1][:, :DIRECTIONS]
    return basis


def check_spans(rows: Sequence[Row], labels: Sequence[str]) -> None:
    """Raise ValueError for a label without a span, or a span that its text does not have."""
    seen: set[str] = set()
    for row in rows:
        for start, end, label in row.spans:
            if not 0 <= start < end <= len(row.text):
                where = f"{row.place}: " if row.place else ""
                raise ValueError(
                    f"{where}span {start}..{end} ({label}) does not fit a text of {len(row.text)} "
                    "characters; a span is [start, end) with start < end"
                )
            seen.add(label)
    if missing := [label for label in labels if label not in seen]:
        raise ValueError(
            f"no row has a span of {', '.join(missing)}; add such rows or leave the label out"
        )


def aligned(row: Row) -> set[tuple[int, int, str]]:
    """The spans of a row, widened to whole words: what a head that tags words can find."""
    places = words.words(row.text)
    result = set()
    for start, end, label in row.spans:
        own = [(first, last) for first, last in places if first < end and last > start]
        if own:
            result.add((own[0][0], own[-1][1], label))
    return result
