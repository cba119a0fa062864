"""Policies that apply to a request together, with what is known of them before any text is."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase

from classifiers.types import Stage, Text
from policies.schema import BoundPolicy


def attached(
    policies: Iterable[BoundPolicy], model: str, key: str | None
) -> tuple[BoundPolicy, ...]:
    """The policies for a request, in order.

    Args:
        policies: all there are.
        model: the alias that the client asked for.
        key: name of the client's key; None without keys, which only ``*`` matches.
    """
    return tuple(
        bound
        for bound in policies
        if any(fnmatchcase(model, glob) for glob in bound.policy.attach.models)
        and any(fnmatchcase(key or "", glob) for glob in bound.policy.attach.keys)
    )


class Attached:
    """Policies that apply together. What they need is worked out once, not with every request.

    Attributes:
        policies: in order.
        ids: ``name@version`` of each.
    """

    __slots__ = ("_classifiers", "_covers", "ids", "policies")

    def __init__(self, policies: Sequence[BoundPolicy]) -> None:
        self.policies = tuple(policies)
        self.ids = tuple(policy.id for policy in self.policies)
        self._classifiers: dict[Stage, frozenset[str]] = {
            stage: frozenset[str]().union(*(p.classifiers_for(stage) for p in self.policies))
            for stage in _STAGES
        }
        self._covers: dict[tuple[str, bool, Stage], bool] = {}

    def classifiers(self, stage: Stage) -> frozenset[str]:
        """The classifiers that the rules need in a stage."""
        return self._classifiers[stage]

    def in_scope(self, stage: Stage, texts: Sequence[Text]) -> list[int]:
        """Indexes of the texts that some rule looks at."""
        return [i for i, text in enumerate(texts) if self._covered(stage, text)]

    def _covered(self, stage: Stage, text: Text) -> bool:
        # What a rule covers depends on these alone; roles are few, whatever clients invent.
        kind = (text.role, text.last_turn, stage)
        known = self._covers.get(kind)
        if known is None:
            known = any(
                stage in bound.rule.check and bound.rule.covers(text, stage)
                for policy in self.policies
                for bound in policy.rules
            )
            if len(self._covers) < _MOST_KINDS:
                self._covers[kind] = known
        return known


_STAGES: tuple[Stage, ...] = ("input", "output")
_MOST_KINDS = 256
