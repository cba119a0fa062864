"""The gateway's one configuration: what operators write, read once, at the edge.

``load(path)`` reads a YAML file, ``defaults()`` is what runs without one. Secrets come from the
environment (``${NAME}`` anywhere, litellm's ``os.environ/NAME`` as a whole value) and mask
themselves in ``repr``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, model_validator

from classifiers.patterns import PatternConfig
from classifiers.types import StrictModel
from proxy.config_cache import CacheConfig
from proxy.config_dashboard import DashboardConfig
from proxy.config_feedback import FeedbackConfig
from proxy.config_keys import ClientKey, RedisConfig
from proxy.config_ledger import LedgerConfig
from proxy.config_routing import (
    BreakerConfig,
    LitellmSettings,
    RouterSettings,
    Routing,
    routing,
)
from proxy.config_server import ServerConfig, is_loopback
from proxy.config_telemetry import TelemetryConfig
from proxy.prices import COMPLETION_TOKENS
from proxy.yaml_source import Address, ConfigError, Source, explain

SHIPPED_POLICY = Path(__file__).resolve().parent.parent / "policies" / "front-line.yaml"
MASK = "**********"

__all__ = [
    "Config",
    "ConfigError",
    "ModelEntry",
    "Routing",
    "Timeouts",
    "defaults",
    "load",
    "loads",
]


class LitellmParams(BaseModel):
    """litellm's ``litellm_params``: the keys named here, and whatever else the provider takes."""

    model_config = ConfigDict(
        extra="allow", frozen=True, protected_namespaces=(), use_attribute_docstrings=True
    )

    model: str = Field(min_length=1)
    """``provider/model`` as litellm writes it, or ``doorman/echo``."""
    api_key: SecretStr | None = None
    """The upstream's key, best as ``os.environ/NAME``."""
    api_base: str | None = None
    """Base URL of the upstream, for servers of your own."""

    def options(self) -> dict[str, Any]:
        """Every parameter but ``model``, secrets in the clear: for the upstream call only."""
        options = dict(self.__pydantic_extra__ or {})
        if self.api_key is not None:
            options["api_key"] = self.api_key.get_secret_value()
        if self.api_base is not None:
            options["api_base"] = self.api_base
        return options

    def __repr_args__(self) -> list[tuple[str | None, Any]]:
        # Providers have secrets of many names (aws_secret_access_key, ...), and a base URL may
        # hold a password: nothing but the model's name is shown.
        return [("model", self.model), *((name, MASK) for name in sorted(self.options()))]


class ModelEntry(StrictModel):
    """One entry of ``model_list``: an alias that clients may call, and what stands behind it."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())

    model_name: str = Field(min_length=1)
    """The alias that clients and ``route`` use. Entries with the same one share its requests, in turn
    and by ``litellm_params.weight``; those with the lowest ``litellm_params.order`` come first."""
    litellm_params: LitellmParams
    model_info: dict[str, Any] = Field(default_factory=dict)
    """litellm's ``model_info``; ``base_model`` names the entry of the price map."""

    @property
    def price_key(self) -> str:
        """The name in litellm's price map."""
        base = self.model_info.get("base_model")
        return base if isinstance(base, str) and base else self.litellm_params.model


class ClassifiersConfig(StrictModel):
    """Which classifiers are loaded."""

    shipped: Literal["all"] | tuple[str, ...] = "all"
    """Which of the shipped classifiers are loaded: ``all``, or a list of names."""
    packs: tuple[Path, ...] = ()
    """Folders of further model packs, relative to the config file."""
    corrected: Path = Path("doorman-data/packs")
    """Folder of corrected packs, relative to the config file (without one, to the working directory):
    those that were promoted take the place of the packs above."""
    encoder: Path | None = None
    """Folder of another encoder pack than the shipped one, relative to the config file. Packs made for
    the shipped one are refused with it: list your own, and the shipped classifiers you rebuilt."""
    pii_region: str = Field(default="US", pattern="^[A-Z]{2}$")
    """Where phone numbers without a country code are assumed to be from (ISO 3166)."""
    patterns: tuple[PatternConfig, ...] = ()
    """Your own classifiers made of regular expressions and keywords."""
    threads: int = Field(default=0, ge=0)
    """Texts, or windows of a long one, that are read at once, a core each; 0: what there is, at most 4."""
    first_look: bool = False
    """Leave texts joined of several messages unread where their words look harmless."""
    cache_entries: int = Field(default=50_000, gt=0)
    """Results that are remembered by content hash."""
    max_waiting: int = Field(default=4096, gt=0)
    """Texts that may wait for the classifiers before requests get 503 with retry-after."""


