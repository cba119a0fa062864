"""What became of a stream, and its checks as one decision."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from policies.decision import RANK, Cause, Decision
from policies.seen import together
from proxy.endpoints.base import Usage

Ended = Literal["done", "blocked", "upstream_error", "check_failed", "client_gone"]


@dataclass(slots=True)
class StreamReport:
    """What became of a stream; filled by :func:`proxy.streaming.guarded`, complete when it has ended.

    Attributes:
        ended: None while it runs. ``done`` is the only good end. ``client_gone`` means that the
            iterator was closed or cancelled before its end.
        decision: all checks together: the outcome and cause of the most restrictive one, every rule
            that fired and every tag once, and what was redacted (``Redaction.text`` is the
            number of the channel in order of appearance). None if nothing was checked.
        usage: tokens, if the upstream sent them.
        text_chars: text that came from upstream.
        exposed_chars: text that left.
        checks: calls of ``check``.
        error: the reason, for ``upstream_error`` and ``check_failed``.
    """

    ended: Ended | None = None
    decision: Decision | None = None
    usage: Usage | None = None
    text_chars: int = 0
    exposed_chars: int = 0
    checks: int = 0
    error: Exception | None = field(default=None, repr=False)


def merged(earlier: Decision | None, later: Decision) -> Decision:
    """Two checks of one stream as one decision."""
    if earlier is None:
        return later
    lead = later if RANK[later.outcome] > RANK[earlier.outcome] else earlier
    return replace(
        lead,
        tags=tuple(dict.fromkeys((*earlier.tags, *later.tags))),
        fired=_once(earlier.fired, later.fired),
        shadow=_once(earlier.shadow, later.shadow),
        errors=tuple(dict.fromkeys((*earlier.errors, *later.errors))),
        seen=together(earlier.seen, later.seen),
    )


def _once(earlier: Sequence[Cause], later: Sequence[Cause]) -> tuple[Cause, ...]:
    """Every rule and label once: overlapping windows fire the same rule again."""
    causes: dict[tuple[str, str, str], Cause] = {}
    for cause in (*earlier, *later):
        causes.setdefault((cause.policy, cause.rule, cause.label), cause)
    return tuple(causes.values())
