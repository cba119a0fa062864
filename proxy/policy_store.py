"""The policies in force: loaded, bound and tested as a whole, exchanged as a whole."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import watchfiles

from classifiers.faults import did_you_mean
from classifiers.types import Classification, Classifier
from policies import schema, testing
from policies.actions import Route
from policies.attached import Attached, attached
from policies.schema import BoundPolicy, PolicyError
from proxy.metrics import Metrics

log = logging.getLogger("doorman.policies")

Classify = Callable[[Sequence[str], Collection[str]], list[Classification]]


def load_set(
    paths: Sequence[Path],
    classifiers: Mapping[str, Classifier],
    classify: Classify,
    aliases: Collection[str],
) -> tuple[BoundPolicy, ...]:
    """Load policy files and run their tests. Blocking: the tests classify.

    Args:
        paths: the files.
        classifiers: what rules may ask, by name.
        classify: runs the classifiers named in its second argument over texts.
        aliases: the models that rules may route to.

    Raises:
        PolicyError: one line per fault or failed test; no policy of the set is usable then.
    """
    policies: list[BoundPolicy] = []
    faults: list[str] = []
    for path in paths:
        try:
            policy = schema.bind(schema.load(path), classifiers)
        except PolicyError as error:
            faults.append(str(error))
            continue
        faults += [str(failure) for failure in testing.run_tests(policy, classify)]
        faults += unknown_routes(policy, aliases)
        policies.append(policy)
    names = [policy.policy.name for policy in policies]
    for name in sorted({name for name in names if names.count(name) > 1}):
        faults.append(f"two policies are named {name!r}; rename one")
    if faults:
        raise PolicyError("\n".join(faults))
    return tuple(policies)


def unknown_routes(policy: BoundPolicy, aliases: Collection[str]) -> list[str]:
    """A line for every rule that routes to a model that is not there."""
    return [
        f"{policy.policy.at('rules', index, 'do', 'route')}: rule {rule.name!r} routes to "
        f"{rule.do.model!r}, which model_list has not; "
        f"{did_you_mean(rule.do.model, aliases, 'models of model_list')}"
        for index, rule in enumerate(policy.policy.rules)
        if isinstance(rule.do, Route) and rule.do.model not in aliases
    ]


class PolicyStore:
    """Holds the set that new requests get; a request keeps the set it started with.

    ``current`` is replaced whole or not at all: a set with any fault leaves the last good one in
    force, is logged and is counted.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        classifiers: Mapping[str, Classifier],
        classify: Classify,
        aliases: Collection[str],
        metrics: Metrics,
    ) -> None:
        self.current: tuple[BoundPolicy, ...] = ()
        self._attached: dict[tuple[str, str], Attached] = {}
        self._paths = tuple(paths)
        self._classifiers = classifiers
        self._classify = classify
        self._aliases = aliases
        self._metrics = metrics
        self._reloading = threading.Lock()

    def load(self) -> None:
        """Load the first set, or exchange the one in force. Blocking.

        Raises:
            PolicyError: the set has faults; the one in force stays.
        """
        with self._reloading:
            loaded = load_set(self._paths, self._classifiers, self._classify, self._aliases)
            # A new dictionary, so that a request that reads the old one mixes nothing up.
            self.current, self._attached = loaded, {}
        self._metrics.set("doorman_policies_loaded", len(loaded))

    def attached(self, model: str, key: str) -> Attached:
        """The policies in force for an alias and a key."""
        known, policies = self._attached, self.current
        found = known.get((model, key))
        if found is None:
            found = Attached(attached(policies, model, key))
            if model in self._aliases:  # names that clients invent are not kept
                known[model, key] = found
        return found

    async def reload(self) -> bool:
        """Exchange the set in force if the files are good; never raises for their faults."""
        try:
            await asyncio.to_thread(self.load)
        except Exception as error:
            # Whatever went wrong, the last good set is the safe one. A policy's own faults name
            # no user text; anything else is named by its type only.
            reason = str(error) if isinstance(error, PolicyError) else type(error).__name__
            log.error("policies not reloaded, the last good ones stay in force: %s", reason)
            self._metrics.add("doorman_policy_errors_total", policy="", kind="reload")
            return False
        log.info("policies reloaded: %s", ", ".join(policy.id for policy in self.current) or "none")
        return True

    async def watch(self, stop: asyncio.Event) -> None:
        """Reload whenever one of the files changes, until ``stop`` is set."""
        # Folders are watched, not files: editors and config maps replace files by renaming.
        wanted = {path.absolute() for path in self._paths} | {p.resolve() for p in self._paths}
        folders = {path.parent for path in wanted if path.parent.is_dir()}
        if not folders:
            return

        def is_ours(_: watchfiles.Change, changed: str) -> bool:
            # A mounted config map exchanges a folder named ..data that its files link into.
            return Path(changed) in wanted or Path(changed).name == "..data"

        options: dict[str, Any] = {"debounce": 200, "step": 50, "recursive": False}
        while not stop.is_set():
            try:
                async for _ in watchfiles.awatch(
                    *folders, watch_filter=is_ours, stop_event=stop, **options
                ):
                    await self.reload()
            except Exception as error:
                log.error("watching the policy files failed, trying again: %r", error)
                await asyncio.sleep(5)

    def reload_on_hangup(self, loop: asyncio.AbstractEventLoop) -> Callable[[], None]:
        """Reload on SIGHUP where the platform and the thread allow it; returns the undo."""
        tasks: set[asyncio.Task[bool]] = set()

        def reload() -> None:
            task = loop.create_task(self.reload())
            tasks.add(task)
            task.add_done_callback(tasks.discard)

        try:
            loop.add_signal_handler(signal.SIGHUP, reload)
        except (AttributeError, NotImplementedError, RuntimeError, ValueError):
            return lambda: None  # no such signal (Windows), or not the main thread (tests)

        def undo() -> None:
            with contextlib.suppress(RuntimeError, ValueError):
                loop.remove_signal_handler(signal.SIGHUP)

        return undo
