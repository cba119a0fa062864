"""``guarded``: a stream is checked before its bytes leave.

Events are held back (``proxy.holdback``) until the policies have seen their text; then they leave as
the bytes they came in, rewritten where something is redacted or put back, or the stream is cut.
Pure but for waiting: it reads an iterator and calls ``check``, so it is tested without a server.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from classifiers.types import Text
from policies.decision import RANK, Cause, Decision, Reply
from proxy import errors
from proxy.endpoints.base import Body, Endpoint, ReplyContext, Usage
from proxy.errors import Unavailable, UpstreamError
from proxy.holdback import HoldBack
from proxy.sse import Event

Check = Callable[[Sequence[Text]], Awaitable[Decision]]
Ended = Literal["done", "blocked", "upstream_error", "check_failed", "client_gone"]


@dataclass(slots=True)
class StreamReport:
    """What became of a stream; filled by :func:`guarded`, complete when it has ended.

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


async def guarded(
    events: AsyncIterator[Event],
    endpoint: Endpoint,
    check: Check,
    context: ReplyContext,
    *,
    hold_chars: int,
    overlap_chars: int,
    hold_seconds: float = 1.0,
    head_seconds: float = 0.0,
    tail_chars: int = 64,
    whole_chars: int = 800,
    patience: int = 2,
    restorations: Mapping[str, str] | None = None,
    report: StreamReport | None = None,
    request_id: str = "",
    strict: bool = False,
) -> AsyncGenerator[bytes, None]:
    """Pass on a stream, checked.

    A check happens when ``hold_chars`` of new text wait in a channel, ``hold_seconds`` after the
    oldest of it came, when a choice finishes and at the end. It sees each channel's new text with
    at least ``overlap_chars`` before it, or all of it while it is no longer than ``whole_chars``.

    Args:
        events: from upstream; closed as soon as the stream has ended, however it ends.
        endpoint: knows the shape of the events.
        check: the verdict on some texts (stage ``output``), in the form the upstream wrote them:
            placeholders are not put back yet. What it raises ends the stream.
        context: what events made here need.
        head_seconds: how long events without text that come before any text wait for it, so that
            there may still be an HTTP status for what the first check says.
        tail_chars: see :class:`proxy.holdback.HoldBack`, as for ``patience``.
        restorations: placeholder -> original.
        report: filled as the stream goes.
        request_id: named in errors.
        strict: nothing leaves that the check could not see: events of an odd shape are a protocol
            error, all others are written anew from what was parsed.

    Yields:
        Encoded events. Untouched ones are byte for byte what came in, unless ``strict``. Nothing,
        where the answer is blocked with an error (``Reply.form``) before anything has left.

    Raises:
        Exception: what went wrong before anything has left, so that the caller can still answer
            with an HTTP status: :class:`UpstreamError`, :class:`Unavailable` or what ``check``
            raised. Later on the error is the last event of the stream.
    """
    hold = HoldBack(
        endpoint,
        hold_chars=hold_chars,
        overlap_chars=overlap_chars,
        tail_chars=tail_chars,
        whole_chars=whole_chars,
        restorations=restorations,
        patience=patience,
        strict=strict,
    )
    guard = _Guard(endpoint, check, context, hold, report or StreamReport(), request_id)
    reader = _Reader(events)
    loop = asyncio.get_running_loop()
    waiting_since: float | None = None
    head: list[bytes] = []
    head_until: float | None = None
    begun = False
    try:
        while guard.report.ended is None:
            deadline = None if waiting_since is None else waiting_since + hold_seconds
            if head and head_until is not None:
                deadline = head_until if deadline is None else min(deadline, head_until)
            due = None if deadline is None else deadline - loop.time()
            pieces = head + await guard.take(await reader.next(due))
            head = []
            if guard.report.ended is not None:
                await reader.close()
                if not begun and not hold.heard:
                    if guard.report.error is not None:
                        raise guard.report.error
                    if guard.refused:
                        return
                pieces += guard.last_words(going_on=begun or bool(pieces))
            elif pieces and not begun and not hold.heard:
                head_until = head_until or loop.time() + head_seconds
                if loop.time() < head_until:
                    head, pieces = pieces, []
            if not hold.unchecked:
                waiting_since = None
            elif waiting_since is None:
                waiting_since = loop.time()
            if pieces:
                begun = True
                yield b"".join(pieces)  # one send for what leaves together
    except Exception as error:
        if guard.report.ended is None:
            guard.report.ended, guard.report.error = "upstream_error", error
        raise
    finally:
        if guard.report.ended is None:
            guard.report.ended = "client_gone"
        await reader.close()


