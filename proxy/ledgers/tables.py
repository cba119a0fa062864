"""The tables. A change here needs a migration beside it, in ``proxy/migrations/versions``."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Double,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    text,
)

VERSION_TABLE = "doorman_version"
"""Alembic's own."""

metadata = MetaData()

decisions = Table(
    "doorman_decisions",
    metadata,
    Column("decision_id", String(64), primary_key=True),
    # open: decided, and not ended; interrupted: its gateway died before the end; done
    Column("state", String(16), nullable=False),
    Column("instance", Integer, nullable=False),
    Column("time", Double, nullable=False),  # unix seconds
    Column("day", String(10), nullable=False),  # of that time, UTC, 2026-01-31
    Column("action", String(16), nullable=False),
    Column("status", Integer),
    Column("ended", Text),
    Column("key", Text),
    Column("model", Text, nullable=False),
    Column("upstream_model", Text),
    Column("endpoint", String(64), nullable=False),
    # Of the rule that decided; all null where none did.
    Column("policy", Text),
    Column("rule", Text),
    Column("classifier", Text),
    Column("label", Text),
    Column("score", Double),
    Column("shadow", Boolean, nullable=False),  # whether a rule in shadow mode fired
    Column("prompt_tokens", Integer),
    Column("completion_tokens", Integer),
    Column("cost_usd", Double),
    Column("saved_usd", Double),
    Column("record", Text, nullable=False),  # the whole record as JSON
)

# Newest first: every page ends at a time, and ties need an order too.
Index("doorman_decisions_time", decisions.c.time, decisions.c.decision_id)
FILTERS = ("action", "status", "key", "model", "policy", "rule", "label")
for _name in FILTERS:
    # Without the nulls, which nobody looks for: each entry is a page that a commit has to write.
    _given = text(f"{_name} IS NOT NULL") if decisions.c[_name].nullable else None
    Index(
        f"doorman_decisions_{_name}",
        decisions.c[_name],
        decisions.c.time,
        sqlite_where=_given,
        postgresql_where=_given,
    )
Index(
    "doorman_decisions_unended",
    decisions.c.time,
    sqlite_where=text("state = 'open'"),
    postgresql_where=text("state = 'open'"),
)
Index(
    "doorman_decisions_shadow",
    decisions.c.time,
    decisions.c.decision_id,
    # As SQLAlchemy writes the condition: SQLite sees no other way that it fits.
    sqlite_where=text("shadow = 1"),
    postgresql_where=text("shadow"),
)

daily = Table(
    "doorman_daily",
    metadata,
    Column("day", String(10), primary_key=True),
    Column("policy", Text, primary_key=True),  # empty where no rule decided
    Column("model", Text, primary_key=True),
    Column("action", String(16), primary_key=True),
    Column("count", Integer, nullable=False),
    Column("prompt_tokens", BigInteger, nullable=False),
    Column("completion_tokens", BigInteger, nullable=False),
    Column("cost_usd", Double, nullable=False),
    Column("saved_usd", Double, nullable=False),
    # Requests that no model was called for; savings and costs that have no known price.
    Column("avoided", Integer, nullable=False, server_default="0"),
    Column("unpriced", Integer, nullable=False, server_default="0"),
    Column("uncosted", Integer, nullable=False, server_default="0"),
)
"""Totals of the decisions whose state is ``done``."""

measures = Table(
    "doorman_measures",
    metadata,
    Column("day", String(10), primary_key=True),
    Column("name", String(16), primary_key=True),
    Column("bucket", Integer, primary_key=True, autoincrement=False),
    Column("count", Integer, nullable=False),
    Column("total", Double, nullable=False),
)
"""What the gateway itself took, per day. ``overhead``: requests that have ended, by bucket of their
milliseconds here (``rows.bucket_of``), and the sum of those; ``cpu``: seconds of its processes."""

marks = Table(
    "doorman_marks",
    metadata,
    Column("name", String(32), primary_key=True),
    Column("value", Double, nullable=False),
)
"""Single values: ``pruned``, the time of the newest decision that retention has deleted."""
