"""A decision while the rules are still speaking: actions apply themselves to it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from classifiers.types import Stage, Text
from policies.bound import Hit
from policies.decision import RANK, Cause, Decision, Outcome, Reply, RuleError
from policies.redaction import Wanted, settle


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
    outcome: Outcome = "forward"
    cause: Cause | None = None
    reply: Reply | None = None
    route: str | None = None
    tags: dict[str, None] = field(default_factory=dict)
    wanted: list[Wanted] = field(default_factory=list)
    fired: list[Cause] = field(default_factory=list)
    shadow: list[Cause] = field(default_factory=list)
    errors: list[RuleError] = field(default_factory=list)

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
        # Only what goes to the model comes back in its reply.
        back = restore and self.stage == "input"
        self.wanted.append(Wanted(text, start, end, template, label, back))
        return True

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
