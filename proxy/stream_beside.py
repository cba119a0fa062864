"""Checks that run beside a stream that is not held back (``stream_check: after``)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from classifiers.types import Text
from policies.decision import Decision
from proxy.holdback import HoldBack
from proxy.sse import Event
from proxy.stream_reader import stop

Check = Callable[[Sequence[Text]], Awaitable[Decision]]

MOST_BEHIND = 2_000
"""Characters that may have left without a verdict; then the stream waits for one."""


class Beside:
    """Follows a stream with windows of its own, one check at a time.

    Args:
        watch: makes the windows; nothing is ever sent from it.
        check: the verdict on some texts.
    """

    def __init__(self, watch: HoldBack, check: Check) -> None:
        self._watch = watch
        self._check = check
        self.running: asyncio.Task[Decision] | None = None
        self.started = 0
        """Checks that were begun."""

    @property
    def unchecked(self) -> bool:
        """Some text waits for a check to begin."""
        return self.running is None and self._watch.unchecked

    @property
    def ending(self) -> bool:
        """A choice has finished since the latest check began: its end waits for the verdict."""
        return self._watch.ending

    def add(self, event: Event) -> None:
        """Take an event in, before it leaves."""
        self._watch.add(event)

    async def verdict(self, *, everything: bool, now: bool) -> Decision | None:
        """The verdict of a check that has ended, None if there is none to be had yet.

        Args:
            everything: wait for it, as long as some text is without one.
            now: begin a check of what there is, however little.

        Raises:
            Exception: what the check raised.
        """
        watch = self._watch
        if self.running is None and watch.unchecked and (everything or now or watch.due):
            self.running = asyncio.create_task(self._ask(watch.windows()))
            self.started += 1
        if self.running is None:
            if not watch.unchecked:
                watch.settle()  # a choice has finished that said nothing more
            return None
        if not (everything or self.running.done() or watch.behind > MOST_BEHIND):
            return None
        await asyncio.wait({self.running})
        task, self.running = self.running, None
        watch.settle()
        watch.forget()
        return task.result()

    async def close(self) -> None:
        """Stop a check that still runs."""
        if self.running is not None:
            await stop(self.running)

    async def _ask(self, windows: Sequence[Text]) -> Decision:
        return await self._check(windows)
