"""The encoder's work on texts, kept on disk: what has been read once is judged again in no time."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from classifiers.encoder import Array, Encoded, Encoder
from classifiers.types import Classifier
from classifiers.views import Reader

if TYPE_CHECKING:
    from classifiers.training.features import FeatureCache

C = TypeVar("C", bound=Classifier)


class Remembering(Encoder):
    """An encoder that reads no text twice.

    Features are kept in half precision, as in training: scores may differ by a thousandth. Where a
    classifier points at words every token is read anew.

    Args:
        encoder: reads what is new.
        folder: of the cache, see :class:`classifiers.training.features.FeatureCache`.
    """

    def __init__(self, encoder: Encoder, folder: Path) -> None:
        self.__dict__.update(vars(encoder))  # the same model, not another one in memory
        self._whole = encoder
        self._folder = folder
        self._own = threading.local()

    def encode(self, texts: Sequence[str], token_weight: Array | None = None) -> Encoded:
        """See :meth:`classifiers.encoder.Encoder.encode`."""
        if token_weight is not None:
            return self._whole.encode(texts, token_weight)
        features = self._cache().get(texts)
        return Encoded(self.windows(texts), np.concatenate(features))

    def _cache(self) -> FeatureCache:
        # SQLite's connections stay in the thread that opened them.
        found: FeatureCache | None = getattr(self._own, "cache", None)
        if found is None:
            from classifiers.training.features import FeatureCache

            found = self._own.cache = FeatureCache(self._whole, self._folder)
        return found


def remember(classifiers: Sequence[C], folder: Path | None) -> Sequence[C]:
    """The classifiers, their encoders remembering in a folder."""
    if folder is None:
        return classifiers
    for classifier in classifiers:
        reader = getattr(classifier, "reader", None)
        if isinstance(reader, Reader) and not isinstance(reader.encoder, Remembering):
            reader.encoder = Remembering(reader.encoder, folder)
    return classifiers
