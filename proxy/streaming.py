"""``guarded``: a stream is checked before its bytes leave.

Events are held back (``proxy.holdback``) until the policies have seen their text; then they leave as
the bytes they came in, rewritten where something is redacted or put back, or the stream is cut.
Pure but for waiting: it reads an iterator and calls ``check``, so it is tested without a server.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from dataclasses import replace

from policies.decision import Decision, Reply
from proxy import errors
from proxy.endpoints.base import Body, Endpoint, ReplyContext
from proxy.errors import Unavailable, UpstreamError
from proxy.holdback import HoldBack
from proxy.sse import Event
from proxy.stream_beside import Beside, Check
from proxy.stream_pace import Pace
from proxy.stream_reader import END, TICK, WAKE, Item, Reader
from proxy.stream_report import Ended, StreamReport, merged

__all__ = ["Check", "StreamReport", "guarded", "merged"]

_CLOSING_SECONDS = 0.05
"""How long an upstream that has said it is done is listened to for what it says after that."""

_WENT_ON = "The model's server went on with an answer that it had ended."


async def guarded(
    events: AsyncIterator[Event],
    endpoint: Endpoint,
    check: Check,
    context: ReplyContext,
    pace: Pace,
    *,
    restorations: Mapping[str, str] | None = None,
    report: StreamReport | None = None,
    request_id: str = "",
    unread: Callable[[Body], Decision | None] | None = None,
    undecided: Callable[[Decision], Exception] | None = None,
) -> AsyncGenerator[bytes, None]:
    """Pass on a stream, checked.

    A check happens when enough new text waits in a channel or has waited for too long, when a
    choice finishes and at the end. It sees each channel's new text with some of what stands before
    it, or all of it while it is short.

    Args:
        events: from upstream; closed as soon as the stream has ended, however it ends.
        endpoint: knows the shape of the events.
        check: the verdict on some texts (stage ``output``), in the form the upstream wrote them:
            placeholders are not put back yet. What it raises ends the stream.
        context: what events made here need.
        pace: when it is checked.
        restorations: placeholder -> original.
        report: filled as the stream goes.
        request_id: named in errors.
        unread: the verdict on what of an event no check can read, None where there is nothing.
        undecided: the error for a verdict that a failed check stops.

    Yields:
        Encoded events. Untouched ones are byte for byte what came in, unless ``strict``. Nothing,
        where the answer is blocked with an error (``Reply.form``) before anything has left.

    Raises:
        Exception: what went wrong before anything has left, so that the caller can still answer
            with an HTTP status: :class:`UpstreamError`, :class:`Unavailable` or what ``check``
            raised. Later on the error is the last event of the stream.
    """
    hold = pace.holdback(endpoint, restorations)
    held = check if pace.mode == "hold" else None
    guard = _Guard(endpoint, held, context, hold, report or StreamReport(), request_id)
    guard.unread, guard.undecided = unread, undecided or _undecided
    if pace.mode == "after":
        guard.beside = Beside(pace.watch(endpoint), check)
    reader = Reader(events)
    loop = asyncio.get_running_loop()
    waiting_since: float | None = None
    head: list[bytes] = []
    head_until: float | None = None
    begun = False
    try:
        while guard.report.ended is None:
            checks, beside = guard.report.checks, guard.beside
            deadline = None if waiting_since is None else waiting_since + pace.seconds(checks)
            if guard.closing is not None:
                deadline = guard.closing
            if head and head_until is not None:
                deadline = head_until if deadline is None else min(deadline, head_until)
            due = None if deadline is None else deadline - loop.time()
            running = None if beside is None else beside.running
            pieces = head + await guard.take(await reader.next(due, running))
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
                head_until = head_until or loop.time() + pace.head_seconds
                if loop.time() < head_until:
                    head, pieces = pieces, []
            if not guard.unchecked:
                waiting_since = None
            elif waiting_since is None or guard.report.checks > checks:
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
        if guard.beside is not None:
            await guard.beside.close()


class _Guard:
    """What to do with what comes in; ``report.ended`` says when it is over."""

    def __init__(
        self,
        endpoint: Endpoint,
        check: Check | None,
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
        self.unread: Callable[[Body], Decision | None] | None = None
        self.undecided: Callable[[Decision], Exception] = _undecided
        self.beside: Beside | None = None
        self.closing: float | None = None
        """The upstream has said that it is done; until then it may show that it is not."""
        self._done: Event | None = None

    @property
    def unchecked(self) -> bool:
        """Some text waits for a check."""
        if self.beside is not None:
            return self.beside.unchecked
        return self._check is not None and self._hold.unchecked

    async def take(self, item: Item) -> list[bytes]:
        """Handle an event, its failure to come, a tick or the end; returns what may leave."""
        report, hold = self.report, self._hold
        if self.beside is not None and not await self._follow():
            pieces: list[bytes] = []
        elif self._done is not None:
            pieces = await self._close(self._done, item)
        elif isinstance(item, Event):
            pieces = await self._take_event(item)
        elif isinstance(item, Exception):
            pieces = await self._fail(item)
        elif item is TICK:
            pieces = await self._settle(now=True)
        elif item is WAKE:
            pieces = []
        elif hold.choices and hold.choices <= hold.finished and not self._endpoint.ends_itself:
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
            context = replace(self._context, progress=hold.progress)
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
                error["message"],
                code=error["code"] or "error",
                type=error["type"],
                progress=self._hold.progress,
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
            counted = self._endpoint.usage(event.json)
            self.report.usage = self._endpoint.counted(self.report.usage, counted)
            self._first = self._first or event.json
            if self._endpoint.late(event.json, self._hold.finished):
                return await self._fail(UpstreamError("protocol", _WENT_ON))
            if self.unread is not None and (verdict := self.unread(event.json)) is not None:
                self._note(merged(self.report.decision, verdict))
                if verdict.reply is not None:
                    self._reply = verdict.reply
                    return self._end("blocked")
        elif event.done:
            if self._endpoint.ends_itself:
                return await self.take(END)
            self._done = event
            self.closing = asyncio.get_running_loop().time() + _CLOSING_SECONDS
            return []
        if self._check is None and self.beside is None and self._hold.passing:
            pieces = [self._hold.passed(event)]
            if event.json is not None and self._endpoint.ends(event.json):
                pieces += await self._finish()
            return pieces
        if self.beside is not None:
            self.beside.add(event)
        self._hold.add(event)
        if event.json is not None and self._endpoint.ends(event.json):
            return await self._finish()
        if self._hold.due:
            return await self._settle()
        return self._hold.release()

    async def _close(self, done: Event, item: Item) -> list[bytes]:
        """Handle what comes after the upstream has said that it is done: best nothing."""
        if isinstance(item, Event):
            if item.data:
                return await self._fail(UpstreamError("protocol", _WENT_ON))
            return []
        self._hold.add(done)
        return await self._finish()

    async def _settle(self, *, final: bool = False, now: bool = False) -> list[bytes]:
        """Check what is new, then let go what can leave.

        Args:
            final: nothing more will come.
            now: check what there is, however little.
        """
        if self.beside is not None and not await self._follow(final=final, now=now):
            return []
        if self._check is not None and (windows := self._hold.windows()):
            self.report.checks += 1
            try:
                decision = await self._check(windows)
            except Exception as error:
                return self._end("check_failed", error)
            if not self._accept(decision):
                return []
            self._hold.apply(decision)
        self._hold.settle(final=final)
        if self.report.decision is not None:
            self._note(self.report.decision)
        return self._hold.release()

    async def _follow(self, *, final: bool = False, now: bool = False) -> bool:
        """Take in the verdicts of the checks beside the stream; False ends it."""
        assert self.beside is not None
        everything = final or self.beside.ending
        try:
            while verdict := await self.beside.verdict(everything=everything, now=now):
                now = False
                if not self._accept(verdict):
                    return False
        except Exception as error:
            self._end("check_failed", error)
            return False
        finally:
            self.report.checks = self.beside.started
        return True

    def _accept(self, decision: Decision) -> bool:
        """Take in a verdict; False ends the stream."""
        self._note(merged(self.report.decision, decision))
        if decision.outcome == "error":
            self._end("check_failed", self.undecided(decision))
            return False
        if decision.reply is not None:
            self._reply = decision.reply
            self._end("blocked")
            return False
        return True

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


def _undecided(_: Decision) -> Exception:
    return Unavailable("A safety check could not be completed; the answer ends here.")
