"""One request on its way through the gateway: what is known so far, and the record of it."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from classifiers.types import Stage, Text
from policies.attached import Attached
from policies.decision import RANK, Decision
from proxy import errors
from proxy.config import RecordConfig
from proxy.endpoints.base import Body, Endpoint, Usage
from proxy.ledger import (
    MODEL_CHARS,
    MOST_ADDRESSES,
    ContentPolicy,
    Record,
    Tokens,
    first,
    stage,
)
from proxy.prices import Prices
from proxy.upstream import Target

COMPLETE = "complete"
CLIENT_LEFT = "client_left"
CLIENT_LEFT_STATUS = 499
"""No answer was begun; nginx's number for it."""


@dataclass(frozen=True, slots=True)
class Call:
    """What a client asked: an authenticated, parsed request.

    Attributes:
        raw: the body as it came, for upstreams that get it unchanged.
        key: name of the client's key, empty where no keys are configured.
    """

    endpoint: Endpoint
    body: Body
    raw: bytes = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)
    key: str
    request_id: str

    @property
    def model(self) -> str:
        """The alias that the client asked for, empty if it named none."""
        model = self.body.get("model")
        return model if isinstance(model, str) else ""

    @property
    def stream(self) -> bool:
        """Whether the client wants server-sent events."""
        return self.body.get("stream") is True


