"""Runs all classifiers over texts: remembers, batches without a timer, keeps off the event loop.

Named threads own the models: as many as asked for ordinary texts, one for long ones. Which classifiers there
are, and how they are exchanged while texts are on their way, is :mod:`classifiers.roster`'s.
"""

from __future__ import annotations

import asyncio
import hashlib
import threading
from collections.abc import Collection, Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import replace
from typing import Protocol, runtime_checkable

from cachetools import LRUCache

from classifiers.raised import raised
from classifiers.remembered import Answers, Remembered
from classifiers.roster import Asked, Roster
from classifiers.types import Batch, Classification, Classifier, Floors, Joined, Prediction
from classifiers.verdicts import checked
from classifiers.worker import EngineClosed, Overloaded, Stuck, Watch, Worker

__all__ = ["ClassifierEngine", "EngineClosed", "Overloaded", "Stuck", "is_late", "late"]

Outcome = tuple[Prediction, ...] | str
"""Predictions of one classifier on one text, or the one-line reason why there are none."""

LARGEST = 1000
"""Room that one result may take in the cache; larger ones are not remembered."""
LONG = 4000
"""Texts of more characters wait in a line of their own, so that nobody waits behind a book."""

AllJoined = Sequence[Joined | None] | None

_LATE = "no verdict within"

_Job = tuple[str, tuple[str, ...], Floors | None]
"""A text, the classifiers that it asks for, each as ``name@version``, and what matters of it."""


@runtime_checkable
class Glancing(Protocol):
    """A classifier that can tell from the words of a text alone that it comes nowhere near."""

    def glance(
        self, batch: Batch, floors: Mapping[str, float]
    ) -> tuple[Prediction, ...] | None: ...


