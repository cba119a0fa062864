"""What a client key may do: its caller, its limits, its budget. Values, and no state."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from fnmatch import fnmatchcase
from typing import Literal

ANYBODY = ""
"""Name of the caller where there are no keys. No key can be named so, and of the patterns that
policies attach by only ``*`` matches it."""

Per = Literal["day", "month"]
NANO = 1_000_000_000
"""Money is counted in whole billionths of a dollar: sums of those never drift."""

_BUDGET = re.compile(r"([0-9]{1,6}(?:\.[0-9]{1,6})?)/(day|month)")


@dataclass(frozen=True, slots=True)
class Period:
    """A day or a month, UTC. ``name`` is ``2026-01-31`` or ``2026-01``, ``ends`` unix seconds."""

    name: str
    ends: float


@dataclass(frozen=True, slots=True)
class Budget:
    """Dollars per calendar day or month, UTC; ``nano`` are billionths of a dollar."""

    nano: int
    per: Per

    @classmethod
    def parse(cls, text: str) -> Budget:
        """Read ``5/day`` or ``100/month``. Raises ValueError."""
        match = _BUDGET.fullmatch(text.strip())
        if match is None or not float(match[1]):
            raise ValueError(
                f"budget {text[:40]!r} is not understood; write dollars and day or month, such as "
                "5/day or 100/month"
            )
        per: Per = "day" if match[2] == "day" else "month"
        return cls(round(float(match[1]) * NANO), per)

    def period(self, now: float) -> Period:
        """The period in which a time lies."""
        at = datetime.fromtimestamp(now, UTC).replace(hour=0, minute=0, second=0, microsecond=0)
        if self.per == "day":
            return Period(f"{at:%Y-%m-%d}", (at + timedelta(days=1)).timestamp())
        first = at.replace(day=1)
        return Period(f"{first:%Y-%m}", (first + timedelta(days=32)).replace(day=1).timestamp())

    def __str__(self) -> str:
        return f"{self.nano / NANO:.6f}".rstrip("0").rstrip(".") + f"/{self.per}"


@dataclass(frozen=True, slots=True)
class Allowance:
    """How much a key may use; None sets no bound.

    Attributes:
        requests: per minute.
        tokens: of prompts and replies, per minute.
        parallel: requests at once.
        budget: dollars per period.
    """

    requests: int | None = None
    tokens: int | None = None
    parallel: int | None = None
    budget: Budget | None = None

    @property
    def unbounded(self) -> bool:
        """Whether there is nothing to count."""
        return self == _NO_BOUNDS

    @property
    def counted(self) -> bool:
        """Whether something is counted that all who answer must count together, but for money, which
        the database adds up."""
        return (self.requests, self.tokens, self.parallel) != (None, None, None)


_NO_BOUNDS = Allowance()


@dataclass(frozen=True, slots=True)
class Grant:
    """Everything a key allows.

    Attributes:
        models: patterns of the aliases that it may call; None for all, empty for none.
        policies: names of policies that attach to it beside those that attach by name.
        admin: may read what tells of all clients, such as ``/metrics``.
        expires: unix seconds from which on it is refused.
    """

    models: tuple[str, ...] | None = None
    policies: tuple[str, ...] = ()
    admin: bool = False
    allowance: Allowance = _NO_BOUNDS
    expires: float | None = None

    @classmethod
    def of(
        cls,
        *,
        models: Iterable[str] = (),
        policies: Iterable[str] = (),
        admin: bool = False,
        allowance: Allowance = _NO_BOUNDS,
        expires: float | None = None,
    ) -> Grant:
        """A grant as it is written: without ``models`` a client may call all, an admin none."""
        named = tuple(models)
        return cls(named if named or admin else None, tuple(policies), admin, allowance, expires)


@dataclass(frozen=True, slots=True)
class Caller:
    """Who is calling: the name of the key, and what it allows."""

    name: str
    grant: Grant = Grant()

    @property
    def is_client(self) -> bool:
        """Whether it may use the APIs: an admin key may only if it was given models."""
        return self.grant.models is None or bool(self.grant.models)

    def may_call(self, alias: str) -> bool:
        """Whether the key allows the alias."""
        models = self.grant.models
        return models is None or any(fnmatchcase(alias, glob) for glob in models)


NOBODY = Caller(ANYBODY)
