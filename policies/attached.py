"""Policies that apply to a request together, with what is known of them before any text is."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from classifiers.types import Floors, Joined, Stage, Text
from policies.policy import STREAM_CHECKS, StreamCheck
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
        refusals: the words of their block rules.
        across: what matters of what is said across turns.
    """

    __slots__ = ("_classifiers", "_covers", "_on_streams", "across", "ids", "policies", "refusals")

    def __init__(self, policies: Sequence[BoundPolicy]) -> None:
        self.policies = tuple(policies)
        self.ids = tuple(policy.id for policy in self.policies)
        self.refusals = frozenset[str]().union(*(policy.refusals for policy in self.policies))
        self._classifiers: dict[Stage, frozenset[str]] = {
            stage: frozenset[str]().union(*(p.classifiers_for(stage) for p in self.policies))
            for stage in _STAGES
        }
        self.across = _across(self.policies)
        self._covers: dict[tuple[str, bool, bool, Stage], bool] = {}
        self._on_streams: OnStreams | None = None

    @property
    def on_streams(self) -> OnStreams:
        """What of the policies looks at a reply that is streamed, and when."""
        if self._on_streams is None:
            self._on_streams = _on_streams(self)
        return self._on_streams

    def classifiers(self, stage: Stage) -> frozenset[str]:
        """The classifiers that the rules need in a stage, as ``name@version``."""
        return self._classifiers[stage]

    def joined(self, texts: Sequence[Text]) -> list[Joined | None] | None:
        """By text, what matters of it; None for everything, and where that is so of all."""
        if self.across is None or not any(text.across for text in texts):
            return None
        places = {text.address: i for i, text in enumerate(texts) if not text.derived}
        found: list[Joined | None] = []
        for text in texts:
            members = {places.get(piece.address, -1) for piece in text.pieces}
            known = () if -1 in members else tuple(sorted(members))
            found.append(Joined(self.across, known) if text.across else None)
        return found

    def in_scope(self, stage: Stage, texts: Sequence[Text]) -> list[int]:
        """Indexes of the texts that some rule looks at."""
        return [i for i, text in enumerate(texts) if self._covered(stage, text)]

    def _covered(self, stage: Stage, text: Text) -> bool:
        # What a rule covers depends on these alone; roles are few, whatever clients invent.
        kind = (text.role, text.last_turn, text.across, stage)
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


@dataclass(frozen=True, slots=True)
class OnStreams:
    """The output rules of some policies on a stream.

    Attributes:
        mode: the strictest ``stream_check`` of the policies that have output rules; None if none
            has any.
        policies: all but those that do not look at streams.
        unchecked: ``name@version`` of the policies whose output rules do not look at it.
        redacts: some rule may replace a part of the reply.
    """

    mode: StreamCheck | None
    policies: Attached
    unchecked: tuple[str, ...]
    redacts: bool


def _on_streams(own: Attached) -> OnStreams:
    ruling = [policy for policy in own.policies if policy.rules_for("output")]
    looking = [policy for policy in ruling if policy.policy.stream_check != "off"]
    modes = {policy.policy.stream_check for policy in ruling}
    off = [policy for policy in ruling if policy not in looking]
    return OnStreams(
        next((mode for mode in STREAM_CHECKS if mode in modes), None),
        Attached([policy for policy in own.policies if policy not in off]) if off else own,
        tuple(policy.id for policy in off),
        any(
            bound.rule.do.needs_spans and bound.rule.enforced
            for policy in looking
            for bound in policy.rules_for("output")
        ),
    )


def _across(policies: Sequence[BoundPolicy]) -> Floors | None:
    """The lowest scores at which a rule may fire on several turns together: something must match."""
    lowest: dict[str, dict[str, float]] = {}
    for policy in policies:
        for bound in policy.rules_for("input"):
            if not bound.scope.across_turns:
                continue
            if bound.faq is not None or bound.every_text:
                return None
            for leaf, helps in bound.condition.leaves():
                known = lowest.setdefault(leaf.id, {})
                for label, threshold in leaf.thresholds if helps else ():
                    known[label] = min(threshold, known.get(label, 1.0))
    return Floors(lowest) if lowest else None


_STAGES: tuple[Stage, ...] = ("input", "output")
_MOST_KINDS = 256