@dataclass(slots=True)
class Exchange:
    """The working state of one request. Filled by the pipeline, read for headers and the record."""

    call: Call
    policies: Attached
    decision_id: str = field(default_factory=lambda: f"dec_{secrets.token_hex(12)}")
    created: float = field(default_factory=time.time)
    started: float = field(default_factory=time.perf_counter)
    asked: Target | None = None
    target: Target | None = None
    texts: list[Text] = field(default_factory=list)
    unscanned: list[str] = field(default_factory=list)
    content: tuple[dict[str, Any], ...] | None = field(default=None, repr=False)
    decisions: dict[Stage, Decision] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    upstream_called: bool = False
    upstream_status: int | None = None
    usage: Usage | None = None
    reply_chars: int = 0
    originals: Mapping[str, str] = field(default_factory=dict)
    exposed_chars: int | None = None
    status: int = CLIENT_LEFT_STATUS
    ended: str = CLIENT_LEFT

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Add the time spent within to a step."""
        started = time.perf_counter()
        try:
            yield
        finally:
            elapsed = time.perf_counter() - started
            self.seconds[name] = self.seconds.get(name, 0.0) + elapsed

    def classifiers(self, stage: Stage) -> frozenset[str]:
        """The classifiers that the attached policies need in a stage."""
        return self.policies.classifiers(stage)

    def failed(self, error: Exception) -> None:
        """The request ends with an error."""
        self.ended = errors.answer(error, "").body["error"]["code"] or "invalid_request"

    def completed(self) -> None:
        """The request ends well, if nothing went wrong on the way."""
        if self.ended == CLIENT_LEFT:
            self.ended = COMPLETE

    @property
    def deciding(self) -> Decision | None:
        """The most restrictive decision of the stages so far."""
        return max(self.decisions.values(), key=lambda d: RANK[d.outcome], default=None)

    @property
    def action(self) -> str:
        """The word for what happened: an outcome, or ``none`` where the client left before it."""
        if self.ended not in (COMPLETE, CLIENT_LEFT):
            return "error"
        return self.deciding.outcome if self.deciding else "none"

    @property
    def policy(self) -> str | None:
        """``name@version`` of the policy whose rule decided, if one did."""
        return self.deciding.cause.policy if self.deciding and self.deciding.cause else None

    def overhead(self) -> float:
        """Seconds spent so far, without waiting for upstream or for a slow client to read."""
        waited = self.seconds.get("upstream", 0.0) + self.seconds.get("client", 0.0)
        return max(0.0, time.perf_counter() - self.started - waited)

    def headers(self, accounts: Accounts) -> dict[str, str]:
        """What the gateway tells the client about its decision."""
        headers = {
            "x-request-id": self.call.request_id,
            "x-doorman-decision-id": self.decision_id,
            "x-doorman-action": self.action,
            "x-doorman-overhead-ms": f"{self.overhead() * 1000:.2f}",
        }
        if self.policy:
            headers["x-doorman-policy"] = self.policy
        saved, _ = accounts.saved(self)
        # While a routed stream runs, what it saves is not known yet.
        if saved is not None and not (self.call.stream and self.upstream_called):
            headers["x-doorman-saved-usd"] = f"{saved:.6f}"
        return headers


class Accounts:
    """What requests cost and saved, and how they are recorded."""

    def __init__(self, prices: Prices, config: RecordConfig) -> None:
        self._prices = prices
        self._config = config
        self._content = ContentPolicy(config)

    def record(self, exchange: Exchange) -> Record:
        """The record of a request that has ended."""
        target = exchange.target
        saved, basis = self.saved(exchange)
        return replace(
            self.bare(exchange),
            stages={name: stage(decision) for name, decision in exchange.decisions.items()},
            texts=sum(not text.derived for text in exchange.texts),
            unscanned=first(exchange.unscanned, MOST_ADDRESSES),
            upstream_model=target.model if target and exchange.upstream_called else None,
            provider=target.provider if target and exchange.upstream_called else None,
            milliseconds=self._milliseconds(exchange),
            tokens=self.tokens(exchange),
            cost_usd=self.spent(exchange),
            saved_usd=saved,
            saved_basis=basis,
            exposed_chars=exchange.exposed_chars,
            content=exchange.content or self.content(exchange.texts),
        )

    def bare(self, exchange: Exchange) -> Record:
        """The record of a request whose own could not be made: who asked, and what happened."""
        call = exchange.call
        return Record(
            time=exchange.created,
            decision_id=exchange.decision_id,
            request_id=call.request_id,
            key=call.key or None,
            endpoint=call.endpoint.name,
            stream=call.stream,
            model=call.model[:MODEL_CHARS],
            action=exchange.action,
            status=exchange.status,
            ended=exchange.ended,
            policies=exchange.policies.ids,
            upstream_called=exchange.upstream_called,
            upstream_status=exchange.upstream_status,
        )

    def content(self, texts: Sequence[Text]) -> tuple[dict[str, Any], ...]:
        """What of the texts goes into the record. May take long for a large request."""
        return self._content.of(texts)

    def tokens(self, exchange: Exchange) -> Tokens | None:
        """Tokens of the upstream call; None where there was none."""
        if not exchange.upstream_called:
            return None
        if exchange.usage is not None:
            return Tokens(
                exchange.usage.prompt_tokens, exchange.usage.completion_tokens, "upstream"
            )
        if exchange.upstream_status is None or exchange.upstream_status >= 400:
            return None  # nothing is billed for a call that failed
        completion = self._prices.estimate_tokens(exchange.reply_chars)
        return Tokens(self._prompt_tokens(exchange.texts), completion, "estimated")

    def spent(self, exchange: Exchange) -> float | None:
        """Dollars that the upstream call cost; None where it has no price or was not made."""
        if exchange.target is not None and exchange.target.provider == "doorman":
            return 0.0 if exchange.upstream_called else None  # the embedded upstream is free
        return self._cost(exchange.target, self.tokens(exchange))

    def saved(self, exchange: Exchange) -> tuple[float | None, str | None]:
        """Dollars that were not spent, and how that was computed.

        A request that never reached upstream saves its estimated prompt and a reply of
        ``record.estimated_completion_tokens``; a routed one saves the difference of the two
        models' prices for the tokens it used.
        """
        if not exchange.upstream_called:
            if not any(d.reply is not None for d in exchange.decisions.values()):
                return None, None
            prompt = self._prompt_tokens(exchange.texts)
            tokens = Tokens(prompt, self._unwritten(exchange.call.body), "estimated")
            basis = (
                f"not called: {tokens.prompt} estimated prompt and {tokens.completion} assumed "
                "completion tokens"
            )
        elif exchange.target is not exchange.asked and (used := self.tokens(exchange)) is not None:
            tokens = used
            basis = f"routed: price difference for {tokens.basis} tokens"
        else:
            return None, None
        full = self._cost(exchange.asked, tokens)
        spent = self._cost(exchange.target, tokens) if exchange.upstream_called else 0.0
        if full is None or spent is None:
            return None, f"{basis}, but a model has no price"
        return full - spent, basis

    def _unwritten(self, body: Body) -> int:
        """Tokens of a reply that nobody wrote: the configured guess, or the request's own limit."""
        limits = [body.get(name) for name in ("max_completion_tokens", "max_tokens")]
        given = [limit for limit in limits if type(limit) is int and limit >= 0]
        return min([self._config.estimated_completion_tokens, *given])

    def _prompt_tokens(self, texts: Sequence[Text]) -> int:
        own = sum(len(text.content) for text in texts if not text.derived)
        return self._prices.estimate_tokens(own)

    def _cost(self, target: Target | None, tokens: Tokens | None) -> float | None:
        if target is None or tokens is None:
            return None
        return self._prices.cost(target.price_key, tokens.prompt, tokens.completion)

    @staticmethod
    def _milliseconds(exchange: Exchange) -> dict[str, float]:
        times = {name: round(s * 1000, 3) for name, s in exchange.seconds.items()}
        times["total"] = round((time.perf_counter() - exchange.started) * 1000, 3)
        times["overhead"] = round(exchange.overhead() * 1000, 3)
        return times
