"""The method `finetune`: a head over an encoder that was tuned for the task (extra ``train``).

A part of the rows is held out: it says when to stop tuning, which strength and which layer the head
takes, and calibrates it. Rows that were chosen by are a little too kind, so that a rate counted on
them is no proof: the points of such a pack say that they are not promised. The tuned encoder is
exported as the shared one was, and an ordinary head is fitted on its features, so that the pack is one
of kind `head` with an encoder of its own.

Few rows cannot spare a part. There all layers are tuned, for a fixed number of rounds, on all rows and
the labels' names, and the head reads the encoder as it was beside the tuned one: what the tuning forgot
is still there. A first tuning without the held-out rows calibrates it. What was tried is in
benchmarks/RESULTS.md.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt

from classifiers.encoder import Encoder
from classifiers.training.data import Row
from classifiers.training.features import FeatureCache
from classifiers.training.fit import Fitted, Settings, fit, truth_table
from classifiers.training.methods.base import Context, Trained
from classifiers.training.methods.head import (
    LOWER_LAYERS,
    first_rows,
    fit_few,
    head_tensors,
    label_rows,
)
from classifiers.training.methods.tuned_encoder import BASE, tuned_encoder
from classifiers.training.regress import Part
from classifiers.training.replay import replay_of
from classifiers.training.windows import Windows, make_windows
from classifiers.training.workplace import EXTRA
from classifiers.types import Kind

if TYPE_CHECKING:
    from classifiers.training.tune import Tuned

CHOSEN_BY = "the held-out rows also chose the round, the strength and the layer"
TUNED_AGAIN = (
    "the held-out rows were judged by a tuning without them, and the one that is kept had them"
)
HELD = 0.1
"""Part of the rows that is held out, of many rows."""
HELD_FEW = 200
"""Rows that are held out at least, where that is no more than a fifth."""
STRENGTHS = (10.0,)
"""Of the head's penalty. It matters little here: 1 gave 93.0 %, 10 gave 93.2 % on held-out rows of
Banking77."""


FEW_ROUNDS, FEW_RATE, FEW_HEAD_RATE = 8, 1e-4, 1e-3
"""Rounds and learning rates where the rows are few, chosen on the dev rows of HWU64 with ten rows a label:
12 rounds at half the rate were as good."""
EVERY_LAYER = 1_000
"""More layers than there are: all, but not the embeddings, which the encoder as it was shares."""


@dataclass(frozen=True, slots=True)
class FinetuneMethod:
    """Tune an encoder, export it, fit a head on it.

    Attributes:
        layers: how many of the top layers are tuned, or ``all``: better where the task is far from
            what the encoder was made for, and several times as slow. Few rows tune them all.
        epochs: rounds at most; None: by the number of rows.
    """

    name: str = "finetune"
    layers: int | Literal["all"] = 2
    epochs: int | None = None

    def train(
        self, rows: Sequence[Row], labels: Sequence[str], decision: Kind, context: Context
    ) -> Trained:
        """See :meth:`classifiers.training.methods.base.Method.train`.

        Raises:
            ImportError: torch or transformers is not installed.
            ExportError: the base cannot be used, or does not bear the export.
        """
        for package in ("torch", "transformers", "onnx"):
            if importlib.util.find_spec(package) is None:
                raise ImportError(f"the method finetune needs {package}; run: {EXTRA}")
        from classifiers.training.tune import TuneSettings

        if hints := label_rows(rows, labels, decision, context.descriptions):
            return self._few(rows, hints, labels, decision, context)
        truth = truth_table(rows, labels)
        held = held_out_part(rows, truth, labels, context)
        settings = TuneSettings(layers=self.layers, epochs=self.epochs)
        tuned, folder = tuned_encoder(rows, truth, held, decision, settings, context)
        encoder, windows = _read(rows, folder, context)
        context.say("fitting")
        fitted = fit(
            rows,
            labels,
            decision,
            windows,
            Settings(strengths=STRENGTHS, threads=context.threads),
            np.where(held, 0, -1),
            given=_classification_layer(tuned, encoder),
        )
        return self._trained(fitted, rows, labels, windows, held, tuned, folder, context)

    def _few(
        self,
        rows: Sequence[Row],
        hints: Sequence[Row],
        labels: Sequence[str],
        decision: Kind,
        context: Context,
    ) -> Trained:
        """Tune on all rows and the labels' names; once before without the rows that are held out, so
        that there are scores of texts that no part of the model has seen."""
        from classifiers.training.tune import TuneSettings

        every = [*rows, *hints]
        truth = truth_table(every, labels)
        held = held_out_part(rows, truth[: len(rows)], labels, context)
        settings = TuneSettings(
            layers=EVERY_LAYER,
            epochs=self.epochs or FEW_ROUNDS,
            rate=FEW_RATE,
            head_rate=FEW_HEAD_RATE,
            patience=None,
        )
        without = np.concatenate([held, np.zeros(len(hints), dtype=bool)])
        context.say("tuning twice: without the rows that are held out, to judge it, then with all")
        read = []
        for name, left_out in (("judged", without), ("encoder", np.zeros_like(without))):
            tuned, folder = tuned_encoder(
                every, truth, left_out, decision, settings, context, beside=True, name=name
            )
            read.append((tuned, *_read(every, folder, context)))
        (first, _, unseen), (last, encoder, windows) = read
        context.say("fitting")
        lower = [LOWER_LAYERS] * (len(encoder.layers) // 2 - 1)
        fitted = fit_few(
            every,
            labels,
            decision,
            windows,
            Settings(strengths=STRENGTHS, threads=context.threads),
            np.where(held, 0, -1),
            [1.0, *lower, 1.0, *lower],
            unseen,
        )
        tuned = replace(first, seconds=first.seconds + last.seconds)
        kept = first_rows(windows, len(rows))
        trained = self._trained(fitted, rows, labels, kept, held, tuned, folder, context)
        finetuned = trained.manifest["finetuned"] | {"layers": "all", "beside_the_base": True}
        return replace(
            trained, manifest={**trained.manifest, "finetuned": finetuned}, doubt=TUNED_AGAIN
        )

    def _trained(
        self,
        fitted: Fitted,
        rows: Sequence[Row],
        labels: Sequence[str],
        windows: Windows,
        held: npt.NDArray[np.bool_],
        tuned: Tuned,
        folder: Path,
        context: Context,
    ) -> Trained:
        return Trained(
            kind="head",
            tensors={"head.safetensors": head_tensors(fitted.head)},
            manifest={
                "encoder_share": dict(zip(labels, fitted.mix, strict=True)),
                "strengths": {
                    label: list(pair) for label, pair in zip(labels, fitted.strength, strict=True)
                },
                "finetuned": {
                    "base": context.base or BASE,
                    "layers": self.layers,
                    "held_out_losses": [round(loss, 4) for loss in tuned.losses],
                    "held_out_accuracy_of_the_tuned_model": round(tuned.accuracy, 4),
                    "held_out_rows": int(held.sum()),
                    "seconds": round(tuned.seconds),
                },
            },
            held_out=fitted.held_out[: len(rows)],
            honest=held,
            encoder=folder,
            replay=replay_of(windows, truth_table(rows, labels), rows, fitted.head),
            doubt=CHOSEN_BY,
        )


def _read(rows: Sequence[Row], folder: Path, context: Context) -> tuple[Encoder, Windows]:
    """The rows as a tuned encoder reads them."""
    context.say(f"reading {len(rows):,} texts with the tuned encoder")
    encoder = Encoder(folder, threads=context.threads)
    with FeatureCache(encoder, context.scratch / "features") as cache:
        return encoder, make_windows(rows, encoder, cache, context.pooling)


def _classification_layer(tuned: Tuned, encoder: Encoder) -> Part:
    """The layer that the encoder was tuned under, as a model on the features: one more to choose from."""
    weight = np.zeros((encoder.features, tuned.weight.shape[1]))
    weight[: encoder.width] = tuned.weight / encoder.layer_weights[0]  # the top layer comes first
    return Part(weight, tuned.bias)


def held_out_part(
    rows: Sequence[Row],
    truth: npt.NDArray[np.int8],
    labels: Sequence[str],
    context: Context,
) -> npt.NDArray[np.bool_]:
    """``[rows]`` True where a row is held out: a part of fold 0, labels evenly, groups whole.

    Raises:
        ValueError: a label has no row, or the rows are too few for a part.
    """
    for column, label in enumerate(labels):
        if not (truth[:, column] == 1).any():
            raise ValueError(f"label {label!r} has no row; add examples or drop the label")
    own = np.flatnonzero(context.folds == 0)
    groups = np.asarray([row.group or f"\0{index}" for index, row in enumerate(rows)], dtype=object)
    wanted = max(HELD * len(rows), min(HELD_FEW, len(rows) / 5))
    # Groups of the fold in a random order, each taken if one of its labels lacks rows; the last column
    # is for rows without a label.
    having = np.column_stack([truth == 1, (truth != 1).all(axis=1)])
    lacking = wanted / len(rows) * having.sum(axis=0)
    held = np.zeros(len(rows), dtype=bool)
    lots = np.random.default_rng(context.seed).permutation(len(own))
    families: dict[str, list[int]] = {}
    for index in own[lots]:
        families.setdefault(groups[index], []).append(int(index))
    for members in families.values():
        counts = having[members].sum(axis=0)
        if (lacking[counts > 0] > 0).any():
            held[members] = True
            lacking -= counts
    # A label that would have no row left to be tuned on keeps them all.
    for column in range(len(labels)):
        if not (having[:, column] & ~held).any():
            held &= ~np.isin(groups, groups[having[:, column]])
    if not held.any() or held.all():
        raise ValueError(f"{len(rows)} rows are too few to finetune on; add some, or use `head`")
    return held
