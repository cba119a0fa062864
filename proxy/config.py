"""The gateway's one configuration: what operators write, read once, at the edge.

``load(path)`` reads a YAML file, ``defaults()`` is what runs without one. Secrets come from the
environment (``${NAME}`` anywhere, litellm's ``os.environ/NAME`` as a whole value) and mask
themselves in ``repr``.
"""

from __future__ import annotations

import ipaddress
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, model_validator

from classifiers.patterns import PatternConfig
from classifiers.types import StrictModel
from proxy.prices import COMPLETION_TOKENS
from proxy.yaml_source import Address, ConfigError, Source, explain

SHIPPED_POLICY = Path(__file__).resolve().parent.parent / "policies" / "front-line.yaml"
MASK = "**********"

__all__ = ["Config", "ConfigError", "ModelEntry", "Timeouts", "defaults", "load", "loads"]


class ServerConfig(StrictModel):
    """Where the gateway listens, and how long it finishes open requests after SIGTERM."""

    host: str = "127.0.0.1"
    """Address to listen on; any but a loopback address needs ``keys``."""
    port: int = Field(default=8080, ge=0, le=65535)
    """Port to listen on; 0 takes a free one."""
    drain_seconds: float = Field(default=30, gt=0)
    """How long open requests may go on after SIGTERM."""


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
    """The alias that clients and ``route`` use."""
    litellm_params: LitellmParams
    model_info: dict[str, Any] = Field(default_factory=dict)
    """litellm's ``model_info``; ``base_model`` names the entry of the price map."""


class ClassifiersConfig(StrictModel):
    """Which classifiers are loaded."""

    shipped: Literal["all"] | tuple[str, ...] = "all"
    """Which of the shipped classifiers are loaded: ``all``, or a list of names."""
    packs: tuple[Path, ...] = ()
    """Folders of further model packs, relative to the config file."""
    encoder: Path | None = None
    """Folder of another encoder pack than the shipped one, relative to the config file. Packs made for
    the shipped one are refused with it: list your own, and the shipped classifiers you rebuilt."""
    pii_region: str = Field(default="US", pattern="^[A-Z]{2}$")
    """Where phone numbers without a country code are assumed to be from (ISO 3166)."""
    patterns: tuple[PatternConfig, ...] = ()
    """Your own classifiers made of regular expressions and keywords."""
    threads: int = Field(default=0, ge=0)
    """Windows of text that are encoded at once, a core each; 0 takes what the machine has, at most 4."""
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
    """For the whole reply."""


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
    lists, counted together, are bounded by the same number."""
    classify_seconds: float = Field(default=60, gt=0)
    """How long one request or one stretch of a reply may wait for the classifiers."""


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


class ClientKey(StrictModel):
    """A key that clients authenticate with; policies attach to its name."""

    name: str = Field(min_length=1)
    """What policies attach to, and what records name."""
    key: SecretStr = Field(min_length=8)
    """The secret, best as ``os.environ/NAME``."""


class RecordConfig(StrictModel):
    """What a decision record holds besides the decision."""

    content: Literal["none", "hash", "full"] = "hash"
    """``hash`` is a keyed HMAC: equal texts can be found again, nothing can be read back."""
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
    timeouts: Timeouts = Timeouts()
    limits: Limits = Limits()
    streaming: StreamingConfig = StreamingConfig()
    keys: tuple[ClientKey, ...] = ()
    record: RecordConfig = RecordConfig()

    @model_validator(mode="after")
    def _names_are_unique(self) -> Config:
        _refuse_repeats("model_list", "model_name", [e.model_name for e in self.model_list])
        _refuse_repeats("keys", "name", [key.name for key in self.keys])
        secrets = [key.key.get_secret_value() for key in self.keys]
        if len(set(secrets)) != len(secrets):
            raise ValueError("two keys have the same value; give every client a key of its own")
        for entry in self.model_list:
            if entry.model_name.startswith("doorman/"):
                raise ValueError(
                    f"model_name {entry.model_name!r}: names below doorman/ are the gateway's own; rename it"
                )
        return self

    def check_exposure(self) -> None:
        """Refuse to serve strangers: beyond this machine, clients need keys.

        Raises:
            ConfigError: the host is not a loopback address and there are no keys.
        """
        if not self.keys and not is_loopback(self.server.host):
            raise ConfigError(
                f"refusing to listen on {self.server.host} without client keys: anyone who can reach it "
                "could use your upstream keys; add `keys:` to the config, or listen on 127.0.0.1"
            )


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach the address; names other than localhost count as no."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


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


def load(path: Path, *, secrets: bool = True) -> Config:
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


def loads(text: str, path: Path, *, secrets: bool = True) -> Config:
    """:func:`load` for text in hand.

    Args:
        text: YAML.
        path: names the text in messages and anchors relative paths.
        secrets: False leaves the variables of ``keys``, ``litellm_params`` and ``record.hash_key``
            alone, for commands that neither serve nor call a model.

    Raises:
        ConfigError: see :func:`load`.
    """
    source = Source(text, str(path))
    values = source.resolve(skip=None if secrets else _is_secret)
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
        }
    )


def _placed(classifiers: ClassifiersConfig, folder: Path) -> ClassifiersConfig:
    """Paths relative to the config file, made whole."""
    packs = tuple(folder / pack for pack in classifiers.packs)
    encoder = None if classifiers.encoder is None else folder / classifiers.encoder
    return classifiers.model_copy(update={"packs": packs, "encoder": encoder})


def _is_secret(address: Address) -> bool:
    """Whether what stands here is only needed by a running gateway."""
    return (
        address[:1] == ("keys",)
        or address == ("record", "hash_key")
        or (address[:1] == ("model_list",) and "litellm_params" in address)
    )


def _refuse_repeats(section: str, key: str, names: Sequence[str]) -> None:
    for name, count in Counter(names).items():
        if count > 1:
            raise ValueError(
                f"{section}: {key} {name!r} stands {count} times; give each one its own"
            )
