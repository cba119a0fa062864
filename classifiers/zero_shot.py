"""Zero-shot: how near a text is to statements that nobody trained for, by the sentence encoder.

A text and a statement are compared by the cosine of their features. What that says is modest: the
encoder knows what texts are about better than what they claim, and hardly sees a "not" (measured:
telling a statement from its negation is little better than chance, so negations are not used).
Probabilities made of it are shares, not calibrated: ``benchmarks/zero_shot.py`` measures them.
"""

from __future__ import annotations

import asyncio
import hashlib
import threading
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from cachetools import LRUCache

from classifiers.engine import LONG
from classifiers.normalize import plain
from classifiers.worker import Watch, Worker

if TYPE_CHECKING:
    from classifiers.encoder import Encoder

TEMPERATURE = 0.05
"""Of the softmax over the cosines of the choices; the value with the least log loss on the dev rows of the
shipped topics and tickets."""
PREDICATE_MARGIN = 0.10
PREDICATE_TEMPERATURE = 0.11
"""A statement has a probability of a half where its cosine is so much above the mean cosine of the
anchors; both by logistic regression on rows of all the sets that the benchmark names, true and false
statements in equal number, so that its figures for statements are a little kind."""

ANCHORS = (
    "Hello, how are you?",
    "The text is about something else.",
    "A message about everyday life.",
    "Please help me with a question.",
    "The weather is nice today.",
    "A customer writes to a company.",
    "Somebody asks for information.",
    "Instructions for a task.",
    "A short story about a family.",
    "News about politics and business.",
    "How does this program work?",
    "I like music and sports.",
)
"""Neutral statements: some texts are near to everything, and only what is nearer than this counts."""

MAX_TEXTS = 4096
"""Texts of one request, and texts that may wait."""
_REMEMBERED = 4096
_BATCH = 32
Array = npt.NDArray[np.float32]

_Outcome = Array | BaseException
"""The vector of a text, or the reason why there is none."""


class EncoderFailed(Exception):
    """The encoder raised on one of these texts; others are not concerned."""


class ZeroShot:
    """Turns texts into unit vectors, on threads of its own; statements are remembered.

    Long texts have a thread to themselves, so that nobody waits behind a book.

    Args:
        encoder: the shared one.
        max_waiting: texts that may wait before ``Overloaded`` is raised.
        patience: seconds after which a batch is given up, and another thread goes on with what
            waits. None waits for ever.
    """

    def __init__(
        self,
        encoder: Encoder,
        *,
        max_waiting: int = MAX_TEXTS + 64,
        patience: float | None = None,
    ) -> None:
        self.name = encoder.name
        self.version = encoder.hash[:12]
        self._encoder = encoder
        self._known: LRUCache[bytes, Array] = LRUCache(_REMEMBERED)
        self._lock = threading.Lock()

        def worker(name: str, batch: int) -> Worker[str, _Outcome]:
            return Worker(
                name, self._encode, max_waiting=max_waiting, max_batch=batch,
                patience=patience, instead=lambda jobs, _: [TimeoutError()] * len(jobs),
            )  # fmt: skip

        self._short, self._long = worker("zero-shot", _BATCH), worker("zero-shot-long", 1)
        self._watch = None if patience is None else Watch((self._short, self._long), patience)

    async def vectors(self, texts: Sequence[str]) -> Array:
        """``[texts, features]`` of length one each.

        Raises:
            Overloaded: too many texts wait already.
            EngineClosed: it was closed.
            EncoderFailed: the encoder raised on one of the texts.
            TimeoutError: the encoder took longer than ``patience``.
            Stuck: too many threads hang in the encoder.
        """
        keys = [_key(text) for text in texts]
        with self._lock:
            known = {key: self._known[key] for key in keys if key in self._known}
        missing = {key: text for key, text in zip(keys, texts, strict=True) if key not in known}
        if missing:
            futures = {key: asyncio.wrap_future(f) for key, f in self._submit(missing).items()}
            for key, found in zip(futures, await asyncio.gather(*futures.values()), strict=True):
                if isinstance(found, BaseException):
                    raise found
                known[key] = found
        return np.stack([known[key] for key in keys])

    def close(self) -> None:
        """Stop the threads; whoever still waits gets ``EngineClosed``. Blocking."""
        if self._watch is not None:
            self._watch.stop()
        self._short.close()
        self._long.close()

    def _submit(self, missing: Mapping[bytes, str]) -> dict[bytes, Future[_Outcome]]:
        if self._watch is not None:
            self._watch.start()
        futures: dict[bytes, Future[_Outcome]] = {}
        for worker, is_long in ((self._short, False), (self._long, True)):
            own = {k: text for k, text in missing.items() if (len(text) > LONG) is is_long}
            if not own:
                continue
            try:
                submitted = worker.submit([*own.values()])
            except Exception:
                for future in futures.values():
                    future.cancel()  # nobody will ask for these
                raise
            futures.update(zip(own, submitted, strict=True))
        return futures

    def _encode(self, texts: Sequence[str]) -> list[_Outcome]:
        try:
            found = vectors(self._encoder, texts)
        # Whatever it is: Rust's panics are no Exceptions, and a thread that died of one would take
        # along texts that had no part in it.
        except BaseException as error:
            if len(texts) == 1:
                # Only the fault's type is named: a message may quote the text.
                return [EncoderFailed(f"{type(error).__name__} in the encoder")]
            return [self._encode([text])[0] for text in texts]
        with self._lock:
            for text, vector in zip(texts, found, strict=True):
                self._known[_key(text)] = vector
        return list(found)


