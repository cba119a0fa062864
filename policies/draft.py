"""A decision while the rules are still speaking: actions apply themselves to it."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from classifiers.types import Piece, Stage, Text
from policies import json_source
from policies.bound import Hit
from policies.decision import RANK, Cause, Decision, Outcome, Reply, RuleError, Unscannable
from policies.redaction import Wanted, settle
from policies.refused import refused_turns
from policies.seen import Seen

REMOVED = "[removed by policy]"
"""What stands in the place of a message that was refused in an earlier turn."""

UNREPLACEABLE = (
    "The name of a field holds what may not be sent and cannot be replaced there; rename the field."
)
"""Why a request is refused (HTTP 400) by a rule that would redact."""


UNREAD = (
    "Parts of this cannot be read by any check: images, audio, files, links to them, or encrypted "
    "content. The policy lets nothing through unread. Send text instead, or set "
    "on_unscannable: allow in the policy."
)
"""Why something is refused (HTTP 400) that no classifier can read."""


@dataclass(frozen=True, slots=True)
class Fired:
    """A rule that fired: the prediction that is named for it, every leaf that matched, with the
    index of the text it matched in, and what a FAQ has to say."""

    cause: Cause
    hits: tuple[tuple[int, Hit], ...]
    answer: str | None = None


@dataclass(slots=True)
class Draft:
    """What the rules so far have asked for. Rules come in file order, policy by policy."""

    stage: Stage
    texts: Sequence[Text]
    refusals: Collection[str] = ()
    outcome: Outcome = "forward"
    cause: Cause | None = None
    reply: Reply | None = None
    route: str | None = None
    tags: dict[str, None] = field(default_factory=dict)
    wanted: list[Wanted] = field(default_factory=list)
    fired: list[Cause] = field(default_factory=list)
    shadow: list[Cause] = field(default_factory=list)
    errors: list[RuleError] = field(default_factory=list)
    unscannable: Unscannable | None = None
    _units: dict[Piece, json_source.Units] = field(default_factory=dict)
    _escapes: dict[int, list[tuple[int, int]]] = field(default_factory=dict)
    _places: dict[tuple[str | int, ...], int] = field(default_factory=dict)
    _refused: set[int] | None = None

    def take(
        self,
        outcome: Outcome,
        cause: Cause | None,
        *,
        reply: Reply | None = None,
        route: str | None = None,
    ) -> None:
        """Ask for an outcome; it stands if it is more restrictive than what stands already."""
        if RANK[outcome] > RANK[self.outcome]:
            self.outcome, self.cause, self.reply, self.route = outcome, cause, reply, route

    def fail(self, error: RuleError) -> None:
        """Record a rule that could not be decided; ``on_error: block`` stops the request."""
        self.errors.append(error)
        if error.outcome == "block":
            self.take("error", None)

    def stop_unread(self, policy: str, parts: int) -> None:
        """Refuse what could not be read; a rule that has found something goes before it."""
        if self.outcome != "block":
            self.take("block", None, reply=Reply(UNREAD, "content_filter", "error"))
            self.unscannable = Unscannable(policy, parts)

    def redact(
        self, text: int, start: int, end: int, *, template: str, label: str, restore: bool
    ) -> bool:
        """Ask for a stretch to be replaced, on top of all others; False if it is empty."""
        end = min(end, len(self.texts[text].content))
        if start >= end:
            return False
        if self.texts[text].derived:
            return self._redact_sources(
                text, start, end, template=template, label=label, restore=restore
            )
        if text not in self._escapes:
            self._escapes[text] = json_source.escapes(self.texts[text].content)
        if spans := self._escapes[text]:
            start, end = json_source.outside(spans, start, end)
            if start >= end:
                return False
        # Only what goes to the model comes back in its reply.
        back = restore and self.stage == "input"
        self.wanted.append(Wanted(text, start, end, template, label, back))
        return True

    def replaceable(self, text: int, cause: Cause) -> bool:
        """Whether a find in a text can be replaced. The name of a field cannot: what must not go
        up and cannot be taken out stops the request."""
        own = self.texts[text]
        if own.derived and not own.pieces:
            self.take("block", cause, reply=Reply(UNREPLACEABLE, "content_filter", "error"))
            return False
        return True

    def _redact_sources(
        self, text: int, start: int, end: int, *, template: str, label: str, restore: bool
    ) -> bool:
        """Redact what a derived text is made of."""
        derived = self.texts[text]
        if not self._places:
            self._places.update((t.address, i) for i, t in enumerate(self.texts) if not t.derived)
        asked = False
        first = bisect_right(derived.pieces, start, key=lambda piece: piece.end)
        for index in range(first, len(derived.pieces)):
            piece = derived.pieces[index]
            if piece.start >= end:
                break
            if piece.start == piece.end:
                continue
            at = max(start, piece.start) - piece.start
            until = min(end, piece.end) - piece.start
            source = self._places[piece.address]
            if piece.end - piece.start != piece.until - piece.at:
                at, until = self._in_source(piece, source, at, until)
            asked |= self.redact(
                source,
                piece.at + at,
                piece.at + until,
                template=template,
                label=label,
                restore=restore,
            )
        return asked

    def _in_source(self, piece: Piece, source: int, at: int, until: int) -> tuple[int, int]:
        """Where a stretch of what a piece means stands in the piece."""
        if (piece.at, piece.until) == (0, len(self.texts[source].content)):
            return 0, piece.until  # in a code of which no part can be replaced
        if piece not in self._units:
            written = self.texts[source].content[piece.at : piece.until]
            self._units[piece] = json_source.Units.of(written)
        return self._units[piece].source(at, until)

    def refused(self, text: int) -> bool:
        """Whether what the assistant said next after a text of the request is one of our refusals."""
        own = self.texts[text]
        if self.stage != "input" or own.turn < 0 or own.role == "assistant":
            return False
        if self._refused is None:  # once for all hits of all rules
            turns = {t.turn for t in self.texts}
            self._refused = refused_turns(self.texts, turns, self.refusals)
        return own.turn in self._refused

    def across(self, text: int, parts: Collection[int]) -> bool:
        """Whether a text is made of several turns, and some of these texts are among them."""
        if not self.texts[text].across:
            return False
        made_of = {piece.address for piece in self.texts[text].pieces}
        found = (self.texts[part] for part in parts)
        places = {p for t in found for p in (t.address, *(piece.address for piece in t.pieces))}
        return not made_of.isdisjoint(places)

    def remove(self, text: int, cause: Cause) -> None:
        """Take the whole of a text out of the request."""
        length = len(self.texts[text].content)
        if self.replaceable(text, cause) and self.redact(
            text, 0, length, template=REMOVED, label=cause.label, restore=False
        ):
            self.take("redact", cause)

    def decision(self, taken: Collection[str], seen: tuple[Seen, ...] = ()) -> Decision:
        """The verdict, when all rules have spoken."""
        return Decision(
            stage=self.stage,
            outcome=self.outcome,
            cause=self.cause,
            reply=self.reply,
            route=self.route,
            redactions=settle(self.wanted, self.texts, taken) if self.wanted else (),
            tags=tuple(self.tags),
            fired=tuple(self.fired),
            shadow=tuple(self.shadow),
            errors=tuple(self.errors),
            unscannable=self.unscannable,
            seen=seen,
        )
