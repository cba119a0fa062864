"""What the policy engine decides, as plain values.

A decision says everything the proxy must do and everything the record must name; the proxy acts on
its fields (``reply``, ``route``, ``redactions``) and never on the names of actions.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from classifiers.types import Span, Stage
from policies.seen import Seen

Outcome = Literal["forward", "redact", "route", "answer", "block", "error"]

RANK: dict[Outcome, int] = {
    "forward": 0,
    "redact": 1,
    "route": 2,
    "answer": 3,
    "error": 4,
    "block": 5,
}
"""How restrictive an outcome is; the highest of all rules wins. A certain block stands although a
classifier failed elsewhere; short of that, a failure with ``on_error: block`` stops everything."""


@dataclass(frozen=True, slots=True)
class Cause:
    """One rule that fired, and the prediction that made it fire.

    Attributes:
        policy: ``name@version``.
        rule: name of the rule.
        action: name of the action, e.g. ``block``.
        enforced: False for rules in shadow mode.
        classifier: ``name@version`` of the classifier.
        label: the label that matched.
        score: its calibrated probability.
        threshold: the score at and above which it matches. For a rule that fired by ``not`` alone
            the score is below it: that is what made the rule fire.
        text: index of the text in the list that was evaluated.
        address: where that text stands in the body.
        role: role of that text.
        span: where in the text, if the classifier points.
    """

    policy: str
    rule: str
    action: str
    enforced: bool
    classifier: str
    label: str
    score: float
    threshold: float
    text: int
    address: tuple[str | int, ...]
    role: str
    span: Span | None = None


@dataclass(frozen=True, slots=True)
class Reply:
    """What the client gets in place of the model's answer.

    Attributes:
        content: the text the operator wrote.
        finish_reason: ``content_filter`` for a block, ``stop`` for an answer.
        form: ``message`` (HTTP 200, an ordinary completion) or ``error`` (HTTP 400).
    """

    content: str
    finish_reason: Literal["content_filter", "stop"]
    form: Literal["message", "error"] = "message"


@dataclass(frozen=True, slots=True)
class Redaction:
    """Replace ``texts[text].content[start:end]`` by ``placeholder``.

    Redactions of a decision never overlap within a text and are sorted by ``(text, start)``.
    ``label`` is the label that was found there. ``restore`` asks for the original to be put back in
    the reply.
    """

    text: int
    start: int
    end: int
    placeholder: str
    label: str
    restore: bool = False


@dataclass(frozen=True, slots=True)
class RuleError:
    """A rule that could not be decided because a classifier failed.

    Attributes:
        policy: ``name@version``.
        rule: name of the rule.
        classifier: name of the classifier that gave no verdict.
        reason: why, in one line, without the user's text.
        outcome: what the policy's ``on_error`` made of it: ``block`` or ``allow``.
        enforced: False for rules in shadow mode, whose outcome is always ``allow``.
    """

    policy: str
    rule: str
    classifier: str
    reason: str
    outcome: Literal["block", "allow"]
    enforced: bool = True


@dataclass(frozen=True, slots=True)
class Unscannable:
    """Why something was stopped that no classifier could read.

    Attributes:
        policy: ``name@version`` of the policy that lets nothing through unread.
        parts: how many parts could not be read.
    """

    policy: str
    parts: int


@dataclass(frozen=True, slots=True)
class Decision:
    """The verdict of all attached policies on one stage of one request.

    Attributes:
        stage: input or output.
        outcome: what happens, the most restrictive of all rules. ``error`` means that a
            classifier failed and the policy says to stop: 503, never a content block.
        cause: the rule that won, None for a plain forward and for ``error``.
        reply: what to send instead of the model's answer, for ``block`` and ``answer``.
        route: alias of the model to use instead, for ``route``.
        redactions: what to replace before forwarding.
        tags: set by ``flag`` actions.
        fired: every enforced rule that fired, in file order.
        shadow: every shadow rule that would have fired.
        errors: every rule that could not be decided.
        unscannable: the policy that stopped it because parts of it could not be read, and their
            number; None unless that is the reason. No rule has found anything then.
        seen: the highest scores that the rules saw, by kind of text: what another threshold would
            have done can be told from them.
    """

    stage: Stage
    outcome: Outcome = "forward"
    cause: Cause | None = None
    reply: Reply | None = None
    route: str | None = None
    redactions: tuple[Redaction, ...] = ()
    tags: tuple[str, ...] = ()
    fired: tuple[Cause, ...] = ()
    shadow: tuple[Cause, ...] = ()
    errors: tuple[RuleError, ...] = field(default=())
    unscannable: Unscannable | None = None
    seen: tuple[Seen, ...] = field(default=(), compare=False, repr=False)
