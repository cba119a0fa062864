"""The pack that :mod:`classifiers.training.update` corrects, and what a change does to its numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from classifiers.encoder import Encoder
from classifiers.heads import HeadClassifier, load_heads
from classifiers.neighbours import CORRECTED
from classifiers.packs import REPLAY, PackError, read_tensors
from classifiers.pooled import probabilities
from classifiers.training.corrections import correctable
from classifiers.training.data import Row
from classifiers.training.delta import (
    Delta,
    Points,
    bounded_shifts,
    fit_delta,
    held_out_shifts,
)
from classifiers.training.features import FeatureCache
from classifiers.training.fit import truth_table
from classifiers.training.pack import CALIBRATION, manifest_of
from classifiers.training.replay import Replay, check_remembered, remembered
from classifiers.training.slices import batches_of, read_slices
from classifiers.training.windows import make_windows
from classifiers.types import Kind
from classifiers.views import Reader

Wide = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Calibration:
    """``logits`` and ``truth`` of the calibration rows, the new ``index`` of the remembered ones, and how
    many rows were ``moved`` and so on."""

    logits: Wide
    truth: npt.NDArray[np.int8]
    index: npt.NDArray[np.int64]
    counts: dict[str, int]


class Subject:
    """The pack that is corrected."""

    def __init__(self, pack: Path, encoder: Encoder, name: str | None) -> None:
        manifest = correctable(pack)
        if REPLAY not in manifest["files"]:
            raise PackError(
                f"{pack}: has no {REPLAY}, so it cannot be corrected; train it anew with the "
                "corrections among its data"
            )
        self.pack = pack
        self.encoder = encoder
        self.hash = str(manifest["hash"])
        self.manifest = manifest_of(pack)
        if name is not None:
            self.manifest["name"] = name
        self.labels: tuple[str, ...] = tuple(manifest["labels"])
        self.decision: Kind = manifest["decision"]
        self.head = read_tensors(pack / "head.safetensors")
        self.replay_tensors = read_tensors(pack / REPLAY)
        self.held_out = read_tensors(pack / CALIBRATION)
        calibrated = len(self.held_out.get("logits", ()))
        inputs = encoder.features
        check_remembered(pack, self.replay_tensors, inputs, len(self.labels), calibrated)
        self.replay: Replay = remembered(self.replay_tensors)
        self.reader = Reader(encoder)
        self.before: HeadClassifier = load_heads([pack], self.reader)[0]
        self.slices = read_slices(pack)
        self.batches = batches_of(self.slices)
        self.anchors = Points(
            self.replay.features,
            self.replay.grams,
            self.logits(self.replay.features, self.replay.grams),
            self.replay.truth,
        )
        self.again = np.zeros(len(self.replay.truth), dtype=bool)
        """Remembered rows whose text is corrected now."""

    def logits(self, features: npt.NDArray[np.float32], grams: Any) -> Wide:
        return logits_of(self.head, features, grams)

    def points_of(self, rows: Sequence[Row], cache: FeatureCache) -> Points:
        """Each correction as the window that decides."""
        truth = truth_table(rows, self.labels)
        windows = make_windows(rows, self.encoder, cache, str(self.manifest["pooling"]))
        logits = self.logits(windows.features, windows.grams)
        wanted = np.where(truth == 1, 0.0, -50.0)
        wanted[(truth == 1).sum(axis=1) == 0] = 0.0
        worth = (logits + wanted[windows.owner]).max(axis=1)
        order = np.lexsort((-worth, windows.owner))
        _, first = np.unique(windows.owner[order], return_index=True)
        own = order[first]
        return Points(windows.features[own], windows.grams[own], logits[own], truth)

    def believe(self, given: Points) -> None:
        """Take the corrected labels for remembered rows with the same text, too."""
        said = {key: index for index, key in enumerate(given.spelling()) if key}
        for row, key in enumerate(self.anchors.spelling()):
            if key in said:
                self.again[row] = True
                self.replay.truth[row] = given.truth[said[key]]
                self.replay.benign[row] = not (given.truth[said[key]] != 0).any()
        self.replay_tensors["benign"] = self.replay.benign.astype(np.uint8)

    def fitted(self, given: Points, weight: float, honest: bool) -> tuple[Delta, Wide]:
        """The change for the corrections, earlier ones included, and the shifts of the anchors by it, or,
        if honest, by changes that were fitted without them."""
        earlier = (self.replay.index == CORRECTED) & ~self.again
        anchors = self.anchors.take(self.still)
        corrected = given.and_also(self.anchors.take(earlier))
        delta = fit_delta(anchors, corrected, self.decision, weight)
        if honest:
            return delta, held_out_shifts(anchors, corrected, self.decision, weight)
        return delta, delta.of(anchors)

    @property
    def still(self) -> npt.NDArray[np.bool_]:
        """``[remembered]`` True for the anchors, which no correction is about."""
        still: npt.NDArray[np.bool_] = ~(self.again | (self.replay.index == CORRECTED))
        return still

    def calibrated(self, shifts: Wide) -> Calibration:
        """The calibration rows after the change: those that are remembered moved by their own shifts, the
        others by a bound; those that are corrected now are dropped."""
        logits = self.held_out["logits"].astype(np.float64)
        truth = self.held_out["truth"]
        index, still = self.replay.index, self.still
        moved = np.zeros(len(logits), dtype=bool)
        moved[index[still & (index >= 0)]] = True
        logits[index[still & (index >= 0)]] += shifts[index[still] >= 0]
        kept = np.ones(len(logits), dtype=bool)
        kept[index[self.again & (index >= 0)]] = False
        rest = kept & ~moved
        logits[rest] += bounded_shifts(shifts, self.replay.truth[still], truth[rest])
        # Places among the rows that stay; those of dropped rows become -1, as for no such row.
        places = np.where(kept, np.cumsum(kept) - 1, -1)
        index = np.where(index >= 0, places[np.maximum(index, 0)], index) if len(kept) else index
        counts = {
            "moved": int(moved.sum()), "bounded": int(rest.sum()), "dropped": int((~kept).sum()),
        }  # fmt: skip
        return Calibration(logits[kept], truth[kept], index, counts)

    def cuts(self, points: dict[str, Any]) -> npt.NDArray[np.float64]:
        return np.asarray([points[label]["threshold"] for label in self.labels])

    def right(self, logits: Wide, truth: npt.NDArray[np.int8], cuts: Wide) -> npt.NDArray[np.bool_]:
        """``[n, labels]`` whether the verdict on each label is right; unknown ones are."""
        matched = probabilities(logits, self.decision) >= cuts
        right: npt.NDArray[np.bool_] = (matched == (truth == 1)) | (truth < 0)
        return right


def logits_of(
    head: Mapping[str, npt.NDArray[Any]], features: npt.NDArray[np.float32], grams: Any
) -> Wide:
    """``[n, labels]`` what a head says of ``[n, features]`` and ``[n, buckets]``.

    Args:
        head: the tensors of its pack.
        features: of the encoder.
        grams: sparse.
    """
    encoder, lexical = (head[name].astype(np.float64) for name in ("encoder", "lexical"))
    found: Wide = features @ encoder + grams @ lexical + head["bias"]
    return found
