"""Token heads: classifiers that point at words, for names, places, dates and the slots of a request.

Each word gets a score for each tag: from the encoder's states of its pieces and of its neighbours,
and from its spelling. The best path over the tags gives the finds, and the share of all paths that
hold a find, calibrated on texts the head had not seen, is its probability. The original text is
tagged; long text is read in windows, each word in the one where it stands farthest from an edge.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from classifiers import calibration, words
from classifiers.chain import Steps, Stretch, Wide, best_path, certainty, stretches, tags_of
from classifiers.encoder import Array, Encoder, Window
from classifiers.packs import PackError, checked_points, made_for_another, read_pack, read_tensors
from classifiers.types import (
    Batch,
    ClassifierError,
    Kind,
    OperatingPoint,
    Prediction,
    Span,
    UnknownLabel,
)
from classifiers.views import Reader

NEIGHBOURS = 3
"""Blocks of the states' weight: of the word itself, of the one to its left, of the one to its right."""
NEEDS = ("name", "labels", "tags", "encoder", "operating_points", "outside_discount")
FILES = ("tokens.safetensors", "calibration.safetensors")


class TokenHead:
    """One token head's numbers, verified.

    Raises:
        PackError: the pack is damaged, or was made for another encoder.
    """

    def __init__(self, folder: Path, encoder: Encoder) -> None:
        manifest = read_pack(folder, kind="spans", needs=NEEDS, files=FILES)
        if manifest["encoder"] != encoder.hash:
            raise made_for_another(folder, manifest, encoder.folder, encoder.name, encoder.hash)
        self.manifest: Mapping[str, Any] = manifest
        self.name = str(manifest["name"])
        self.labels = checked_points(folder, manifest)
        if tuple(manifest["tags"]) != tags_of(self.labels):
            raise PackError(f"{folder}: its tags are not those of its labels; rebuild the pack")
        self.outside_discount = float(manifest["outside_discount"])
        count, tags = len(self.labels), len(manifest["tags"])
        tensors = read_tensors(folder / "tokens.safetensors")
        self.states = _tensor(folder, tensors, "states", (NEIGHBOURS, encoder.features, tags))
        self.lexical = _tensor(folder, tensors, "lexical", (words.BUCKETS, tags))
        self.bias = _tensor(folder, tensors, "bias", (tags,))
        start = _tensor(folder, tensors, "start", (tags,))
        self.steps = Steps.constrained(start, _tensor(folder, tensors, "follow", (tags, tags)))
        self.platt = _tensor(folder, tensors, "platt", (count, 2))
        held_out = read_tensors(folder / "calibration.safetensors")
        rows = len(held_out.get("best", ()))
        spans = len(held_out.get("span_scores", ()))
        self.best = _tensor(folder, held_out, "best", (rows, count), np.float64)
        self.truth = _tensor(folder, held_out, "truth", (rows, count), np.int8)
        self.span_scores = _tensor(folder, held_out, "span_scores", (spans,), np.float64)
        self.span_labels = _tensor(folder, held_out, "span_labels", (spans,), np.int64)

    def finds(self, scores: Wide) -> tuple[list[Stretch], Wide]:
        """The stretches of words that carry a label, and the calibrated probability of each.

        Args:
            scores: ``[words, tags]``.
        """
        found, logs = find(scores, self.steps, self.outside_discount)
        return found, probability(logs, self.platt[[one.label for one in found]])


class TokenStack:
    """All token heads of one encoder; their products are computed together."""

    def __init__(self, reader: Reader, heads: Sequence[TokenHead]) -> None:
        self.reader = reader
        self.columns = [
            reader.ask_tokens(np.hstack(list(head.states.astype(np.float32)))) for head in heads
        ]

    def read(self, batch: Batch) -> list[TextWords]:
        """The words of each text and what the encoder said of them."""
        views = self.reader.views(batch)
        owned: list[list[tuple[Window, Array]]] = [[] for _ in batch.texts]
        for window, tokens in zip(views.encoded.windows, views.encoded.tokens, strict=True):
            if tokens is not None and views.plain[window.text] is None:
                owned[views.owners[window.text]].append((window, tokens))
        return [TextWords(text, own) for text, own in zip(batch.texts, owned, strict=True)]


