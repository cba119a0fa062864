"""The table of the dashboard's sessions."""

from __future__ import annotations

from sqlalchemy import Column, Double, Index, String, Table, Text

from proxy.ledgers.tables import metadata

sessions = Table(
    "doorman_sessions",
    metadata,
    Column("digest", String(64), primary_key=True),  # SHA-256 of the cookie, hexadecimal
    Column("name", Text, nullable=False),  # of the admin key it was opened with
    Column("key_digest", String(64), nullable=False),  # of that key: its end ends the session
    Column("created", Double, nullable=False),  # unix seconds
    Column("ends", Double, nullable=False),
)
Index("doorman_sessions_ends", sessions.c.ends)
