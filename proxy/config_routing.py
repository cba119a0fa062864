"""What of litellm's router is understood: retries, fallbacks, cooldowns; and the circuit breaker."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeVar

from pydantic import Field

from classifiers.faults import did_you_mean
from classifiers.types import StrictModel

N = TypeVar("N", int, float)

Fallbacks = tuple[dict[str, tuple[str, ...]], ...]
"""litellm's way to write them: ``[{alias: [other, another]}]``."""

Reason = Literal["fallbacks", "context_window_fallbacks", "content_policy_fallbacks"]
REASONS: tuple[Reason, ...] = ("fallbacks", "context_window_fallbacks", "content_policy_fallbacks")
ANY = "*"
"""In place of an alias in ``fallbacks``: every alias that has none of its own."""
FAILURES = 5
COOLDOWN = 30.0


class _Shared(StrictModel):
    """What may stand in either of litellm's sections."""

    num_retries: int | None = Field(default=None, ge=0, le=10)
    """How often a request that failed is tried again with its alias, before anything of an answer has
    come; none by default. A `num_retries` in `litellm_params` goes before it."""
    fallbacks: Fallbacks = ()
    """`[{alias: [other, another]}]`: aliases that are tried in this order when one has failed."""
    context_window_fallbacks: Fallbacks = ()
    """The same for requests that are too long for the model."""
    content_policy_fallbacks: Fallbacks = ()
    """The same for requests that the provider's own content filter has refused."""
    default_fallbacks: tuple[str, ...] = ()
    """Aliases that are tried for every alias without `fallbacks`."""
    allowed_fails: int | None = Field(default=None, ge=0)
    """Failures in a row that are borne; one more, and the model is left alone. As `breaker.failures`."""
    cooldown_time: float | None = Field(default=None, gt=0)
    """Seconds that such a model is left alone. As `breaker.cooldown_seconds`."""


class LitellmSettings(_Shared):
    """litellm's ``litellm_settings``, as far as they mean something here."""

    request_timeout: float | None = Field(default=None, gt=0)
    """Seconds for one try, for models without a `timeout` of their own. `timeouts.total` bounds all
    tries together."""


class RouterSettings(_Shared):
    """litellm's ``router_settings``, as far as they mean something here; they go before
    ``litellm_settings``."""

    timeout: float | None = Field(default=None, gt=0)
    """As `litellm_settings.request_timeout`."""
    retry_after: float = Field(default=0, ge=0)
    """Seconds to wait, at least, before the same server is tried again."""
    routing_strategy: Literal["simple-shuffle"] = "simple-shuffle"
    """How one of several entries with the same `model_name` is chosen: in turn, by `weight`."""


class BreakerConfig(StrictModel):
    """When a model's server that fails is left alone for a while."""

    failures: int | None = Field(default=None, ge=1)
    """Failures in a row (unreachable, too late, status 5xx), after which it is left alone; 5 by
    default."""
    cooldown_seconds: float | None = Field(default=None, gt=0)
    """Seconds until one request may try it again; 30 by default."""


@dataclass(frozen=True, slots=True)
class Routing:
    """The sections put together: what the upstreams work with.

    Attributes:
        retries: further tries with the same alias.
        fallbacks: by reason and alias.
        otherwise: fallbacks of aliases without any.
        timeout: seconds for one try, None for the general ones.
        wait: least seconds before the same server is tried again.
        failures, cooldown: of each breaker.
    """

    retries: int = 0
    fallbacks: Mapping[Reason, Mapping[str, tuple[str, ...]]] = field(default_factory=dict)
    otherwise: tuple[str, ...] = ()
    timeout: float | None = None
    wait: float = 0.0
    failures: int = FAILURES
    cooldown: float = COOLDOWN

    def after(self, alias: str, reason: Reason) -> tuple[str, ...]:
        """The aliases that are tried after this one has failed for a reason."""
        table = self.fallbacks.get(reason, {})
        if alias in table:
            return table[alias]
        if reason != "fallbacks":
            return ()
        return tuple(other for other in table.get(ANY, self.otherwise) if other != alias)


def routing(
    litellm: LitellmSettings, router: RouterSettings, breaker: BreakerConfig, aliases: Sequence[str]
) -> Routing:
    """Put the sections together.

    Raises:
        ValueError: an alias that does not exist, one that falls back to itself or stands twice, or
            one thing said in two ways; the message names section and key.
    """
    tables = {reason: _table(litellm, router, reason, aliases) for reason in REASONS}
    otherwise = router.default_fallbacks or litellm.default_fallbacks
    for alias in otherwise:
        _must_exist(alias, "default_fallbacks", aliases)
    fails = _first(router.allowed_fails, litellm.allowed_fails)
    if fails is not None and breaker.failures is not None:
        raise ValueError("breaker.failures and allowed_fails say the same; remove one")
    cooldown = _first(router.cooldown_time, litellm.cooldown_time)
    if cooldown is not None and breaker.cooldown_seconds is not None:
        raise ValueError("breaker.cooldown_seconds and cooldown_time say the same; remove one")
    return Routing(
        retries=_first(router.num_retries, litellm.num_retries) or 0,
        fallbacks=tables,
        otherwise=otherwise,
        timeout=_first(router.timeout, litellm.request_timeout),
        wait=router.retry_after,
        failures=breaker.failures or (FAILURES if fails is None else int(fails) + 1),
        cooldown=breaker.cooldown_seconds or cooldown or COOLDOWN,
    )


def _table(
    litellm: LitellmSettings, router: RouterSettings, reason: Reason, aliases: Sequence[str]
) -> dict[str, tuple[str, ...]]:
    section = "router_settings" if getattr(router, reason) else "litellm_settings"
    given: Fallbacks = getattr(router, reason) or getattr(litellm, reason)
    where = f"{section}.{reason}"
    table: dict[str, tuple[str, ...]] = {}
    for entry in given:
        for alias, others in entry.items():
            if alias in table:
                raise ValueError(f"{where}: {alias!r} stands twice; put its fallbacks in one list")
            if alias != ANY or reason != "fallbacks":
                _must_exist(alias, where, aliases)
            for other in others:
                _must_exist(other, where, aliases)
            if alias in others:
                raise ValueError(
                    f"{where}: {alias!r} falls back to itself; remove it from its list"
                )
            table[alias] = tuple(dict.fromkeys(others))
    return table


def _must_exist(alias: str, where: str, aliases: Sequence[str]) -> None:
    if alias not in aliases:
        known = list(dict.fromkeys(aliases))
        raise ValueError(
            f"{where}: no model_name {alias!r}; {did_you_mean(alias, known, 'models')}"
        )


def _first(*values: N | None) -> N | None:
    return next((value for value in values if value is not None), None)
