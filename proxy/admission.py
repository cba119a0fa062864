"""Whether the limits of a key let a request in: before its body is read, and before it is forwarded."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from typing import Literal, TypeVar

from proxy.asgi import log_unexpected
from proxy.errors import BudgetSpent, RateLimited, Unavailable
from proxy.grants import NANO, Allowance, Caller
from proxy.limits import Bill, Counters, CountersAway, Reason, Spent, Verdict, Window
from proxy.metrics import Metrics
from proxy.spending import Spending
from proxy.ticket import Ticket

log = logging.getLogger("doorman.limits")

T = TypeVar("T")
RECORDS = 60
"""Refused requests of one key that are recorded per minute; all of them are counted in the metrics."""

RETRY_AFTER = 1
"""Seconds after which a client may ask again while the counters are away."""

_WHAT: Mapping[Reason, str] = {
    "requests": "requests per minute",
    "tokens": "tokens per minute",
    "parallel": "requests at once",
}
_LIMITS: Mapping[Reason, Callable[[Allowance], int | None]] = {
    "requests": lambda allowed: allowed.requests,
    "tokens": lambda allowed: allowed.tokens,
    "parallel": lambda allowed: allowed.parallel,
}


class Admission:
    """Counts requests against the limits of their keys.

    Args:
        counters: what they are counted with.
        spending: what each key has spent.
        on_error: what happens while the counters are away.
        clock: unix seconds.
    """

    def __init__(
        self,
        counters: Counters,
        spending: Spending,
        metrics: Metrics,
        on_error: Literal["block", "allow"] = "block",
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._counters = counters
        self._spending = spending
        self._metrics = metrics
        self._on_error = on_error
        self._clock = clock
        self._away = False
        self._settling: set[asyncio.Future[None]] = set()
        self._refused: dict[str, Window] = {}

    async def admit(self, ticket: Ticket) -> None:
        """Let a request in, before anything of it is read. Nothing is counted without limits.

        Raises:
            RateLimited: too many requests or tokens a minute, or requests at once.
            BudgetSpent: nothing is left of the budget.
            Unavailable: the counters are away, and that blocks.
        """
        caller, allowed = ticket.caller, ticket.caller.grant.allowance
        if allowed.unbounded:
            return
        now, ticket.lease = self._clock(), secrets.token_hex(8)
        budget = allowed.budget
        spent = None if budget is None else self._spending.spent(caller.name, budget, now)
        counting = self._counters.admit(caller.name, allowed, ticket.lease, spent, now)
        verdict = await self._asked(counting)
        if verdict is not None:
            ticket.headers.update(told(verdict))
            self._refuse(caller, verdict, now)
            ticket.counted = True
        else:
            self._metrics.add("doorman_fail_open_total", guard="limits")

    async def reserve(self, ticket: Ticket, tokens: int) -> None:
        """Count the prompt of a request that is about to be looked at and forwarded.

        Raises:
            RateLimited: the tokens are more than what is left of this minute.
            Unavailable: see :meth:`admit`.
        """
        allowed = ticket.caller.grant.allowance
        if not ticket.counted or allowed.tokens is None:
            return
        now = self._clock()
        verdict = await self._asked(
            self._counters.reserve(ticket.caller.name, allowed, tokens, now)
        )
        if verdict is None:
            return
        ticket.headers.update(told(verdict))
        self._refuse(ticket.caller, verdict, now, tokens)
        ticket.reserved, ticket.at = tokens, verdict.at

    async def settle(self, ticket: Ticket) -> None:
        """Give back the place of a request that ends, count what it really used. Once, never raises."""
        if not ticket.settled:
            ticket.settled = True
            tokens, nano = _used(ticket)
            if ticket.counted:
                # A task of its own: a client that leaves must not stop it half-way.
                ticket.settling = asyncio.ensure_future(self._give_back(ticket, tokens, nano))
                self._settling.add(ticket.settling)
                ticket.settling.add_done_callback(self._settling.discard)
            else:
                self._spend(ticket.caller, nano)
        if ticket.settling is not None:
            await asyncio.shield(ticket.settling)

    async def _give_back(self, ticket: Ticket, tokens: int, nano: int) -> None:
        now, caller, allowed = self._clock(), ticket.caller, ticket.caller.grant.allowance
        spent = None
        if allowed.budget is not None:
            period = allowed.budget.period(now)
            spent = Spent(period.name, period.ends, nano)
        bill = Bill(ticket.lease, ticket.reserved, ticket.at, tokens, spent)
        # Where the counters are away, its place ages, and its money is remembered here.
        with contextlib.suppress(Unavailable):
            await self._asked(self._counters.settle(caller.name, allowed, bill, now))
        # After the counters have it: they take the larger of their own sum and this.
        self._spend(caller, nano)

    def _spend(self, caller: Caller, nano: int) -> None:
        if caller.name:
            self._spending.add(caller.name, nano, self._clock())

    def tells(self, caller: Caller) -> bool:
        """Whether one more refused request is recorded: a flood must not fill the ledger."""
        window, now = self._refused.setdefault(caller.name, Window()), self._clock()
        if window.used(now) >= RECORDS:
            return False
        window.add(1, now)
        return True

    async def look(self) -> None:
        """Say in the log, once, that the counters are away: at the start, before a key with limits comes."""
        try:
            await self._counters.check()
        except CountersAway:
            self._away = True
            log.warning(
                "Redis, which counts the limits of keys, does not answer (redis.url); until it does, keys "
                "with limits %s (limits.on_error is %s)",
                "get 503" if self._on_error == "block" else "are let in without them",
                self._on_error,
            )

    async def close(self) -> None:
        """Finish what is being counted, and let go of the counters."""
        await asyncio.gather(*self._settling, return_exceptions=True)
        await self._counters.close()

    async def _asked(self, answer: Awaitable[T]) -> T | None:
        """What the counters say; None while they are away and that lets requests in."""
        try:
            found = await answer
        except CountersAway:
            self._metrics.add("doorman_limits_errors_total")
            if not self._away:
                log.error(
                    "limits cannot be counted: Redis is away, or not configured for several workers; "
                    "limits.on_error is %s",
                    self._on_error,
                )
            self._away = True
            if self._on_error == "allow":
                return None
            raise Unavailable(
                "The limits of this key cannot be checked now; retry.",
                "limits_unavailable",
                RETRY_AFTER,
            ) from None
        if self._away:
            log.info("Redis answers again")
        self._away = False
        return found

    def _refuse(self, caller: Caller, verdict: Verdict, now: float, tokens: int = 0) -> None:
        """Raise if the verdict says so."""
        reason, wait = verdict.refused, verdict.wait
        if reason is None:
            return
        self._metrics.add("doorman_limited_total", key=caller.name, reason=reason)
        allowed = caller.grant.allowance
        retry = None if math.isinf(wait) else max(1, math.ceil(wait))
        if reason == "budget":
            when = f"{datetime.fromtimestamp(now + wait, UTC):%Y-%m-%d %H:%M} UTC"
            raise BudgetSpent(
                f"The budget of this key, {allowed.budget} in US dollars, is spent; it is renewed at "
                f"{when}.",
                retry,
            )
        limit = _LIMITS[reason](allowed)
        if retry is None:
            raise RateLimited(
                f"This request is too large for this key: it has about {tokens} tokens, the limit "
                f"is {limit} {_WHAT[reason]}. Send less.",
                None,
            )
        raise RateLimited(
            f"The limit of this key is reached: {limit} {_WHAT[reason]}. Retry in {retry} s.", retry
        )


def _used(ticket: Ticket) -> tuple[int, int]:
    """Tokens, and billionths of a dollar."""
    if ticket.meter is None:
        return ticket.reserved, 0
    try:
        tokens, dollars = ticket.meter()
    except Exception as error:
        log_unexpected(error, ticket.lease)
        return ticket.reserved, 0
    return tokens, max(0, round(dollars * NANO))


def told(verdict: Verdict) -> dict[str, str]:
    """The headers about the windows, in OpenAI's words."""
    headers = {}
    for name, level in (("requests", verdict.requests), ("tokens", verdict.tokens)):
        if level is not None:
            headers[f"x-ratelimit-limit-{name}"] = str(level.limit)
            headers[f"x-ratelimit-remaining-{name}"] = str(level.left)
            headers[f"x-ratelimit-reset-{name}"] = duration(level.resets)
    return headers


def duration(seconds: float) -> str:
    """Seconds as OpenAI writes them: ``20ms``, ``8.64s``, ``6m0s``, ``1h0m0s``."""
    if seconds < 1:
        return f"{math.ceil(seconds * 1000)}ms" if seconds > 0 else "0s"
    if seconds < 60:
        return f"{math.ceil(seconds * 100) / 100:g}s"
    minutes, rest = divmod(math.ceil(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes}m{rest}s" if hours else f"{minutes}m{rest}s"
