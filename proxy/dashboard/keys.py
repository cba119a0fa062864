"""Keys and limits: who may call what and how much, and who changed it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from proxy import key_listing
from proxy.config_keys import Terms
from proxy.dashboard.fields import Fields
from proxy.dashboard.kit import HOME, Answer, Visit
from proxy.errors import InvalidRequest, NotFound
from proxy.grants import NANO, Budget
from proxy.key_listing import NAME, NAME_FAULT, Listed
from proxy.keystore import made
from proxy.ledgers.database import Refused
from proxy.ledgers.keys import Change

KEYS = f"{HOME}/keys"
CHANGES = 30
LOOKED_AT = 500
"""Entries of the audit among which those of one key are sought."""
NOTICES = {"revoked": "The key is revoked; it opens nothing any more."}
_TEXTS = ("models", "policies", "rpm", "tpm", "max_parallel", "budget_usd", "expires")


@dataclass(frozen=True, slots=True)
class Money:
    """The budget of a key: dollars spent in its period, of how many; None without a budget."""

    spent: float
    budget: float | None = None
    period: str = ""

    @property
    def share(self) -> float:
        """How much of the budget is spent, 0 without one."""
        return self.spent / self.budget if self.budget else 0.0


async def keys(visit: Visit) -> Answer:
    """Answer ``/dashboard/keys``."""
    return await _page(visit)


async def create(visit: Visit) -> Answer:
    """Make a key and show it, once."""
    name = visit.form.text("name")
    try:
        if not NAME.fullmatch(name):
            raise ValueError(f"name: {NAME_FAULT}")
        terms = _terms(visit.form)
        _check(visit, name, terms)
    except ValueError as error:
        return await _page(visit, 400, fault=str(error))
    key, new = made()
    try:
        await visit.keys.create(name, new, terms, time.time())
    except Refused:
        return await _page(visit, 400, fault=f"name: there is a key {name} already")
    await visit.gateway.key_store.refresh()
    return _secret(visit, name, key, "made")


async def key(visit: Visit) -> Answer:
    """Answer ``/dashboard/keys/of/NAME``: one name, with the keys it has had."""
    name = visit.params["name"]
    rows = [row for row in await _rows(visit) if row.name == name]
    if not rows:
        raise NotFound("There is no key of this name.")
    newest = next((row for row in rows if row.counts), rows[-1])
    changes = [change for change in await visit.keys.changes(LOOKED_AT) if change.name == name]
    return visit.template(
        "key.html",
        name=name,
        newest=newest,
        older=[row for row in reversed(rows) if row is not newest],
        money=money(newest),
        changes=changes[:CHANGES],
        own=name == visit.actor,
        spent=_chart(newest),
    )


async def rotate(visit: Visit) -> Answer:
    """Put another key in the place of one, and show it, once."""
    name = visit.form.text("name")
    grace = visit.form.whole("grace", 0, most=int(key_listing.LONGEST_GRACE))
    key, new = made()
    if not await visit.keys.rotate(name, new, grace, time.time()):
        raise NotFound("No key of this name counts; it may have been revoked meanwhile.")
    await visit.gateway.key_store.refresh()
    return _secret(visit, name, key, "rotated")


async def revoke(visit: Visit) -> Answer:
    """End a key at once."""
    if visit.form.get("sure") != "yes":
        raise InvalidRequest("Tick that you are sure; the key's clients stop working at once.")
    if not await visit.keys.revoke(visit.form.text("name"), time.time()):
        raise NotFound("No key of this name counts; it may have been revoked meanwhile.")
    await visit.gateway.key_store.refresh()
    return visit.redirect(KEYS, "revoked")


def path_of(name: str) -> str:
    """The page of a key."""
    return f"{KEYS}/of/{quote(name, safe='')}"


def money(row: Listed) -> Money:
    """What a key has spent in the period of its budget, or else this month."""
    now = time.time()
    written = row.terms.get("budget_usd")
    if written is None:
        return Money(row.spent_in(key_listing.month_of(now)))
    budget = Budget.parse(written)
    period = budget.period(now).name
    return Money(row.spent_in(period), budget.nano / NANO, budget.per)


async def _page(visit: Visit, status: int = 200, fault: str = "") -> Answer:
    """The list; after a fault with what was typed."""
    rows = await _rows(visit)
    changes: list[Change] = await visit.keys.changes(CHANGES)
    return visit.template(
        "keys.html",
        status,
        rows=[(row, money(row), path_of(row.name)) for row in rows if row.counts],
        gone=[(row, path_of(row.name)) for row in reversed(rows) if not row.counts],
        changes=changes,
        aliases=list(visit.gateway.aliases),
        policies=[policy.policy.name for policy in visit.gateway.policies.current],
        typed=visit.form,
        fault=fault,
    )


async def _rows(visit: Visit) -> list[Listed]:
    now = time.time()
    table = visit.keys
    spent = await table.spent(f"{key_listing.month_of(now)}-01")
    return key_listing.listed(await table.all(), visit.gateway.config.keys, spent, now)


def _terms(form: Fields) -> Terms:
    """The terms of a form. Raises ValueError."""
    given: dict[str, Any] = {name: form.text(name) for name in _TEXTS if form.text(name)}
    given["admin"] = form.get("admin") == "on"
    return key_listing.terms_of(given)


def _check(visit: Visit, name: str, terms: Terms) -> None:
    """Refuse what would not work. Raises ValueError."""
    config, policies = visit.gateway.config, visit.gateway.policies.current
    if any(configured.name == name for configured in config.keys):
        raise ValueError(f"name: the config has a key {name} already")
    known = {policy.policy.name for policy in policies}
    if unknown := [policy for policy in terms.policies if policy not in known]:
        raise ValueError(f"policies: {unknown[0][:80]} is not loaded")
    if visit.keyless and not terms.admin:
        # From the first key on everyone needs one, and nobody could log in with this one.
        raise ValueError("admin: the first key must be an admin's, or these pages would be closed")


def _secret(visit: Visit, name: str, key: str, what: str) -> Answer:
    # No redirect: the key is in this answer and nowhere else.
    return visit.template("key_made.html", name=name, key=key, what=what, back=path_of(name))


def _chart(row: Listed) -> dict[str, Any]:
    """What was spent this month, day by day."""
    days = sorted(row.spent)
    return {
        "x": [datetime.fromisoformat(day).replace(tzinfo=UTC).timestamp() for day in days],
        "time": True,
        "kind": "bar",
        "unit": "$",
        "series": [{"label": "spent", "values": [row.spent[day] for day in days]}],
    }
