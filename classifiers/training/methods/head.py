"""The method `head`: linear models over cached features, the default. Needs no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from classifiers.training.data import Row
from classifiers.training.fit import Fitted, Settings, fit, truth_table
from classifiers.training.methods.base import Context, Tensors, Trained
from classifiers.training.replay import replay_of
from classifiers.training.windows import make_windows
from classifiers.types import Kind

STRENGTHS = (1.0, 10.0, 100.0)
FEW = 12_000
"""Rows up to which the strength is chosen by cross-validation; with more it matters less than it costs."""


@dataclass(frozen=True, slots=True)
class HeadMethod:
    """See :mod:`classifiers.training.fit`.

    Attributes:
        strengths: inverse penalties to choose from; None: several if the rows are few.
    """

    name: str = "head"
    strengths: tuple[float, ...] | None = None

    def train(
        self, rows: Sequence[Row], labels: Sequence[str], decision: Kind, context: Context
    ) -> Trained:
        """See :meth:`classifiers.training.methods.base.Method.train`."""
        context.say(f"reading {len(rows):,} texts")
        windows = make_windows(rows, context.encoder, context.cache, context.pooling)
        context.say("fitting")
        strengths = self.strengths or (STRENGTHS if len(rows) <= FEW else (10.0,))
        settings = Settings(strengths=strengths, threads=context.threads)
        fitted = fit(rows, labels, decision, windows, settings, context.folds)
        return Trained(
            kind="head",
            tensors={"head.safetensors": head_tensors(fitted)},
            manifest={
                "encoder_share": dict(zip(labels, fitted.mix, strict=True)),
                "strengths": {
                    label: list(pair) for label, pair in zip(labels, fitted.strength, strict=True)
                },
            },
            held_out=fitted.held_out,
            honest=np.ones(len(rows), dtype=bool),
            replay=replay_of(windows, truth_table(rows, labels), rows, fitted.head),
        )


def head_tensors(fitted: Fitted) -> Tensors:
    """The weights as a pack holds them."""
    return {
        "encoder": fitted.head.encoder.astype(np.float32),
        "lexical": fitted.head.lexical.astype(np.float16),
        "bias": fitted.head.bias.astype(np.float32),
    }
