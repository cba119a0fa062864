"""How a stream is guarded: what is held back, how much of it, and how long."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from policies.attached import OnStreams
from policies.policy import StreamCheck
from proxy.config import StreamingConfig
from proxy.endpoints.base import Endpoint
from proxy.holdback import HoldBack

_HEAD_SECONDS = 10.0
"""How long the head of a guarded stream waits for the first text; longer, and clients take the
gateway for dead."""


@dataclass(frozen=True, slots=True)
class Pace:
    """When a stream is checked.

    Attributes:
        hold_chars: a check is due when so much new text waits in a channel.
        overlap_chars: text that has left already and is checked again with what follows it.
        tail_chars: checked text that stays behind, see :class:`proxy.holdback.HoldBack`.
        whole_chars: texts up to this length are checked in full each time.
        patience: checks without news after which a channel's tail is let go.
        hold_seconds: the longest wait for ``hold_chars``.
        head_seconds: how long events without text that come before any text wait for it, so that
            there may still be an HTTP status for what the first check says.
        first_chars: in place of ``hold_chars`` at the beginning of a channel; each check doubles it.
        first_seconds: in place of ``hold_seconds`` before the first check; each doubles it.
        first_tail: in place of ``tail_chars`` at the beginning; it grows to half of the text.
        mode: ``hold`` lets text leave when it is checked, ``after`` checks it while it goes and
            cuts the stream when a check says so, ``off`` checks nothing.
        strict: nothing leaves that the check could not see: events of an odd shape are a protocol
            error, all others are written anew from what was parsed.
    """

    hold_chars: int
    overlap_chars: int
    tail_chars: int = 64
    whole_chars: int = 800
    patience: int = 2
    hold_seconds: float = 1.0
    head_seconds: float = 0.0
    first_chars: int | None = None
    first_seconds: float | None = None
    first_tail: int | None = None
    mode: StreamCheck = "hold"
    strict: bool = False

    @classmethod
    def of(cls, options: StreamingConfig, rules: OnStreams) -> Pace:
        """That of a stream that these rules look at."""
        mode = rules.mode or "off"
        return cls(
            options.hold_chars,
            options.overlap_chars,
            options.tail_chars,
            hold_seconds=options.hold_seconds,
            head_seconds=_HEAD_SECONDS if mode == "hold" else 0.0,
            first_chars=options.first_chars,
            first_seconds=options.first_seconds,
            # What is to be replaced must be here from its first character on.
            first_tail=None if rules.redacts else options.first_chars // 2,
            mode=mode,
            strict=mode != "off",
        )

    def holdback(self, endpoint: Endpoint, restorations: Mapping[str, str] | None) -> HoldBack:
        """What holds the events of a stream; outside of ``hold`` only what may be restored waits."""
        held = self.mode == "hold"
        return HoldBack(
            endpoint,
            hold_chars=self.hold_chars if held else 1,
            overlap_chars=self.overlap_chars if held else 0,
            tail_chars=self.tail_chars if held else 0,
            whole_chars=self.whole_chars,
            first_chars=self.first_chars,
            first_tail=self.first_tail,
            restorations=restorations,
            patience=self.patience,
            strict=self.strict,
        )

    def watch(self, endpoint: Endpoint) -> HoldBack:
        """What makes the windows for checks beside a stream that is not held."""
        return HoldBack(
            endpoint,
            hold_chars=self.hold_chars,
            overlap_chars=self.overlap_chars,
            tail_chars=0,
            whole_chars=self.whole_chars,
            first_chars=self.first_chars,
        )

    def seconds(self, checks: int) -> float:
        """How long text waits for a check after so many checks."""
        if self.first_seconds is None:
            return self.hold_seconds
        return min(self.hold_seconds, self.first_seconds * 2.0 ** min(checks, 60))
