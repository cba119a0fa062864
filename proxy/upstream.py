"""From the aliases of ``model_list`` to the places that answer them."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import urlsplit

from proxy import upstream_litellm
from proxy.breaker import Breaker
from proxy.config import ConfigError, ModelEntry, Routing, Timeouts
from proxy.echo import Echo
from proxy.endpoints.base import Body
from proxy.errors import UpstreamError
from proxy.fallbacks import Group, Plan, Trail
from proxy.jsonbody import cut, spliced
from proxy.sse import Event
from proxy.upstream_anthropic import API_BASE, MESSAGES_PATH, AnthropicUpstream, ByChat
from proxy.upstream_base import Upstream, UpstreamReply, UpstreamStream
from proxy.upstream_calls import Caller
from proxy.upstream_http import HttpLimits, HttpPool, HttpUpstream
from proxy.upstream_litellm import LitellmUpstream

__all__ = [
    "PROVIDERS", "STRIPPED_PARAMS", "Event", "HttpLimits", "Target", "Upstream", "UpstreamError",
    "UpstreamReply", "UpstreamStream", "Upstreams", "make_upstreams", "outgoing",
]  # fmt: skip

ECHO = "doorman/echo"


@dataclass(frozen=True, slots=True)
class Provider:
    """A provider that speaks OpenAI's API, by the prefix of its models' names.

    Attributes:
        api_base: where it is; None if only the operator knows.
        model_prefix: put before model names that lack it.
    """

    api_base: str | None
    model_prefix: str = ""


PROVIDERS: Mapping[str, Provider] = {
    "openai": Provider("https://api.openai.com/v1"),
    "deepseek": Provider("https://api.deepseek.com/beta"),
    "fireworks_ai": Provider("https://api.fireworks.ai/inference/v1", "accounts/fireworks/models/"),
    "groq": Provider("https://api.groq.com/openai/v1"),
    "mistral": Provider("https://api.mistral.ai/v1"),
    "openrouter": Provider("https://openrouter.ai/api/v1"),
    "perplexity": Provider("https://api.perplexity.ai"),
    "together_ai": Provider("https://api.together.ai/v1"),
    "xai": Provider("https://api.x.ai/v1"),
    "custom_openai": Provider(None),
    "hosted_vllm": Provider(None),
    "litellm_proxy": Provider(None),
    "lm_studio": Provider(None),
    "openai_like": Provider(None),
}
"""What is passed through, without litellm in the path. Base URLs are litellm's own defaults."""

OPENAI_MODELS = ("gpt-", "chatgpt-", "o1", "o3", "o4", "text-embedding-")
"""How the names of OpenAI's models begin, for entries without a provider's prefix."""

PLAIN_PARAMS = frozenset(
    {"api_key", "api_base", "base_url", "organization", "extra_headers", "custom_llm_provider"}
    | upstream_litellm.ROUTER_PARAMS
)
"""``litellm_params`` that passing through can honour or need not. An entry with any other one
(``drop_params``, a default ``temperature``) goes through litellm, which knows what to make of it."""

STRIPPED_PARAMS = (
    "allowed_openai_params", "api_base", "api_key", "api_type", "api_version", "base_model",
    "base_url", "cache", "caching", "callbacks", "chat_template", "client", "client_id", "client_secret",
    "content_policy_fallbacks", "context_window_fallback_dict", "context_window_fallbacks",
    "custom_llm_provider",
    "default_headers", "deployment_id", "drop_params", "endpoint", "extra_body", "extra_headers",
    "extra_query", "failure_callback", "fallbacks", "force_timeout", "guardrails", "headers", "hf_model_name",
    "input_ids", "kv_transfer_params", "logger_fn", "logits_processors", "max_retries",
    "mock_response", "mock_timeout", "mock_tool_calls", "model_info", "models", "plugins",
    "model_list", "no-log", "num_retries", "organization", "project", "prompt_id",
    "prompt_token_ids", "prompt_variables", "provider", "provider_specific_header",
    "proxy", "proxy_server_request", "region_name",
    "request_timeout", "retry_policy", "retry_strategy", "route", "router",
    "router_settings_override", "secret_fields",
    "shared_session", "ssl_verify", "stream_timeout", "success_callback", "tags", "tenant_id", "timeout",
    "use_in_pass_through", "use_litellm_proxy", "user_config", "vector_store_ids",
)  # fmt: skip
"""Body fields that never go up: with them a client could choose where litellm (here, or behind an
OpenAI-compatible address) connects to, with what, or whether a model is called at all; or give the
model words that no guard can read (templates, tokens by number, stores of the provider)."""

STRIPPED_PREFIXES = (
    "_", "anthropic_", "arize_", "auto_router_", "aws_", "azure_", "dd_", "doorman",
    "gcs_", "humanloop_", "langfuse_", "langsmith_", "litellm_", "mock_testing_", "openai_",
    "posthog_", "s3_", "signoz_", "vertex_", "wandb_", "watsonx_",
)  # fmt: skip
"""The same by their beginning: credentials, endpoints and logging targets of litellm."""