class ClassifierEngine:
    """Classifies texts with every classifier it was given.

    Args:
        classifiers: each with a name of its own.
        cache_entries: how many (text, classifier) results are remembered, large ones counting for
            several; the least recently used go first.
        max_waiting: texts that may wait for the worker before :class:`Overloaded` is raised.
        max_batch: texts handed to the classifiers at once.
        threads: ordinary texts, or batches of them, that are classified at the same time.
        patience: seconds after which a batch is given up: its classifiers count as failed, and
            another thread goes on with what waits. None waits for ever.
    """

    def __init__(
        self,
        classifiers: Iterable[Classifier],
        *,
        cache_entries: int = 50_000,
        max_waiting: int = 4096,
        max_batch: int = 32,
        threads: int = 1,
        patience: float | None = None,
    ) -> None:
        self.roster = Roster(classifiers)
        self._cache: LRUCache[tuple[bytes, str], tuple[Prediction, ...]] = LRUCache(
            max(cache_entries, LARGEST), getsizeof=_size
        )
        self._cache_lock = threading.Lock()
        self._remembered = Remembered(cache_entries)
        self._patience = patience
        self._busy_with: dict[int, str] = {}
        """By thread: the classifier that it runs."""

        def worker(name: str, batch: int, threads: int) -> Worker[_Job, dict[str, Outcome]]:
            return Worker(
                name, self._predict, max_waiting=max_waiting, max_batch=batch, threads=threads,
                patience=patience, instead=self._given_up,
            )  # fmt: skip

        self._short = worker("classifier", max_batch, threads)
        self._long = worker("classifier-long", 1, 1)
        self._watch = None if patience is None else Watch((self._short, self._long), patience)

    @property
    def classifiers(self) -> Mapping[str, Classifier]:
        """Those in force, by name."""
        return self.roster.current

    def lend(self, classifier: Classifier) -> None:
        """See :meth:`classifiers.roster.Roster.lend`."""
        self.roster.lend(classifier)

    def lent(self, name: str) -> Classifier | None:
        """A classifier that was lent and is still held, by its name."""
        return self.roster.lent(name)

    @property
    def waiting(self) -> int:
        """Texts that no worker has taken up yet."""
        return self._short.waiting + self._long.waiting

    async def classify(
        self,
        texts: Sequence[str],
        names: Collection[str] | None = None,
        joined: AllJoined = None,
    ) -> list[Classification]:
        """Classify texts; equal texts are classified once.

        Args:
            texts: any strings, also empty ones.
            names: the classifiers to ask, each by its name or as ``name@version``; all by default.
            joined: by text, what matters of it, None for everything. A text whose words, and the texts
                it was made of, say that it comes nowhere near is not read: what was expected of it
                stands for its scores.

        Returns:
            One classification per text, in order. A classifier that failed stands in ``errors``.
            Both are by name, whatever it was asked by.

        Raises:
            Overloaded: too many texts are waiting already.
            EngineClosed: the engine is closed.
            Stuck: too many threads hang in a classifier.
        """
        plan = self._plan(texts, names, joined)
        for jobs in (plan.alone, plan.joined):
            submitted = self._submit(plan, jobs)
            futures = {key: asyncio.wrap_future(future) for key, future in submitted.items()}
            await asyncio.gather(*futures.values())
            self._collect(plan, {key: future.result() for key, future in futures.items()})
        return plan.answer()

    def remembered(
        self,
        texts: Sequence[str],
        names: Collection[str] | None = None,
        joined: AllJoined = None,
    ) -> list[Classification] | None:
        """:meth:`classify` for texts that are all known, at once; None if one is not."""
        plan = self._plan(texts, names, joined)
        return None if plan.parts else plan.answer()

    def classify_blocking(
        self,
        texts: Sequence[str],
        names: Collection[str] | None = None,
        joined: AllJoined = None,
    ) -> list[Classification]:
        """:meth:`classify` for callers without an event loop (policy tests, the command line)."""
        plan = self._plan(texts, names, joined)
        for jobs in (plan.alone, plan.joined):
            submitted = self._submit(plan, jobs)
            self._collect(plan, {key: future.result() for key, future in submitted.items()})
        return plan.answer()

    def close(self) -> None:
        """Stop the workers; whoever still waits gets :class:`EngineClosed`."""
        if self._watch is not None:
            self._watch.stop()
        self._short.close()
        self._long.close()

    # -- planning: what is remembered, what must be computed --------------------------------------

    def _plan(
        self, texts: Sequence[str], names: Collection[str] | None, joined: AllJoined
    ) -> _Plan:
        wanted = self.roster.asked(names)
        answers = self._remembered.of(wanted)
        plan = _Plan(wanted, answers, [_key(text) for text in texts])
        if joined is not None:
            plan.keys = [_joined_key(plan.keys, at, one) for at, one in enumerate(joined)]
        # A candidate that is tried has no line of its own to expect anything by.
        tried = any(asked.beside for asked in wanted.values())
        for at, (text, key) in enumerate(zip(texts, plan.keys, strict=True)):
            if key in plan.known or key in plan.parts:
                continue
            if (answer := answers.get(key)) is not None:
                plan.known[key] = answer
                continue
            with self._cache_lock:
                found = {id: self._cache.get((key, id)) for id in wanted}
            results = {id: hit for id, hit in found.items() if hit is not None}
            if absent := tuple(id for id in wanted if id not in results):
                if tried or joined is None or (one := joined[at]) is None:
                    plan.alone[key] = (text, absent, None)
                else:
                    plan.joined[key] = (text, absent, one)
                plan.parts[key] = results
            else:
                plan.known[key] = _answer(wanted, results, {}, cached=True)
                answers.put(key, plan.known[key])
        return plan

    def _collect(self, plan: _Plan, computed: Mapping[bytes, Mapping[str, Outcome]]) -> None:
        wanted = plan.wanted
        for key, outcomes in computed.items():
            results, errors = plan.parts[key], dict[str, str]()
            for id, outcome in outcomes.items():
                if not isinstance(outcome, str):
                    results[id] = outcome
                    if _size(outcome) <= LARGEST:
                        with self._cache_lock:
                            self._cache[(key, id)] = outcome
                elif not wanted[id].beside:
                    errors[wanted[id].name] = outcome
            answer = plan.known[key] = _answer(wanted, results, errors, cached=False)
            plan.answers.put(key, replace(answer, cached=True))

    def _submit(
        self, plan: _Plan, planned: Mapping[bytes, tuple[str, tuple[str, ...], Joined | None]]
    ) -> dict[bytes, Future[dict[str, Outcome]]]:
        futures: dict[bytes, Future[dict[str, Outcome]]] = {}
        if planned and self._watch is not None:
            self._watch.start()
        missing: dict[bytes, _Job] = {
            key: (text, ids, None if one is None else plan.raised(one))
            for key, (text, ids, one) in planned.items()
        }
        for worker, is_long in ((self._short, False), (self._long, True)):
            keys = [key for key, (text, _, _) in missing.items() if (len(text) > LONG) is is_long]
            if not keys:
                continue
            try:
                submitted = worker.submit([missing[key] for key in keys])
            except Exception:
                for future in futures.values():
                    future.cancel()  # nobody will ask for these
                raise
            futures.update(zip(keys, submitted, strict=True))
        return futures

    # -- on the worker threads --------------------------------------------------------------------

    def _predict(self, jobs: Sequence[_Job]) -> list[dict[str, Outcome]]:
        outcomes: list[dict[str, Outcome]] = [{} for _ in jobs]
        # Texts that ask for the same classifiers share one Batch, hence one encoder pass.
        groups: dict[tuple[str, ...], list[int]] = {}
        for index, (text, ids, floors) in enumerate(jobs):
            found = None if floors is None else self._glanced(text, floors)
            if found is None:
                groups.setdefault(ids, []).append(index)
            else:
                outcomes[index] = found
        for ids, indexes in groups.items():
            batch = Batch([jobs[index][0] for index in indexes])
            for id in ids:
                for index, outcome in zip(indexes, self._run(id, batch), strict=True):
                    outcomes[index][id] = outcome
        return outcomes

    def _glanced(self, text: str, floors: Floors) -> dict[str, Outcome] | None:
        """What those who matter expect of a text by its words; None if one of them is in doubt."""
        batch = Batch([text])
        found: dict[str, Outcome] = {}
        for id, lowest in floors.lowest.items():
            classifier = self.roster.find(id)
            if not isinstance(classifier, Glancing):
                continue
            try:
                expected = classifier.glance(batch, lowest)
            except Exception:  # who fails here is asked in full, and fails again or not
                return None
            if expected is None:
                return None
            found[id] = expected
        if not found:
            return None
        return {id: found[id] if id in found else self._run(id, batch)[0] for id in floors.lowest}

    def _run(self, id: str, batch: Batch) -> list[Outcome]:
        classifier = self.roster.find(id)
        if classifier is None:
            return [f"classifier {id} is gone"] * len(batch.texts)
        name = self._busy_with[threading.get_ident()] = classifier.name
        try:
            found = checked(classifier, batch.texts, classifier.predict(batch))
        # Whatever it is: Rust's panics and SystemExit are no Exceptions, and a thread that died of
        # one would take along texts that never met this classifier.
        except BaseException as error:
            if len(batch.texts) == 1:
                # The reason names the fault's type only: messages may quote the user's text.
                return [f"{type(error).__name__} in classifier {name}"]
        else:
            nonsense = f"a result that is no verdict from classifier {name}"
            return [nonsense if result is None else result for result in found]
        # One bad text must not take its neighbours with it.
        return [self._run(id, Batch([text]))[0] for text in batch.texts]

    def _given_up(self, jobs: Sequence[_Job], thread: int) -> list[dict[str, Outcome]]:
        """What stands for the results of a batch whose thread is stuck. On the watch's thread."""
        assert self._patience is not None
        culprit, seconds = self._busy_with.get(thread), self._patience

        def reason(id: str) -> str:
            found = self.roster.find(id)
            name = id if found is None else found.name
            behind = f", behind classifier {culprit}" if culprit and culprit != name else ""
            return late(name, seconds) + behind

        return [{id: reason(id) for id in ids} for _, ids, _ in jobs]


