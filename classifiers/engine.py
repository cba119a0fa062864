"""Runs all classifiers over texts: remembers, batches without a timer, keeps off the event loop.

Two named threads own the models: one for ordinary texts, one for long ones.
"""

from __future__ import annotations

import asyncio
import hashlib
import threading
from collections.abc import Collection, Iterable, Mapping, Sequence
from concurrent.futures import Future
from weakref import WeakValueDictionary

from cachetools import LRUCache

from classifiers.types import Batch, Classification, Classifier, Prediction
from classifiers.verdicts import checked
from classifiers.worker import EngineClosed, Overloaded, Stuck, Watch, Worker

__all__ = ["ClassifierEngine", "EngineClosed", "Overloaded", "Stuck", "is_late", "late"]

Outcome = tuple[Prediction, ...] | str
"""Predictions of one classifier on one text, or the one-line reason why there are none."""

LARGEST = 1000
"""Room that one result may take in the cache; larger ones are not remembered."""
LONG = 4000
"""Texts of more characters wait in a line of their own, so that nobody waits behind a book."""

_LATE = "no verdict within"

_Job = tuple[str, tuple[str, ...]]
"""A text and the classifiers that it asks for."""


class ClassifierEngine:
    """Classifies texts with every classifier it was given.

    Args:
        classifiers: each with a name of its own.
        cache_entries: how many (text, classifier) results are remembered, large ones counting for
            several; the least recently used go first.
        max_waiting: texts that may wait for the worker before :class:`Overloaded` is raised.
        max_batch: texts handed to the classifiers at once.
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
        patience: float | None = None,
    ) -> None:
        self.classifiers: dict[str, Classifier] = {}
        for classifier in classifiers:
            if classifier.name in self.classifiers:
                raise ValueError(f"two classifiers are named {classifier.name!r}; rename one")
            self.classifiers[classifier.name] = classifier
        self._lent: WeakValueDictionary[str, Classifier] = WeakValueDictionary()
        self._cache: LRUCache[tuple[bytes, str], tuple[Prediction, ...]] = LRUCache(
            max(cache_entries, LARGEST), getsizeof=_size
        )
        self._cache_lock = threading.Lock()
        self._patience = patience
        self._busy_with: dict[int, str] = {}
        """By thread: the classifier that it runs."""

        def worker(name: str, batch: int) -> Worker[_Job, dict[str, Outcome]]:
            return Worker(
                name, self._predict, max_waiting=max_waiting, max_batch=batch,
                patience=patience, instead=self._given_up,
            )  # fmt: skip

        self._short = worker("classifier", max_batch)
        self._long = worker("classifier-long", 1)
        self._watch = None if patience is None else Watch((self._short, self._long), patience)

    def lend(self, classifier: Classifier) -> None:
        """Let a classifier be asked by its name, which no other ever has, for as long as somebody
        holds it: those that belong to a policy come and go with it, and are not in ``classifiers``."""
        self._lent[classifier.name] = classifier

    def lent(self, name: str) -> Classifier | None:
        """A classifier that was lent and is still held, by its name."""
        return self._lent.get(name)

    @property
    def waiting(self) -> int:
        """Texts that no worker has taken up yet."""
        return self._short.waiting + self._long.waiting

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
            Stuck: too many threads hang in a classifier.
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
        """Stop the workers; whoever still waits gets :class:`EngineClosed`."""
        if self._watch is not None:
            self._watch.stop()
        self._short.close()
        self._long.close()

    # -- planning: what is remembered, what must be computed --------------------------------------

    def _plan(
        self, texts: Sequence[str], names: Collection[str] | None
    ) -> tuple[tuple[str, ...], _Plan]:
        wanted = tuple(self.classifiers) if names is None else tuple(names)
        for name in wanted:
            if name not in self.classifiers and name not in self._lent:
                known = ", ".join(sorted(self.classifiers)) or "none"
                raise ValueError(f"no classifier is named {name!r}; there are: {known}")
        plan = _Plan([_key(text) for text in texts])
        missing: dict[bytes, _Job] = {}
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
                    if _size(outcome) <= LARGEST:
                        with self._cache_lock:
                            self._cache[(key, name)] = outcome
            ordered = {name: predictions[name] for name in wanted if name in predictions}
            found[key] = Classification(ordered, errors, cached=key not in computed)
        return [found[key] for key in plan.keys]

    def _submit(self, missing: Mapping[bytes, _Job]) -> dict[bytes, Future[dict[str, Outcome]]]:
        if self._watch is not None:
            self._watch.start()
        futures: dict[bytes, Future[dict[str, Outcome]]] = {}
        for worker, is_long in ((self._short, False), (self._long, True)):
            keys = [key for key, (text, _) in missing.items() if (len(text) > LONG) is is_long]
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
        for index, (_, names) in enumerate(jobs):
            groups.setdefault(names, []).append(index)
        for names, indexes in groups.items():
            batch = Batch([jobs[index][0] for index in indexes])
            for name in names:
                for index, outcome in zip(indexes, self._run(name, batch), strict=True):
                    outcomes[index][name] = outcome
        return outcomes

    def _run(self, name: str, batch: Batch) -> list[Outcome]:
        classifier = self.classifiers.get(name) or self._lent.get(name)
        if classifier is None:
            return [f"classifier {name} is gone"] * len(batch.texts)
        self._busy_with[threading.get_ident()] = name
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
        return [self._run(name, Batch([text]))[0] for text in batch.texts]

    def _given_up(self, jobs: Sequence[_Job], thread: int) -> list[dict[str, Outcome]]:
        """What stands for the results of a batch whose thread is stuck. On the watch's thread."""
        assert self._patience is not None
        culprit, seconds = self._busy_with.get(thread), self._patience
        return [
            {
                name: late(name, seconds)
                + (f", behind classifier {culprit}" if culprit and culprit != name else "")
                for name in names
            }
            for _, names in jobs
        ]


def late(name: str, seconds: float) -> str:
    """The reason why a classifier that took too long has given no verdict."""
    return f"{_LATE} {seconds:g} s from classifier {name}"


def is_late(reason: str) -> bool:
    """Whether a reason is one of :func:`late`."""
    return reason.startswith(_LATE)


class _Plan:
    """What a call to ``classify`` has in hand and what it waits for."""

    __slots__ = ("keys", "known", "submitted")

    def __init__(self, keys: list[bytes]) -> None:
        self.keys = keys
        self.known: dict[bytes, dict[str, tuple[Prediction, ...]]] = {}
        self.submitted: dict[bytes, Future[dict[str, Outcome]]] = {}


def _size(found: tuple[Prediction, ...]) -> int:
    """What a result counts for in the cache: one, and more where a classifier found very much."""
    return 1 + len(found) // 16


def _key(text: str) -> bytes:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
