"""The shared sentence encoder: texts in, one feature vector per window out.

The only file that imports onnxruntime. Long text is read whole, in overlapping windows; nothing is
cut off. A window's features are its pooled hidden layers, each L2-normalised, times the layer's
weight, concatenated.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
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
SPECIAL_TOKENS = ("[CLS]", "[SEP]")
"""What stands before and after each stretch, unless the manifest names others."""
WINDOW_SCHEME = "stretches, sentences, and pieces of long sentences"
"""How text is cut into windows. Part of the manifest, since heads are trained for one way."""


@dataclass(frozen=True, slots=True)
class Window:
    """A stretch of one text that the encoder reads at once, or a sentence or a piece of such a stretch.

    Attributes:
        text: index of the text in the batch.
        start, end: characters of the text that it covers.
        ids: token ids that are read, the two special tokens included.
        first, last: which of them the window's features are the mean of: ``ids[first:last]``.
        offsets: (start, end) of each of these in characters; special tokens have (0, 0).
        sentence: its features are those of a single sentence, or of a piece of a long one, as read
            among its neighbours; the windows that are none cover the whole text.
    """

    text: int
    start: int
    end: int
    ids: tuple[int, ...]
    first: int
    last: int
    offsets: tuple[tuple[int, int], ...]
    sentence: bool = False


@dataclass(frozen=True, slots=True)
class Encoded:
    """Windows of a batch and what the encoder said of them.

    Attributes:
        windows: in the order of the texts.
        features: ``[windows, width * layers]``, float32.
        tokens: ``[tokens, columns]`` of each window, where a product with the tokens' states was
            asked for; None for single sentences, whose tokens stand in other windows too.
    """

    windows: tuple[Window, ...]
    features: Array
    tokens: tuple[Array | None, ...] = ()


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
        first, last = manifest.get("special_tokens", SPECIAL_TOKENS)
        self._cls, self._sep = self._special(first), self._special(last)
        pair = self._tokenizer.encode("a a", add_special_tokens=False).offsets
        self._spaced = any(start == 1 < end for start, end in pair)  # as SentencePiece has it
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(
            str(folder / "model.onnx"), options, providers=["CPUExecutionProvider"]
        )

        self.threads = threads
        self._pool = ThreadPoolExecutor(threads, "encoder") if threads > 1 else None

    def tokens(self, text: str) -> int:
        """How many tokens the text has, special ones not counted."""
        return len(self._tokenizer.encode(text, add_special_tokens=False).ids)

    def windows(self, texts: Sequence[str]) -> tuple[Window, ...]:
        """Cut texts into windows.

        Each text is read in overlapping stretches, at least one, the last flush with the end. Where
        a text has several sentences, each of them is a window too, right after the stretch that it
        is read in: averaged with innocent neighbours, one harmful sentence would not stand out. What
        goes on for long without the end of a sentence is cut into overlapping pieces besides: words
        between commas, tabs or no marks at all would not stand out either.
        """
        return tuple(window for group in self._groups(texts) for window in group)

    def encode(self, texts: Sequence[str], token_weight: Array | None = None) -> Encoded:
        """Features of every window of every text, windows in the order of the texts.

        Args:
            texts: any strings.
            token_weight: ``[width * layers, columns]``; asks for the product of every token's state
                (see :meth:`token_states`) with it, from the same run. The states themselves are not
                kept: they are 4.6 kB a token, gigabytes for a book.

        Each stretch is a run of its own: the int8 graph scales its activations over a whole run, so
        a text's verdict would otherwise depend on its neighbours, and a run of many rows gained
        nothing on one core (measured: 3.7 ms alone, 3.2 ms in a run of eight, at 64 tokens).
        Sentences cost no run: their features are means of the states of their tokens ("late
        chunking", Günther et al. 2024, arXiv:2409.04701).
        """
        groups = self._groups(texts)
        weights = [token_weight] * len(groups)
        if self._pool is None or len(groups) < 2:
            read = list(map(self._read, groups, weights))
        else:
            read = list(self._pool.map(self._read, groups, weights))
        features = self._join(np.concatenate([pooled for pooled, _ in read]))
        tokens: list[Array | None] = []
        if token_weight is not None:
            for group, (_, product) in zip(groups, read, strict=True):
                tokens += [product, *[None] * (len(group) - 1)]
        return Encoded(tuple(w for group in groups for w in group), features, tuple(tokens))

    def token_states(self, window: Window) -> Array:
        """Each token's hidden layers, L2-normalised, times the layer's weight.

        Returns:
            ``[tokens, width * layers]``, the two special tokens included.
        """
        return self._join(self._run(window.ids, ["states"])[0][0])

    def token_features(self, window: Window) -> Array:
        """Each token's part of the window's features, ``[tokens, width * layers]``.

        The parts sum to the window's features: the mean and the normalisation are linear once the
        norm is known.
        """
        run = self._run(window.ids, ["states"])[0][0]
        states = run[window.first : window.last]  # [tokens, layers, width]
        norms = np.linalg.norm(states.mean(axis=0), axis=1)  # [layers]
        parts = states / len(states) * (self.layer_weights / np.maximum(norms, 1e-12))[:, None]
        return np.ascontiguousarray(parts.reshape(len(states), self.features))

    # -- inside -----------------------------------------------------------------------------------

    def _special(self, token: str) -> int:
        number = self._tokenizer.token_to_id(token)
        if number is None:
            raise PackError(f"{self.folder}: the tokenizer has no {token} token")
        return int(number)

    def _groups(self, texts: Sequence[str]) -> list[list[Window]]:
        """The stretches of all texts, each followed by the sentences that are read in it."""
        # Lone surrogates cannot be tokenised; they carry no meaning, so a placeholder stands in.
        clean = [text.encode("utf-8", "replace").decode("utf-8") for text in texts]
        encodings = self._tokenizer.encode_batch(clean, add_special_tokens=False)
        groups: list[list[Window]] = []
        for index, (text, encoding) in enumerate(zip(texts, encodings, strict=True)):
            tokens = len(encoding.ids)
            lows = self._starts(tokens)
            highs = [min(low + self._content, tokens) for low in lows]
            own = [
                [self._stretch(index, text, encoding, *cut)]
                for cut in zip(lows, highs, strict=True)
            ]
            parts = sentences(text, encoding.offsets)
            for part in [*parts, *pieces(parts or [(0, tokens)])]:
                for place, (first, last) in _places(part, lows, highs):
                    own[place].append(self._sentence(own[place][0], lows[place], first, last))
            groups += own
        return groups

    def _stretch(self, index: int, text: str, encoding: Any, first: int, last: int) -> Window:
        """One stretch; between neighbouring ones no character is left out."""
        offsets = encoding.offsets[first:last]
        ids = (self._cls, *encoding.ids[first:last], self._sep)
        start = offsets[0][0] if first else 0
        if self._spaced:  # a token begins with its word, not with the space before it
            offsets = [(end - len(text[begin:end].lstrip()), end) for begin, end in offsets]
        return Window(
            text=index,
            start=start,
            end=offsets[-1][1] if last < len(encoding.ids) else len(text),
            ids=ids,
            first=0,
            last=len(ids),
            offsets=((0, 0), *offsets, (0, 0)),
        )

    @staticmethod
    def _sentence(stretch: Window, before: int, first: int, last: int) -> Window:
        """Tokens first to last of a text, within the stretch that begins with token ``before``."""
        low, high = first - before + 1, last - before + 1  # [CLS] stands before them
        offsets = stretch.offsets[low:high]
        return replace(
            stretch,
            start=offsets[0][0],
            end=offsets[-1][1],
            first=low,
            last=high,
            offsets=offsets,
            sentence=True,
        )

    def _starts(self, tokens: int) -> list[int]:
        if tokens <= self._content:
            return [0]
        starts = list(range(0, tokens - self._content, self._stride))
        return [*starts, tokens - self._content]

    def _read(
        self, group: Sequence[Window], token_weight: Array | None
    ) -> tuple[Array, Array | None]:
        """One run: ``[windows of the group, layers, width]``, and the product if it is wanted."""
        if token_weight is None and len(group) == 1:
            return self._run(group[0].ids, ["pooled"])[0], None
        states = self._run(group[0].ids, ["states"])[0][0]
        pooled = np.stack([states[window.first : window.last].mean(axis=0) for window in group])
        return pooled, None if token_weight is None else self._join(states) @ token_weight

    def _run(self, ids: Sequence[int], outputs: Sequence[str]) -> list[Array]:
        tokens = np.asarray([ids], dtype=np.int64)
        result: list[Array] = self._session.run(
            outputs, {"input_ids": tokens, "attention_mask": np.ones_like(tokens)}
        )
        return result

    def _join(self, pooled: Array) -> Array:
        norms = np.linalg.norm(pooled, axis=2, keepdims=True)
        scaled = pooled / np.maximum(norms, 1e-12) * self.layer_weights[:, None]
        joined: Array = scaled.reshape(len(pooled), self.features)
        return joined


_BREAK = re.compile(
    r"(?<![.!?。！？؟।])[.!?。！？؟।]++[\"')\]]*+(?=\s)|[。！？]|[\n\r]++"
    r"|</?[a-zA-Z!][^<>]{0,200}>|-->|[\"'][ \t]*+[,:}\]]"
)
"""Where a sentence ends: its full stop, a line, a tag, or a string within JSON. A run of marks is tried
once, from its beginning, and nothing is given back: the search is linear in the text."""
_SHORTEST = 4
"""Tokens; shorter pieces ("1.", "Dr.") belong to what follows them."""

PIECE_TOKENS, PIECE_STRIDE, LONG_TOKENS = 20, 10, 30
"""Length of a piece, how far the next one begins, and from which length on a sentence has any."""


def pieces(parts: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Overlapping pieces of those parts of a text that are long, the last one flush with its end.

    Args:
        parts: (first, last) tokens of each.
    """
    found: list[tuple[int, int]] = []
    for first, last in parts:
        if last - first >= LONG_TOKENS:
            starts = range(first, last - PIECE_TOKENS, PIECE_STRIDE)
            found += [(start, start + PIECE_TOKENS) for start in (*starts, last - PIECE_TOKENS)]
    return found


def _places(
    sentence: tuple[int, int], lows: Sequence[int], highs: Sequence[int]
) -> list[tuple[int, tuple[int, int]]]:
    """Where a sentence is read: (index of the stretch, its tokens there).

    In the one stretch that holds it farthest from its edges; if none holds it whole, in parts. A
    sentence that fills a stretch is no window of its own.

    Args:
        sentence: (first, last) of its tokens.
        lows, highs: the same of the stretches, ascending.
    """
    first, last = sentence
    near = range(bisect_right(highs, first), bisect_left(lows, last))
    best = max(near, key=lambda i: min(first - lows[i], highs[i] - last))
    whole = lows[best] <= first and last <= highs[best]
    parts = [(i, (max(first, lows[i]), min(last, highs[i]))) for i in ([best] if whole else near)]
    return [
        (i, (low, high))
        for i, (low, high) in parts
        if high - low >= _SHORTEST and (low, high) != (lows[i], highs[i])
    ]


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
