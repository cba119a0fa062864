"""Linear heads over the shared features: many classifiers for the price of one encoder pass.

All heads of an encoder are stacked into one product. A head's logit is a sum over the encoder's
features and the lexical n-grams plus a bias, calibrated when it was trained, so that the sigmoid
(any of many labels) or the softmax (one of many) of it is the probability.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from classifiers import calibration, lexical
from classifiers.encoder import Encoder, Window
from classifiers.glance import Line, line_of
from classifiers.packs import PackError, checked_points, made_for_another, read_pack, read_tensors
from classifiers.pooled import Scores, plainest, probabilities
from classifiers.stack import HeadStack
from classifiers.types import (
    Batch,
    ClassifierError,
    Kind,
    OperatingPoint,
    Prediction,
    UnknownLabel,
)
from classifiers.views import Reader, Views

Array = npt.NDArray[np.float32]
POOLINGS = ("max", "mean")
NEEDS = ("name", "labels", "decision", "pooling", "encoder", "operating_points")
FILES = ("head.safetensors", "calibration.safetensors")
OUT_OF_SCOPE = "out_of_scope"
"""A further label of one-of heads, where the manifest asks for it: the text is about none of the labels.
Its score is the share of held-out texts in scope that have more energy than the text."""


@dataclass(frozen=True, slots=True)
class TokenShare:
    """What one token adds to a label's logit.

    Attributes:
        token: the characters of the original text.
        start, end: their place.
        share: the token's part of the logit.
    """

    token: str
    start: int
    end: int
    share: float


class Head:
    """One head pack's numbers, verified.

    Raises:
        PackError: the pack is damaged, or was made for another encoder.
    """

    def __init__(self, folder: Path, encoder: Encoder) -> None:
        manifest = read_pack(folder, kind="head", needs=NEEDS, files=FILES)
        if manifest["encoder"] != encoder.hash:
            raise made_for_another(folder, manifest, encoder.folder, encoder.name, encoder.hash)
        self.folder = folder
        self.manifest: Mapping[str, Any] = manifest
        self.name = str(manifest["name"])
        self.labels = checked_points(folder, manifest)
        self.decision: Kind = manifest["decision"]
        self.pooling = str(manifest["pooling"])
        if self.decision not in ("one_of", "any_of") or self.pooling not in POOLINGS:
            raise PackError(f"{folder}: decision {self.decision!r} with pooling {self.pooling!r}")
        tensors = read_tensors(folder / "head.safetensors")
        self.bias = self._tensor(folder, tensors, "bias", (len(self.labels),))
        self.weight = self._tensor(folder, tensors, "encoder", (encoder.features, len(self.labels)))
        self.lexical = self._tensor(
            folder, tensors, "lexical", (lexical.BUCKETS, len(self.labels)), np.float16
        )
        held_out = read_tensors(folder / "calibration.safetensors")
        rows = len(held_out.get("logits", ()))
        logits = self._tensor(folder, held_out, "logits", (rows, len(self.labels)))
        self.calibration_scores = probabilities(logits, self.decision)
        self.calibration_truth = self._tensor(
            folder, held_out, "truth", (rows, len(self.labels)), np.int8
        )
        self.energies: Scores | None = None
        if manifest.get(OUT_OF_SCOPE) and self.decision == "one_of" and rows:
            if OUT_OF_SCOPE not in manifest["operating_points"]:
                raise PackError(f"{folder}: no operating point for {OUT_OF_SCOPE}")
            self.energies = np.sort(energy(logits))
            outside = strangeness(logits, self.energies)
            self.calibration_scores = np.column_stack([self.calibration_scores, outside])
            none = np.zeros((rows, 1), dtype=np.int8)
            self.calibration_truth = np.hstack([self.calibration_truth, none])

    @staticmethod
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


class HeadClassifier:
    """One head of a stack, as a classifier."""

    def __init__(self, head: Head, stack: HeadStack, columns: slice) -> None:
        self._head = head
        self._stack = stack
        self._columns = columns
        self.name = head.name
        self.labels = head.labels
        if head.energies is not None:
            self.labels = (*head.labels, OUT_OF_SCOPE)
        self.kind = head.decision
        self.version = str(head.manifest["hash"])[:12]
        self.manifest = head.manifest
        self._line: Line | None = None
        self._has_line = False

    @property
    def head(self) -> Head:
        """Its numbers."""
        return self._head

    @property
    def reader(self) -> Reader:
        """The encoder's work, as all packs that share it read it."""
        return self._stack.reader

    @property
    def encoder(self) -> Encoder:
        """What reads its texts; packs may share it."""
        return self._stack.encoder

    def predict(self, batch: Batch) -> list[tuple[Prediction, ...]]:
        """Every label with its probability, for every text; see :class:`classifiers.types.Classifier`."""
        scored = self._stack.scored(batch)
        lines = [line[self._columns] for line in scored.lines]
        if not all(scored.finite[self._columns]):
            raise ClassifierError(f"classifier {self.name} gave scores that are not finite")
        if self._head.energies is not None:
            outside = strangeness(scored.pooled[:, self._columns], self._head.energies).tolist()
            lines = [[*line, one] for line, one in zip(lines, outside, strict=True)]
        name, labels = self.name, self.labels
        return [
            tuple([Prediction(name, label, s) for label, s in zip(labels, line, strict=True)])
            for line in lines
        ]

    def glance(self, batch: Batch, floors: Mapping[str, float]) -> tuple[Prediction, ...] | None:
        """What the words of a single text alone make probable, by :mod:`classifiers.glance`.

        Args:
            batch: of one text.
            floors: the lowest scores that matter, by label.

        Returns:
            None where that leaves doubt: a floor may be reached, the text is not written in ASCII, or
            nothing is known of what words say to this head.
        """
        if not self._has_line:
            self._line, self._has_line = line_of(self._head), True
        words = self._stack.glanced(batch)
        if self._line is None or words is None:
            return None
        expected = self._line.expected(words[:, self._columns])
        if self._line.in_doubt(expected, {self._column(a): floor for a, floor in floors.items()}):
            return None
        scores = probabilities(expected[None], self._head.decision)[0].tolist()
        return tuple(
            Prediction(self.name, label, s) for label, s in zip(self.labels, scores, strict=True)
        )

    def thresholds(self, labels: Sequence[str], point: OperatingPoint) -> Mapping[str, float]:
        """See :meth:`classifiers.types.ClassifierInfo.thresholds`."""
        columns = [self._column(label) for label in labels]
        name = f"{self.name}: {', '.join(labels)}"
        if point.kind == "at":
            return dict.fromkeys(labels, float(point.value or 0.0))
        if point.kind == "default":
            points = self._head.manifest["operating_points"]
            return {label: float(points[label]["threshold"]) for label in labels}
        truth = self._head.calibration_truth[:, columns]
        scores = calibration.joint(self._head.calibration_scores, columns)
        if point.kind == "max_false_positive_rate":
            # Of an any-of head, a benign text is one that no label holds for.
            quiet = self._head.calibration_truth if self.kind == "any_of" else truth
            benign = scores[(quiet == 0).all(axis=1)]
            cut = calibration.false_positive_threshold(benign, float(point.value or 0.0), name)
        else:
            check_recall(self.name, labels, self.labels[len(self._head.labels) :])
            positive = scores[(truth == 1).any(axis=1)]
            cut = calibration.recall_threshold(positive, float(point.value or 0.0), name)
        return dict.fromkeys(labels, cut)

    def explain(self, text: str, label: str) -> list[TokenShare]:
        """The logit of a label as an exact sum over the tokens of the text.

        Of a long text with ``max`` pooling, the deciding window is explained; with ``mean``, all of
        them. The shares sum to the logit minus the bias (up to rounding of half-precision weights).

        Raises:
            UnknownLabel: no such label.
        """
        if self._column(label) >= len(self._head.labels):
            raise UnknownLabel(f"{self.name}: {label} is the lack of evidence; no token made it")
        column = self._columns.start + self._column(label)
        batch = Batch([text])
        judged = self._stack.judged(batch)
        views = judged.views
        rows = list(range(len(views.encoded.windows)))
        if self._head.pooling == "max":
            rows = [int(np.argmax(judged.logits[:, column]))]
        else:
            rows = plainest(views, rows)
        shares: dict[tuple[int, int], float] = {}
        for row in rows:
            window = views.encoded.windows[row]
            normal = views.plain[window.text]
            for (start, end), share in self._window_shares(views, window, column):
                if normal is not None:
                    span = normal.to_original(start, end)
                    start, end = span.start, span.end
                shares[start, end] = shares.get((start, end), 0.0) + share / len(rows)
        return [
            TokenShare(text[start:end], start, end, share)
            for (start, end), share in sorted(shares.items())
        ]

    # -- inside -----------------------------------------------------------------------------------

    def _column(self, label: str) -> int:
        try:
            return self.labels.index(label)
        except ValueError:
            raise UnknownLabel(
                f"classifier {self.name} has no label {label!r}; it has {', '.join(self.labels)}"
            ) from None

    def _window_shares(
        self, views: Views, window: Window, column: int
    ) -> list[tuple[tuple[int, int], float]]:
        parts = self._stack.encoder.token_features(window) @ self._stack.weight[:, column]
        text = views.forms[window.text][window.start : window.end]
        found = lexical.grams(text)
        buckets, values = lexical.weigh(found)
        worth = values * self._stack.lexical.weights[buckets, column].astype(np.float32)
        counts = np.bincount(np.searchsorted(buckets, found.buckets), minlength=len(buckets))
        each = (worth / np.maximum(counts, 1))[np.searchsorted(buckets, found.buckets)]
        # Each n-gram spreads its share evenly over its characters: a difference array.
        density = each / np.maximum(found.ends - found.starts, 1)
        slope = np.zeros(len(text) + 1)
        np.add.at(slope, found.starts, density)
        np.add.at(slope, found.ends, -density)
        until = np.concatenate(([0.0], np.cumsum(np.cumsum(slope)[:-1])))
        result: list[tuple[tuple[int, int], float]] = []
        previous = 0
        rest = 0.0
        inner = [i for i, (start, end) in enumerate(window.offsets) if end > start]
        for index, (start, end) in enumerate(window.offsets):
            if end <= start:  # the special tokens stand for the text as a whole
                rest += float(parts[index])
                continue
            # A token also takes the spaces before it, the last one whatever follows.
            stop = len(text) if index == inner[-1] else end - window.start
            own = float(until[stop] - until[previous])
            result.append(((start, end), float(parts[index]) + own))
            previous = max(previous, stop)
        rest += 0.0 if inner else float(until[-1])
        result.append(((window.start, window.start), rest))
        return result


