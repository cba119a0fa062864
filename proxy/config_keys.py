"""What operators write of client keys and of the place where limits are shared."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any

from pydantic import Field, SecretStr, field_validator

from classifiers.types import StrictModel
from proxy.grants import Allowance, Budget, Grant


class Terms(StrictModel):
    """What a key allows, in the config and in the database."""

    models: tuple[str, ...] = ()
    """Aliases it may call, as patterns (``*``, ``?``, ``[ab]``); all if none is named. Others do not
    exist for it."""
    policies: tuple[str, ...] = ()
    """Names of policies that count for it whatever their ``attach`` says, beside those that attach by
    name; it takes none away."""
    rpm: int | None = Field(default=None, gt=0)
    """Requests per minute."""
    tpm: int | None = Field(default=None, gt=0)
    """Tokens per minute: of the prompt, estimated, before a request is forwarded; what was really used
    after it."""
    max_parallel: int | None = Field(default=None, gt=0)
    """Requests at once."""
    budget_usd: str | None = None
    """Dollars per calendar day or month (UTC), ``5/day`` or ``100/month``."""
    expires: datetime | None = None
    """Day or time from which on the key is refused, UTC if it names no zone."""
    admin: bool = False
    """For the dashboard, ``/metrics`` and other endpoints that tell of all clients. It calls models only
    if ``models`` names some. As soon as one admin key exists, no other key may read those endpoints."""

    @field_validator("budget_usd")
    @classmethod
    def _budget(cls, value: str | None) -> str | None:
        return None if value is None else str(Budget.parse(value))

    @field_validator("expires", mode="before")
    @classmethod
    def _day(cls, value: Any) -> Any:
        # A bare number would be read as seconds since 1970.
        if value is None or isinstance(value, date):
            return value
        try:
            return datetime.fromisoformat(value if isinstance(value, str) else "")
        except ValueError:
            raise ValueError(
                f"{str(value)[:40]!r} is no day; write one such as 2027-01-01, or 2027-01-01T18:00+02:00"
            ) from None

    @field_validator("expires")
    @classmethod
    def _zone(cls, value: datetime | None) -> datetime | None:
        return value if value is None or value.tzinfo else value.replace(tzinfo=UTC)

    @property
    def grant(self) -> Grant:
        """What it allows."""
        budget = None if self.budget_usd is None else Budget.parse(self.budget_usd)
        return Grant.of(
            models=self.models,
            policies=self.policies,
            admin=self.admin,
            allowance=Allowance(self.rpm, self.tpm, self.max_parallel, budget),
            expires=None if self.expires is None else self.expires.timestamp(),
        )


class _Named(StrictModel):
    name: str = Field(min_length=1)
    """What policies attach to, and what records name."""
    key: SecretStr = Field(min_length=8)
    """The secret, best as ``os.environ/NAME``."""


class ClientKey(Terms, _Named):
    """A key that clients authenticate with; policies attach to its name."""


class RedisConfig(StrictModel):
    """Where several gateways share the limits of keys. Needs the extra ``redis``."""

    url: SecretStr | None = None
    """``redis://HOST:PORT/DATABASE`` (``rediss://`` with TLS); without one each process counts alone."""
    prefix: str = Field(default="doorman", min_length=1, max_length=64)
    """What the names of all entries there begin with; gateways with the same one share limits."""
    timeout_seconds: float = Field(default=1.0, gt=0)
    """How long it may take to answer; then ``limits.on_error`` counts."""
