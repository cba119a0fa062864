"""One request on its way through the gateway: what is known so far, and the record of it."""

from __future__ import annotations

import re
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from classifiers.types import Classification, Stage, Text
from policies.attached import Attached
from policies.decision import RANK, Decision
from proxy import errors
from proxy.cached import Hit, Lookup
from proxy.config import RecordConfig
from proxy.endpoints.base import Body, Endpoint, Usage
from proxy.errors import UpstreamError
from proxy.fallbacks import Trail
from proxy.ids import random_id
from proxy.ledger import (
    MODEL_CHARS,
    MOST_ADDRESSES,
    ContentPolicy,
    Record,
    Tokens,
    first,
    stage,
)
from proxy.moderated import Moderated
from proxy.prices import Prices
from proxy.steps import Step
from proxy.ticket import Ticket
from proxy.upstream import Target

_MODEL = re.compile(r"[\w.:/@+-]{1,128}", re.ASCII)
"""What may be the name of a model; anything else that stands there might be somebody's text."""
_LIMITS = ("max_completion_tokens", "max_tokens", "max_output_tokens")
"""Fields of requests that limit the tokens of the reply."""

COMPLETE = "complete"
CLIENT_LEFT = "client_left"
UNKNOWN_MODEL = "?"
CLIENT_LEFT_STATUS = 499
"""No answer was begun; nginx's number for it."""


@dataclass(frozen=True, slots=True)
class Call:
    """What a client asked: an authenticated, parsed request.

    Attributes:
        raw: the body as it came, for upstreams that get it unchanged.
        key: name of the client's key, empty where no keys are configured.
        ticket: what that key allows, and what of its limits this request takes.
    """

    endpoint: Endpoint
    body: Body
    raw: bytes = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)
    key: str
    request_id: str
    ticket: Ticket = field(default_factory=Ticket, repr=False)

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
    decision_id: str = field(default_factory=lambda: f"dec_{random_id()}")
    created: float = field(default_factory=time.time)
    started: float = field(default_factory=time.perf_counter)
    over: float | None = None
    asked: Target | None = None
    target: Target | None = None
    texts: list[Text] = field(default_factory=list)
    unscanned: list[str] = field(default_factory=list)
    content: tuple[dict[str, Any], ...] | None = field(default=None, repr=False)
    found: Sequence[Classification] = field(default=(), repr=False)
    decisions: dict[Stage, Decision] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    spans: dict[str, tuple[float, float]] = field(default_factory=dict)
    reply_model: str | None = None
    trail: Trail = field(default_factory=Trail)
    cache: Lookup | None = None
    moderated: Moderated | None = None
    upstream_called: bool = False
    upstream_status: int | None = None
    usage: Usage | None = None
    reply_chars: int = 0
    originals: Mapping[str, str] = field(default_factory=dict)
    exposed_chars: int | None = None
    status: int = CLIENT_LEFT_STATUS
    ended: str = CLIENT_LEFT

    def step(self, name: str) -> Step:
        """Add the time spent within to a step; its span goes from the first to the last."""
        return Step(self.seconds, self.spans, name)

    def classifiers(self, stage: Stage) -> frozenset[str]:
        """The classifiers that the attached policies need in a stage."""
        return self.rules(stage).classifiers(stage)

    def rules(self, stage: Stage) -> Attached:
        """The attached policies that look at a stage of this request."""
        streamed = stage == "output" and self.call.stream
        return self.policies.on_streams.policies if streamed else self.policies

    def failed(self, error: Exception) -> None:
        """The request ends with an error."""
        if isinstance(error, UpstreamError) and error.kind == "unavailable":
            self.upstream_called = False  # it was not even tried
        self.ended = errors.answer(error, "").body["error"]["code"] or "invalid_request"

    def completed(self) -> None:
        """The request ends well, if nothing went wrong on the way."""
        if self.ended == CLIENT_LEFT:
            self.ended = COMPLETE

    def answered(self, reply: Body | None) -> None:
        """A reply, or an event of one, has come: keep which model it says it is from."""
        if self.reply_model is not None or reply is None:
            return
        for said in (reply, reply.get("message"), reply.get("response")):
            name = said.get("model") if isinstance(said, dict) else None
            if isinstance(name, str) and _MODEL.fullmatch(name):
                self.reply_model = name
                return

    def sent(self, piece: bytes) -> None:
        """A piece of a stream has left; a cache may want it."""
        if self.cache is not None:
            self.cache.add(piece)

    @property
    def served(self) -> Target | None:
        """The target that answered, or was asked last: another than ``target`` after a fallback."""
        return self.trail.target or self.target

    @property
    def stream_check(self) -> str | None:
        """When output rules look at the reply, a stream; None if it is none or there are no rules."""
        streamed = self.call.stream and self.upstream_called
        return self.policies.on_streams.mode if streamed else None

    @property
    def hit(self) -> Hit | None:
        """The stored reply that answers in the model's place, if one does."""
        return None if self.cache is None else self.cache.hit

    @property
    def deciding(self) -> Decision | None:
        """The most restrictive decision of the stages so far."""
        return max(self.decisions.values(), key=lambda d: RANK[d.outcome], default=None)

    @property
    def action(self) -> str:
        """The word for what happened: an outcome, or ``none`` where the client left before it."""
        if self.ended not in (COMPLETE, CLIENT_LEFT):
            return "error"
        if self.hit is not None:
            return "cache"
        return self.deciding.outcome if self.deciding else "none"

    @property
    def policy(self) -> str | None:
        """``name@version`` of the policy whose rule decided, if one did."""
        decision = self.deciding
        if decision is not None and decision.unscannable is not None:
            return decision.unscannable.policy
        return decision.cause.policy if decision and decision.cause else None

    def overhead(self) -> float:
        """Seconds spent so far, without waiting for upstream or for a slow client to read."""
        waited = self.seconds.get("upstream", 0.0) + self.seconds.get("client", 0.0)
        return max(0.0, (self.over or time.perf_counter()) - self.started - waited)

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
        if self.stream_check is not None:
            headers["x-doorman-stream-check"] = self.stream_check
        if self.hit is not None:
            headers["age"] = str(self.hit.stored.age())
        if self.unscanned:
            headers["x-doorman-unscanned"] = str(len(self.unscanned))
        saved, _ = accounts.saved(self)
        # While a routed stream runs, what it saves is not known yet.
        if saved is not None and not (self.call.stream and self.upstream_called):
            headers["x-doorman-saved-usd"] = f"{saved:.6f}"
        return headers


