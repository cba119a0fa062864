"""Replies to questions that ask the same in other words.

A stored reply is found by everything around the question, word for word, by the words of the question
that matter (:mod:`proxy.cache_words`), and last by the cosine of the two questions' embeddings. Since
the first two are hashed, few questions are ever compared, and no text is kept.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import yaml

from classifiers import calibration
from classifiers.zero_shot import Array, EncoderFailed, ZeroShot, vectors
from proxy.cache import Store, Stored
from proxy.cache_key import Hasher, Key
from proxy.cache_words import signature
from proxy.config_cache import SemanticCache as Options
from proxy.yaml_source import ConfigError

if TYPE_CHECKING:
    from classifiers.encoder import Encoder

PAIRS = Path(__file__).resolve().parent / "cache_pairs.yaml"
MAX_WAYS = 8
"""Ways to ask one question that are kept at once."""
PATIENCE = 10.0
"""Seconds after which the embedding of a question is given up."""
MAX_KEEPING = 64
"""Replies that may wait for the embedding of their question; further ones are not kept."""


@dataclass(frozen=True, slots=True)
class Way:
    """One way to ask a question, and the replies to it by their form.

    Attributes:
        vector: ``[features]`` of length one.
    """

    vector: Array = field(repr=False)
    forms: dict[bytes, Stored]


@dataclass(frozen=True, slots=True)
class Ways:
    """All ways that were asked, the newest last."""

    ways: tuple[Way, ...]

    @property
    def size(self) -> int:
        """Bytes."""
        return sum(
            way.vector.nbytes + sum(stored.size for stored in way.forms.values())
            for way in self.ways
        )


@dataclass(frozen=True, slots=True)
class Pair:
    """Two questions, and whether one answer will do for both."""

    one: str
    other: str
    same: bool


class SemanticCache:
    """The cache of the questions of all tenants, each of which sees its own alone.

    Args:
        options: what the operator wrote.
        encoder: makes the embeddings.

    Raises:
        ConfigError: the promised rate of wrong hits cannot be kept.
    """

    def __init__(self, options: Options, encoder: Encoder) -> None:
        self.threshold = threshold(options, near_misses(encoder))
        self._options = options
        self._reader = ZeroShot(encoder, patience=PATIENCE)
        self._hasher = Hasher()
        self._store: Store[Ways] = Store(
            options.ttl_seconds, options.max_entries, options.max_bytes
        )
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def largest(self) -> int:
        """Bytes that one reply may take."""
        return self._store.largest

    async def find(self, tenant: str, key: Key) -> list[tuple[Stored, float]]:
        """Stored replies to the same question, and the cosine of the two questions, nearest first."""
        place = self._place(key)
        held = None if place is None else self._store.get(tenant, place)
        if held is None:
            return []
        try:
            vector = (await self._reader.vectors([key.question]))[0]
        except (EncoderFailed, TimeoutError):
            return []  # a question that cannot be compared is a new one
        cosines = np.stack([way.vector for way in held.ways]) @ vector
        found: list[tuple[Stored, float]] = []
        for index in np.argsort(-cosines):
            if cosines[index] < self.threshold:
                break
            forms = held.ways[index].forms
            found += [
                (forms[form], float(min(cosines[index], 1.0)))
                for form in dict.fromkeys((key.form, b""))
                # The place is as old as its newest way, each reply as old as itself.
                if form in forms and time.time() - forms[form].at <= self._options.ttl_seconds
            ]
        return found

    def keep(self, tenant: str, key: Key, entries: Sequence[Stored]) -> bool:
        """Keep a reply in all its forms as soon as its question is embedded, which nobody waits for.

        Returns:
            Whether it will be kept.
        """
        place = self._place(key)
        fits = entries and sum(entry.size for entry in entries) < self.largest // 2
        if place is None or not fits or len(self._tasks) >= MAX_KEEPING:
            return False
        task = asyncio.get_running_loop().create_task(self._keep(tenant, place, key, entries))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return True

    async def settled(self) -> None:
        """Wait until everything that is to be kept is."""
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def clear(self) -> None:
        """Forget everything, also what is on its way."""
        for task in self._tasks:
            task.cancel()
        self._store.clear()

    async def close(self) -> None:
        """Stop the thread of the embeddings."""
        self.clear()
        await asyncio.to_thread(self._reader.close)  # it waits for the batch in hand

    async def _keep(self, tenant: str, place: bytes, key: Key, entries: Sequence[Stored]) -> None:
        try:
            vector = (await self._reader.vectors([key.question]))[0]
        except Exception:
            return  # overloaded or closed: it is not kept
        held = self._store.get(tenant, place)
        ways = [] if held is None else list(held.ways)
        forms = {entry.form: entry for entry in entries}
        for way in ways:
            if np.array_equal(way.vector, vector):
                forms = {**way.forms, **forms}
                ways.remove(way)
                break
        ways = [*ways, Way(vector, forms)][-MAX_WAYS:]
        while len(ways) > 1 and Ways(tuple(ways)).size > self.largest:
            ways = ways[1:]
        self._store.put(tenant, place, Ways(tuple(ways)))

    def _place(self, key: Key) -> bytes | None:
        """Where a question is kept; None where only the exact cache may answer it."""
        words = None if key.rest is None else signature(key.question)
        return None if words is None else self._hasher.digest(key.rest, words)


def pairs(path: Path = PAIRS) -> list[Pair]:
    """The pairs of questions that come with the program."""
    found: list[Pair] = []
    for group in yaml.safe_load(path.read_text("utf-8")):
        ask = group["ask"]
        found += [Pair(ask, other, True) for other in group["same"]]
        for other in group["other"]:
            old, _, new = other.partition(" => ")
            if old not in ask or not new:
                raise ValueError(f"{path.name}: {other!r} changes nothing in {ask!r}")
            found.append(Pair(ask, ask.replace(old, new, 1), False))
    return found


def score(found: Sequence[Pair], encoder: Encoder) -> calibration.Scores:
    """``[pairs]`` how much two questions are the same: their cosine, -1 where their words differ."""
    scores = np.full(len(found), -1.0)
    alike = [
        index
        for index, pair in enumerate(found)
        if (words := signature(pair.one)) is not None and words == signature(pair.other)
    ]
    if alike:
        ones = vectors(encoder, [found[index].one for index in alike])
        others = vectors(encoder, [found[index].other for index in alike])
        scores[alike] = (ones * others).sum(axis=1)
    return scores


def near_misses(encoder: Encoder) -> calibration.Scores:
    """The scores of the pairs that no one answer will do for."""
    return score([pair for pair in pairs() if not pair.same], encoder)


def threshold(options: Options, misses: calibration.Scores) -> float:
    """The least cosine of a hit.

    Args:
        options: the promise, and the least cosine whatever it allows.
        misses: scores of near misses, see :func:`score`.

    Raises:
        ConfigError: there are too few near misses for the promise.
    """
    rate = options.max_wrong_hit_rate
    if rate >= 1 or calibration.allowed(rate, len(misses)) < 0:
        least = math.ceil(calibration.upper_bound(0, len(misses)) * 10_000) / 10_000
        needed = "under 100%" if rate >= 1 else f"{calibration.benign_needed(rate)} are needed"
        raise ConfigError(
            f"cache.semantic.max_wrong_hit_rate {rate:.4%} cannot be promised from {len(misses)} near "
            f"misses; {needed}; take a rate of {least:.2%} or more"
        )
    promised = calibration.false_positive_threshold(misses, rate, "cache.semantic")
    return max(promised, options.min_similarity)
