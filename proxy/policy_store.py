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
from policies.answers import OpenFaq
from policies.attached import Attached, attached
from policies.schema import BoundPolicy, PolicyError
from proxy import moderated
from proxy.errors import Unavailable
from proxy.metrics import Metrics

log = logging.getLogger("doorman.policies")

Classify = Callable[[Sequence[str], Collection[str]], list[Classification]]


def load_set(
    paths: Sequence[Path],
    classifiers: Mapping[str, Classifier],
    classify: Classify,
    aliases: Collection[str],
    open_faq: OpenFaq | None = None,
    files: set[Path] | None = None,
) -> tuple[BoundPolicy, ...]:
    """Load policy files and run their tests. Blocking: the tests classify.

    Args:
        paths: the files.
        classifiers: what rules may ask, by name.
        classify: runs the classifiers named in its second argument over texts.
        aliases: the models that rules may route to.
        open_faq: reads the FAQs that rules answer from.
        files: gets the FAQ files of all policies that could be read, whatever faults there are.

    Raises:
        PolicyError: one line per fault or failed test; no policy of the set is usable then.
    """
    policies: list[BoundPolicy] = []
    faults: list[str] = []
    for path in paths:
        try:
            written = schema.load(path)
            if files is not None:
                files.update(written.faqs())
            policy = schema.bind(written, classifiers, open_faq)
        except PolicyError as error:
            faults.append(str(error))
            continue
        faults += [str(failure) for failure in testing.run_tests(policy, classify)]
        faults += unknown_routes(policy, aliases)
        policies.append(policy)
    names = [policy.policy.name for policy in policies]
    for name in sorted({name for name in names if names.count(name) > 1}):
        faults.append(f"two policies are named {name!r}; rename one")
    if moderated.NAME in names:
        faults.append(
            f"a policy is named {moderated.NAME!r}, as what the request field of that name becomes in "
            "records; rename it"
        )
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
        open_faq: OpenFaq | None = None,
    ) -> None:
        self.current: tuple[BoundPolicy, ...] = ()
        self._attached: dict[tuple[str, str, tuple[str, ...]], Attached] = {}
        self._paths = tuple(paths)
        self._classifiers = classifiers
        self._classify = classify
        self._aliases = aliases
        self._metrics = metrics
        self._open_faq = open_faq
        self._faqs: frozenset[Path] = frozenset()
        self._reloading = threading.Lock()

    def load(
        self,
        classifiers: Mapping[str, Classifier] | None = None,
        accept: Callable[[Sequence[BoundPolicy]], None] = lambda _: None,
    ) -> None:
        """Load the first set, or exchange the one in force. Blocking.

        Args:
            classifiers: what rules may ask from now on; as before by default. The tests of the policies
                must hold with them, too.
            accept: called with the set before it comes into force; what it raises keeps it out.

        Raises:
            PolicyError: the set has faults; the one in force stays.
        """
        with self._reloading:
            files: set[Path] = set()
            known = self._classifiers if classifiers is None else classifiers
            try:
                loaded = load_set(
                    self._paths, known, self._classify, self._aliases, self._open_faq, files
                )
                accept(loaded)
            except BaseException:
                self._faqs |= files  # a change of these may mend what is wrong
                raise
            self._faqs = frozenset(files)
            self._classifiers = known
            # A new dictionary, so that a request that reads the old one mixes nothing up.
            self.current, self._attached = loaded, {}
        self._metrics.set("doorman_policies_loaded", len(loaded))

    @property
    def open_faq(self) -> OpenFaq | None:
        """Reads the FAQs that rules answer from."""
        return self._open_faq

    def candidate(self, text: str, file: str) -> BoundPolicy:
        """A policy that is not in force, with its thresholds. Blocking.

        It may answer from the FAQs of the policies in force and from no others: its text may come from
        elsewhere, and is not to read any file.

        Args:
            file: names the text in messages; it stands beside the policy that it would replace.

        Raises:
            PolicyError: its faults, one a line.
        """
        name = schema.loads(text, file).name
        homes = {one.policy.name: Path(one.policy.source).parent for one in self.current}
        written = schema.loads(text, str(homes.get(name, Path()) / file))
        if not self._faqs.issuperset(written.faqs()):
            raise PolicyError(
                f"{file}: answers from a FAQ that no policy in force has; try it with `doorman backtest`"
            )
        bound = schema.bind(written, self._classifiers, self._open_faq)
        if faults := unknown_routes(bound, self._aliases):
            raise PolicyError("\n".join(faults))
        return bound

    def attached(self, model: str, key: str, also: tuple[str, ...] = ()) -> Attached:
        """The policies in force for an alias and a key.

        Args:
            also: names of policies that the key adds, whatever they attach to.

        Raises:
            Unavailable: one of those is not loaded.
        """
        known, policies = self._attached, self.current
        found = known.get((model, key, also))
        if found is None:
            own = attached(policies, model, key)
            if not {policy.policy.name for policy in policies}.issuperset(also):
                raise Unavailable("A policy of this key is not loaded.", "policy_missing")
            if also:
                own = tuple(p for p in policies if p in own or p.policy.name in also)
            found = Attached(own)
            if model in self._aliases:  # names that clients invent are not kept
                known[model, key, also] = found
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

        def is_ours(_: watchfiles.Change, changed: str) -> bool:
            # A mounted config map exchanges a folder named ..data that its files link into.
            return Path(changed) in self._watched() or Path(changed).name == "..data"

        options: dict[str, Any] = {"debounce": 200, "step": 50, "recursive": False}
        while not stop.is_set() and (folders := self._folders()):
            try:
                async for _ in watchfiles.awatch(
                    *folders, watch_filter=is_ours, stop_event=stop, **options
                ):
                    await self.reload()
                    if self._folders() != folders:
                        break  # another FAQ than before; its folder is to be watched, too
            except Exception as error:
                log.error("watching the policy files failed, trying again: %r", error)
                await asyncio.sleep(5)

    def _watched(self) -> set[Path]:
        """The files of the policies and of their FAQs, and what they link to."""
        files = [*self._paths, *self._faqs]
        return {path.absolute() for path in files} | {path.resolve() for path in files}

    def _folders(self) -> set[Path]:
        # Folders are watched, not files: editors and config maps replace files by renaming.
        return {path.parent for path in self._watched() if path.parent.is_dir()}

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
