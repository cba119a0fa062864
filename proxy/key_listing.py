"""Keys as people look at them: what each allows, whether it counts, what it has spent. No secrets."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from typing import Any

from pydantic import ValidationError

from proxy.config_keys import ClientKey, Terms
from proxy.grants import NANO
from proxy.ledgers.keys import StoredKey

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:@/-]{0,63}")
NAME_FAULT = "must be 1 to 64 letters, digits or . _ : @ / -, a letter or digit first"
LONGEST_GRACE = 31_536_000.0
"""Seconds that a replaced key may still count."""
IN_CONFIG = "config"
ACTIVE = "active"


@dataclass(frozen=True, slots=True)
class Listed:
    """A key of the database or of the config.

    Attributes:
        key: its beginning, or where it stands.
        status: ``active``, ``config``, ``expired``, ``revoked``, ``rotated`` or until when it counts.
        created: unix seconds, None for the config's.
        terms: what it allows, those that are not the defaults.
        spent: dollars of this month by UTC day.
    """

    name: str
    key: str
    status: str
    created: float | None
    terms: Mapping[str, Any]
    spent: Mapping[str, float]

    @property
    def counts(self) -> bool:
        """Whether it opens anything now, and is the newest of its name."""
        return self.status in (ACTIVE, IN_CONFIG)

    def spent_in(self, period: str) -> float:
        """Dollars in a day or a month, ``2026-01-31`` or ``2026-01``."""
        return sum(usd for day, usd in self.spent.items() if day.startswith(period))


def listed(
    stored: Iterable[StoredKey],
    configured: Iterable[ClientKey],
    spent: Mapping[tuple[str, str], int],
    now: float,
) -> list[Listed]:
    """The keys of the database, the oldest first, then those of the config.

    Args:
        spent: by name and day, billionths of a dollar.
    """
    sums: dict[str, dict[str, float]] = {}
    for (name, day), nano in spent.items():
        sums.setdefault(name, {})[day] = nano / NANO
    rows = [
        Listed(
            key.name,
            f"{key.shown}...",
            status(key, now),
            key.created,
            dict(json.loads(key.terms)),
            sums.get(key.name, {}),
        )
        for key in stored
    ]
    rows += [
        Listed(
            key.name,
            "in the config",
            IN_CONFIG,
            None,
            plain(key, leave=("name", "key")),
            sums.get(key.name, {}),
        )
        for key in configured
    ]
    return rows


def status(key: StoredKey, now: float) -> str:
    """See :class:`Listed`."""
    if key.ends is not None:
        return f"counts until {moment(key.ends)}" if key.ends > now else str(key.why)
    expires = json.loads(key.terms).get("expires")
    expired = expires and datetime.fromisoformat(expires).timestamp() <= now
    return "expired" if expired else ACTIVE


def plain(terms: Terms, leave: Iterable[str] = ()) -> dict[str, Any]:
    """Terms as JSON, without what is the default."""
    return terms.model_dump(mode="json", exclude_defaults=True, exclude=set(leave))


def terms_of(given: Mapping[str, Any]) -> Terms:
    """Read terms; lists of names are written with commas.

    Raises:
        ValueError: ``field: what is wrong``.
    """
    values = dict(given)
    for name in ("models", "policies"):
        parts = str(values.get(name) or "").split(",")
        values[name] = tuple(part.strip() for part in parts if part.strip())
    try:
        return Terms.model_validate(values)
    except ValidationError as error:
        fault = error.errors()[0]
        told = fault["msg"].removeprefix("Value error, ")
        raise ValueError(f"{fault['loc'][0]}: {told}") from None


def unmatched(terms: Terms, aliases: Iterable[str]) -> list[str]:
    """Patterns of models that no alias matches."""
    known = list(aliases)
    return [glob for glob in terms.models if not any(fnmatchcase(a, glob) for a in known)]


def moment(time: float) -> str:
    """``2026-01-31 12:00:00 UTC``."""
    return f"{datetime.fromtimestamp(time, UTC):%Y-%m-%d %H:%M:%S} UTC"


def month_of(time: float) -> str:
    """``2026-01``, UTC."""
    return f"{datetime.fromtimestamp(time, UTC):%Y-%m}"