class TextWords:
    """The words of one text.

    Attributes:
        places: (start, end) of each word.
        tokens: ``[words, columns]``: what stands in the windows for the pieces of a word, averaged;
            zeros for words that the tokenizer leaves out.
        buckets: ``[words, FEATURES]`` lexical evidence.
    """

    __slots__ = ("buckets", "places", "tokens")

    def __init__(self, text: str, windows: Sequence[tuple[Window, Array]]) -> None:
        self.places = words.words(text)
        self.buckets = words.features(text, self.places)
        self.tokens = word_rows(self.places, windows)


class SpanClassifier:
    """One token head, as a classifier."""

    kind: Kind = "spans"

    def __init__(self, head: TokenHead, stack: TokenStack, columns: slice) -> None:
        self._head = head
        self._stack = stack
        self._columns = columns
        self.name = head.name
        self.labels = head.labels
        self.version = str(head.manifest["hash"])[:12]
        self.manifest = head.manifest

    def predict(self, batch: Batch) -> list[tuple[Prediction, ...]]:
        """One prediction per find; see :class:`classifiers.types.Classifier`.

        Finds come in the order of the text and never overlap.
        """
        return [
            self._predict(text) for text in batch.shared((self._stack, "words"), self._stack.read)
        ]

    def thresholds(self, labels: Sequence[str], point: OperatingPoint) -> Mapping[str, float]:
        """See :meth:`classifiers.types.ClassifierInfo.thresholds`.

        ``max_false_positive_rate`` is the share of texts with none of the labels in which one is
        found all the same; ``min_recall`` the share of the true stretches of these labels that a
        find covers at least by half.
        """
        columns = [self._column(label) for label in labels]
        name = f"{self.name}: {', '.join(labels)}"
        if point.kind == "at":
            return dict.fromkeys(labels, float(point.value or 0.0))
        if point.kind == "default":
            points = self._head.manifest["operating_points"]
            return {label: float(points[label]["threshold"]) for label in labels}
        wanted = float(point.value or 0.0)
        if point.kind == "max_false_positive_rate":
            without = (self._head.truth[:, columns] == 0).all(axis=1)
            scores = calibration.joint(self._head.best, columns)[without]
            cut = calibration.false_positive_threshold(scores, wanted, name)
        else:
            scores = self._head.span_scores[np.isin(self._head.span_labels, columns)]
            cut = calibration.recall_threshold(scores, wanted, name)
            if cut <= 0:
                raise UnknownLabel(
                    f"{name}: min_recall {wanted:.2%} cannot be promised: "
                    f"{np.mean(scores > 0):.2%} of the true finds are found at any threshold; take "
                    "a smaller recall"
                )
        return dict.fromkeys(labels, cut)

    # -- inside -----------------------------------------------------------------------------------

    def _column(self, label: str) -> int:
        try:
            return self.labels.index(label)
        except ValueError:
            raise UnknownLabel(
                f"classifier {self.name} has no label {label!r}; it has {', '.join(self.labels)}"
            ) from None

    def _predict(self, text: TextWords) -> tuple[Prediction, ...]:
        if not text.places:
            return ()
        head = self._head
        scores = word_scores(text, text.tokens[:, self._columns], head.lexical, head.bias)
        if not np.isfinite(scores).all():
            raise ClassifierError(f"classifier {self.name} gave scores that are not finite")
        found, chances = head.finds(scores)
        return tuple(
            Prediction(
                self.name,
                self.labels[one.label],
                float(chance),
                Span(text.places[one.first][0], text.places[one.last][1]),
            )
            for one, chance in zip(found, chances, strict=True)
        )


def word_scores(
    text: TextWords, tokens: Array, lexical: npt.NDArray[Any], bias: npt.NDArray[Any]
) -> Wide:
    """``[words, tags]``: how well each tag fits each word.

    Args:
        text: the words.
        tokens: ``[words, NEIGHBOURS * tags]``: of each word, what it says of itself, of the word to
            its right and of the word to its left.
        lexical: ``[BUCKETS, tags]``.
        bias: ``[tags]``.
    """
    own, to_right, to_left = np.split(tokens.astype(np.float64), NEIGHBOURS, axis=1)
    scores: Wide = own + lexical[text.buckets].sum(axis=1, dtype=np.float32) + bias
    scores[1:] += to_right[:-1]
    scores[:-1] += to_left[1:]
    return scores


