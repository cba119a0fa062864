"""The shared sentence encoder: texts in, one feature vector per window out.

The only file that imports onnxruntime. Long text is read whole, in overlapping windows; nothing is
cut off. A window's features are its pooled hidden layers, each L2-normalised, times the layer's
weight, concatenated.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime
from tokenizers import Tokenizer

from classifiers.packs import PackError, read_pack

Array = npt.NDArray[np.float32]


NEEDS = ("name", "layers", "layer_weights", "width", "window_tokens", "stride_tokens")
WINDOW_SCHEME = "stretches and sentences"
"""How text is cut into windows. Part of the manifest, since heads are trained for one way."""


@dataclass(frozen=True, slots=True)
class Window:
    """A stretch of one text that the encoder reads at once.

    Attributes:
        text: index of the text in the batch.
        start, end: characters of the text that it covers.
        ids: token ids, the two special tokens included.
        offsets: (start, end) of each token in characters; the special tokens have (0, 0).
        sentence: it is a single sentence, read once more without its neighbours; the windows that
            are none cover the whole text.
    """

    text: int
    start: int
    end: int
    ids: tuple[int, ...]
    offsets: tuple[tuple[int, int], ...]
    sentence: bool = False


@dataclass(frozen=True, slots=True)
class Encoded:
    """Windows of a batch and their features, ``[windows, width * layers]``, float32."""

    windows: tuple[Window, ...]
    features: Array


class Encoder:
    """An encoder pack, ready to run.

    Args:
        folder: the pack.
        threads: windows that are encoded at once, one core each (onnxruntime's own threads gained
            nothing on texts this short).

    Raises:
        PackError: the pack is damaged or of another kind.
    """

    def __init__(self, folder: Path, *, threads: int = 1) -> None:
        manifest = read_pack(
            folder, kind="encoder", needs=NEEDS, files=("model.onnx", "tokenizer.json")
        )
        if manifest.get("window_scheme") != WINDOW_SCHEME:
            raise PackError(
                f"{folder}: made for another way of cutting windows; export the encoder anew"
            )
        self.folder = folder
        self.name = str(manifest["name"])
        self.hash = str(manifest["hash"])
        self.layers: tuple[int, ...] = tuple(manifest["layers"])
        self.layer_weights = np.asarray(manifest["layer_weights"], dtype=np.float32)
        self.width = int(manifest["width"])
        self.features = self.width * len(self.layers)
        self._content = int(manifest["window_tokens"]) - 2
        self._stride = int(manifest["stride_tokens"]) - 2
        if not 0 < self._stride <= self._content:
            raise PackError(f"{folder}: stride_tokens must be in 3..window_tokens")
        self._tokenizer: Any = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        self._cls = self._special("[CLS]")
        self._sep = self._special("[SEP]")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(
            str(folder / "model.onnx"), options, providers=["CPUExecutionProvider"]
        )

        self._pool = ThreadPoolExecutor(threads, "encoder") if threads > 1 else None

    def tokens(self, text: str) -> int:
        """How many tokens the text has, special ones not counted."""
        return len(self._tokenizer.encode(text, add_special_tokens=False).ids)

    def windows(self, texts: Sequence[str]) -> tuple[Window, ...]:
        """Cut texts into windows, twice.

        First the whole text in overlapping stretches, at least one, the last flush with the end.
        Then, where a text has several sentences, each of them alone: averaged with innocent
        neighbours, one harmful sentence would not stand out.
        """
        found: list[Window] = []
        # Lone surrogates cannot be tokenised; they carry no meaning, so a placeholder stands in.
        clean = [text.encode("utf-8", "replace").decode("utf-8") for text in texts]
        encodings = self._tokenizer.encode_batch(clean, add_special_tokens=False)
        for index, (text, encoding) in enumerate(zip(texts, encodings, strict=True)):
            found += self._stretches(index, text, encoding)
            for first, last in sentences(text, encoding.offsets):
                for start in self._starts(last - first):
                    stop = min(first + start + self._content, last)
                    found.append(self._window(index, encoding, first + start, stop, sentence=True))
        return tuple(found)

    def encode(self, texts: Sequence[str]) -> Encoded:
        """Features of every window of every text, windows in the order of the texts.

        Each window is a run of its own: the int8 graph scales its activations over a whole run, so
        a text's verdict would otherwise depend on its neighbours, and a run of many rows gained
        nothing on one core (measured: 3.7 ms alone, 3.2 ms in a run of eight, at 64 tokens).
        """
        windows = self.windows(texts)
        if self._pool is None or len(windows) < 2:
            pooled = list(map(self._pooled, windows))
        else:
            pooled = list(self._pool.map(self._pooled, windows))
        return Encoded(windows, self._join(np.concatenate(pooled)))

    def token_features(self, window: Window) -> Array:
        """Each token's part of the window's features, ``[tokens, width * layers]``.

        The parts sum to the window's features: the mean and the normalisation are linear once the
        norm is known.
        """
        states = self._run(window.ids, "states")[0]  # [tokens, layers, width]
        norms = np.linalg.norm(states.mean(axis=0), axis=1)  # [layers]
        parts = states / len(window.ids) * (self.layer_weights / np.maximum(norms, 1e-12))[:, None]
        return np.ascontiguousarray(parts.reshape(len(window.ids), self.features))

    # -- inside -----------------------------------------------------------------------------------

    def _special(self, token: str) -> int:
        number = self._tokenizer.token_to_id(token)
        if number is None:
            raise PackError(f"{self.folder}: the tokenizer has no {token} token")
        return int(number)

    def _stretches(self, index: int, text: str, encoding: Any) -> list[Window]:
        """The whole text in overlapping windows; between them no character is left out."""
        tokens = len(encoding.ids)
        found = []
        for first in self._starts(tokens):
            last = min(first + self._content, tokens)
            window = self._window(index, encoding, first, last)
            start = 0 if first == 0 else window.start
            end = len(text) if last == tokens else window.end
            found.append(replace(window, start=start, end=end))
        return found

    def _window(
        self, index: int, encoding: Any, first: int, last: int, *, sentence: bool = False
    ) -> Window:
        offsets = encoding.offsets[first:last]
        return Window(
            text=index,
            start=offsets[0][0] if offsets else 0,
            end=offsets[-1][1] if offsets else 0,
            ids=(self._cls, *encoding.ids[first:last], self._sep),
            offsets=((0, 0), *offsets, (0, 0)),
            sentence=sentence,
        )

    def _starts(self, tokens: int) -> list[int]:
        if tokens <= self._content:
            return [0]
        starts = list(range(0, tokens - self._content, self._stride))
        return [*starts, tokens - self._content]

    def _pooled(self, window: Window) -> Array:
        return self._run(window.ids, "pooled")

    def _run(self, ids: Sequence[int], output: str) -> Array:
        tokens = np.asarray([ids], dtype=np.int64)
        result = self._session.run(
            [output], {"input_ids": tokens, "attention_mask": np.ones_like(tokens)}
        )
        array: Array = result[0]
        return array

    def _join(self, pooled: Array) -> Array:
        norms = np.linalg.norm(pooled, axis=2, keepdims=True)
        scaled = pooled / np.maximum(norms, 1e-12) * self.layer_weights[:, None]
        joined: Array = scaled.reshape(len(pooled), self.features)
        return joined


_BREAK = re.compile(
    r"[.!?。！？؟।]+[\"')\]]*(?=\s)|[。！？]|[\n\r]+|</?[a-zA-Z!][^<>]{0,200}>|-->|[\"'][ \t]*[,:}\]]"
)
"""Where a sentence ends: its full stop, a line, a tag, or a string within JSON."""
_SHORTEST = 4
"""Tokens; shorter pieces ("1.", "Dr.") belong to what follows them."""


def sentences(text: str, offsets: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """The sentences of a text as (first, last) indexes of its tokens; none if it is a single one.

    Args:
        text: the text.
        offsets: (start, end) of each token in characters, ascending.
    """
    starts = [start for start, _ in offsets]
    found: list[tuple[int, int]] = []
    first = 0
    for match in _BREAK.finditer(text):
        last = bisect_left(starts, match.end())
        if last - first >= _SHORTEST:
            found.append((first, last))
            first = last
    if not found or found[-1][1] == len(starts):
        return found if len(found) > 1 else []
    if len(starts) - first < _SHORTEST:
        found[-1] = (found[-1][0], len(starts))  # a short rest belongs to what stands before it
    else:
        found.append((first, len(starts)))
    return found if len(found) > 1 else []
