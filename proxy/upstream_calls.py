"""A request on its way to whichever server answers it: an upstream made of upstreams."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Any

from proxy.endpoints.base import Body
from proxy.errors import UpstreamError
from proxy.fallbacks import OutOfTime, Plan, Try
from proxy.sse import Event
from proxy.upstream_base import CHAT_PATH, UpstreamReply, UpstreamStream


class Caller:
    """The upstream of one request: tries what :class:`proxy.fallbacks.Plan` says.

    Args:
        plan: which servers, in which order.
        seconds: for all tries together.
    """

    def __init__(self, plan: Plan, seconds: float) -> None:
        self._plan = plan
        self._seconds = seconds
        self._deadline = asyncio.get_running_loop().time() + seconds

    async def complete(
        self, body: Body, raw: bytes | None, headers: Mapping[str, str], *, path: str = CHAT_PATH
    ) -> UpstreamReply:
        """See :class:`proxy.upstream_base.Upstream`."""
        result: UpstreamReply | UpstreamError | None = None
        while (tried := await self._next(result)) is not None:
            try:
                sent, data = tried.target.outgoing(body, raw)
                call = tried.target.at(path).complete(sent, data, headers, path=path)
                if tried.number == 1:  # it keeps its own time, which is no longer
                    result = await call
                else:
                    async with self._in_time(tried):
                        result = await call
            except UpstreamError as error:
                result = error
            except BaseException:
                tried.permit.released()
                raise
            tried.settle(result)
            if not self._plan.goes_on(tried, result):
                break
        return _reply(result, self._plan)

    @asynccontextmanager
    async def stream(
        self, body: Body, raw: bytes | None, headers: Mapping[str, str], *, path: str = CHAT_PATH
    ) -> AsyncIterator[UpstreamStream]:
        """See :class:`proxy.upstream_base.Upstream`. It has begun with its first event."""
        result: UpstreamReply | UpstreamError | None = None
        while (tried := await self._next(result)) is not None:
            async with AsyncExitStack() as stack:
                try:
                    sent, data = tried.target.outgoing(body, raw)
                    opening = tried.target.at(path).stream(sent, data, headers, path=path)
                    async with self._in_time(tried):
                        upstream = await stack.enter_async_context(_begun(opening))
                except UpstreamError as error:
                    result = error
                except BaseException:
                    tried.permit.released()
                    raise
                else:
                    if upstream.reply is None:
                        async with self._running(tried, upstream) as watched:
                            yield watched
                        return
                    result = upstream.reply
            tried.settle(result)
            if not self._plan.goes_on(tried, result):
                break
        reply = _reply(result, self._plan)
        yield UpstreamStream(reply.status, reply.headers, reply=reply)

    async def close(self) -> None:
        """The upstreams are closed by their owner."""

    async def _next(self, last: UpstreamReply | UpstreamError | None) -> Try | None:
        """The next try; None where time is up, too."""
        if last is None:
            return await self._plan.next()
        try:
            async with asyncio.timeout_at(self._deadline):
                return await self._plan.next()
        except TimeoutError:
            return None

    @asynccontextmanager
    async def _in_time(self, tried: Try) -> AsyncIterator[None]:
        """The first try keeps its own time, which is no longer; the rest have what that left."""
        if tried.number == 1:
            yield
            return
        try:
            async with asyncio.timeout_at(self._deadline):
                yield
        except TimeoutError:
            raise self._late() from None

    @asynccontextmanager
    async def _running(self, tried: Try, upstream: UpstreamStream) -> AsyncIterator[UpstreamStream]:
        """A stream whose end, good or bad, is told to the breaker."""
        tried.answered(upstream.status)
        if tried.permit.probe:
            tried.permit.succeeded()  # nobody should wait for the end of a long answer
        failed: list[UpstreamError] = []

        async def events() -> AsyncIterator[Event]:
            try:
                async for event in upstream if tried.number == 1 else self._timed(tried, upstream):
                    if not failed and (fault := _fault(event)) is not None:
                        failed.append(fault)  # whoever reads the stream ends it
                        tried.answered(fault)
                    yield event
            except UpstreamError as error:
                failed.append(error)
                tried.answered(error)
                raise

        try:
            yield UpstreamStream(upstream.status, upstream.headers, events())
        finally:
            tried.settle(failed[0] if failed else None)

    async def _timed(self, tried: Try, events: UpstreamStream) -> AsyncIterator[Event]:
        source = aiter(events)
        while True:
            async with self._in_time(tried):
                event = await anext(source, None)
            if event is None:
                return
            yield event

    def _late(self) -> UpstreamError:
        return OutOfTime(
            "timeout", f"The model's server took longer than {self._seconds:g} s in all."
        )


@asynccontextmanager
async def _begun(
    opening: AbstractAsyncContextManager[UpstreamStream],
) -> AsyncIterator[UpstreamStream]:
    """A stream whose first event is there already, so that nothing has to be taken back.

    Raises:
        UpstreamError: there is none, or it is an error of the server; another try may do better.
    """
    async with opening as upstream:
        if upstream.reply is not None:
            yield upstream
            return
        events = aiter(upstream)
        first = await anext(events, None)
        if first is None:
            raise UpstreamError(
                "protocol", "The model's server sent a stream without an event.", begun=False
            )
        if (fault := _fault(first)) is not None:
            raise fault
        yield UpstreamStream(upstream.status, upstream.headers, _chained(first, events))


async def _chained(first: Event, rest: AsyncIterator[Event]) -> AsyncIterator[Event]:
    yield first
    async for event in rest:
        yield event


def _fault(event: Event) -> UpstreamError | None:
    """What an event says against the server; the request's own faults say nothing against it."""
    if event.malformed:
        message = "The model's server sent an event that is no JSON object."
    elif event.json is not None and (told := _told(event.json)):
        if isinstance(told, dict):
            code = told.get("code")
            own = type(code) is int and 400 <= code < 500
            if own or told.get("type") == "invalid_request_error":
                return None
        message = "The model's server reported an error in place of its answer."
    else:
        return None
    return UpstreamError("protocol", message, begun=False)


def _told(event: Body) -> Any:
    """The error that an event is, in the form of any of the APIs; None for all other events."""
    return event.get("error") or (event if event.get("type") == "error" else None)


def _reply(result: UpstreamReply | UpstreamError | None, plan: Plan) -> UpstreamReply:
    if result is None:
        raise plan.kept_back()
    if isinstance(result, UpstreamError):
        raise result
    return result
