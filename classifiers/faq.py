"""Which entry of a FAQ a message asks for: the nearest example, and how sure that is.

A message is compared with every way in which an entry may be asked by the cosine of the shared
encoder's features. Its evidence for an entry is that cosine and how far the next entry is behind it;
of a message that asks several things the one counts that is least covered. Thresholds promise how
often an answer is wrong: each of the FAQ's own questions is left out and asked anew, once alone and
once with its whole entry, and stands beside everyday texts that no entry is about.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
from cachetools import LRUCache

from classifiers import calibration
from classifiers.encoder import Encoded, Encoder
from classifiers.faq_clauses import clauses
from classifiers.pooled import owned_rows
from classifiers.types import Batch, Kind, OperatingPoint, Prediction, UnknownLabel
from classifiers.views import Reader, Views

EVERYDAY = Path(__file__).parent / "everyday.txt"
MOST_LEAD = 0.3
"""How much the distance to the next entry adds to a cosine at most: entries of a small FAQ are far from
each other, which says nothing for a text that is near to none."""
STEEP, MIDDLE = 10.4, 0.82
"""Evidence to score by logistic regression on Banking77, CLINC150 and HWU64: FAQs of 10 to 40 of their
labels with five questions each, asked what is in them, what is near to them, and what is far."""
MOST_CHARS = 1500
"""Longer messages have no short answer."""
MOST_CLAUSES = 6
WORTH = 0.3
"""Cosine of a whole message under which its clauses are not even read."""
DEFAULT_RATE = 0.01
Array = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class _Asked:
    """A text as it is compared: its features as a whole, ``[features]``, and those of its clauses,
    ``[clauses, features]``, the whole itself where it is but one."""

    whole: Array
    parts: Array


class Memory:
    """Features of texts of FAQs, so that a FAQ that is loaded anew costs what has changed in it."""

    def __init__(self, most: int = 20_000) -> None:
        self._known: LRUCache[tuple[str, bytes], Array] = LRUCache(most)

    def features(self, encoder: Encoder, texts: Sequence[str]) -> list[Array]:
        """``[features]`` of length one for each text."""
        keys = [
            (encoder.hash, hashlib.blake2b(t.encode("utf-8", "replace")).digest()) for t in texts
        ]
        found = {key: self._known[key] for key in keys if key in self._known}
        missing = {k: t for k, t in zip(keys, texts, strict=True) if k not in found}
        for key, vector in zip(missing, _features(encoder, [*missing.values()]), strict=True):
            found[key] = self._known[key] = vector
        return [found[key] for key in keys]


class FaqClassifier:
    """One label for each entry of a FAQ, ``one_of``: scores say how likely the entry's answer is right.

    Args:
        name: of the classifier.
        version: of the FAQ's content.
        entries: by id, the ways in which each may be asked.
        elsewhere: texts that no entry answers.
        reader: the shared encoder's.
        memory: keeps features from one load to the next.
    """

    kind: Kind = "one_of"

    def __init__(
        self,
        name: str,
        version: str,
        entries: Mapping[str, Sequence[str]],
        elsewhere: Sequence[str],
        reader: Reader,
        memory: Memory,
    ) -> None:
        self.name, self.version = name, version
        self.labels = tuple(entries)
        self._reader = reader
        groups = [*entries.values(), *([elsewhere] if elsewhere else ())]
        own = [text for group in groups for text in group]
        asked = _asked(reader.encoder, own, memory)
        self._examples = np.stack([a.whole for a in asked])
        # Of a wording of several sentences, what a sentence among several may be like.
        self._sentences = np.concatenate([a.parts for a in asked])
        self._owner = np.repeat(np.arange(len(asked)), [len(a.parts) for a in asked])
        self._group = np.repeat(np.arange(len(groups)), [len(group) for group in groups])
        self._starts = np.flatnonzero(np.diff(self._group, prepend=-1))
        everyday = _asked(reader.encoder, _everyday(frozenset(own)), memory)
        self._calibrate(asked, everyday)

    @property
    def encoder(self) -> Encoder:
        """The shared encoder."""
        return self._reader.encoder

    def predict(self, batch: Batch) -> list[tuple[Prediction, ...]]:
        """See :meth:`classifiers.types.Classifier.predict`. A text in disguise, and a long one, is no
        question of a FAQ: all its scores are 0."""
        views = self._reader.views(batch)
        wholes = _wholes(views, len(batch.texts))
        found = []
        for text, whole in zip(batch.texts, wholes, strict=True):
            scores = np.zeros(len(self.labels), dtype=np.float32)
            if whole is not None and len(text) <= MOST_CHARS:
                scores = self._scores(text, whole)
            found.append(
                tuple(
                    Prediction(self.name, label, float(score))
                    for label, score in zip(self.labels, scores, strict=True)
                )
            )
        return found

    def thresholds(self, labels: Sequence[str], point: OperatingPoint) -> Mapping[str, float]:
        """See :meth:`classifiers.types.ClassifierInfo.thresholds`; ``max_wrong_answer_rate`` promises
        for all labels together."""
        if point.kind == "at":
            return dict.fromkeys(labels, float(point.value or 0.0))
        if point.kind not in ("default", "max_wrong_answer_rate"):
            raise UnknownLabel(f"a FAQ has no {point.kind}; write max_wrong_answer_rate, or at")
        rate = DEFAULT_RATE if point.value is None else point.value
        return dict.fromkeys(labels, max(_promise(rows, rate) for rows in self._rows))

    def _calibrate(self, own: Sequence[_Asked], everyday: Sequence[_Asked]) -> None:
        """Scores of wrong answers: two lists, each with every text once, 0 where it gets none.

        In the first each of the FAQ's questions is left out alone, and a wrong answer is one of
        another entry; in the second with all of its entry, and every answer is wrong.
        """
        labels = len(self.labels)
        far = [self._best(text, None) for text in everyday]
        alone, apart = [], []
        for index, text in enumerate(own):
            group = self._group[index]
            evidence = self._evidence(text, np.arange(len(own)) == index)
            top = int(evidence[:labels].argmax())
            alone.append(0.0 if top == group else float(_score(evidence[top])))
            if group < labels:
                apart.append(self._best(text, self._group == group))
        self._rows = tuple(np.asarray([*rows, *far]) for rows in (alone, apart))

    def _best(self, text: _Asked, without: npt.NDArray[np.bool_] | None) -> float:
        return float(_score(self._evidence(text, without)[: len(self.labels)].max()))

    def _scores(self, text: str, whole: Array) -> Array:
        if float((self._examples @ whole).max()) < WORTH:
            return np.zeros(len(self.labels), dtype=np.float32)
        parts = clauses(text)
        if not any(map(str.isalnum, text)) or len(parts) > MOST_CLAUSES:
            return np.zeros(len(self.labels), dtype=np.float32)
        read = whole[None]
        if len(parts) > 1 or parts[0] != text.strip():
            read = np.stack(_features(self._reader.encoder, parts))
        return _score(self._evidence(_Asked(whole, read))[: len(self.labels)])

    def _evidence(self, text: _Asked, without: npt.NDArray[np.bool_] | None = None) -> Array:
        """``[groups]`` the evidence for each entry, that of the texts from elsewhere last.

        Args:
            text: what is asked.
            without: ``[examples]`` those to be left out.
        """
        near = text.parts @ self._examples.T  # [clauses, examples]
        if len(text.parts) == 1:
            near = np.maximum(near, self._examples @ text.whole)
        else:
            np.maximum.at(near.T, self._owner, self._sentences @ text.parts.T)
        if without is not None:
            near = np.where(without, -1.0, near)
        covered: Array = np.stack([self._lead(row) for row in near]).min(axis=0)
        return covered

    def _lead(self, near: Array) -> Array:
        """``[groups]`` cosine of the nearest example and the lead over the best of all others."""
        best = np.maximum.reduceat(near, self._starts)
        if len(best) == 1:
            rival = np.full(1, -1.0)
        else:
            first, second = np.argsort(best)[::-1][:2]
            rival = np.full(len(best), best[first])
            rival[first] = best[second]
        lead: Array = (best + np.clip(best - rival, -MOST_LEAD, MOST_LEAD)).astype(np.float32)
        return lead


def _promise(rows: calibration.Scores, rate: float) -> float:
    """The lowest threshold that is proven to keep wrong answers under a rate of the texts."""
    may = calibration.allowed(rate, len(rows))
    if may < 0:
        more = calibration.benign_needed(rate) - len(rows)
        raise UnknownLabel(
            f"max_wrong_answer_rate {rate:.4%} cannot be promised from {len(rows)} texts; {more} more "
            "are needed (write them under ask: or elsewhere:), or take a larger rate, or state at:"
        )
    return float(np.nextafter(np.float32(np.sort(rows)[::-1][may]), np.float32(2)))


def _score(evidence: npt.ArrayLike) -> Array:
    score: Array = (1 / (1 + np.exp(-STEEP * (np.asarray(evidence) - MIDDLE)))).astype(np.float32)
    return score


def _wholes(views: Views, texts: int) -> list[Array | None]:
    """``[features]`` of each text as it stands; None for one that has other forms, a disguise."""
    rows = owned_rows(views, texts)
    forms = np.bincount(np.asarray(views.owners, dtype=np.int64), minlength=texts)
    return [
        _mean(views.encoded, own) if count == 1 else None
        for own, count in zip(rows, forms, strict=True)
    ]


def _features(encoder: Encoder, texts: Sequence[str]) -> list[Array]:
    if not texts:
        return []
    encoded = encoder.encode(texts)
    own: list[list[int]] = [[] for _ in texts]
    for index, window in enumerate(encoded.windows):
        own[window.text].append(index)
    return [_mean(encoded, rows) for rows in own]


def _mean(encoded: Encoded, rows: Sequence[int] | npt.NDArray[np.int64]) -> Array:
    """Unit mean of the stretches among some windows; sentences within them are left out."""
    stretches = [row for row in rows if not encoded.windows[row].sentence]
    total = encoded.features[stretches].sum(axis=0)
    unit: Array = (total / max(float(np.linalg.norm(total)), 1e-12)).astype(np.float32)
    return unit


def _asked(encoder: Encoder, texts: Sequence[str], memory: Memory) -> list[_Asked]:
    cut = [clauses(text) for text in texts]
    known = iter(memory.features(encoder, [*texts, *(part for own in cut for part in own)]))
    wholes = [next(known) for _ in texts]
    return [
        _Asked(whole, np.stack([next(known) for _ in own]))
        for whole, own in zip(wholes, cut, strict=True)
    ]


def _everyday(own: frozenset[str]) -> list[str]:
    return [text for text in _shipped() if text not in own]


@cache
def _shipped() -> tuple[str, ...]:
    lines = EVERYDAY.read_text("utf-8").splitlines()
    return tuple(line for line in lines if line and not line.startswith("#"))
