"""Client keys in the database: made, changed and read. Each change stands in the audit with it."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import orjson
from sqlalchemy import func, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from proxy.config_keys import Terms
from proxy.ledgers.connections import Connections
from proxy.ledgers.database import Place
from proxy.ledgers.tables_keys import audit, keys, spend

Why = Literal["revoked", "rotated"]
KEY_ACTIONS = ("create", "rotate", "revoke")
"""Entries of the audit that are changes of keys."""


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key as it is stored: its SHA-256 in hexadecimal, and ``shown``, its beginning."""

    digest: str
    shown: str


@dataclass(frozen=True, slots=True)
class StoredKey:
    """A key of the database.

    Attributes:
        digest: hexadecimal.
        shown: the key's beginning.
        created: unix seconds.
        ends: unix seconds from which on it is as good as unknown; None while nobody has ended it.
        why: what ended it.
        terms: what it allows, as JSON.
    """

    name: str
    digest: str
    shown: str
    created: float
    ends: float | None
    why: Why | None
    terms: str


@dataclass(frozen=True, slots=True)
class Change:
    """One entry of the audit; ``time`` in unix seconds."""

    time: float
    actor: str
    action: str
    name: str
    shown: str
    details: Mapping[str, Any]


class KeyTable(Connections):
    """The tables of client keys. Every method raises ``Away`` while the database cannot be used.

    Args:
        place: where they are; they must have been made, see ``database.migrate``.
        actor: who changes them, for the audit.
    """

    def __init__(self, place: Place, actor: str = "") -> None:
        super().__init__(place)
        self._actor = actor
        upsert = postgresql.insert if place.file is None else sqlite.insert
        added = upsert(spend)
        self._add_spent = added.on_conflict_do_update(
            index_elements=["name", "day"],
            set_={"nano_usd": spend.c.nano_usd + added.excluded.nano_usd},
        )

    def by(self, actor: str) -> KeyTable:
        """The same connections, for changes that somebody else makes."""
        other = copy.copy(self)
        other._actor = actor
        return other

    async def version(self) -> int:
        """A number that grows with every change of keys; 0 if there never was one."""
        newest = select(func.max(audit.c.id)).where(audit.c.action.in_(KEY_ACTIONS))
        async with self.reading() as connection:
            return int((await connection.execute(newest)).scalar() or 0)

    async def all(self) -> list[StoredKey]:
        """Every key there ever was, the oldest first."""
        query = select(*(keys.c[name] for name in StoredKey.__slots__)).order_by(keys.c.id)
        async with self.reading() as connection:
            return [StoredKey(**row) for row in (await connection.execute(query)).mappings()]

    async def create(self, name: str, new: NewKey, terms: Terms, now: float) -> None:
        """Add a key. Raises Refused if one of its name counts already."""
        told = terms.model_dump(mode="json", exclude_defaults=True)
        async with self.writing() as connection:
            await self._insert(connection, name, new, orjson.dumps(told).decode(), now)
            await self._audit(connection, "create", name, new.shown, now, told)

    async def rotate(self, name: str, new: NewKey, grace: float, now: float) -> bool:
        """Put another key in the place of one, which counts ``grace`` seconds longer. False: no such."""
        async with self.writing() as connection:
            old = await self._end(connection, name, "rotated", now + grace)
            if old is None:
                return False
            await self._insert(connection, name, new, old.terms, now)
            details = {"replaces": old.shown, "grace_seconds": grace}
            await self._audit(connection, "rotate", name, new.shown, now, details)
            return True

    async def revoke(self, name: str, now: float) -> bool:
        """End a key at once, and those it has replaced. False: there is no such key."""
        older = (keys.c.name == name, keys.c.why == "rotated", keys.c.ends > now)
        async with self.writing() as connection:
            old = await self._end(connection, name, "revoked", now)
            if old is None:
                return False
            await connection.execute(update(keys).where(*older).values(ends=now, why="revoked"))
            await self._audit(connection, "revoke", name, old.shown, now, {})
            return True

    async def note(self, action: str, name: str, details: Mapping[str, Any], now: float) -> None:
        """Enter into the audit what was done to something else than a key.

        Args:
            action: a word, at most 32 characters.
            name: of what it was done to.
        """
        async with self.writing() as connection:
            await self._audit(connection, action, name, "", now, details)

    async def changes(self, limit: int) -> list[Change]:
        """The newest entries of the audit, the newest first."""
        query = select(*(audit.c[name] for name in Change.__slots__))
        async with self.reading() as connection:
            found = await connection.execute(query.order_by(audit.c.id.desc()).limit(limit))
            return [
                Change(**{**row, "details": orjson.loads(row["details"])})
                for row in found.mappings()
            ]

    async def add_spent(self, sums: Mapping[tuple[str, str], int]) -> None:
        """Add to what keys have spent: name and UTC day -> billionths of a dollar."""
        rows = [
            {"name": name, "day": day, "nano_usd": nano}
            for (name, day), nano in sorted(sums.items())
        ]
        async with self.writing() as connection:
            await connection.execute(self._add_spent, rows)

    async def spent(self, since: str) -> dict[tuple[str, str], int]:
        """What keys have spent from a UTC day on."""
        async with self.reading() as connection:
            found = await connection.execute(select(spend).where(spend.c.day >= since))
            return {(name, day): int(nano) for name, day, nano in found}

    async def _end(
        self, connection: AsyncConnection, name: str, why: Why, ends: float
    ) -> StoredKey | None:
        mine = (keys.c.name == name, keys.c.why.is_(None))
        columns = [keys.c[column] for column in StoredKey.__slots__]
        found = await connection.execute(select(*columns).where(*mine))
        row = found.mappings().one_or_none()
        if row is None:
            return None
        await connection.execute(update(keys).where(*mine).values(ends=ends, why=why))
        return StoredKey(**row)

    async def _insert(
        self, connection: AsyncConnection, name: str, new: NewKey, terms: str, now: float
    ) -> None:
        row = {"name": name, "digest": new.digest, "shown": new.shown, "created": now}
        await connection.execute(insert(keys).values(**row, terms=terms))

    async def _audit(
        self,
        connection: AsyncConnection,
        action: str,
        name: str,
        shown: str,
        now: float,
        details: Mapping[str, Any],
    ) -> None:
        await enter(connection, self._actor, action, name, shown, now, details)


async def enter(
    connection: AsyncConnection,
    actor: str,
    action: str,
    name: str,
    shown: str,
    now: float,
    details: Mapping[str, Any],
) -> None:
    """Put an entry into the audit, within the transaction of what it tells."""
    row = {"time": now, "actor": actor, "action": action, "name": name, "shown": shown}
    told = orjson.dumps(details).decode()
    await connection.execute(insert(audit).values(**row, details=told))
