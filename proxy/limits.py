"""Counting what a key uses: sliding windows of a minute, requests at once, money. In this process.

A window is sixty buckets of a second and the one that is being filled. All of it is compared with the
limit, so that no 60 seconds whatever ever hold more than the limit, and who stays below it in every 61
seconds is never refused. A whole minute's worth may come at once; then nothing is left until it ages.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, Protocol

from proxy.grants import Allowance

WINDOW = 60
"""Seconds."""

Reason = Literal["requests", "tokens", "parallel", "budget"]


@dataclass(frozen=True, slots=True)
class Level:
    """How far a window is filled.

    Attributes:
        limit: of the window.
        left: what may still come now.
        resets: seconds until all of it may come again.
    """

    limit: int
    left: int
    resets: float


@dataclass(frozen=True, slots=True)
class Verdict:
    """What counting says of one request.

    Attributes:
        refused: the limit that stands against it; None if it may go on.
        wait: seconds until it may be tried again; infinite if it is larger than the limit itself.
        requests, tokens: the windows, None where the key has no such limit.
        at: unix seconds, by the clock that counts.
    """

    refused: Reason | None = None
    wait: float = 0.0
    requests: Level | None = None
    tokens: Level | None = None
    at: float = 0.0


@dataclass(frozen=True, slots=True)
class Spent:
    """The budget of a key at one moment.

    Attributes:
        period: name of the day or month.
        ends: unix seconds.
        nano: at least so much was spent in it, in billionths of a dollar.
    """

    period: str
    ends: float
    nano: int


class Counters(Protocol):
    """What limits are counted with. ``now`` is unix seconds, ``key`` the name of a key.

    Raises:
        CountersAway: from every method: they cannot be reached.
    """

    async def admit(
        self, key: str, allowed: Allowance, lease: str, spent: Spent | None, now: float
    ) -> Verdict:
        """Count a request and take one of the places at once, or neither if it is refused."""
        ...

    async def reserve(self, key: str, allowed: Allowance, tokens: int, now: float) -> Verdict:
        """Count tokens that are about to be used, or none if they are too many."""
        ...

    async def settle(self, key: str, allowed: Allowance, bill: Bill, now: float) -> None:
        """Give the place back, correct the tokens, add the money. Once for each admitted request."""
        ...

    async def check(self) -> None:
        """Nothing where they can be reached."""
        ...

    async def close(self) -> None:
        """Let go of connections."""
        ...


@dataclass(frozen=True, slots=True)
class Bill:
    """What an admitted request took in the end.

    Attributes:
        lease: its place.
        reserved: tokens that were counted for it, and ``at`` when.
        tokens: what it really used.
        spent: the period in which the money counts, None where there is no budget; ``nano`` of it
            is what this request cost.
    """

    lease: str
    reserved: int
    at: float
    tokens: int
    spent: Spent | None


class CountersAway(Exception):
    """The place where limits are shared cannot be reached."""


class Window:
    """A sliding window: at most 61 buckets, whatever the limit is."""

    __slots__ = ("_buckets", "_sum")

    def __init__(self) -> None:
        self._buckets: dict[int, int] = {}
        self._sum = 0

    def used(self, now: float) -> int:
        """What the window holds."""
        self._forget(now)
        return self._sum

    def add(self, amount: int, now: float, at: float | None = None) -> None:
        """Count an amount, or take some back from the bucket of an earlier time ``at``."""
        self._forget(now)
        bucket = math.floor(now if at is None else at)
        if amount < 0:
            amount = -min(-amount, self._buckets.get(bucket, 0))
        if amount:
            self._buckets[bucket] = self._buckets.get(bucket, 0) + amount
            self._sum += amount

    def wait(self, room: int, now: float) -> float:
        """Seconds until the window holds at most ``room``; infinite if that is less than nothing."""
        if room < 0:
            return math.inf
        left = self.used(now)
        if left <= room:
            return 0.0
        for bucket in sorted(self._buckets):
            left -= self._buckets[bucket]
            if left <= room:
                return bucket + WINDOW + 1 - now
        raise AssertionError("an empty window holds nothing")

    def level(self, limit: int, now: float) -> Level:
        """The window against its limit."""
        return Level(limit, max(0, limit - self.used(now)), self.wait(0, now))

    def _forget(self, now: float) -> None:
        oldest = math.floor(now) - WINDOW
        for bucket in [b for b in self._buckets if b < oldest]:
            self._sum -= self._buckets.pop(bucket)


@dataclass(slots=True)
class _Use:
    """What one key uses."""

    requests: Window
    tokens: Window
    parallel: int = 0

    def levels(self, allowed: Allowance, now: float) -> tuple[Level | None, Level | None]:
        return (
            None if allowed.requests is None else self.requests.level(allowed.requests, now),
            None if allowed.tokens is None else self.tokens.level(allowed.tokens, now),
        )

    def refusal(
        self, allowed: Allowance, spent: Spent | None, now: float
    ) -> tuple[Reason, float] | None:
        """The first limit that stands against one more request, and how long."""
        if spent is not None and allowed.budget is not None and spent.nano >= allowed.budget.nano:
            return "budget", spent.ends - now
        if allowed.requests is not None and (wait := self.requests.wait(allowed.requests - 1, now)):
            return "requests", wait
        if allowed.tokens is not None and (wait := self.tokens.wait(allowed.tokens - 1, now)):
            return "tokens", wait
        if allowed.parallel is not None and self.parallel >= allowed.parallel:
            return "parallel", 1.0
        return None


class LocalCounters:
    """Counts in this process. Money is remembered elsewhere: what it is told of is the truth."""

    def __init__(self) -> None:
        self._uses: dict[str, _Use] = {}

    async def admit(
        self, key: str, allowed: Allowance, lease: str, spent: Spent | None, now: float
    ) -> Verdict:
        """See :class:`Counters`; never away."""
        use = self._uses.setdefault(key, _Use(Window(), Window()))
        refusal = use.refusal(allowed, spent, now)
        if refusal is None:
            use.parallel += 1
            if allowed.requests is not None:
                use.requests.add(1, now)
        reason, wait = refusal or (None, 0.0)
        return Verdict(reason, wait, *use.levels(allowed, now), now)

    async def reserve(self, key: str, allowed: Allowance, tokens: int, now: float) -> Verdict:
        """See :class:`Counters`; never away."""
        use = self._uses.setdefault(key, _Use(Window(), Window()))
        if allowed.tokens is None:
            return Verdict(None, 0.0, *use.levels(allowed, now), now)
        wait = use.tokens.wait(allowed.tokens - tokens, now)
        if not wait:
            use.tokens.add(tokens, now)
        return Verdict("tokens" if wait else None, wait, *use.levels(allowed, now), now)

    async def settle(self, key: str, allowed: Allowance, bill: Bill, now: float) -> None:
        """See :class:`Counters`; never away."""
        use = self._uses.get(key)
        if use is None:
            return
        use.parallel = max(0, use.parallel - 1)
        if allowed.tokens is not None:
            more = bill.tokens - bill.reserved
            use.tokens.add(more, now, bill.at if more < 0 else None)

    async def check(self) -> None:
        """See :class:`Counters`; never away."""

    async def close(self) -> None:
        """Nothing to let go of."""


class OneOfSeveral(LocalCounters):
    """The counters of one of several workers: what they would have to count together is refused, as if
    the place where they could was away. Money is added up by the database."""

    async def admit(
        self, key: str, allowed: Allowance, lease: str, spent: Spent | None, now: float
    ) -> Verdict:
        """See :class:`Counters`. Raises CountersAway for a key with limits."""
        if allowed.counted:
            raise CountersAway
        return await super().admit(key, allowed, lease, spent, now)
