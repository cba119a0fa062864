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
from classifiers.encoder import Encoded, Encoder, Window
from classifiers.normalize import Plain, plain
from classifiers.packs import PackError, read_pack, read_tensors
from classifiers.types import (
    Batch,
    ClassifierError,
    Kind,
    OperatingPoint,
    Prediction,
    UnknownLabel,
)

Array = npt.NDArray[np.float32]
Scores = npt.NDArray[np.float64]
POOLINGS = ("max", "mean")
NEEDS = ("name", "labels", "decision", "pooling", "encoder", "operating_points")
FILES = ("head.safetensors", "calibration.safetensors")


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


@dataclass(frozen=True, slots=True)
class Views:
    """Every form of every text that is scored: the raw one and, if it differs, the plain one.

    Attributes:
        encoded: windows of all forms; ``Window.text`` indexes ``owners``.
        owners: index of the original text of each form.
        forms: the strings themselves.
        plain: how a form maps back to the original, None for raw forms.
    """

    encoded: Encoded
    owners: tuple[int, ...]
    forms: tuple[str, ...]
    plain: tuple[Plain | None, ...]


class Head:
    """One head pack's numbers, verified.

    Raises:
        PackError: the pack is damaged, or was made for another encoder.
    """

    def __init__(self, folder: Path, encoder: Encoder) -> None:
        manifest = read_pack(folder, kind="head", needs=NEEDS, files=FILES)
        if manifest["encoder"] != encoder.hash:
            raise PackError(
                f"{folder}: made for encoder {str(manifest['encoder'])[:12]}, this one is "
                f"{encoder.hash[:12]} ({encoder.name}); rebuild it with its recipe"
            )
        self.manifest: Mapping[str, Any] = manifest
        self.name = str(manifest["name"])
        self.labels: tuple[str, ...] = tuple(manifest["labels"])
        self.decision: Kind = manifest["decision"]
        self.pooling = str(manifest["pooling"])
        if self.decision not in ("one_of", "any_of") or self.pooling not in POOLINGS:
            raise PackError(f"{folder}: decision {self.decision!r} with pooling {self.pooling!r}")
        if missing := set(self.labels) - set(manifest["operating_points"]):
            raise PackError(f"{folder}: no operating point for {', '.join(sorted(missing))}")
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


class HeadStack:
    """All heads of one encoder, their weights side by side."""

    def __init__(self, encoder: Encoder, heads: Sequence[Head]) -> None:
        self.encoder = encoder
        self.columns: list[slice] = []
        first = 0
        for head in heads:
            self.columns.append(slice(first, first + len(head.labels)))
            first += len(head.labels)
        self.weight = np.ascontiguousarray(np.hstack([head.weight for head in heads]))
        self.lexical = np.ascontiguousarray(np.hstack([head.lexical for head in heads]))
        self.bias = np.concatenate([head.bias for head in heads])

    def views(self, batch: Batch) -> Views:
        """The forms of the batch's texts, encoded."""
        owners: list[int] = []
        forms: list[str] = []
        plains: list[Plain | None] = []
        for index, text in enumerate(batch.texts):
            owners.append(index)
            forms.append(text)
            plains.append(None)
            if (normal := plain(text)).changed and normal.text.strip():
                owners.append(index)
                forms.append(normal.text)
                plains.append(normal)
        return Views(self.encoder.encode(forms), tuple(owners), tuple(forms), tuple(plains))

    def logits(self, batch: Batch) -> Array:
        """``[windows of all views, all labels of all heads]``."""
        views = batch.shared((self, "views"), self.views)
        result: Array = views.encoded.features @ self.weight + self.bias
        for row, window in enumerate(views.encoded.windows):
            buckets, values = lexical.features(views.forms[window.text][window.start : window.end])
            result[row] += values @ self.lexical[buckets].astype(np.float32)
        return result


