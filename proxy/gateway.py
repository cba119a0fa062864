"""Everything a running gateway holds, and its start and stop."""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from classifiers.engine import ClassifierEngine, Overloaded, is_late
from classifiers.types import Classification, Classifier, Joined, Stage
from classifiers.zero_shot import ZeroShot, shared_encoder
from policies.decision import Decision
from proxy.admission import Admission
from proxy.asgi import log, log_unexpected
from proxy.auth import Keys
from proxy.cached import Cached, make_cached
from proxy.config import Config
from proxy.errors import TooLarge, Unavailable
from proxy.exchange import Accounts, Exchange
from proxy.faqs import FaqShelf
from proxy.feedback.loop import feedback_loop
from proxy.feedback.watch import watch
from proxy.keystore import KeyStore, key_table
from proxy.ledger import Ledger, LogLedger
from proxy.ledgers.ledger import database_ledger
from proxy.limits import Counters, LocalCounters, OneOfSeveral
from proxy.loading import SHIPPED_ENCODER, load_classifiers, threads_of
from proxy.metrics import Metrics
from proxy.policy_store import PolicyStore
from proxy.prices import Prices
from proxy.spending import Spending
from proxy.telemetry import Telemetry
from proxy.upstream import HttpLimits, Upstreams, make_upstreams

T = TypeVar("T")

_HANGS = 0.75
"""Share of ``limits.classify_seconds`` after which one batch is given up: who waits behind it still
gets its turn within the rest."""
MAX_EXPLAINING = 8
"""Requests that may wait for explanations at once; they are for people who look into a decision."""


class InFlight:
    """A request that is worked on, see :meth:`Gateway.in_flight`."""

    __slots__ = ("_gateway",)

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    def __enter__(self) -> None:
        gateway = self._gateway
        if gateway.requests >= gateway.config.limits.max_in_flight:
            raise Overloaded(f"{gateway.requests} requests are in flight")
        gateway.requests += 1

    def __exit__(self, *_: object) -> None:
        self._gateway.requests -= 1


