"""Reads an iterator of events with a time limit that does not disturb it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from proxy.sse import Event


class Signal:
    """Something that is no event."""


TICK = Signal()
"""Time has passed."""
WAKE = Signal()
"""What was waited for beside the events has come."""
END = Signal()
"""The upstream has nothing more."""

Item = Event | Exception | Signal


class Reader:
    """The events of an upstream, one at a time."""

    def __init__(self, events: AsyncIterator[Event]) -> None:
        self._events = aiter(events)
        self._task: asyncio.Task[Item] | None = None

    async def next(self, seconds: float | None, beside: asyncio.Task[Any] | None = None) -> Item:
        """The next event or failure, END, TICK if it takes longer, or WAKE if ``beside`` is done."""
        if self._task is None:
            if seconds is None and beside is None:
                return await self._read()  # nothing to be woken by: no task is needed
            self._task = asyncio.create_task(self._read())
        await asyncio.wait(
            {self._task} if beside is None else {self._task, beside},
            timeout=None if seconds is None else max(0.0, seconds),
            return_when=asyncio.FIRST_COMPLETED,
        )
        if not self._task.done():
            return WAKE if beside is not None and beside.done() else TICK
        task, self._task = self._task, None
        return task.result()

    async def close(self) -> None:
        """Stop reading and close the iterator. Can be called twice."""
        if self._task is not None:
            task, self._task = self._task, None
            await stop(task)
        close = getattr(self._events, "aclose", None)
        if close is not None:
            await close()

    async def _read(self) -> Item:
        try:
            return await anext(self._events)
        except StopAsyncIteration:
            return END
        except Exception as error:
            return error


async def stop(task: asyncio.Task[Any]) -> None:
    """Cancel a task and wait until it has ended."""
    task.cancel()
    # Not `await task`: that could not tell the task's cancellation from our own.
    await asyncio.wait({task})