class HeadClassifier:
    """One head of a stack, as a classifier."""

    def __init__(self, head: Head, stack: HeadStack, columns: slice) -> None:
        self._head = head
        self._stack = stack
        self._columns = columns
        self.name = head.name
        self.labels = head.labels
        self.kind = head.decision
        self.version = str(head.manifest["hash"])[:12]
        self.manifest = head.manifest

    def predict(self, batch: Batch) -> list[tuple[Prediction, ...]]:
        """Every label with its probability, for every text; see :class:`classifiers.types.Classifier`.

        For long text the windows are pooled: ``max`` takes each label's most certain window,
        ``mean`` the average logit.
        """
        views = batch.shared((self._stack, "views"), self._stack.views)
        everything = batch.shared((self._stack, "logits"), self._stack.logits)
        rows = _rows(views, len(batch.texts))
        pooled = np.stack([self._pool(everything[own, self._columns], views, own) for own in rows])
        scores = probabilities(pooled, self._head.decision)
        if not np.isfinite(scores).all():
            raise ClassifierError(f"classifier {self.name} gave scores that are not finite")
        return [
            tuple(
                Prediction(self.name, label, float(score))
                for label, score in zip(self.labels, line, strict=True)
            )
            for line in scores
        ]

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
        column = self._columns.start + self._column(label)
        batch = Batch([text])
        views = batch.shared((self._stack, "views"), self._stack.views)
        rows = list(range(len(views.encoded.windows)))
        if self._head.pooling == "max":
            batch_logits = batch.shared((self._stack, "logits"), self._stack.logits)
            rows = [int(np.argmax(batch_logits[:, column]))]
        else:
            windows = views.encoded.windows
            last = len(views.forms) - 1
            rows = [r for r in rows if windows[r].text == last and not windows[r].sentence]
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

    def _pool(self, logits: Array, views: Views, rows: Sequence[int]) -> Array:
        if self._head.pooling == "max":
            highest: Array = logits.max(axis=0)
            return highest
        # The plain form stands last: averaged with the raw one, a disguise would halve the evidence.
        windows = [views.encoded.windows[row] for row in rows]
        last = windows[-1].text
        own = [i for i, w in enumerate(windows) if w.text == last and not w.sentence]
        average: Array = logits[own].mean(axis=0)
        return average

    def _window_shares(
        self, views: Views, window: Window, column: int
    ) -> list[tuple[tuple[int, int], float]]:
        parts = self._stack.encoder.token_features(window) @ self._stack.weight[:, column]
        text = views.forms[window.text][window.start : window.end]
        found = lexical.grams(text)
        buckets, values = lexical.weigh(found)
        worth = values * self._stack.lexical[buckets, column].astype(np.float32)
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
        inner = window.offsets[1:-1]
        for index, ((start, end), share) in enumerate(zip(inner, parts[1:-1], strict=True)):
            # A token also takes the spaces before it, the last one whatever follows.
            stop = len(text) if index == len(inner) - 1 else end - window.start
            own = float(until[stop] - until[previous])
            result.append(((start, end), float(share) + own))
            previous = max(previous, stop)
        # The two special tokens stand for the text as a whole.
        rest = float(parts[0] + parts[-1]) + (0.0 if inner else float(until[-1]))
        result.append(((window.start, window.start), rest))
        return result


def probabilities(logits: npt.NDArray[Any], decision: Kind) -> Scores:
    """``[n, labels]`` calibrated logits as probabilities, in double precision."""
    wide = logits.astype(np.float64)
    if decision == "one_of":
        powers = np.exp(wide - wide.max(axis=1, keepdims=True))
        softmax: Scores = powers / powers.sum(axis=1, keepdims=True)
        return softmax
    sigmoid: Scores = 1.0 / (1.0 + np.exp(-np.clip(wide, -700, 700)))
    return sigmoid


def load_heads(folders: Sequence[Path], encoder: Encoder) -> list[HeadClassifier]:
    """Load head packs onto one encoder; their products are stacked.

    Raises:
        PackError: a pack is damaged, was made for another encoder, or two have one name.
    """
    heads = [Head(folder, encoder) for folder in folders]
    if not heads:
        return []
    stack = HeadStack(encoder, heads)
    return [
        HeadClassifier(head, stack, columns)
        for head, columns in zip(heads, stack.columns, strict=True)
    ]


def _rows(views: Views, texts: int) -> list[list[int]]:
    rows: list[list[int]] = [[] for _ in range(texts)]
    for row, window in enumerate(views.encoded.windows):
        rows[views.owners[window.text]].append(row)
    return rows
