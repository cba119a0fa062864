"""Whether a rule would have fired, told from recorded scores alone: yes, no, or not to be told.

The highest score of each label over all texts of a kind says exactly whether SOME text matches a label, and
whether none does. What has to hold for one text together (``all``, ``not``) is known where
there is one text of its kind, or where the scores settle it anyway.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from classifiers.types import Stage
from policies.bound import Bound, BoundAll, BoundAny, BoundLeaf, BoundNot
from policies.schema import BoundRule
from policies.seen import DIGITS, LEAST, Seen

ROUNDED = 0.5 * 10**-DIGITS
"""How far a recorded score may lie from the true one."""


@dataclass(frozen=True, slots=True)
class Told:
    """What is known of a condition on the texts of one kind; None where it cannot be told.

    Attributes:
        some: whether it is true of at least one.
        every: whether it is true of each.
    """

    some: bool | None
    every: bool | None


def fires(bound: BoundRule, seen: Sequence[Seen], stage: Stage) -> bool | None:
    """Whether a rule would have fired; None where the scores do not tell.

    A rule that answers from a FAQ cannot be told: its own scores are not kept. No kind of text that
    it looks at: it does not fire.
    """
    if bound.faq is not None:
        return None
    if bound.every_text:
        # The newest turn is of one speaker (policies.turns), so no other kind of it went unseen.
        newest = [one for one in seen if one.kind.last_turn and not one.kind.derived]
        if not newest or any(one.kind.role != "user" for one in newest):
            return False
        return _all(_told(bound.condition, one).every for one in newest)
    covered = [one for one in seen if bound.scope.covers(one.kind, stage)]
    return _any(_fires_on(bound.condition, one) for one in covered)


def _fires_on(condition: Bound, seen: Seen) -> bool | None:
    some = _told(condition, seen).some
    if not seen.kind.across or some is False:
        return some
    # That several turns together are NOT about a thing says little: something must be found.
    found = (_matches(leaf, seen) for leaf, helps in condition.leaves() if helps)
    return _all((some, _any(found)))


def _told(condition: Bound, seen: Seen) -> Told:
    match condition:
        case BoundLeaf():
            hit = _matches(condition, seen)
            every = hit if hit is not True or seen.texts == 1 else None
            return Told(hit, every)
        case BoundNot():
            inner = _told(condition.part, seen)
            return Told(_not(inner.every), _not(inner.some))
        case BoundAll():
            return _together(condition, seen)
        case BoundAny():
            # Some text misses all parts where every text misses one of them: the contrary of all.
            missed = _together(BoundAll(tuple(BoundNot(p) for p in condition.parts)), seen)
            return Told(_not(missed.every), _not(missed.some))
    raise TypeError(f"no such condition: {type(condition).__name__}")


def _together(condition: BoundAll, seen: Seen) -> Told:
    """All parts on one text."""
    parts = [_told(part, seen) for part in condition.parts]
    every, some = _all(part.every for part in parts), _all(part.some for part in parts)
    if some and seen.texts > 1 and sum(not part.every for part in parts) > 1:
        some = None  # each is true of a text, perhaps of different ones
    return Told(some, every)


def _matches(leaf: BoundLeaf, seen: Seen) -> bool | None:
    """Whether some text of the kind matches a label of the leaf."""
    scores = seen.scores.get(leaf.id)
    if scores is None:  # failed then, or another pack was asked, or none
        return None
    return _any(_reaches(scores, label, threshold) for label, threshold in leaf.thresholds)


def _reaches(scores: Mapping[str, float], label: str, threshold: float) -> bool | None:
    score = scores.get(label)
    if score is None:
        return False if threshold >= LEAST else None
    return None if abs(score - threshold) <= ROUNDED else score > threshold


def _any(values: Iterable[bool | None]) -> bool | None:
    known = list(values)
    return True if True in known else None if None in known else False


def _all(values: Iterable[bool | None]) -> bool | None:
    known = list(values)
    return False if False in known else None if None in known else True


def _not(value: bool | None) -> bool | None:
    return None if value is None else not value