def vectors(encoder: Encoder, texts: Sequence[str]) -> Array:
    """``[texts, features]`` of length one: the mean of a text's stretches, disguises taken off."""
    forms = [normal.text if (normal := plain(text)).text.strip() else text for text in texts]
    encoded = encoder.encode(forms)
    total = np.zeros((len(forms), encoded.features.shape[1]), dtype=np.float32)
    for window, features in zip(encoded.windows, encoded.features, strict=True):
        if not window.sentence:
            total[window.text] += features
    lengths = np.linalg.norm(total, axis=1, keepdims=True)
    unit: Array = total / np.maximum(lengths, 1e-12)
    return unit


def statements(value: str, description: str | None) -> list[str]:
    """What stands for a choice: its name as words, and with its description."""
    name = value.replace("_", " ").replace("/", " ").strip() or value
    return [name, f"{name}: {description}"] if description else [name]


def nearness(text: Array, choice: Array) -> float:
    """The cosine of a text and the middle of what stands for a choice.

    Args:
        text: ``[features]``.
        choice: ``[statements, features]``.
    """
    return float(text @ _middle(choice))


def shares(near: Sequence[float]) -> list[float]:
    """How a text leans to choices, from how near it is to each (:func:`nearness`); the shares add
    up to one."""
    cosines = np.asarray(near)
    powers = np.exp((cosines - cosines.max()) / TEMPERATURE)
    found: list[float] = (powers / powers.sum()).tolist()
    return found


def agreement(text: Array, statement: Array, anchors: Array) -> float:
    """How much a statement says of the text, in 0..1.

    Args:
        text, statement: ``[features]``.
        anchors: ``[anchors, features]``.
    """
    above = float(text @ statement) - float((anchors @ text).mean()) - PREDICATE_MARGIN
    return float(1.0 / (1.0 + np.exp(-above / PREDICATE_TEMPERATURE)))


def shared_encoder(classifiers: Iterable[Any], folder: Path) -> Encoder | None:
    """The encoder of a folder, if one of the classifiers reads with it."""
    from classifiers.encoder import Encoder

    for classifier in classifiers:
        encoder = getattr(classifier, "encoder", None)
        if isinstance(encoder, Encoder) and encoder.folder.resolve() == folder.resolve():
            return encoder
    return None


def stacked(vectors: Sequence[Array]) -> Array:
    """``[n, features]`` of n vectors."""
    return np.stack(vectors)


def _middle(vectors: Array) -> Array:
    mean = vectors.mean(axis=0)
    unit: Array = mean / max(float(np.linalg.norm(mean)), 1e-12)
    return unit


def _key(text: str) -> bytes:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
