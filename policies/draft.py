"""A decision while the rules are still speaking: actions apply themselves to it."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from classifiers.types import Piece, Stage, Text
from policies import json_source
from policies.bound import Hit
from policies.decision import RANK, Cause, Decision, Outcome, Reply, RuleError
from policies.redaction import Wanted, settle

REMOVED = "[removed by policy]"
"""What stands in the place of a message that was refused in an earlier turn."""

UNREPLACEABLE = (
    "The name of a field holds what may not be sent and cannot be replaced there; rename the field."
)
"""Why a request is refused (HTTP 400) by a rule that would redact."""


@dataclass(frozen=True, slots=True)
class Fired:
    """A rule that fired: the prediction that is named for it, and every leaf that matched, with the
    index of the text it matched in."""

    cause: Cause
    hits: tuple[tuple[int, Hit], ...]


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
    _units: dict[Piece, json_source.Units] = field(default_factory=dict)
    _escapes: dict[int, list[tuple[int, int]]] = field(default_factory=dict)
    _places: dict[tuple[str | int, ...], int] = field(default_factory=dict)

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
        after = [t for t in self.texts if t.role == "assistant" and t.turn > own.turn]
        if not after:
            return False
        answer = min(t.turn for t in after)
        said = [t.content for t in after if t.turn == answer]
        return len(said) == 1 and said[0] in self.refusals

    def remove(self, text: int, cause: Cause) -> None:
        """Take the whole of a text out of the request."""
        length = len(self.texts[text].content)
        if self.replaceable(text, cause) and self.redact(
            text, 0, length, template=REMOVED, label=cause.label, restore=False
        ):
            self.take("redact", cause)

    def decision(self, taken: Collection[str]) -> Decision:
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
        )
