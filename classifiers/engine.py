"""Runs all classifiers over texts: remembers, batches without a timer, keeps off the event loop.

One named worker thread owns every model. While it works on a batch the queue fills, and whatever
waits when it is done becomes the next batch: under light load a text is classified at once, under
heavy load batches grow by themselves.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import threading
import time
from collections import deque
from collections.abc import Collection, Iterable, Mapping, Sequence
from concurrent.futures import Future, InvalidStateError

from cachetools import LRUCache

from classifiers.types import Batch, Classification, Classifier, Prediction

_log = logging.getLogger("doorman.classifiers")

Outcome = tuple[Prediction, ...] | str
"""Predictions of one classifier on one text, or the one-line reason why there are none."""

_Job = tuple[str, tuple[str, ...], "Future[dict[str, Outcome]]"]
"""A text, the classifiers it asks for, and where the result goes."""


class Overloaded(Exception):
    """The queue is full; the caller is told at once instead of waiting (HTTP 503 with retry-after)."""


class EngineClosed(Exception):
    """The engine was closed while texts were waiting."""


class ClassifierEngine:
    """Classifies texts with every classifier it was given.

    Args:
        classifiers: each with a name of its own.
        cache_entries: how many (text, classifier) results are remembered; least recently used go.
        max_waiting: texts that may wait for the worker before :class:`Overloaded` is raised.
        max_batch: texts handed to the classifiers at once.
    """

    def __init__(
        self,
        classifiers: Iterable[Classifier],
        *,
        cache_entries: int = 50_000,
        max_waiting: int = 4096,
        max_batch: int = 32,
    ) -> None:
        self.classifiers: dict[str, Classifier] = {}
        for classifier in classifiers:
            if classifier.name in self.classifiers:
                raise ValueError(f"two classifiers are named {classifier.name!r}; rename one")
            self.classifiers[classifier.name] = classifier
        self._cache: LRUCache[tuple[bytes, str], tuple[Prediction, ...]] = LRUCache(cache_entries)
        self._cache_lock = threading.Lock()
        self._max_waiting = max_waiting
        self._max_batch = max_batch
        self._waiting: deque[_Job] = deque()
        self._wake = threading.Condition()
        self._closed = False
        self._worker: threading.Thread | None = None
        self.classify_seconds = 0.0
        """Seconds the worker has spent in classifiers, in total."""
        self.texts_classified = 0
        """Texts that were not answered from memory, in total."""

    async def classify(
        self, texts: Sequence[str], names: Collection[str] | None = None
    ) -> list[Classification]:
        """Classify texts; equal texts are classified once.

        Args:
            texts: any strings, also empty ones.
            names: the classifiers to ask, all by default.

        Returns:
            One classification per text, in order. A classifier that failed stands in ``errors``.

        Raises:
            Overloaded: too many texts are waiting already.
            EngineClosed: the engine is closed.
        """
        wanted, plan = self._plan(texts, names)
        futures = {key: asyncio.wrap_future(future) for key, future in plan.submitted.items()}
        if futures:
            await asyncio.gather(*futures.values())
        return self._collect(texts, wanted, plan, {k: f.result() for k, f in futures.items()})

    def classify_blocking(
        self, texts: Sequence[str], names: Collection[str] | None = None
    ) -> list[Classification]:
        """:meth:`classify` for callers without an event loop (policy tests, the command line)."""
        wanted, plan = self._plan(texts, names)
        results = {key: future.result() for key, future in plan.submitted.items()}
        return self._collect(texts, wanted, plan, results)

    def close(self) -> None:
        """Stop the worker; whoever still waits gets :class:`EngineClosed`."""
        with self._wake:
            self._closed = True
            self._wake.notify_all()
            worker = self._worker
        if worker is not None:
            worker.join(timeout=10)
        with self._wake:
            waiting = list(self._waiting)
            self._waiting.clear()
        _fail(waiting, EngineClosed("the classifier engine was closed"))

    # -- planning: what is remembered, what must be computed --------------------------------------

    def _plan(
        self, texts: Sequence[str], names: Collection[str] | None
    ) -> tuple[tuple[str, ...], _Plan]:
        wanted = tuple(self.classifiers) if names is None else tuple(names)
        for name in wanted:
            if name not in self.classifiers:
                known = ", ".join(sorted(self.classifiers)) or "none"
                raise ValueError(f"no classifier is named {name!r}; there are: {known}")
        plan = _Plan([_key(text) for text in texts])
        missing: dict[bytes, tuple[str, tuple[str, ...]]] = {}
        for text, key in zip(texts, plan.keys, strict=True):
            if key in plan.known:
                continue
            with self._cache_lock:
                found = {name: self._cache.get((key, name)) for name in wanted}
            plan.known[key] = {name: hit for name, hit in found.items() if hit is not None}
            if absent := tuple(name for name in wanted if name not in plan.known[key]):
                missing[key] = (text, absent)
        if missing:
            plan.submitted = self._submit(missing)
        return wanted, plan

    def _collect(
        self,
        texts: Sequence[str],
        wanted: tuple[str, ...],
        plan: _Plan,
        computed: Mapping[bytes, Mapping[str, Outcome]],
    ) -> list[Classification]:
        found: dict[bytes, Classification] = {}
        for key, known in plan.known.items():
            errors: dict[str, str] = {}
            predictions = dict(known)
            for name, outcome in computed.get(key, {}).items():
                if isinstance(outcome, str):
                    errors[name] = outcome
                else:
                    predictions[name] = outcome
                    with self._cache_lock:
                        self._cache[(key, name)] = outcome
            ordered = {name: predictions[name] for name in wanted if name in predictions}
            found[key] = Classification(ordered, errors, cached=key not in computed)
        return [found[key] for key in plan.keys]

    def _submit(
        self, missing: Mapping[bytes, tuple[str, tuple[str, ...]]]
    ) -> dict[bytes, Future[dict[str, Outcome]]]:
        with self._wake:
            if self._closed:
                raise EngineClosed("the classifier engine was closed")
            if len(self._waiting) + len(missing) > self._max_waiting and self._waiting:
                raise Overloaded(f"{len(self._waiting)} texts wait for the classifiers already")
            if self._worker is None:
                self._worker = threading.Thread(target=self._work, name="classifier", daemon=True)
                self._worker.start()
            futures: dict[bytes, Future[dict[str, Outcome]]] = {}
            for key, (text, names) in missing.items():
                futures[key] = Future()
                self._waiting.append((text, names, futures[key]))
            self._wake.notify()
        return futures

    # -- the worker thread ------------------------------------------------------------------------

    def _work(self) -> None:
        batch: list[_Job] = []
        try:
            while True:
                with self._wake:
                    while not self._waiting and not self._closed:
                        self._wake.wait()
                    if self._closed:
                        return
                    batch = [
                        self._waiting.popleft()
                        for _ in range(min(self._max_batch, len(self._waiting)))
                    ]
                # A caller that went away has cancelled its future: no work for nobody.
                batch = [job for job in batch if job[2].set_running_or_notify_cancel()]
                started = time.perf_counter()
                outcomes = self._predict([(text, names) for text, names, _ in batch])
                self.classify_seconds += time.perf_counter() - started
                self.texts_classified += len(batch)
                for (_, _, future), outcome in zip(batch, outcomes, strict=True):
                    future.set_result(outcome)
                batch = []
        except BaseException as error:
            # Nobody may be left hanging: the batch in hand and all who wait are told, and the next
            # call starts a new worker. Only the fault's type is named: a message may quote a text.
            with self._wake:
                self._worker = None
                batch += self._waiting
                self._waiting.clear()
            died = EngineClosed(f"the classifier worker died of {type(error).__name__}")
            _fail(batch, died)
            _log.error("%s; the next request starts a new one", died)

    def _predict(self, jobs: Sequence[tuple[str, tuple[str, ...]]]) -> list[dict[str, Outcome]]:
        outcomes: list[dict[str, Outcome]] = [{} for _ in jobs]
        # Texts that ask for the same classifiers share one Batch, hence one encoder pass.
        groups: dict[tuple[str, ...], list[int]] = {}
        for index, (_, names) in enumerate(jobs):
            groups.setdefault(names, []).append(index)
        for names, indexes in groups.items():
            batch = Batch([jobs[index][0] for index in indexes])
            for name in names:
                for index, outcome in zip(indexes, self._run(name, batch), strict=True):
                    outcomes[index][name] = outcome
        return outcomes

    def _run(self, name: str, batch: Batch) -> list[Outcome]:
        classifier = self.classifiers[name]
        try:
            predictions = classifier.predict(batch)
            if len(predictions) != len(batch.texts):
                raise RuntimeError(f"{len(predictions)} results for {len(batch.texts)} texts")
            return list(predictions)
        except Exception as error:
            if len(batch.texts) == 1:
                # The reason names the fault's type only: messages may quote the user's text.
                return [f"{type(error).__name__} in classifier {name}"]
        # One bad text must not take its neighbours with it.
        return [self._run(name, Batch([text]))[0] for text in batch.texts]


def _fail(jobs: Iterable[_Job], error: Exception) -> None:
    for _, _, future in jobs:
        with contextlib.suppress(InvalidStateError):
            future.set_exception(error)


class _Plan:
    """What a call to ``classify`` has in hand and what it waits for."""

    __slots__ = ("keys", "known", "submitted")

    def __init__(self, keys: list[bytes]) -> None:
        self.keys = keys
        self.known: dict[bytes, dict[str, tuple[Prediction, ...]]] = {}
        self.submitted: dict[bytes, Future[dict[str, Outcome]]] = {}


def _key(text: str) -> bytes:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
