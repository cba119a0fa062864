"""A backtest beside a gateway that serves: in a thread that leaves time for requests, by scores alone."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from policies.schema import BoundPolicy
from proxy.backtests.cases import of_record
from proxy.backtests.result import figures
from proxy.backtests.run import Run
from proxy.backtests.tally import Price, Tally
from proxy.ledgers import traffic
from proxy.ledgers.database import Away, Place
from proxy.ledgers.read import Reader

AT_ONCE = 10
"""Cases that are judged before others get the interpreter: about a millisecond."""
PAUSE = 0.001
"""Seconds that are left to them."""


class Stopped(Exception):
    """Somebody does not want to know any more."""


@dataclass(slots=True)
class Job:
    """A backtest that runs, or the last one.

    Attributes:
        before, after: the policies in force, and those that might be.
        name, text: the candidate's, as it was written.
        by: who asked for it.
        total, done: requests; the total is None until it is known.
        fault: why there is no result.
        result: see :func:`proxy.backtests.result.figures`.
    """

    place: Place
    before: tuple[BoundPolicy, ...]
    after: tuple[BoundPolicy, ...]
    name: str
    text: str = field(repr=False)
    by: str
    since: float
    most: int
    price: Price
    begun: float = field(default_factory=time.time)
    ended: float | None = None
    total: int | None = None
    done: int = 0
    fault: str = ""
    result: dict[str, Any] | None = None
    _stop: threading.Event = field(default_factory=threading.Event)

    @property
    def running(self) -> bool:
        """Whether it is under way."""
        return self.ended is None

    @property
    def seconds(self) -> float:
        """How long it has taken so far."""
        return (self.ended or time.time()) - self.begun

    def stop(self) -> None:
        """Give it up; it ends within milliseconds."""
        self._stop.set()

    def work(self) -> None:
        """Run it. Blocking; for a thread of its own. Raises nothing: faults are told."""
        try:
            tally = asyncio.run(self._judge())
        except Stopped:
            self.fault = "it was stopped"
        except Away as error:
            self.fault = f"the ledger cannot be read: {error}"
        except Exception as error:
            self.fault = f"it failed ({type(error).__name__})"
        else:
            self.result = figures(tally, _ids(self.before), _ids(self.after))
        finally:
            self.ended = time.time()

    async def _judge(self) -> Tally:
        run = Run(self.before, self.after, progress=self._judged, tally=Tally(self.price))
        reader = Reader(self.place)
        try:
            self.total = await traffic.count(reader, self.since, self.most)
            said = await traffic.opinions(reader, self.since)
            async for records in traffic.newest(reader, self.since, self.most):
                for record in records:
                    # Texts that were kept are not judged anew here; they may be shown, though.
                    run.take(of_record(record, right=said.get(record["decision_id"])))
        finally:
            await reader.close()
        return run.finish()

    def _judged(self, count: int) -> None:
        self.done += count
        if self._stop.is_set():
            raise Stopped
        if self.done % AT_ONCE == 0:
            time.sleep(PAUSE)


def _ids(policies: Sequence[BoundPolicy]) -> list[str]:
    return [policy.id for policy in policies]
