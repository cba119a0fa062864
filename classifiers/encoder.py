"""The shared sentence encoder: texts in, one feature vector per window out.

The only file that imports onnxruntime. Long text is read whole, in overlapping windows; nothing is
cut off. A window's features are its pooled hidden layers, each L2-normalised, times the layer's
weight, concatenated.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime
from tokenizers import Tokenizer

from classifiers.packs import PackError, read_pack

Array = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Window:
    """A stretch of one text that the encoder reads at once.

    Attributes:
        text: index of the text in the batch.
        start, end: characters of the text that it covers.
        ids: token ids, the two special tokens included.
        offsets: (start, end) of each token in characters; the special tokens have (0, 0).
    """

    text: int
    start: int
    end: int
    ids: tuple[int, ...]
    offsets: tuple[tuple[int, int], ...]


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
        manifest = read_pack(folder, kind="encoder")
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
        """Cut texts into windows: at least one each, the last one flush with the end of the text."""
        found: list[Window] = []
        # Lone surrogates cannot be tokenised; they carry no meaning, so a placeholder stands in.
        clean = [text.encode("utf-8", "replace").decode("utf-8") for text in texts]
        for index, encoding in enumerate(
            self._tokenizer.encode_batch(clean, add_special_tokens=False)
        ):
            ids, offsets = encoding.ids, encoding.offsets
            for first in self._starts(len(ids)):
                last = min(first + self._content, len(ids))
                inside = offsets[first:last]
                found.append(
                    Window(
                        text=index,
                        start=0 if first == 0 else inside[0][0],
                        end=len(texts[index]) if last == len(ids) else inside[-1][1],
                        ids=(self._cls, *ids[first:last], self._sep),
                        offsets=((0, 0), *inside, (0, 0)),
                    )
                )
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