class Timeouts(StrictModel):
    """How long an upstream may take, in seconds."""

    connect: float = Field(default=10, gt=0)
    """To a connection."""
    first_byte: float = Field(default=120, gt=0)
    """To the first byte of the reply: for a plain reply that is the whole of its generation."""
    idle: float = Field(default=60, gt=0)
    """Longest silence within a reply that has begun."""
    total: float = Field(default=600, gt=0)
    """For the whole reply, with all tries and fallbacks."""


class Limits(StrictModel):
    """What is refused for its size, or because it is too slow to come."""

    max_body_bytes: int = Field(default=8 * 1024 * 1024, gt=0)
    """Size of a request."""
    body_seconds: float = Field(default=60, gt=0)
    """How long a client may take to send its body."""
    max_text_chars: int = Field(default=200_000, gt=0)
    """Characters of one request or reply that are checked, all texts together; more is refused."""
    max_reply_bytes: int = Field(default=64 * 1024 * 1024, gt=0)
    """Size of an upstream's reply."""
    max_json_depth: int = Field(default=100, gt=1, le=500)
    """Nesting of a request."""
    max_texts: int = Field(default=20_000, gt=0)
    """Strings of one request. Every field of an object counts as one, whatever it holds; objects and
    lists, counted together, are bounded by the same number, all values together by fifty times that."""
    classify_seconds: float = Field(default=60, gt=0)
    """How long one request or one stretch of a reply may wait for the classifiers. A classifier that
    takes three quarters of it for one batch has failed, see ``on_error`` of policies."""
    max_in_flight: int = Field(default=1000, gt=0)
    """Requests that are worked on at once, those included that wait for their model; further ones get
    503 with retry-after."""
    max_connections: int = Field(default=4096, gt=0)
    """Open connections of clients; further ones get 503. Each needs up to two open files."""
    max_header_bytes: int = Field(default=64 * 1024, ge=1024)
    """Size of a request's head: path, names and values of headers."""
    header_seconds: float = Field(default=10, gt=0)
    """How long a client may take to send the head of a request."""
    write_seconds: float = Field(default=60, gt=0)
    """How long a client may leave an answer unread; then it is cut off, and the upstream with it."""
    keepalive_seconds: float = Field(default=75, gt=0)
    """How long an idle connection is kept for the client's next request."""
    on_error: Literal["block", "allow"] = "block"
    """While Redis, which counts the limits of keys (``redis``), is away: 503 ``limits_unavailable`` for
    keys that have limits, or let them in without."""


class StreamingConfig(StrictModel):
    """How much of a stream is held back to be checked before it leaves."""

    hold_chars: int = Field(default=240, gt=0)
    """New text of a reply that is checked at once; longer waits catch more, and show it later."""
    overlap_chars: int = Field(default=120, ge=0)
    """Text that has left already and is checked again with what follows it."""
    tail_chars: int = Field(default=64, ge=0)
    """Checked text that stays behind, because a find at its end may still grow."""
    hold_seconds: float = Field(default=1.0, gt=0)
    """Longest wait for ``hold_chars``; then what there is is checked."""
    first_chars: int = Field(default=40, gt=0)
    """In place of ``hold_chars`` at the beginning of a text, so that it shows soon; each check doubles
    it. Half of it stays behind at first, more as the text grows, up to ``tail_chars``; all of
    ``tail_chars`` where a rule may redact."""
    first_seconds: float = Field(default=0.1, gt=0)
    """In place of ``hold_seconds`` before the first check; each check doubles it."""