def late(name: str, seconds: float) -> str:
    """The reason why a classifier that took too long has given no verdict."""
    return f"{_LATE} {seconds:g} s from classifier {name}"


def is_late(reason: str) -> bool:
    """Whether a reason is one of :func:`late`."""
    return reason.startswith(_LATE)


class _Plan:
    """What a call to ``classify`` has in hand and what it waits for.

    Attributes:
        keys: of the texts, in order.
        known: finished answers.
        parts: results of the texts of which some are missing.
        alone, joined: these texts, whom they ask for and what matters of them; joined ones come last,
            since what they were made of tells something of them.
    """

    __slots__ = ("alone", "answers", "joined", "keys", "known", "parts", "wanted")

    def __init__(self, wanted: Mapping[str, Asked], answers: Answers, keys: list[bytes]) -> None:
        self.wanted = wanted
        self.answers = answers
        self.keys = keys
        self.known: dict[bytes, Classification] = {}
        self.parts: dict[bytes, dict[str, tuple[Prediction, ...]]] = {}
        self.alone: dict[bytes, tuple[str, tuple[str, ...], None]] = {}
        self.joined: dict[bytes, tuple[str, tuple[str, ...], Joined]] = {}

    def answer(self) -> list[Classification]:
        """All of it, in order."""
        return [self.known[key] for key in self.keys]

    def raised(self, joined: Joined) -> Floors:
        """What matters of a joined text, after its members were classified."""
        members = [self.known[self.keys[index]] for index in joined.members]
        return raised(joined.floors, members)


def _answer(
    wanted: Mapping[str, Asked],
    results: Mapping[str, tuple[Prediction, ...]],
    errors: Mapping[str, str],
    *,
    cached: bool,
) -> Classification:
    predictions: dict[str, tuple[Prediction, ...]] = {}
    beside: dict[str, tuple[Prediction, ...]] = {}
    for id, asked in wanted.items():
        if id in results:
            (beside if asked.beside else predictions)[asked.name] = results[id]
    return Classification(predictions, errors, cached, beside)


def _size(found: tuple[Prediction, ...]) -> int:
    """What a result counts for in the cache: one, and more where a classifier found very much."""
    return 1 + len(found) // 16


def _key(text: str) -> bytes:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def _joined_key(keys: Sequence[bytes], index: int, joined: Joined | None) -> bytes:
    """What was expected of a text is no verdict on it, and depends on what it was made of."""
    if joined is None:
        return keys[index]
    parts = (joined.floors.key, keys[index], *(keys[member] for member in joined.members))
    return hashlib.blake2b(b"".join(parts), digest_size=16).digest()
