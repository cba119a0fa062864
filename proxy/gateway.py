"""Everything a running gateway holds, and its start and stop."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from classifiers.engine import ClassifierEngine, Overloaded
from classifiers.types import Classification, Classifier, Stage
from proxy.asgi import log_unexpected
from proxy.auth import Keys
from proxy.config import Config
from proxy.errors import TooLarge, Unavailable
from proxy.exchange import Accounts, Exchange
from proxy.ledger import Ledger, LogLedger
from proxy.loading import load_classifiers
from proxy.metrics import Metrics
from proxy.policy_store import PolicyStore
from proxy.prices import Prices
from proxy.upstream import HttpLimits, Upstreams, make_upstreams

T = TypeVar("T")

MAX_EXPLAINING = 8
"""Requests that may wait for explanations at once; they are for people who look into a decision."""


class Gateway:
    """The parts that requests share.

    Args:
        config: what the operator wrote.
        upstream: stands in for the upstreams of the config's ``model_list``.
        classifiers: stand in for those of the config.
        ledger: where records go, the log by default.
    """

    engine: ClassifierEngine
    policies: PolicyStore
    upstreams: Upstreams
    accounts: Accounts

    def __init__(
        self,
        config: Config,
        *,
        upstream: Upstreams | None = None,
        classifiers: Iterable[Classifier] | None = None,
        ledger: Ledger | None = None,
    ) -> None:
        self.config = config
        self.metrics = Metrics()
        self.keys = Keys(config.keys)
        self.ledger: Ledger = ledger or LogLedger()
        self.aliases = dict.fromkeys(entry.model_name for entry in config.model_list)
        self.ready = False
        self.created = int(time.time())
        self._given_upstream = upstream
        self._given_classifiers = classifiers
        self._loaded = False
        self._stop = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._undo: Callable[[], None] = lambda: None
        self._explainer = ThreadPoolExecutor(1, "explain")
        self._explaining = 0

    def load(self) -> None:
        """Load classifiers, prices and policies, and run the policies' tests. Blocking, once.

        Raises:
            ConfigError: a model or a classifier of the config cannot be used.
            PolicyError: a policy cannot be used, or its tests fail.
        """
        if self._loaded:
            return
        config, options = self.config, self.config.classifiers
        limits = HttpLimits(reply_bytes=config.limits.max_reply_bytes)
        self.upstreams = self._given_upstream or make_upstreams(
            config.model_list, config.timeouts, limits
        )
        self.upstreams.check()
        given = self._given_classifiers
        self.engine = ClassifierEngine(
            load_classifiers(options) if given is None else given,
            cache_entries=options.cache_entries,
            max_waiting=options.max_waiting,
        )
        self.policies = PolicyStore(
            self.config.policies,
            self.engine.classifiers,
            self.engine.classify_blocking,
            self.aliases,
            self.metrics,
        )
        try:
            self.policies.load()
        except BaseException:
            self.engine.close()
            raise
        self.accounts = Accounts(Prices.load(), self.config.record)
        self._loaded = True

    async def start(self) -> None:
        """Load what is not loaded yet, then watch the policy files. Ready when it returns."""
        await asyncio.to_thread(self.load)
        await self.upstreams.warm_up()
        if self.config.watch_policies:
            self._tasks.append(asyncio.create_task(self.policies.watch(self._stop)))
        self._undo = self.policies.reload_on_hangup(asyncio.get_running_loop())
        self.ready = True

    async def stop(self) -> None:
        """Stop watching, close the connections to upstream, stop the classifiers."""
        self.ready = False
        self._undo()
        self._stop.set()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.upstreams.close()
        self._explainer.shutdown(wait=False, cancel_futures=True)
        await asyncio.to_thread(self.engine.close)

    async def explain(self, work: Callable[[], T]) -> T:
        """Do some blocking work that explains a prediction: one at a time, in order.

        Raises:
            Overloaded: ``MAX_EXPLAINING`` requests wait already.
        """
        if self._explaining >= MAX_EXPLAINING:
            raise Overloaded(f"{self._explaining} requests wait to be explained already")
        self._explaining += 1
        try:
            # A thread of its own: a caller that leaves gives up its place in the line, but what
            # has begun is finished before the next one begins.
            return await asyncio.get_running_loop().run_in_executor(self._explainer, work)
        finally:
            self._explaining -= 1

    async def classify(
        self, texts: Sequence[str], names: Collection[str], stage: Stage = "input"
    ) -> list[Classification]:
        """Classify texts; what would keep the classifiers busy for too long is refused, not cut.

        Raises:
            TooLarge: the texts of a request exceed ``limits.max_text_chars``.
            Unavailable: those of a reply do, or it took longer than ``limits.classify_seconds``.
        """
        limits = self.config.limits
        chars, most = sum(map(len, texts)), limits.max_text_chars
        if chars <= most:
            try:
                async with asyncio.timeout(limits.classify_seconds):
                    return await self.engine.classify(texts, names)
            except TimeoutError:
                raise Unavailable(
                    f"The classifiers took longer than {limits.classify_seconds:g} s "
                    "(limits.classify_seconds); retry.",
                    "classify_timeout",
                ) from None
        fault = f"{chars} characters of text are to be checked, limits.max_text_chars is {most}"
        if stage == "input":
            raise TooLarge(f"The request is too long: {fault}. Send less, or raise the limit.")
        raise Unavailable(f"The reply is too long: {fault}.", "reply_too_large")

    def account(self, exchange: Exchange) -> None:
        """Write the record of a request that has ended, and count it."""
        try:
            record = self.accounts.record(exchange)
        except Exception as error:
            # A request without any record is the worse fault.
            log_unexpected(error, exchange.call.request_id)
            record = self.accounts.bare(exchange)
        self.ledger.write(record)
        self._count(exchange)
        add, observe = self.metrics.add, self.metrics.observe
        observe("doorman_overhead_seconds", exchange.overhead())
        for stage in exchange.decisions:
            if seconds := exchange.seconds.get(f"classify_{stage}"):
                observe("doorman_classify_seconds", seconds, stage=stage)
        if record.upstream_called and record.provider is not None:
            waited = exchange.seconds.get("upstream", 0.0)
            observe("doorman_upstream_seconds", waited, provider=record.provider)
        if record.saved_usd is not None:
            dearer = record.saved_usd < 0
            name = "doorman_extra_usd_total" if dearer else "doorman_saved_usd_total"
            add(name, abs(record.saved_usd))
        if record.cost_usd is not None:
            add("doorman_cost_usd_total", record.cost_usd)
        if record.exposed_chars is not None and record.action == "block":
            observe("doorman_stream_exposed_chars", record.exposed_chars)

    def _count(self, exchange: Exchange) -> None:
        for decision in exchange.decisions.values():
            cause = decision.cause
            self.metrics.add(
                "doorman_decisions_total",
                policy=cause.policy if cause else "",
                rule=cause.rule if cause else "",
                action=decision.outcome,
            )
            for shadow in decision.shadow:
                self.metrics.add(
                    "doorman_decisions_total",
                    policy=shadow.policy,
                    rule=shadow.rule,
                    action=f"shadow_{shadow.action}",
                )
            for error in decision.errors:
                self.metrics.add(
                    "doorman_policy_errors_total", policy=error.policy, kind="classifier"
                )
