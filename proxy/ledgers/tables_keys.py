"""The tables of client keys: the keys, what was done to them, what they have spent."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Double, Index, Integer, String, Table, Text, text

from proxy.ledgers.tables import metadata

keys = Table(
    "doorman_keys",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("name", Text, nullable=False),
    Column("digest", String(64), nullable=False, unique=True),  # SHA-256 of the key, hexadecimal
    Column("shown", String(16), nullable=False),  # the key's beginning, to tell it from others
    Column("created", Double, nullable=False),  # unix seconds
    Column("ends", Double),  # revoked or replaced: from then on it is as good as unknown
    Column("why", String(16)),  # revoked, rotated; null while it counts
    Column("terms", Text, nullable=False),  # what it allows, as JSON
)
Index(
    "doorman_keys_name",
    keys.c.name,
    unique=True,
    sqlite_where=text("why IS NULL"),
    postgresql_where=text("why IS NULL"),
)

audit = Table(
    "doorman_audit",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("time", Double, nullable=False),  # unix seconds
    Column("actor", Text, nullable=False),
    Column("action", String(32), nullable=False),
    Column("name", Text, nullable=False),
    Column("shown", String(16), nullable=False),
    Column("details", Text, nullable=False),  # JSON
)

spend = Table(
    "doorman_spend",
    metadata,
    Column("name", Text, primary_key=True),
    Column("day", String(10), primary_key=True),  # UTC, 2026-01-31
    Column("nano_usd", BigInteger, nullable=False),  # billionths of a dollar
)
