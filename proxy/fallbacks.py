"""Which server gets a request, and which one next when it fails.

Only what has not reached the client is ever tried again: a reply that came whole with an error, or
no first byte of one. A server that was too late may have done (and billed) the work all the same.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Literal

from proxy.breaker import Permit
from proxy.config_routing import Reason, Routing
from proxy.errors import UPSTREAM_FAULTS, UpstreamError
from proxy.upstream_base import UpstreamReply

if TYPE_CHECKING:
    from proxy.upstream import Target

LONGEST_WAIT = 10.0
"""Seconds for which a request waits to try the same server again; a ``retry-after`` that asks for
more ends the tries, and the client is told of it."""
_FIRST_WAIT = 0.25
_TOO_LONG = ("context_length_exceeded", "string_above_max_length")
_REFUSED = ("content_filter", "content_policy_violation")
_TOO_LONG_WORDS = ("maximum context length", "context window")

Verdict = Literal["done", "again"] | Reason


@dataclass(slots=True)
class Attempt:
    """One try.

    Attributes:
        alias: of ``model_list``.
        model: the upstream's name.
        outcome: HTTP status of the reply, or the code of the fault; ``client_left`` until then.
        seconds: until the reply, or the first event of a stream.
    """

    alias: str
    model: str
    outcome: str = "client_left"
    seconds: float = 0.0


@dataclass(slots=True)
class Trail:
    """The tries of one request, filled as they are made; ``target`` is the last one's."""

    attempts: list[Attempt] = field(default_factory=list)
    target: Target | None = None


class OutOfTime(UpstreamError):
    """The time of all tries together is over: no word on the server that got what was left of it."""


class Group:
    """The servers behind one alias, chosen in turn by weight (nginx's smooth round robin)."""

    def __init__(self, targets: Sequence[Target]) -> None:
        self.targets = tuple(targets)
        self._credit = dict.fromkeys(range(len(self.targets)), 0.0)

    def pick(self, among: Sequence[Target]) -> tuple[Target, Permit] | None:
        """One of these whose breaker lets a request through; None where none does."""
        able = [i for i, t in enumerate(self.targets) if t in among and t.breaker.ready]
        if not able:
            return None
        first = min(self.targets[i].order for i in able)
        able = [i for i in able if self.targets[i].order == first]
        for i in able:
            self._credit[i] += self.targets[i].weight
        chosen = max(able, key=lambda i: self._credit[i])
        self._credit[chosen] -= sum(self.targets[i].weight for i in able)
        target = self.targets[chosen]
        permit = target.breaker.admit()
        return None if permit is None else (target, permit)


@dataclass(slots=True)
class Try:
    """A request that is to be sent to a server; :meth:`Plan.goes_on` is told what came of it."""

    target: Target
    permit: Permit
    attempt: Attempt
    number: int
    started: float = field(default_factory=time.perf_counter)

    def answered(self, result: UpstreamReply | UpstreamError | int) -> None:
        """Note what came: a reply, a fault, or the status of a stream with its first event."""
        self.attempt.seconds = time.perf_counter() - self.started
        if isinstance(result, UpstreamError):
            self.attempt.outcome = UPSTREAM_FAULTS[result.kind][1]
        else:
            status = result if isinstance(result, int) else result.status
            self.attempt.outcome = str(status)

    def settle(self, result: UpstreamReply | UpstreamError | None) -> None:
        """Tell the breaker; None means that all went well."""
        if isinstance(result, OutOfTime):
            self.permit.released()
            return
        if isinstance(result, UpstreamError):
            failed = result.kind in ("connect", "timeout", "protocol")
        else:
            failed = result is not None and result.status >= 500
        if failed:
            self.permit.failed()
        else:
            self.permit.succeeded()


