"""What matters of a joined text, given the verdicts on the texts that it was made of.

A joined text rarely says what none of its members comes near: where all of them are far below a
threshold, its words must speak for it all the more before it is read.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from classifiers.types import Classification, Floors

WEIGHT = 0.5
"""How much the members' distance from a threshold counts, over that which the words make probable."""
FARTHEST = 4.0
"""Logits; members that are farther away count as so far."""
_LEAST = 1e-9


def raised(floors: Floors, members: Sequence[Classification]) -> Floors:
    """Floors as much higher as the members' highest scores lie below them; never lower.

    Args:
        members: all the texts that the joined one was made of; none, if that is not known.
    """
    if not members:
        return floors
    return Floors({id: _raised(id, lowest, members) for id, lowest in floors.lowest.items()})


def _raised(
    id: str, lowest: Mapping[str, float], members: Sequence[Classification]
) -> Mapping[str, float]:
    name = id.split("@")[0]
    highest: dict[str, float] = {}
    for member in members:
        if name not in member.predictions:
            return lowest  # it failed there, or was not asked
        for one in member.predictions[name]:
            highest[one.label] = max(one.score, highest.get(one.label, 0.0))
    return {
        label: _probability(_logit(floor) + WEIGHT * _below(floor, highest.get(label, 1.0)))
        for label, floor in lowest.items()
    }


def _below(floor: float, score: float) -> float:
    return min(FARTHEST, max(0.0, _logit(floor) - _logit(score)))


def _logit(share: float) -> float:
    kept = min(1 - _LEAST, max(_LEAST, share))
    return math.log(kept / (1 - kept))


def _probability(logit: float) -> float:
    return 1 / (1 + math.exp(-logit))