def energy(logits: npt.NDArray[Any]) -> Scores:
    """``[n]`` log of the summed exponentials of ``[n, labels]`` logits: how much the head knows the text."""
    wide = logits.astype(np.float64)
    top = wide.max(axis=1)
    result: Scores = top + np.log(np.exp(wide - top[:, None]).sum(axis=1))
    return result


def strangeness(logits: npt.NDArray[Any], energies: Scores) -> Scores:
    """``[n]`` the score of :data:`OUT_OF_SCOPE`: the share of texts in scope with more energy.

    Args:
        logits: ``[n, labels]``.
        energies: of held-out texts in scope, ascending.
    """
    below = np.searchsorted(energies, energy(logits), side="right")
    result: Scores = 1.0 - below / len(energies)
    return result


def check_recall(name: str, asked: Sequence[str], extra: Sequence[str]) -> None:
    """Refuse to promise a recall of the label that was never trained.

    Raises:
        UnknownLabel: it is among those that are asked for.
    """
    for label in set(asked) & set(extra):
        raise UnknownLabel(
            f"{name}: min_recall cannot be promised for {label}, since no text out of scope was seen "
            "in training; use max_false_positive_rate: or at:"
        )


def load_heads(folders: Sequence[Path], encoder: Encoder | Reader) -> list[HeadClassifier]:
    """Load head packs onto one encoder; their products are stacked.

    Args:
        encoder: or a reader, to share the encoder's work with packs of other kinds.

    Raises:
        PackError: a pack is damaged, was made for another encoder, or two have one name.
    """
    reader = encoder if isinstance(encoder, Reader) else Reader(encoder)
    heads = [Head(folder, reader.encoder) for folder in folders]
    if not heads:
        return []
    return stacked(reader, heads)


def stacked(reader: Reader, heads: Sequence[Head]) -> list[HeadClassifier]:
    """Some heads of one encoder as classifiers, their products stacked."""
    stack = HeadStack(reader, heads)
    return [
        HeadClassifier(head, stack, columns)
        for head, columns in zip(heads, stack.columns, strict=True)
    ]
