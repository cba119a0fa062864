"""Whether a ledger is whole: what ``doorman ledger verify`` looks at."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from math import isclose
from typing import Any

import orjson
from sqlalchemy import ColumnElement, and_, case, func, or_, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from proxy.ledgers.database import Place
from proxy.ledgers.read import Reader
from proxy.ledgers.rows import AVOIDING, COUNTS, SUMS, day_of
from proxy.ledgers.store import PRUNED
from proxy.ledgers.tables import daily, decisions, marks

_HASH = re.compile(r"[0-9a-f]{64}")
_SAME = ("decision_id", "time", "key", "model", "endpoint", "action")
"""Columns that say what the record says, once a request has ended."""
_EPSILON = 1e-6
"""Sums of dollars differ by rounding, as they are added in another order."""


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at: ``fault`` is empty where all is well."""

    name: str
    found: str
    fault: str = ""


async def verify(place: Place) -> list[Check]:
    """All checks, on one consistent view.

    Raises:
        Away: the ledger cannot be read.
    """
    reader = Reader(place)
    try:
        async with reader.connection() as connection:
            return [check async for check in _checks(place, connection)]
    finally:
        await reader.close()


async def _checks(place: Place, connection: AsyncConnection) -> AsyncIterator[Check]:
    if place.file is not None:
        said = list((await connection.execute(text("PRAGMA integrity_check"))).scalars())
        fault = "" if said == ["ok"] else f"{len(said)} faults in the file; restore a copy"
        told = str(said[0]) if fault else "SQLite finds no fault"
        yield Check("the file is whole", told, fault)
    yield await _rows(connection)
    yield await _totals(connection)
    opened = select(func.count()).where(decisions.c.state == "open")
    count = (await connection.execute(opened)).scalar_one()
    # A gateway that runs has some; the next start marks those of one that died.
    yield Check("requests under way", f"{count} open")


async def _rows(connection: AsyncConnection) -> Check:
    """Each row and its record say the same; hashes are hashes. Ids are unique by the primary key."""
    found, bad, hashes = 0, 0, 0
    columns = [decisions.c[name] for name in (*_SAME, "state", "record")]
    async for row in await connection.stream(select(*columns)):
        found += 1
        same, wrong = _sound(row._mapping)
        bad += not same
        hashes += wrong
    faults = [f"{bad} rows do not say what their record says"] if bad else []
    faults += [f"{hashes} records hold a hash of a wrong form"] if hashes else []
    return Check("one row per decision, as its record", f"{found} rows", "; ".join(faults))


def _sound(row: Any) -> tuple[bool, bool]:
    """Whether a row fits its record, and whether the record has a wrong hash."""
    try:
        record = orjson.loads(row["record"])
    except orjson.JSONDecodeError:
        return False, False
    # NUL is the one character that a column and its record may write differently.
    same = all(str(record.get(name)).replace("\x00", "\ufffd") == str(row[name]) for name in _SAME)
    hashes = [entry["hmac_sha256"] for entry in record["content"] if "hmac_sha256" in entry]
    return same, not all(_HASH.fullmatch(value) for value in hashes)


async def _totals(connection: AsyncConnection) -> Check:
    """The totals per day are the sums of the rows, for days of which nothing was deleted."""
    mark = select(marks.c.value).where(marks.c.name == PRUNED)
    pruned = (await connection.execute(mark)).scalar_one_or_none()
    since = "" if pruned is None else day_of(pruned)
    policy = func.coalesce(decisions.c.policy, "").label("policy")
    by = (decisions.c.day, policy, decisions.c.model, decisions.c.action)
    sums = [func.coalesce(func.sum(decisions.c[name]), 0) for name in SUMS]
    counts = [func.sum(case((condition, 1), else_=0)) for condition in _kinds()]
    counted = (
        select(*by, func.count(), *sums, *counts)
        .where(decisions.c.state == "done", decisions.c.day > since)
        .group_by(*by)
    )
    kept = select(
        daily.c.day, daily.c.policy, daily.c.model, daily.c.action,
        daily.c["count"], *(daily.c[name] for name in (*SUMS, *COUNTS)),
    ).where(daily.c.day > since)  # fmt: skip
    wanted = {tuple(row[:4]): tuple(row[4:]) for row in await connection.execute(counted)}
    told = {tuple(row[:4]): tuple(row[4:]) for row in await connection.execute(kept)}
    wrong = sum(not _equal(wanted.get(key), told.get(key)) for key in wanted.keys() | told.keys())
    fault = f"{wrong} totals are not the sums of their rows" if wrong else ""
    after = f", of the days after {since}" if since else ""
    return Check("totals are the sums of the rows", f"{len(told)} totals{after}", fault)


def _kinds() -> list[ColumnElement[bool]]:
    """``rows.kinds`` as conditions."""
    c = decisions.c
    counted = c.prompt_tokens.is_not(None)
    avoided = and_(c.action.in_(AVOIDING), c.upstream_model.is_(None))
    saves = or_(avoided, and_(c.action == "route", counted))
    return [avoided, and_(saves, c.saved_usd.is_(None)), and_(counted, c.cost_usd.is_(None))]


def _equal(left: tuple[Any, ...] | None, right: tuple[Any, ...] | None) -> bool:
    if left is None or right is None:
        return False
    pairs = zip(left, right, strict=True)
    return all(isclose(a, b, rel_tol=_EPSILON, abs_tol=_EPSILON) for a, b in pairs)