class Gateway:
    """The parts that requests share.

    Args:
        config: what the operator wrote.
        upstream: stands in for the upstreams of the config's ``model_list``.
        classifiers: stand in for those of the config.
        ledger: where records go beside the database of the config, the log by default.
    """

    engine: ClassifierEngine
    policies: PolicyStore
    upstreams: Upstreams
    accounts: Accounts
    replies: Cached
    zero_shot: ZeroShot | None = None
    """Answers questions that no classifier was trained for; None without the shared encoder."""

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
        self.telemetry = Telemetry(config.telemetry)
        self.keys = Keys(config.keys)
        self.key_table = table = key_table(config.ledger)
        self.spending = Spending(table)
        self.key_store = KeyStore(table, self.keys, self.spending)
        self.feedback = feedback_loop(self)
        self.ledger: Ledger = ledger or LogLedger()
        self.database = database_ledger(config.ledger, self.metrics)
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
        self._ended: list[Exchange] = []
        self.requests = 0
        """How many are in flight."""

    def load(self) -> None:
        """Load classifiers, prices and policies, and run the policies' tests. Blocking, once.

        Raises:
            ConfigError: a model, a classifier or the ledger of the config cannot be used.
            PolicyError: a policy cannot be used, or its tests fail.
        """
        if self._loaded:
            return
        self.telemetry.start()
        if self.database is not None:
            self.database.prepare()
        _ = self.admission  # raises
        config, options = self.config, self.config.classifiers
        # As many connections as requests: nobody ever waits for one.
        limits = HttpLimits(
            connections=config.limits.max_in_flight, reply_bytes=config.limits.max_reply_bytes
        )
        self.upstreams = self._given_upstream or make_upstreams(
            config.model_list, config.timeouts, limits, config.routing
        )
        self.upstreams.check()
        self._show_breakers()
        given = self._given_classifiers
        self.engine = ClassifierEngine(
            load_classifiers(options) if given is None else given,
            cache_entries=options.cache_entries,
            max_waiting=options.max_waiting,
            threads=threads_of(options),
            patience=config.limits.classify_seconds * _HANGS,
        )
        self.policies = PolicyStore(
            self.config.policies,
            self.engine.classifiers,
            self.engine.classify_blocking,
            self.aliases,
            self.metrics,
            FaqShelf(self.engine, options),
        )
        try:
            self.policies.load()
        except BaseException:
            self.engine.close()
            raise
        self.accounts = Accounts(Prices.load(), self.config.record, self.aliases)
        encoder = shared_encoder(
            self.engine.classifiers.values(), options.encoder or SHIPPED_ENCODER
        )
        patience = config.limits.classify_seconds * _HANGS
        self.zero_shot = None if encoder is None else ZeroShot(encoder, patience=patience)
        self.replies = make_cached(config.cache, self.metrics, options.encoder or SHIPPED_ENCODER)
        self._loaded = True

    @functools.cached_property
    def admission(self) -> Admission:
        """What counts requests against the limits of their keys.

        Raises:
            ConfigError: Redis is configured and cannot be used.
        """
        config, limits = self.config, self.config.limits
        counters: Counters = LocalCounters() if config.server.workers == 1 else OneOfSeveral()
        if config.redis.url is not None:
            from proxy.limits_redis import RedisCounters

            # Longer than any request lives: then its process has died.
            longest = limits.body_seconds + config.timeouts.total + 2 * limits.classify_seconds
            counters = RedisCounters(config.redis, longest)
        return Admission(counters, self.spending, self.metrics, limits.on_error)

    def _show_breakers(self) -> None:
        """Keep the metric of the breakers, and say in the log when one opens or closes."""

        def show(model: str, is_open: bool) -> None:
            self.metrics.set("doorman_upstream_open", is_open, model=model)
            if is_open:
                log.warning("model %s has failed repeatedly and is left alone for a while", model)
            else:
                log.info("model %s answers again", model)

        for model, breaker in self.upstreams.breakers.items():
            self.metrics.set("doorman_upstream_open", 0, model=model)
            breaker.changed = functools.partial(show, model)

    def in_flight(self) -> InFlight:
        """Count a request while it is worked on.

        Raises:
            Overloaded: on entering, there are ``limits.max_in_flight`` already.
        """
        return InFlight(self)

    async def start(self) -> None:
        """Load what is not loaded yet, then watch the policy files. Ready when it returns."""
        await asyncio.to_thread(self.load)
        if self.database is not None:
            await self.database.start()
        await self.key_store.start(must=self.config.ledger.on_error == "block")
        await self.feedback.start()
        await self.upstreams.warm_up()
        await self.admission.look()
        if self.config.watch_policies:
            self._tasks.append(asyncio.create_task(self.policies.watch(self._stop)))
        if self.database is not None:
            self._tasks.append(asyncio.create_task(watch(self, self._stop)))
        self._undo = self.policies.reload_on_hangup(asyncio.get_running_loop())
        self.ready = True

    async def stop(self) -> None:
        """Stop watching, close the connections to upstream, write what waits, stop the classifiers."""
        self.ready = False
        self._account_all()
        self._undo()
        self._stop.set()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.upstreams.close()
        await self.admission.close()
        await self.feedback.stop()
        await self.key_store.stop()
        if self.database is not None:
            await self.database.stop()
        await self.telemetry.close()
        self._explainer.shutdown(wait=False, cancel_futures=True)
        # Each waits for the batch in hand, for seconds where one hangs.
        closing = [self.engine.close, *([] if self.zero_shot is None else [self.zero_shot.close])]
        await asyncio.gather(*map(asyncio.to_thread, closing), self.replies.close())

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
        self,
        texts: Sequence[str],
        names: Collection[str],
        stage: Stage = "input",
        joined: Sequence[Joined | None] | None = None,
    ) -> list[Classification]:
        """Classify texts; what would keep the classifiers busy for too long is refused, not cut.

        A classifier that hangs has failed, as one that raises has: it stands in ``errors``. Texts
        that never had their turn were not failed by anybody, whatever ``on_error`` says of failures.

        Raises:
            TooLarge: the texts of a request exceed ``limits.max_text_chars``.
            Unavailable: those of a reply do, or they waited longer than ``limits.classify_seconds``.
        """
        limits = self.config.limits
        chars, most = sum(map(len, texts)), limits.max_text_chars
        if chars <= most:
            if (known := self.engine.remembered(texts, names, joined)) is not None:
                return known
            try:
                async with asyncio.timeout(limits.classify_seconds):
                    return await self.engine.classify(texts, names, joined)
            except TimeoutError:
                raise self._too_slow() from None
        fault = f"{chars} characters of text are to be checked, limits.max_text_chars is {most}"
        if stage == "input":
            raise TooLarge(f"The request is too long: {fault}. Send less, or raise the limit.")
        raise Unavailable(f"The reply is too long: {fault}.", "reply_too_large")

    def undecided(self, decision: Decision) -> Unavailable:
        """What the client is told where a failed classifier stops its request."""
        if any(is_late(error.reason) for error in decision.errors):
            return self._too_slow()
        return Unavailable("A safety check could not be completed; nothing was decided. Retry.")

    def _too_slow(self) -> Unavailable:
        seconds = self.config.limits.classify_seconds
        return Unavailable(
            f"The classifiers took longer than {seconds:g} s (limits.classify_seconds); retry.",
            "classify_timeout",
        )

    async def decided(self, exchange: Exchange, *, forwarded: bool) -> None:
        """Record a decision before anything comes of it.

        Args:
            forwarded: whether the request goes on to a model now, or is answered here.

        Raises:
            Unavailable: it cannot be recorded, and the config says to stop then.
        """
        if self.database is not None:
            with exchange.step("ledger"):
                await self.database.decided(self.accounts.decided(exchange, forwarded=forwarded))

    def ended(self, exchange: Exchange) -> None:
        """Account for a request that has ended, as soon as its last bytes have left: the event loop
        writes them when it has nothing else to do."""
        exchange.over = time.perf_counter()
        self._ended.append(exchange)
        if self.config.telemetry.endpoint is not None:
            self._account_all()  # its trace ends with it
        elif len(self._ended) == 1:
            asyncio.get_running_loop().call_soon(self._account_all)

    def _account_all(self) -> None:
        ended, self._ended = self._ended, []
        for exchange in ended:
            try:
                self.account(exchange)
            except Exception as error:
                log_unexpected(error, exchange.call.request_id)  # the client has its answer

    def account(self, exchange: Exchange) -> None:
        """Write the record of a request that has ended, and count it."""
        try:
            record = self.accounts.record(exchange)
        except Exception as error:
            # A request without any record is the worse fault.
            log_unexpected(error, exchange.call.request_id)
            record = self.accounts.bare(exchange)
        self.telemetry.note(exchange, record)
        if self.database is not None:
            self.database.ended(record)
        self.ledger.write(record)
        self.feedback.saw(exchange)
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
        elif record.saved_basis is not None:
            add("doorman_unpriced_total", what="saving")
        if record.cost_usd is not None:
            add("doorman_cost_usd_total", record.cost_usd)
        elif record.tokens is not None:
            add("doorman_unpriced_total", what="cost")
        if record.exposed_chars is not None and record.action == "block":
            observe("doorman_stream_exposed_chars", record.exposed_chars)

    def _count(self, exchange: Exchange) -> None:
        for decision in exchange.decisions.values():
            cause, unread = decision.cause, decision.unscannable
            self.metrics.add(
                "doorman_decisions_total",
                policy=cause.policy if cause else unread.policy if unread else "",
                rule=cause.rule if cause else "on_unscannable" if unread else "",
                action=decision.outcome,
            )
            for shadow in decision.shadow:
                self.metrics.add(
                    "doorman_decisions_total",
                    policy=shadow.policy,
                    rule=shadow.rule,
                    action=f"shadow_{shadow.action}",
                )
            if decision.errors and decision.outcome not in ("error", "block"):
                self.metrics.add("doorman_fail_open_total", guard="classifier")
            for error in decision.errors:
                self.metrics.add(
                    "doorman_policy_errors_total", policy=error.policy, kind="classifier"
                )