class Plan:
    """The tries of one request, one after the other.

    Args:
        groups: by alias.
        alias: whose request it is.
        routing: what the operator wrote.
        trail: filled.
    """

    def __init__(
        self, groups: Mapping[str, Group], alias: str, routing: Routing, trail: Trail
    ) -> None:
        self._groups = groups
        self._asked = alias
        self._routing = routing
        self._trail = trail
        self._alias = alias
        self._left: list[str] = list(routing.after(alias, "fallbacks"))
        self._loop = asyncio.get_running_loop()
        self._ready_at: dict[int, float] = {}
        """By the identity of a target that was tried: when it may be tried again."""
        self._reasons: set[Reason] = set()
        self._tries = 0
        self._over = False

    async def next(self) -> Try | None:
        """The next try, after waiting where the same server is tried again; None when there is none."""
        while not self._over:
            group = self._groups[self._alias]
            fresh = [t for t in group.targets if id(t) not in self._ready_at]
            picked = group.pick(fresh)
            if picked is None and len(fresh) < len(group.targets):
                soon = [
                    t for t in group.targets if self._wait(t) <= LONGEST_WAIT and t not in fresh
                ]
                if soon:
                    await asyncio.sleep(max(0.0, min(map(self._wait, soon))))
                    picked = group.pick([t for t in soon if self._wait(t) <= 0] or soon)
            if picked is not None:
                target, permit = picked
                self._tries += 1
                attempt = Attempt(target.alias, target.model)
                self._trail.attempts.append(attempt)
                self._trail.target = target
                return Try(target, permit, attempt, len(self._trail.attempts))
            self._move_on()
        return None

    def goes_on(self, tried: Try, result: UpstreamReply | UpstreamError) -> bool:
        """Take in what came of a try; False where it is what the client is to get."""
        tried.answered(result)
        verdict = _verdict(result)
        if verdict == "done" or verdict in self._reasons:
            self._over = True
        elif verdict == "again":
            wait = _asked_for(result)
            if wait is None:
                wait = _FIRST_WAIT * 2 ** (self._tries - 1) * random.uniform(0.75, 1.0)  # noqa: S311
            self._ready_at[id(tried.target)] = self._loop.time() + max(wait, self._routing.wait)
            if self._tries > tried.target.retries:
                self._move_on()
        else:
            self._reasons.add(verdict)
            self._left = [a for a in self._routing.after(self._asked, verdict) if a != self._alias]
            self._move_on()
        return not self._over

    def kept_back(self) -> UpstreamError:
        """What the client is told where every breaker is open."""
        targets = self._groups[self._asked].targets
        return UpstreamError(
            "unavailable",
            "The model's server has failed repeatedly and is left alone for a while; retry later.",
            retry_after=min(target.breaker.retry_after for target in targets),
        )

    def _wait(self, target: Target) -> float:
        return self._ready_at.get(id(target), 0.0) - self._loop.time()

    def _move_on(self) -> None:
        """To the next alias, if there is one."""
        self._tries = 0
        if self._left:
            self._alias = self._left.pop(0)
        else:
            self._over = True


def _verdict(result: UpstreamReply | UpstreamError) -> Verdict:
    if isinstance(result, UpstreamError):
        late = result.kind in ("timeout", "protocol") and not result.begun
        return "again" if late or result.kind == "connect" else "done"
    if result.status == 429 or result.status >= 500:
        return "again"
    reason = _reason(result) if result.status >= 400 else None
    return "done" if reason is None else reason


def _reason(reply: UpstreamReply) -> Reason | None:
    """Why a request was refused, where another model may take it."""
    error = (reply.json or {}).get("error")
    if not isinstance(error, dict):
        return None
    names, message = (error.get("code"), error.get("type")), str(error.get("message")).lower()
    if any(name in _TOO_LONG for name in names) or any(w in message for w in _TOO_LONG_WORDS):
        return "context_window_fallbacks"
    return "content_policy_fallbacks" if any(name in _REFUSED for name in names) else None


def _asked_for(result: UpstreamReply | UpstreamError) -> float | None:
    """Seconds that the server wants to be left alone, if it says so."""
    if isinstance(result, UpstreamError):
        return None
    for name, unit in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        given = result.headers.get(name, "").strip()
        try:
            seconds = float(given) * unit
        except ValueError:
            continue
        if 0 <= seconds < float("inf"):
            return seconds
    try:
        when = parsedate_to_datetime(result.headers.get("retry-after", ""))
        return max(0.0, when.timestamp() - time.time())
    except (ValueError, OverflowError):
        return None