def find(scores: Wide, steps: Steps, discount: float) -> tuple[list[Stretch], Wide]:
    """The stretches on the best path and the logarithm of each one's probability.

    A second path, with ``O`` made less likely by the discount, brings doubtful finds to light where
    the best one has none; their probability, reckoned without the discount, is low.
    """
    found = stretches(best_path(scores, steps))
    if discount:
        eager = scores.copy()
        eager[:, 0] -= discount
        taken = {word for one in found for word in range(one.first, one.last + 1)}
        found += [
            one
            for one in stretches(best_path(eager, steps))
            if taken.isdisjoint(range(one.first, one.last + 1))
        ]
        found.sort(key=lambda one: one.first)
    return found, certainty(scores, steps, found)


def word_rows(places: words.Places, windows: Sequence[tuple[Window, Array]]) -> Array:
    """Rows of tokens as rows of words: the mean over a word's pieces, in its best window.

    Args:
        places: the words of a text.
        windows: those that cover the text, with ``[tokens, columns]`` each.

    Returns:
        ``[words, columns]``; zeros for words that have no token.
    """
    width = windows[0][1].shape[1] if windows else 0
    rows = np.zeros((len(places), width), dtype=np.float32)
    if not len(places):
        return rows
    starts = np.asarray([start for start, _ in places])
    ends = np.asarray([end for _, end in places])
    depths = np.full(len(places), -1.0)
    for number, (window, tokens) in enumerate(windows):
        offsets = np.asarray(window.offsets[1:-1]).reshape(-1, 2)
        word = np.searchsorted(starts, offsets[:, 0], side="right") - 1
        inside = np.flatnonzero((word >= 0) & (offsets[:, 0] < ends[word]))
        if not len(inside):
            continue
        firsts = np.flatnonzero(np.diff(word[inside], prepend=-1))
        counts = np.diff(firsts, append=len(inside))
        found, begin = word[inside[firsts]], inside[firsts]
        until = len(offsets) - 1 - inside[firsts + counts - 1]
        # The edges of the text are no edges: nothing is missing beyond them.
        left = begin if number else np.full(len(begin), np.inf)
        depth = np.minimum(left, until) if number + 1 < len(windows) else left.astype(float)
        better = depth > depths[found]
        depths[found[better]] = depth[better]
        means = np.add.reduceat(tokens[1:-1][inside], firsts) / counts[:, None]
        rows[found[better]] = means[better]
    return rows


def probability(logs: Wide, platt: npt.NDArray[Any]) -> Wide:
    """Calibrated probabilities (Platt 1999).

    Args:
        logs: ``[finds]`` logarithms of the chain's probabilities.
        platt: ``[finds, 2]`` slope and offset for the logit of each.
    """
    chances = np.exp(np.clip(logs, -30.0, -1e-6))
    logit = np.log(chances) - np.log1p(-chances)
    result: Wide = 1.0 / (1.0 + np.exp(-np.clip(logit * platt[:, 0] + platt[:, 1], -700, 700)))
    return result


def load_span_packs(folders: Sequence[Path], reader: Reader) -> list[SpanClassifier]:
    """Load token heads onto one reader.

    Raises:
        PackError: a pack is damaged, or was made for another encoder.
    """
    heads = [TokenHead(folder, reader.encoder) for folder in folders]
    stack = TokenStack(reader, heads)
    return [
        SpanClassifier(head, stack, columns)
        for head, columns in zip(heads, stack.columns, strict=True)
    ]


def load_span_pack(folder: Path, encoder: Encoder) -> SpanClassifier:
    """Load one token head that has the encoder for itself; see :func:`load_span_packs`."""
    return load_span_packs([folder], Reader(encoder))[0]


def _tensor(
    folder: Path,
    tensors: Mapping[str, npt.NDArray[Any]],
    name: str,
    shape: tuple[int, ...],
    dtype: Any = np.float32,
) -> npt.NDArray[Any]:
    array = tensors.get(name)
    if array is None or array.shape != shape or not np.isfinite(array).all():
        found = "missing" if array is None else f"of shape {array.shape} or not finite"
        raise PackError(f"{folder}: tensor {name!r} is {found}, {shape} is needed")
    return array.astype(dtype, copy=False)
