"""Conditions whose thresholds are known, and how they are decided.

The value is three-valued (Kleene): True, False, or None where a classifier failed on the text and
the rest does not settle the matter.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from classifiers.types import Prediction
from policies.signals import Signals, View


@dataclass(frozen=True, slots=True)
class Hit:
    """A leaf that made a condition true: matched, or (under ``not``) stayed below its threshold."""

    leaf: BoundLeaf
    prediction: Prediction
    threshold: float
    matched: bool

    @property
    def margin(self) -> float:
        """Distance from the threshold, in probability."""
        return abs(self.prediction.score - self.threshold)


class Bound(Protocol):
    """A condition whose thresholds are known."""

    def value(self, signals: Signals, text: int) -> bool | None: ...

    def possible(self, view: View) -> bool:
        """Whether some text in view MAY make it true or unknown. A quick no is the usual case."""
        ...

    def hits(self, signals: Signals, text: int, want: bool = True) -> Iterator[Hit]:
        """The leaves that make the condition ``want`` on a text on which it is ``want``."""
        ...

    def leaves(self, want: bool = True) -> Iterator[tuple[BoundLeaf, bool]]:
        """Every leaf, with True where its matching helps the condition to be ``want``."""
        ...

    def points(self, want: bool = True) -> bool:
        """Whether a leaf with spans matches whenever the condition is ``want``."""
        ...


@dataclass(frozen=True, slots=True)
class BoundLeaf:
    """A leaf with its thresholds; a label matches at ``score >= threshold``."""

    classifier: str
    id: str
    thresholds: tuple[tuple[str, float], ...]
    spans: bool
    _hash: int = field(default=0, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        own = hash((self.classifier, self.id, self.thresholds, self.spans))
        object.__setattr__(self, "_hash", own)

    def __hash__(self) -> int:
        return self._hash  # looked up for every rule of every request

    def value(self, signals: Signals, text: int) -> bool | None:
        scores = signals.scores(text, self.classifier)
        return None if scores is None else self._over(scores)

    def possible(self, view: View) -> bool:
        # A plain loop, and below: any() with a generator takes three times as long.
        for group in view.groups:  # noqa: SIM110
            if group.may(self):
                return True
        return False

    def may(self, peaks: Mapping[str, float] | None) -> bool:
        """Whether one of some texts may match, by their highest scores; None where one has none."""
        return peaks is None or self._over(peaks)

    def _over(self, scores: Mapping[str, float]) -> bool:
        # A label without a score was looked for and not found (classifiers with spans): no match.
        # A plain loop: this runs for every rule of every policy, and any() with a generator takes
        # three times as long.
        for label, threshold in self.thresholds:  # noqa: SIM110
            if scores.get(label, -1.0) >= threshold:
                return True
        return False

    def hits(self, signals: Signals, text: int, want: bool = True) -> Iterator[Hit]:
        found = signals.finds(text, self.classifier)
        for label, threshold in self.thresholds:
            mine = [p for p in found if p.label == label]
            if want:
                for prediction in mine:
                    if prediction.score >= threshold:
                        yield Hit(self, prediction, threshold, matched=True)
            else:
                nothing = Prediction(self.classifier, label, 0.0)
                highest = max(mine, key=lambda p: p.score, default=nothing)
                yield Hit(self, highest, threshold, matched=False)

    def leaves(self, want: bool = True) -> Iterator[tuple[BoundLeaf, bool]]:
        yield self, want

    def points(self, want: bool = True) -> bool:
        return want and self.spans


@dataclass(frozen=True, slots=True)
class _BoundParts(ABC):
    parts: tuple[Bound, ...]

    @abstractmethod
    def value(self, signals: Signals, text: int) -> bool | None: ...

    def hits(self, signals: Signals, text: int, want: bool = True) -> Iterator[Hit]:
        for part in self.parts:
            if part.value(signals, text) is want:
                yield from part.hits(signals, text, want)

    def leaves(self, want: bool = True) -> Iterator[tuple[BoundLeaf, bool]]:
        for part in self.parts:
            yield from part.leaves(want)


class BoundAll(_BoundParts):
    """Every part; False as soon as one is, whatever is unknown."""

    __slots__ = ()

    def value(self, signals: Signals, text: int) -> bool | None:
        values = [part.value(signals, text) for part in self.parts]
        return False if False in values else None if None in values else True

    def possible(self, view: View) -> bool:
        return all(part.possible(view) for part in self.parts)

    def points(self, want: bool = True) -> bool:
        return (any if want else all)(part.points(want) for part in self.parts)


class BoundAny(_BoundParts):
    """At least one part; True as soon as one is, whatever is unknown."""

    __slots__ = ()

    def value(self, signals: Signals, text: int) -> bool | None:
        values = [part.value(signals, text) for part in self.parts]
        return True if True in values else None if None in values else False

    def possible(self, view: View) -> bool:
        return any(part.possible(view) for part in self.parts)

    def points(self, want: bool = True) -> bool:
        return (all if want else any)(part.points(want) for part in self.parts)


@dataclass(frozen=True, slots=True)
class BoundNot:
    """The contrary; unknown stays unknown."""

    part: Bound

    def value(self, signals: Signals, text: int) -> bool | None:
        inner = self.part.value(signals, text)
        return None if inner is None else not inner

    def possible(self, view: View) -> bool:
        return True

    def hits(self, signals: Signals, text: int, want: bool = True) -> Iterator[Hit]:
        return self.part.hits(signals, text, not want)

    def leaves(self, want: bool = True) -> Iterator[tuple[BoundLeaf, bool]]:
        return self.part.leaves(not want)

    def points(self, want: bool = True) -> bool:
        return self.part.points(not want)
