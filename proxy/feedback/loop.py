"""The feedback loop of a running gateway: retrain, try beside, promote, undo.

A promotion is one renamed file (see :mod:`classifiers.candidates`), after the policies were bound to the
candidate and their tests and those of the corrections have held. Requests that began before it are
decided by the old pack to their end. What another process promotes is followed within a second.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from classifiers.candidates import Candidate, Pointer, Shelf, promoted, undone
from classifiers.packs import SHIPPED, PackError, hash_of_pack
from proxy.config_ledger import NONE
from proxy.errors import InvalidRequest, NotFound, NotPromoted, Unavailable
from proxy.feedback.give import trained
from proxy.feedback.served import Served
from proxy.feedback.trainer import Job, TrainingFailed, run
from proxy.feedback.trial import Trial
from proxy.keystore import place_of
from proxy.ledgers.database import Away
from proxy.ledgers.feedback import Feedback, FeedbackTable
from proxy.ledgers.read import Reader

if TYPE_CHECKING:
    from proxy.exchange import Exchange
    from proxy.gateway import Gateway

log = logging.getLogger("doorman.feedback")

EVERY = 1.0
"""Seconds after which the shelf is looked at for what other processes have promoted."""
NO_DATABASE = "Feedback is kept in the ledger's database, and there is none; give `ledger.url` one."


class _Rehearsed(Exception):
    """All was done but the promotion itself."""


class FeedbackLoop:
    """What a gateway does about wrong decisions.

    Args:
        gateway: loaded.
        table: where feedback is; None where there is no database.
        reader: of the ledger.
    """

    def __init__(
        self, gateway: Gateway, table: FeedbackTable | None, reader: Reader | None
    ) -> None:
        self._gateway = gateway
        self._table = table
        self._reader = reader
        self.shelf = Shelf(gateway.config.classifiers.corrected)
        self.served = Served(gateway, self.shelf)
        self.job: Job | None = None
        self._turn = asyncio.Lock()
        self._working: asyncio.Task[None] | None = None
        self._following: asyncio.Task[None] | None = None

    @property
    def table(self) -> FeedbackTable:
        """Raises Unavailable where there is no database."""
        if self._table is None:
            raise Unavailable(NO_DATABASE, "no_ledger")
        return self._table

    @property
    def reader(self) -> Reader:
        """Raises Unavailable where there is no database."""
        if self._reader is None:
            raise Unavailable(NO_DATABASE, "no_ledger")
        return self._reader

    def teachable(self) -> dict[str, tuple[str, ...]]:
        """The classifiers that can be corrected, and their labels."""
        known = self._gateway.engine.classifiers
        return {name: trained(one) for name, one in known.items() if trained(one)}

    # -- start and stop ---------------------------------------------------------------------------

    async def start(self) -> None:
        """Follow what is promoted elsewhere from now on."""
        self.served.begin()
        self._following = asyncio.create_task(self._follow(), name="feedback-follow")

    async def stop(self) -> None:
        """Give up what is under way, and close the database."""
        tasks = [task for task in (self._following, self._working) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for closing in (self._table, self._reader):
            if closing is not None:
                await closing.close()

    # -- retrain ----------------------------------------------------------------------------------

    async def retrain(self, name: str, by: str) -> Job:
        """Begin to make a candidate of all corrections of a classifier; one at a time.

        Raises:
            NotFound: there is no such classifier.
            InvalidRequest: there are no corrections, or a candidate is being made.
        """
        base = self.served.base(name)
        rows = await self.table.corrections(name)
        if self.job is not None and self.job.running:
            raise InvalidRequest(
                f"A candidate for {self.job.classifier} is being made; wait until it is done."
            )
        if not rows:
            raise InvalidRequest(
                f"There are no corrections of {name} yet: accept some feedback that says which label is "
                "right."
            )
        try:
            self.shelf.sweep(name, 2 * self._gateway.config.feedback.seconds)
            order = self._order(base, name, rows, by)
        except PackError as error:
            raise NotPromoted(str(error)) from None
        job = self.job = Job(name, by, time.time())
        try:
            await self._audit(by, "retrain", name, {"corrections": len(rows)})
        except BaseException:
            self.job = None  # nothing was begun
            raise
        self._working = asyncio.create_task(self._retrain(job, order))
        return job

    async def finished(self) -> Job | None:
        """The job, when it has ended."""
        if self._working is not None:
            await asyncio.gather(asyncio.shield(self._working), return_exceptions=True)
        return self.job

    def _order(self, base: Path, name: str, rows: Sequence[Feedback], by: str) -> Mapping[str, Any]:
        live = self.shelf.live(name)
        config = self._gateway.config
        return {
            "base": str(base),
            "live": None if live is None else str(live),
            "encoder": str(config.classifiers.encoder or SHIPPED / "encoder"),
            "rows": [{"id": r.id, "text": r.text, "label": list(r.labels or ())} for r in rows],
            "target": str(self.shelf.folder / name),
            "cache": None if config.feedback.cache is None else str(config.feedback.cache),
            "threads": config.feedback.threads,
            "by": by,
        }

    async def _retrain(self, job: Job, order: Mapping[str, Any]) -> None:
        def say(step: str) -> None:
            job.step = step

        try:
            made = await run(order, say, self._gateway.config.feedback.seconds)
            job.step = "running the tests of the policies"
            job.faults = await self.rehearse(job.classifier, made.short)
            job.hash = made.short
        except TrainingFailed as error:
            job.fault = str(error)
        except asyncio.CancelledError:
            job.fault = "the gateway was stopped"
            raise
        except Exception as error:
            job.fault = type(error).__name__
            log.error("a candidate for %s failed: %s", job.classifier, type(error).__name__)
        finally:
            job.ended = time.time()
            job.step = "failed" if job.fault else "done"

    # -- beside -----------------------------------------------------------------------------------

    async def try_beside(self, name: str, short: str, by: str) -> Trial:
        """Let a candidate score what the classifier scores, and count what it would change.

        Raises:
            NotFound, NotPromoted: there is no such candidate, or it cannot be loaded.
        """
        self._candidate(name, short)
        async with self._turn:
            await self._audit(by, "try beside", name, {"pack": short})
            return await asyncio.to_thread(self.served.try_beside, name, short, by)

    async def stop_trial(self, name: str, by: str) -> None:
        """End the trial of a classifier's candidate."""
        async with self._turn:
            if self.served.trials.pop(name, None) is not None:
                await self._audit(by, "stop trial", name, {})
                await asyncio.to_thread(self.served.exchange, self._gateway.engine.classifiers)

    def saw(self, exchange: Exchange) -> None:
        """Show a request that has ended to the trials."""
        for trial in list(self.served.trials.values()):
            try:
                trial.saw(
                    exchange.decision_id,
                    exchange.policies.policies,
                    exchange.texts,
                    exchange.found,
                    exchange.unscanned,
                )
            except Exception as error:  # no request may suffer from it
                trial.left_out += 1
                log.error("a trial of %s failed: %s", trial.name, type(error).__name__)

    # -- promote and undo -------------------------------------------------------------------------

    async def promote(self, name: str, short: str, by: str, *, losing: bool = False) -> Pointer:
        """Serve a candidate in the place of the pack that is served.

        Args:
            losing: although it loses more of the slices and of what the pack remembers than it may.

        Raises:
            NotFound: there is no such candidate.
            NotPromoted: a test fails, or the candidate is out of date; all is as before.
        """
        candidate, base = self._candidate(name, short), hash_of_pack(self.served.base(name))
        if candidate.worse and not losing:
            lost = "; ".join(
                f"{w.name}: {w.live} of {w.cases} -> {w.after}" for w in candidate.worse
            )
            raise NotPromoted(
                f"The candidate {short} loses more than it may: {lost}. Look at the corrections, or say that "
                "it is to be promoted all the same."
            )
        async with self._turn:
            before = self.shelf.pointer(name)
            rows = {row.id: row for row in await self.table.corrections(name)}
            self._check_age(candidate, before, base, rows)
            mine = [rows[id] for id in candidate.corrections if id in rows]
            pointer = promoted(before, short, base, by, time.time())
            details = {
                "from": before.live or "configured",
                "to": short,
                "worse": [line.name for line in candidate.worse],
            }
            await self._audit(by, "promote", name, details)
            await asyncio.to_thread(self._point, name, pointer, mine)
        log.info("classifier %s: %s is served, promoted by %r", name, short, by)
        return pointer

    async def undo(self, name: str, by: str) -> Pointer:
        """Serve what was served before the last promotion.

        Raises:
            NotPromoted: nothing was, or the policies' tests fail with it; all is as before.
        """
        self.served.base(name)
        async with self._turn:
            before = self.shelf.pointer(name)
            pointer = undone(before, by, time.time())
            if pointer is None:
                raise NotPromoted(f"No pack was promoted in the place of {name}.")
            details = {"from": before.live or "configured", "to": pointer.live or "configured"}
            await self._audit(by, "undo", name, details)
            await asyncio.to_thread(self._point, name, pointer, ())
        log.info("classifier %s: %s is served again, by %r", name, details["to"], by)
        return pointer

    async def rehearse(self, name: str, short: str) -> tuple[str, ...]:
        """Why a candidate could not be promoted now; empty if it could."""

        def stop() -> None:
            raise _Rehearsed

        try:
            candidate, base = self._candidate(name, short), hash_of_pack(self.served.base(name))
            async with self._turn:
                rows = {row.id: row for row in await self.table.corrections(name)}
                self._check_age(candidate, self.shelf.pointer(name), base, rows)
                mine = [rows[id] for id in candidate.corrections if id in rows]
                await asyncio.to_thread(self.served.put, name, short, mine, stop)
        except _Rehearsed:
            return ()
        except InvalidRequest as error:
            return tuple(error.message.splitlines())
        return ()

    def _candidate(self, name: str, short: str) -> Candidate:
        self.served.base(name)
        found = self.shelf.candidate(name, short)
        if found is None:
            raise NotFound(f"There is no candidate {short[:20]!r} of {name}.")
        return found

    def _check_age(
        self, candidate: Candidate, before: Pointer, base: str, rows: Mapping[int, Feedback]
    ) -> None:
        if candidate.short == before.live:
            raise NotPromoted(f"The candidate {candidate.short} is served already.")
        if candidate.base != base:
            raise NotPromoted(
                f"The candidate {candidate.short} was made of another pack than the one configured now; "
                "retrain."
            )
        served = None if before.live is None else self.shelf.candidate(candidate.name, before.live)
        held = () if served is None else served.corrections
        lost = [id for id in held if id in rows and id not in candidate.corrections]
        if lost:
            raise NotPromoted(
                f"The candidate {candidate.short} lacks corrections that the served pack holds "
                f"({', '.join(map(str, lost[:10]))}); retrain."
            )

    def _point(self, name: str, pointer: Pointer, corrections: Sequence[Feedback]) -> None:
        self.served.put(name, pointer.live, corrections, lambda: self.shelf.point(name, pointer))

    # -- following --------------------------------------------------------------------------------

    async def _follow(self) -> None:
        while True:
            await asyncio.sleep(EVERY)
            try:
                async with self._turn:
                    await asyncio.to_thread(self.served.follow)
            except Exception as error:
                log.error("corrected packs could not be looked at: %s", type(error).__name__)

    async def _audit(self, by: str, action: str, name: str, details: Mapping[str, Any]) -> None:
        """Enter what is about to be done; without, it is not done."""
        table = self._gateway.key_table
        if table is None:
            raise Unavailable(NO_DATABASE, "no_ledger")
        try:
            await table.by(by).note(action, name, details, time.time())
        except Away as error:
            raise Unavailable(
                f"The change cannot be entered into the audit ({error}), so it was not made; retry.",
                "ledger_unavailable",
            ) from None


def feedback_loop(gateway: Gateway) -> FeedbackLoop:
    """That of a gateway, which need not be loaded yet."""
    if gateway.config.ledger.url == NONE:
        return FeedbackLoop(gateway, None, None)
    place = place_of(gateway.config.ledger)
    return FeedbackLoop(gateway, FeedbackTable(place), Reader(place))
