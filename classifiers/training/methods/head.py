"""The method `head`: linear models over cached features, the default. Needs no torch.

Where the rows are few, what a label is called is a row of its own, and the encoder's lower layers
count for less: on Banking77 with ten rows a label this gained 1.3 to 1.7 points (four samples).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from classifiers.training.data import Row, middle_count
from classifiers.training.fit import Fitted, Linear, Settings, fit, truth_table
from classifiers.training.methods.base import Context, Tensors, Trained
from classifiers.training.replay import replay_of
from classifiers.training.windows import Windows, make_windows
from classifiers.types import Kind

STRENGTHS = (1.0, 10.0, 100.0)
FEW = 12_000
"""Rows up to which the strength is chosen by cross-validation; with more it matters less than it costs."""
FEW_A_LABEL = 15
"""Rows a label (of half of the labels) up to which their names and descriptions are rows too."""
LOWER_LAYERS = 0.5
"""What the features of the layers below the last are multiplied by where the rows are so few."""
ENCODER_SHARE = 0.85
"""The encoder's share of the logit there: cross-validation takes rows away from the n-grams, of which
they have few, and left them out where they helped."""


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
        hints = label_rows(rows, labels, decision, context.descriptions)
        every = [*rows, *hints]
        windows = make_windows(every, context.encoder, context.cache, context.pooling)
        context.say("fitting")
        strengths = self.strengths or (STRENGTHS if len(rows) <= FEW else (10.0,))
        settings = Settings(strengths=strengths, threads=context.threads)
        if hints:
            # The encoder's last layer, whose features stand first, counts for more than the others.
            factors = [1.0, *[LOWER_LAYERS] * (len(context.encoder.layers) - 1)]
            fitted = fit_few(every, labels, decision, windows, settings, context.folds, factors)
            windows = first_rows(windows, len(rows))
        else:
            fitted = fit(rows, labels, decision, windows, settings, context.folds)
        return Trained(
            kind="head",
            tensors={"head.safetensors": head_tensors(fitted.head)},
            manifest={
                "encoder_share": dict(zip(labels, fitted.mix, strict=True)),
                "strengths": {
                    label: list(pair) for label, pair in zip(labels, fitted.strength, strict=True)
                },
            },
            held_out=fitted.held_out[: len(rows)],
            honest=np.ones(len(rows), dtype=bool),
            replay=replay_of(windows, truth_table(rows, labels), rows, fitted.head),
        )


def label_rows(
    rows: Sequence[Row], labels: Sequence[str], decision: Kind, descriptions: Mapping[str, str]
) -> list[Row]:
    """What the labels are called, and what is said of them, as rows; none where there are rows enough.

    Args:
        descriptions: label -> what it means, where something is said.
    """
    if decision != "one_of" or middle_count(rows, labels) > FEW_A_LABEL:
        return []
    used = {label for row in rows for label in row.labels}
    found: list[Row] = []
    for label in filter(used.__contains__, labels):  # without any row it is refused
        name = " ".join(re.sub(r"[\W_]+", " ", label).split())
        said = [text for text in (name, descriptions.get(label, "").strip()) if text]
        found += [Row(text, frozenset({label}), source="labels") for text in dict.fromkeys(said)]
    return found


def fit_few(
    every: Sequence[Row],
    labels: Sequence[str],
    decision: Kind,
    windows: Windows,
    settings: Settings,
    folds: npt.NDArray[np.int64],
    factors: Sequence[float],
    unseen: Windows | None = None,
) -> Fitted:
    """Fit on the rows and, after them, their labels' names: these always train, and nothing is judged
    by them.

    Args:
        every: the rows, then those of :func:`label_rows`.
        folds: of the rows.
        factors: of the features of each of the encoder's layers.
        unseen: see :func:`classifiers.training.fit.fit`.
    """
    width = windows.features.shape[1] // len(factors)
    scale = np.repeat(np.asarray(factors, dtype=np.float32), width)
    scaled = replace(windows, features=windows.features * scale)
    if unseen is not None:
        unseen = replace(unseen, features=unseen.features * scale)
    padded = np.full(len(every), -1)
    padded[: len(folds)] = folds
    settings = replace(settings, mixes=(ENCODER_SHARE,))
    fitted = fit(every, labels, decision, scaled, settings, padded, unseen=unseen)
    head = replace(fitted.head, encoder=fitted.head.encoder * scale[:, None])
    return replace(fitted, head=head)


def first_rows(windows: Windows, rows: int) -> Windows:
    """The windows of the first so many rows."""
    kept = np.flatnonzero(windows.owner < rows)
    return Windows(
        windows.features[kept],
        windows.grams[kept],
        windows.owner[kept],
        windows.focus[kept],
        windows.sentence[kept],
    )


def head_tensors(head: Linear) -> Tensors:
    """The weights as a pack holds them."""
    return {
        "encoder": head.encoder.astype(np.float32),
        "lexical": head.lexical.astype(np.float16),
        "bias": head.bias.astype(np.float32),
    }