class RecordConfig(StrictModel):
    """What a decision record holds besides the decision."""

    content: Literal["none", "hash", "redacted", "full"] = "hash"
    """``hash`` is a keyed HMAC: equal texts can be found again, nothing can be read back. ``redacted``
    holds texts in which ``[LABEL]`` stands for every find of ``pii`` and of your own patterns; a text
    that ``pii`` has not looked at, because no rule asked for it, stays a hash. ``full`` holds the
    texts."""
    hash_key: SecretStr | None = None
    """Key of the hash; a random one per process by default."""
    estimated_completion_tokens: int = Field(default=COMPLETION_TOKENS, ge=0)
    """Length of the reply that a blocked or locally answered request is assumed to have saved.

    At most the request's own ``max_tokens`` is assumed."""


class Config(StrictModel):
    """Everything the gateway is told; see ``config.example.yaml`` for each key in its place."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())

    server: ServerConfig = ServerConfig()
    model_list: tuple[ModelEntry, ...] = Field(min_length=1)
    policies: tuple[Path, ...] = (SHIPPED_POLICY,)
    """Policy files, relative to the config file; an empty list forwards everything.

    Without the key it is the ``front-line.yaml`` that comes with the program."""
    watch_policies: bool = True
    """Reload the policies when a file changes; SIGHUP always does."""
    classifiers: ClassifiersConfig = ClassifiersConfig()
    litellm_settings: LitellmSettings = LitellmSettings()
    router_settings: RouterSettings = RouterSettings()
    breaker: BreakerConfig = BreakerConfig()
    timeouts: Timeouts = Timeouts()
    limits: Limits = Limits()
    streaming: StreamingConfig = StreamingConfig()
    cache: CacheConfig = CacheConfig()
    keys: tuple[ClientKey, ...] = ()
    redis: RedisConfig = RedisConfig()
    record: RecordConfig = RecordConfig()
    ledger: LedgerConfig = LedgerConfig()
    telemetry: TelemetryConfig = TelemetryConfig()
    dashboard: DashboardConfig = DashboardConfig()
    feedback: FeedbackConfig = FeedbackConfig()

    @model_validator(mode="after")
    def _names_are_unique(self) -> Config:
        _refuse_twins(self.model_list)
        _refuse_repeats("keys", "name", [key.name for key in self.keys])
        secrets = [key.key.get_secret_value() for key in self.keys]
        if len(set(secrets)) != len(secrets):
            raise ValueError("two keys have the same value; give every client a key of its own")
        for entry in self.model_list:
            if entry.model_name.startswith("doorman/"):
                raise ValueError(
                    f"model_name {entry.model_name!r}: names below doorman/ are the gateway's own; rename it"
                )
        _ = self.routing  # raises
        self.cache.check_models([entry.model_name for entry in self.model_list])
        return self

    @property
    def routing(self) -> Routing:
        """Retries, fallbacks and breakers, from the three sections that may name them.

        Raises:
            ValueError: see :func:`proxy.config_routing.routing`; not of a config that was loaded.
        """
        aliases = [entry.model_name for entry in self.model_list]
        return routing(self.litellm_settings, self.router_settings, self.breaker, aliases)

    def check_exposure(self, stored: Callable[[LedgerConfig], bool] = lambda _: False) -> None:
        """Refuse to serve strangers: beyond this machine, clients need keys.

        Args:
            stored: whether the database has keys; asked only if it matters.

        Raises:
            ConfigError: the host is not a loopback address and there are no keys.
        """
        if not self.keys and not is_loopback(self.server.host) and not stored(self.ledger):
            raise ConfigError(
                f"refusing to listen on {self.server.host} without client keys: anyone who can reach it "
                "could use your upstream keys; `doorman keys create NAME`, add `keys:` to the config, or "
                "listen on 127.0.0.1"
            )

    def check_workers(self) -> None:
        """Refuse limits that several processes would each count for themselves.

        Raises:
            ConfigError: a key has limits, there are several workers and no Redis.
        """
        limited = [key.name for key in self.keys if key.grant.allowance.counted]
        if self.server.workers > 1 and limited and self.redis.url is None:
            raise ConfigError(
                f"server.workers is {self.server.workers}, and key {limited[0]!r} has limits, which every "
                "worker would count for itself; set redis.url, or workers: 1"
            )


def defaults() -> Config:
    """What runs without a config file: the shipped policy in front of the echo upstream."""
    # The price map entries are what the aliases stand for in the savings column of the demo.
    aliases = {"default": "gpt-4o", "small-model": "gpt-4o-mini"}
    return Config(
        model_list=tuple(
            ModelEntry(
                model_name=alias,
                litellm_params=LitellmParams(model="doorman/echo"),
                model_info={"base_model": priced_as},
            )
            for alias, priced_as in aliases.items()
        )
    )


def load(path: Path, *, secrets: bool | Literal["ledger"] = True) -> Config:
    """Read a config file; see :func:`loads` for ``secrets``.

    Raises:
        ConfigError: one line per fault, ``file:line: fault; fix``.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(
            f"{path}: cannot be read ({error.strerror}); name an existing file"
        ) from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: is not UTF-8; save it as UTF-8") from None
    return loads(text, path, secrets=secrets)


