"""The seam between the trainer and its methods: rows in, numbers to write and honest scores out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from classifiers.encoder import Encoder
from classifiers.training.data import Row
from classifiers.training.features import FeatureCache
from classifiers.types import Kind

Wide = npt.NDArray[np.float64]
Tensors = Mapping[str, npt.NDArray[Any]]


def silent(_: str) -> None:
    """Says nothing: the default for progress."""


@dataclass(frozen=True, slots=True)
class Context:
    """What a method works with.

    Attributes:
        encoder: the shared encoder.
        cache: its features.
        pooling: ``max`` or ``mean``: how windows of a long text are joined.
        folds: ``[rows]`` the fold in which each row is held out; groups never cross folds.
        scratch: an empty folder that lives until the pack is written.
        base: a sentence encoder to fine-tune, a folder or a hub identifier; None: the method's own.
        threads: cores to use.
        seed: of everything that is drawn.
        say: told, in a few words, what is being done.
        descriptions: label -> what the task says of it.
    """

    encoder: Encoder
    cache: FeatureCache
    pooling: str
    folds: npt.NDArray[np.int64]
    scratch: Path
    base: str | None = None
    threads: int = 2
    seed: int = 0
    say: Callable[[str], None] = silent
    descriptions: Mapping[str, str] = field(default_factory=dict)


MAX_CALIBRATION_ROWS = 12_000
"""Held-out rows that ship with a pack at most."""


@dataclass(frozen=True, slots=True)
class Trained:
    """What a method made.

    Attributes:
        kind: of the pack: ``head``, ``examples`` or ``spans``.
        tensors: what to write, file name -> tensors.
        manifest: entries of its own for the manifest.
        held_out: ``[rows, labels]`` calibrated logits of the training rows, each from a model that
            had not seen the row.
        honest: ``[rows]`` False where ``held_out`` cannot be had without having seen the row.
        encoder: a folder with an encoder of its own, to be put into the pack; None: the shared one.
        replay: ``[rows, features]`` and so on, what a later update needs of each row.
        doubt: why the held-out rows prove no rate; empty where they do.
    """

    kind: str
    tensors: Mapping[str, Tensors]
    manifest: Mapping[str, Any]
    held_out: Wide
    honest: npt.NDArray[np.bool_]
    encoder: Path | None = None
    replay: Tensors = field(default_factory=dict)
    doubt: str = ""


class Method(Protocol):
    """One way to make a classifier of rows."""

    @property
    def name(self) -> str: ...

    def train(
        self, rows: Sequence[Row], labels: Sequence[str], decision: Kind, context: Context
    ) -> Trained:
        """Fit, and score each row by a model that had not seen it.

        Raises:
            ValueError: the rows do not suffice; the message says what is missing.
        """
        ...