class Accounts:
    """What requests cost and saved, and how they are recorded.

    Args:
        aliases: the models that clients may ask for.
    """

    def __init__(self, prices: Prices, config: RecordConfig, aliases: Collection[str]) -> None:
        self._aliases = frozenset(aliases)
        self._prices = prices
        self._config = config
        self._content = ContentPolicy(config)

    def record(self, exchange: Exchange) -> Record:
        """The record of a request that has ended."""
        return self._record(exchange, exchange.served, called=exchange.upstream_called)

    def decided(self, exchange: Exchange, *, forwarded: bool) -> Record:
        """The record of a request as far as it is decided: nothing has come of it yet.

        Args:
            forwarded: it goes on to a model now; the record says so before it does.
        """
        if exchange.content is None:
            exchange.content = self.content(exchange.texts, exchange.found)  # hashed once
        going = forwarded and exchange.target is not None
        return self._record(
            exchange,
            exchange.target if going else exchange.served,
            called=going or exchange.upstream_called,
        )

    def _record(self, exchange: Exchange, target: Target | None, *, called: bool) -> Record:
        saved, basis = self.saved(exchange)
        return Record(
            **self._known(exchange, called=called),
            stages={name: stage(decision) for name, decision in exchange.decisions.items()},
            texts=sum([not text.derived for text in exchange.texts]),
            unscanned=first(exchange.unscanned, MOST_ADDRESSES),
            upstream_model=target.model if target and called else None,
            provider=target.provider if target and called else None,
            attempts=tuple(exchange.trail.attempts),
            milliseconds=self._milliseconds(exchange),
            tokens=self.tokens(exchange),
            cost_usd=self.spent(exchange),
            saved_usd=saved,
            saved_basis=basis,
            exposed_chars=exchange.exposed_chars,
            stream_check=exchange.stream_check,
            unchecked=exchange.policies.on_streams.unchecked if exchange.stream_check else (),
            content=exchange.content or self.content(exchange.texts, exchange.found),
            cache=exchange.cache.shown() if exchange.cache else None,
        )

    def bare(self, exchange: Exchange) -> Record:
        """The record of a request whose own could not be made: who asked, and what happened."""
        return Record(**self._known(exchange, called=exchange.upstream_called))

    def _known(self, exchange: Exchange, *, called: bool) -> dict[str, Any]:
        call = exchange.call
        return {
            "time": exchange.created,
            "decision_id": exchange.decision_id,
            "request_id": call.request_id,
            "key": call.key or None,
            "endpoint": call.endpoint.name,
            "stream": call.stream,
            # What is no alias of ours is the client's own text.
            "model": call.model[:MODEL_CHARS] if call.model in self._aliases else UNKNOWN_MODEL,
            "action": exchange.action,
            "status": exchange.status,
            "ended": exchange.ended,
            "policies": exchange.policies.ids,
            "upstream_called": called,
            "upstream_status": exchange.upstream_status,
        }

    @property
    def redacts(self) -> bool:
        """Whether the content of a record depends on what was found in the texts."""
        return self._content.redacts

    def content(
        self, texts: Sequence[Text], found: Sequence[Classification] = ()
    ) -> tuple[dict[str, Any], ...]:
        """What of the texts goes into the record. May take long for a large request."""
        return self._content.of(texts, found)

    def hash_of(self, content: str) -> str:
        """The keyed hash that records hold of a text."""
        return self._content.hash_of(content)

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

    def prompt(self, exchange: Exchange) -> int:
        """Tokens of the request, estimated from its texts."""
        return self._prompt_tokens(exchange.texts)

    def used(self, exchange: Exchange) -> tuple[int, float]:
        """What counts against the limits of the key: all tokens, and dollars; 0 without a price."""
        tokens = self.tokens(exchange)
        total = 0 if tokens is None else tokens.prompt + tokens.completion
        return total, self.spent(exchange) or 0.0

    def spent(self, exchange: Exchange) -> float | None:
        """Dollars that the upstream call cost; None where it has no price or was not made."""
        served = exchange.served
        if served is not None and served.provider == "doorman":
            return 0.0 if exchange.upstream_called else None  # the embedded upstream is free
        return self._cost(served, self.tokens(exchange))

    def worth(self, exchange: Exchange) -> float | None:
        """Dollars that the upstream call costs by the price map, whoever was called."""
        return self._cost(exchange.served, self.tokens(exchange))

    def saved(self, exchange: Exchange) -> tuple[float | None, str | None]:
        """Dollars that were not spent, and how that was computed.

        A cached reply saves what its call has cost; any other request that never reached upstream
        its estimated prompt and a reply of ``record.estimated_completion_tokens``; a routed one saves
        the difference of the two models' prices for the tokens it used.
        """
        if exchange.hit is not None:
            cost = exchange.hit.stored.cost_usd
            told = "cached: what the stored call costs by the price map"
            return cost, told if cost is not None else f"{told}, but its model has no price"
        if not exchange.upstream_called:
            if not any(d.reply is not None for d in exchange.decisions.values()):
                return None, None
            prompt = self._prompt_tokens(exchange.texts)
            speaks = exchange.call.endpoint.speaks
            unwritten = self._unwritten(exchange.call.body) if speaks else 0
            tokens = Tokens(prompt, unwritten, "estimated")
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
        spent = self._cost(exchange.served, tokens) if exchange.upstream_called else 0.0
        if full is None or spent is None:
            return None, f"{basis}, but a model has no price"
        return full - spent, basis

    def _unwritten(self, body: Body) -> int:
        """Tokens of a reply that nobody wrote: the configured guess, or the request's own limit."""
        limits = [body.get(name) for name in _LIMITS]
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
        times["total"] = round(
            ((exchange.over or time.perf_counter()) - exchange.started) * 1000, 3
        )
        times["overhead"] = round(exchange.overhead() * 1000, 3)
        return times
