"""One encoder pass for all packs: the forms of a batch's texts, encoded once.

Heads read the features of the windows, token heads a product with every token's state. Both come
from the same run, so whoever asks first pays and the others are handed the same object.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from classifiers.decode import batch_forms
from classifiers.encoder import Array, Encoded, Encoder
from classifiers.normalize_map import Plain
from classifiers.types import Batch


@dataclass(frozen=True, slots=True)
class Views:
    """Every form of every text that is scored: the raw one and, where they differ, the plain one
    and what was decoded (see :mod:`classifiers.decode`).

    Attributes:
        encoded: windows of all forms; ``Window.text`` indexes ``owners``.
        owners: index of the original text of each form.
        forms: the strings themselves.
        plain: how a form maps back to the original, None for raw forms.
        aside: indexes of the forms that are a part of their text and not all of it.
    """

    encoded: Encoded
    owners: tuple[int, ...]
    forms: tuple[str, ...]
    plain: tuple[Plain | None, ...]
    aside: frozenset[int] = frozenset()


class Reader:
    """An encoder with what the packs on it want to know of every token.

    Make one for all packs that share the encoder, before the first text is read.
    """

    def __init__(self, encoder: Encoder) -> None:
        self.encoder = encoder
        self._token_weight: Array | None = None

    def ask_tokens(self, weight: Array) -> slice:
        """Have every token's state multiplied by a weight, ``[features, columns]``.

        Returns:
            Where the product stands among the columns of ``Encoded.tokens``.
        """
        before = self._token_weight
        parts = [weight] if before is None else [before, weight]
        first = 0 if before is None else before.shape[1]
        self._token_weight = np.ascontiguousarray(np.hstack(parts))
        return slice(first, first + weight.shape[1])

    def views(self, batch: Batch) -> Views:
        """The forms of the batch's texts, encoded; computed once per batch."""
        return batch.shared((self, "views"), self._read)

    def _read(self, batch: Batch) -> Views:
        owners: list[int] = []
        forms: list[str] = []
        plains: list[Plain | None] = []
        aside: list[int] = []
        for index, (text, more) in enumerate(zip(batch.texts, batch_forms(batch), strict=True)):
            aside += range(len(forms), len(forms) + len(more.aside))
            # The whole text in its plainest form stands last: heads that average take that one.
            own = (*((form, form.text) for form in more.aside), (None, text))
            for form, content in (*own, *((form, form.text) for form in more.whole)):
                owners.append(index)
                forms.append(content)
                plains.append(form)
        encoded = self.encoder.encode(forms, self._token_weight)
        return Views(encoded, tuple(owners), tuple(forms), tuple(plains), frozenset(aside))