def loads(text: str, path: Path, *, secrets: bool | Literal["ledger"] = True) -> Config:
    """:func:`load` for text in hand.

    Args:
        text: YAML.
        path: names the text in messages and anchors relative paths.
        secrets: False leaves the variables of ``keys``, ``litellm_params``, ``record.hash_key`` and
            ``ledger.url`` alone, for commands that neither serve nor call a model; ``"ledger"``
            fills in the last of them.

    Raises:
        ConfigError: see :func:`load`.
    """
    source = Source(text, str(path))

    def left(address: Address) -> bool:
        needed = secrets == "ledger" and address == ("ledger", "url")
        return _is_secret(address) and not needed

    values = source.resolve(skip=None if secrets is True else left)
    values.setdefault("model_list", [entry.model_dump() for entry in defaults().model_list])
    try:
        config = Config.model_validate(values)
    except ValidationError as error:
        raise ConfigError(explain(error, Config, source)) from None
    folder = path.resolve().parent
    return config.model_copy(
        update={
            "policies": tuple(folder / file for file in config.policies),
            "classifiers": _placed(config.classifiers, folder),
            "ledger": config.ledger.placed(folder),
            "feedback": config.feedback.placed(folder),
        }
    )


def _placed(classifiers: ClassifiersConfig, folder: Path) -> ClassifiersConfig:
    """Paths relative to the config file, made whole."""
    packs = tuple(folder / pack for pack in classifiers.packs)
    corrected = folder / classifiers.corrected
    encoder = None if classifiers.encoder is None else folder / classifiers.encoder
    changes = {"packs": packs, "encoder": encoder, "corrected": corrected}
    return classifiers.model_copy(update=changes)


def _is_secret(address: Address) -> bool:
    """Whether what stands here is only needed by a running gateway."""
    return (
        address[:1] == ("keys",)
        or address in (("record", "hash_key"), ("ledger", "url"), ("redis", "url"))
        or (address[:1] == ("model_list",) and "litellm_params" in address)
        or address[:2] == ("telemetry", "headers")
    )


def _refuse_repeats(section: str, key: str, names: Sequence[str]) -> None:
    for name, count in Counter(names).items():
        if count > 1:
            raise ValueError(
                f"{section}: {key} {name!r} stands {count} times; give each one its own"
            )


def _refuse_twins(entries: Sequence[ModelEntry]) -> None:
    """Several entries may share an alias, but the same one twice is a slip."""
    for number, entry in enumerate(entries):
        if entry in entries[:number]:
            raise ValueError(
                f"model_list: model_name {entry.model_name!r} stands twice with the same "
                "litellm_params; remove one"
            )