class _Guard:
    """What to do with what comes in; ``report.ended`` says when it is over."""

    def __init__(
        self,
        endpoint: Endpoint,
        check: Check,
        context: ReplyContext,
        hold: HoldBack,
        report: StreamReport,
        request_id: str,
    ) -> None:
        self._endpoint = endpoint
        self._check = check
        self._context = context
        self._hold = hold
        self._request_id = request_id or context.id
        self._reply: Reply | None = None
        self._first: Body | None = None
        self.report = report

    async def take(self, item: Event | Exception | _Signal) -> list[bytes]:
        """Handle an event, its failure to come, a tick or the end; returns what may leave."""
        report, hold = self.report, self._hold
        if isinstance(item, Event):
            pieces = await self._take_event(item)
        elif isinstance(item, Exception):
            pieces = await self._fail(item)
        elif item is TICK:
            pieces = await self._settle()
        elif hold.choices and hold.choices <= hold.finished:
            pieces = await self._finish()  # servers exist that send no [DONE]
        else:
            pieces = await self._fail(
                UpstreamError(
                    "protocol", "The model's server broke off in the middle of its answer."
                )
            )
        report.text_chars, report.exposed_chars = hold.text_chars, hold.exposed_chars
        return pieces

    @property
    def refused(self) -> bool:
        """The answer is blocked, and the policy asks for an error in its place."""
        return self._reply is not None and self._reply.form == "error"

    def last_words(self, *, going_on: bool) -> list[bytes]:
        """What the client is told at the end, if it was not a good one.

        Args:
            going_on: the client has, or is about to get, some events of the upstream.
        """
        if self._reply is not None:
            hold = self._hold
            everyone = set(range(self._context.choices)) | {
                choice for choice in hold.choices if isinstance(choice, int)
            }
            left = sorted(everyone - hold.closed)
            silent = [choice for choice in left if choice not in hold.shown]
            context = self._context
            if going_on and self._first is not None:
                context = self._endpoint.continued(context, self._first)
            return self._endpoint.cut_events(
                self._reply,
                context,
                left,
                silent=silent,
                opened=hold.opened,
                usage=self.report.usage,
            )
        if self.report.error is not None:
            error = errors.answer(self.report.error, self._request_id).body["error"]
            return self._endpoint.error_events(
                error["message"], code=error["code"] or "error", type=error["type"]
            )
        return []

    async def _take_event(self, event: Event) -> list[bytes]:
        if event.malformed:
            return await self._fail(
                UpstreamError(
                    "protocol", "The model's server sent an event that is no JSON object."
                )
            )
        if event.json is not None:
            if self._endpoint.failed(event.json):
                # Its words are not passed on: they may quote keys, addresses or the answer.
                return await self._fail(
                    UpstreamError(
                        "protocol",
                        "The model's server reported an error in the middle of its answer.",
                    )
                )
            if self._hold.strict and not self._endpoint.sound(event.json):
                return await self._fail(
                    UpstreamError("protocol", "The model's server sent an event of unknown shape.")
                )
            self.report.usage = self._endpoint.usage(event.json) or self.report.usage
            self._first = self._first or event.json
        self._hold.add(event)
        if event.done:
            return await self._finish()
        if self._hold.due:
            return await self._settle()
        return self._hold.release()

    async def _settle(self, *, final: bool = False) -> list[bytes]:
        """Check what is new, then let go what can leave."""
        if windows := self._hold.windows():
            self.report.checks += 1
            try:
                decision = await self._check(windows)
            except Exception as error:
                return self._end("check_failed", error)
            self._note(merged(self.report.decision, decision))
            if decision.outcome == "error":
                return self._end(
                    "check_failed",
                    Unavailable("A safety check could not be completed; the answer ends here."),
                )
            if decision.reply is not None:
                self._reply = decision.reply
                return self._end("blocked")
            self._hold.apply(decision)
        self._hold.settle(final=final)
        if self.report.decision is not None:
            self._note(self.report.decision)
        return self._hold.release()

    def _note(self, decision: Decision) -> None:
        """Keep a decision, with what was redacted so far in place of what one check has found."""
        self.report.decision = replace(decision, redactions=tuple(self._hold.redactions))

    async def _finish(self) -> list[bytes]:
        pieces = await self._settle(final=True)
        if self.report.ended is None:
            self.report.ended = "done"
        return pieces

    async def _fail(self, error: Exception) -> list[bytes]:
        # What came before the failure is the client's, once it is checked.
        pieces = await self._settle(final=True)
        if self.report.ended is None:
            self._end("upstream_error", error)
        return pieces

    def _end(self, how: Ended, error: Exception | None = None) -> list[bytes]:
        self.report.ended, self.report.error = how, error
        return []


class _Signal:
    """Something that is no event."""


TICK = _Signal()
"""Time has passed."""
END = _Signal()
"""The upstream has nothing more."""


class _Reader:
    """Reads an iterator with a time limit that does not disturb it."""

    def __init__(self, events: AsyncIterator[Event]) -> None:
        self._events = aiter(events)
        self._task: asyncio.Task[Event | Exception | _Signal] | None = None

    async def next(self, seconds: float | None) -> Event | Exception | _Signal:
        """The next event or failure, END, or TICK if it takes longer."""
        if self._task is None:
            self._task = asyncio.create_task(self._read())
        await asyncio.wait({self._task}, timeout=None if seconds is None else max(0.0, seconds))
        if not self._task.done():
            return TICK
        task, self._task = self._task, None
        return task.result()

    async def close(self) -> None:
        """Stop reading and close the iterator. Can be called twice."""
        if self._task is not None:
            task, self._task = self._task, None
            task.cancel()
            # Not `await task`: that could not tell the reader's cancellation from our own.
            await asyncio.wait({task})
        close = getattr(self._events, "aclose", None)
        if close is not None:
            await close()

    async def _read(self) -> Event | Exception | _Signal:
        try:
            return await anext(self._events)
        except StopAsyncIteration:
            return END
        except Exception as error:
            return error


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
    )


def _once(earlier: Sequence[Cause], later: Sequence[Cause]) -> tuple[Cause, ...]:
    """Every rule and label once: overlapping windows fire the same rule again."""
    causes: dict[tuple[str, str, str], Cause] = {}
    for cause in (*earlier, *later):
        causes.setdefault((cause.policy, cause.rule, cause.label), cause)
    return tuple(causes.values())