@dataclass(frozen=True, slots=True)
class Target:
    """What stands behind an entry of ``model_list``.

    Attributes:
        model: the name that the upstream knows the model by.
        price_key: its name in litellm's price map (``model_info.base_model`` if given).
        provider: e.g. ``openai``; ``doorman`` for the embedded upstream.
        messages: who answers Anthropic's API, where the model's provider speaks it itself.
        alias: the entry's ``model_name``.
        breaker: keeps requests from it while it fails.
        retries: further tries after one that failed.
        weight, order: its share of the requests of its alias, and whether it comes before others.
        seconds: that a reply may take, all tries together.
    """

    upstream: Upstream
    model: str
    price_key: str
    provider: str
    messages: Upstream | None = None
    alias: str = ""
    breaker: Breaker = field(default_factory=Breaker, repr=False, compare=False)
    retries: int = 0
    weight: float = 1.0
    order: int = 0
    seconds: float = 600.0

    def at(self, path: str) -> Upstream:
        """Who answers an API, by its path below the base URL."""
        if path != MESSAGES_PATH:
            return self.upstream
        thinks = isinstance(self.upstream, LitellmUpstream)
        return self.messages or ByChat(self.upstream, thinks=thinks)

    def outgoing(self, body: Body, raw: bytes | None) -> tuple[Body, bytes | None]:
        """See :func:`outgoing`."""
        return outgoing(body, raw, self.model)


def outgoing(body: Body, raw: bytes | None, model: str) -> tuple[Body, bytes | None]:
    """A client's body as it may go up: the upstream's model name, no routing parameters.

    Args:
        body: parsed; not changed.
        raw: the same as bytes, or None.
        model: the upstream's name.

    Returns:
        Body and bytes. The bytes are the very same where nothing had to change, the same around
        the model's name and without the parameters otherwise, and None where none were given or
        the body names no model.
    """
    stripped = {key for key in body if key in STRIPPED_PARAMS or key.startswith(STRIPPED_PREFIXES)}
    if stripped:
        body = {key: value for key, value in body.items() if key not in stripped}
        raw = None if raw is None else cut(raw, stripped)
    if body.get("model") == model:
        return body, raw
    changed = spliced(raw, "model", model) if raw is not None and "model" in body else None
    return {**body, "model": model}, changed


class Upstreams:
    """All targets by alias, one or several each. The pool is theirs together."""

    def __init__(
        self, targets: Sequence[Target], pool: HttpPool, routing: Routing | None = None
    ) -> None:
        self._targets = tuple(targets)
        self._groups = {
            alias: Group([target for target in targets if target.alias == alias])
            for alias in dict.fromkeys(target.alias for target in targets)
        }
        self._routing = routing or Routing()
        self._pool = pool

    @property
    def aliases(self) -> tuple[str, ...]:
        """The names that clients may call, in the order of the config."""
        return tuple(self._groups)

    @property
    def breakers(self) -> dict[str, Breaker]:
        """By alias, with the number of the entry where there are several: ``gpt-4o#2``."""
        named = {}
        for alias, group in self._groups.items():
            for number, target in enumerate(group.targets, 1):
                named[alias if len(group.targets) == 1 else f"{alias}#{number}"] = target.breaker
        return named

    def resolve(self, alias: str) -> Target:
        """What stands behind an alias, the first of several. Raises KeyError for one that is not
        configured."""
        return self._groups[alias].targets[0]

    def caller(self, target: Target, trail: Trail) -> Caller:
        """The upstream for one request of a target's alias: balanced, tried again, with fallbacks.

        Args:
            target: as :meth:`resolve` gave it.
            trail: filled with the tries.
        """
        return Caller(Plan(self._groups, target.alias, self._routing, trail), target.seconds)

    def check(self) -> None:
        """Refuse models that no request could reach. Blocking: may import litellm.

        Raises:
            ConfigError: one line per model.
        """
        faults = [
            f"model_list: {target.alias!r}: {fault}"
            for target in self._targets
            if isinstance(target.upstream, LitellmUpstream)
            and (fault := target.upstream.unknown_provider()) is not None
        ]
        if faults:
            raise ConfigError("\n".join(faults))

    async def warm_up(self) -> None:
        """Do now what the first request would wait for: import litellm, if a model needs it."""
        if any(isinstance(t.upstream, LitellmUpstream) for t in self._targets):
            await upstream_litellm.warm_up()

    async def close(self) -> None:
        """Close all connections."""
        await self._pool.close()
        await upstream_litellm.close()


