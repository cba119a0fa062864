"""A circuit breaker: a server that fails again and again is left alone for a while.

Closed, it lets everything through; after so many failures in a row it opens and lets nothing
through; after the cooldown one request is let through to try, and what becomes of it decides.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

Clock = Callable[[], float]


@dataclass(slots=True)
class Permit:
    """Leave to send one request. Exactly one of the methods is to be called; later ones do nothing."""

    _breaker: Breaker
    _generation: int
    probe: bool
    _used: bool = False

    def succeeded(self) -> None:
        """The server answered, be it with an error that is the request's own fault."""
        if self._use():
            self._breaker._succeeded()

    def failed(self) -> None:
        """The server could not be reached, did not answer in time, or failed."""
        if self._use():
            self._breaker._failed(probe=self.probe)

    def released(self) -> None:
        """Nothing was learnt: the client went away first."""
        if self._use() and self.probe:
            self._breaker._probing = False

    def _use(self) -> bool:
        # What was sent before the breaker opened or closed says nothing about how things are now.
        used, self._used = self._used, True
        return not used and self._generation == self._breaker._generation


class Breaker:
    """The state of one server. For the event loop's thread only.

    Args:
        failures: in a row, after which it opens.
        cooldown: seconds until it lets one request through to try.
        clock: seconds.
    """

    def __init__(
        self, failures: int = 5, cooldown: float = 30.0, clock: Clock = time.monotonic
    ) -> None:
        self._most = failures
        self._cooldown = cooldown
        self._clock = clock
        self._count = 0
        self._opened: float | None = None
        self._probing = False
        self._generation = 0
        self.changed: Callable[[bool], None] = lambda is_open: None
        """Called with whether it is open, when that changes."""

    @property
    def is_open(self) -> bool:
        """Whether requests are kept back, all or all but one."""
        return self._opened is not None

    @property
    def ready(self) -> bool:
        """Whether :meth:`admit` would let a request through."""
        if self._opened is None:
            return True
        return not self._probing and self._clock() - self._opened >= self._cooldown

    @property
    def retry_after(self) -> int:
        """Whole seconds until it is worth asking again, at least 1."""
        if self._opened is None:
            return 1
        return max(1, math.ceil(self._opened + self._cooldown - self._clock()))

    def admit(self) -> Permit | None:
        """Leave for one request, None while it is open."""
        if not self.ready:
            return None
        self._probing = self.is_open
        return Permit(self, self._generation, self.is_open)

    def _succeeded(self) -> None:
        self._count = 0
        if self._opened is not None:
            self._opened, self._probing = None, False
            self._generation += 1
            self.changed(False)

    def _failed(self, *, probe: bool) -> None:
        self._count += 1
        if not probe and self._count < self._most:
            return
        was_open, self._opened, self._probing = self.is_open, self._clock(), False
        self._generation += 1
        if not was_open:
            self.changed(True)