def make_upstreams(
    model_list: Sequence[ModelEntry],
    timeouts: Timeouts,
    limits: HttpLimits | None = None,
    routing: Routing | None = None,
) -> Upstreams:
    """The upstreams of a config.

    Raises:
        ConfigError: an entry needs an ``api_base`` or has one that is no URL, or a number of its
            ``litellm_params`` is none.
    """
    pool, routing = HttpPool(timeouts, limits or HttpLimits()), routing or Routing()
    targets = []
    for entry in model_list:
        options = entry.litellm_params.options()
        retries = _number(entry, "num_retries", _number(entry, "max_retries", routing.retries))
        targets.append(
            replace(
                _target(entry, pool, routing),
                alias=entry.model_name,
                breaker=Breaker(routing.failures, routing.cooldown),
                retries=int(retries),
                weight=_number(entry, "weight", 1.0, least=0.001),
                order=int(_number(entry, "order", 0)),
                seconds=max(timeouts.total, _timeouts(options, timeouts).total),
            )
        )
    return Upstreams(targets, pool, routing)


def _number(entry: ModelEntry, name: str, otherwise: float, *, least: float = 0) -> float:
    """A number of an entry's ``litellm_params`` that is about the choice between entries."""
    value = entry.litellm_params.options().get(name)
    if value is None:
        return otherwise
    if isinstance(value, bool) or not isinstance(value, int | float) or not value >= least:
        raise ConfigError(
            f"model_list: {entry.model_name!r}: litellm_params.{name} must be a number of at least "
            f"{least:g}"
        )
    return value


def _target(entry: ModelEntry, pool: HttpPool, routing: Routing) -> Target:
    name = entry.litellm_params.model
    options = entry.litellm_params.options()
    price_key = entry.price_key
    if name == ECHO:
        return Target(Echo(), ECHO, price_key, "doorman")
    provider, model = _provider(name, options)
    timeouts = _timeouts({"timeout": routing.timeout, **options}, pool.timeouts)
    if provider not in PROVIDERS or options.keys() - PLAIN_PARAMS:
        native = None
        if provider == "anthropic" and not options.keys() - PLAIN_PARAMS:
            native = _anthropic(entry, pool, options, model, timeouts)
        litellm = LitellmUpstream(name, options, timeouts)
        return Target(litellm, name, price_key, provider, native)
    known = PROVIDERS[provider]
    upstream = HttpUpstream(
        pool,
        _api_base(entry, provider, options),
        options.get("api_key"),
        timeouts,
        _extra_headers(options),
    )
    if not model.startswith(known.model_prefix):
        model = known.model_prefix + model
    return Target(upstream, model, price_key, provider)


def _anthropic(
    entry: ModelEntry, pool: HttpPool, options: Mapping[str, Any], model: str, timeouts: Timeouts
) -> AnthropicUpstream:
    """Anthropic's own API for one of its models, with the variables that litellm reads for it."""
    given = options.get("api_base") or options.get("base_url")
    names = ("ANTHROPIC_API_BASE", "ANTHROPIC_BASE_URL")
    base = given or next((os.environ[name] for name in names if os.environ.get(name)), API_BASE)
    return AnthropicUpstream(
        pool,
        _api_base(entry, "anthropic", {"api_base": base}),
        options.get("api_key") or os.environ.get("ANTHROPIC_API_KEY"),
        model,
        timeouts,
        _extra_headers(options),
    )


def _provider(name: str, options: Mapping[str, Any]) -> tuple[str, str]:
    """Provider and bare model of litellm's name for a model."""
    given = options.get("custom_llm_provider")
    prefix, slash, rest = name.partition("/")
    if isinstance(given, str):
        return given, rest if slash and prefix == given else name
    if slash:
        return prefix, rest
    if name.startswith(OPENAI_MODELS) or "api_base" in options or "base_url" in options:
        return "openai", name
    return "litellm", name  # it knows many names without a prefix


def _api_base(entry: ModelEntry, provider: str, options: Mapping[str, Any]) -> str:
    base = options.get("api_base") or options.get("base_url") or PROVIDERS[provider].api_base
    if base is None:
        raise ConfigError(
            f"model_list: {entry.model_name!r}: {provider} is wherever you run it; "
            "set litellm_params.api_base, such as http://127.0.0.1:8000/v1"
        )
    parts = urlsplit(str(base))
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise ConfigError(
            f"model_list: {entry.model_name!r}: litellm_params.api_base is not the URL of a server; "
            "write it like https://host/v1"
        )
    return str(base)


def _extra_headers(options: Mapping[str, Any]) -> dict[str, str]:
    """Headers that the operator wants sent."""
    extra = options.get("extra_headers")
    headers = {str(k).lower(): str(v) for k, v in extra.items()} if isinstance(extra, dict) else {}
    if options.get("organization"):
        headers["openai-organization"] = str(options["organization"])
    return headers


def _timeouts(options: Mapping[str, Any], timeouts: Timeouts) -> Timeouts:
    """litellm's ``timeout`` of one model, in seconds, in place of the general total."""
    seconds = options.get("timeout")
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or seconds <= 0:
        return timeouts
    return timeouts.model_copy(
        update={"total": float(seconds), "first_byte": min(timeouts.first_byte, float(seconds))}
    )
