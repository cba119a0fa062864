"""What savings need: calls avoided, prices that are not known, time and CPU by day; leaner indexes."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

DECISIONS, DAILY = "doorman_decisions", "doorman_daily"
SPARSE = ("status", "key", "policy", "rule", "label")
"""Columns that are null for most decisions: an entry for each of those costs a page of every commit."""
NEW = ("avoided", "unpriced", "uncosted")
_AVOIDED = "upstream_model IS NULL AND action IN ('block', 'answer', 'cache')"
_UNPRICED = (
    f"saved_usd IS NULL AND (({_AVOIDED}) OR (action = 'route' AND prompt_tokens IS NOT NULL))"
)
_UNCOSTED = "cost_usd IS NULL AND prompt_tokens IS NOT NULL"


def upgrade() -> None:
    """Add the columns with what the decisions that are there say, and the table."""
    for name in NEW:
        op.add_column(DAILY, sa.Column(name, sa.Integer, nullable=False, server_default="0"))
    same = " AND ".join(f"d.{name} = t.{name}" for name in ("day", "model", "action"))
    for name, condition in zip(NEW, (_AVOIDED, _UNPRICED, _UNCOSTED), strict=True):
        op.execute(
            f"UPDATE {DAILY} AS t SET {name} = (SELECT count(*) FROM {DECISIONS} AS d WHERE {same} "  # noqa: S608
            f"AND coalesce(d.policy, '') = t.policy AND d.state = 'done' AND {condition})"
        )
    op.create_table(
        "doorman_measures",
        sa.Column("day", sa.String(10), primary_key=True),
        sa.Column("name", sa.String(16), primary_key=True),
        sa.Column("bucket", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("count", sa.Integer, nullable=False),
        sa.Column("total", sa.Double, nullable=False),
    )
    op.drop_index(f"{DECISIONS}_day", DECISIONS)
    # Also by id, and with the condition as queries have it: SQLite did not use it without.
    op.drop_index(f"{DECISIONS}_shadow", DECISIONS)
    op.create_index(
        f"{DECISIONS}_shadow",
        DECISIONS,
        ["time", "decision_id"],
        sqlite_where=sa.text("shadow = 1"),
        postgresql_where=sa.text("shadow"),
    )
    for name in SPARSE:
        op.drop_index(f"{DECISIONS}_{name}", DECISIONS)
        where = sa.text(f"{name} IS NOT NULL")
        op.create_index(
            f"{DECISIONS}_{name}",
            DECISIONS,
            [name, "time"],
            sqlite_where=where,
            postgresql_where=where,
        )


def downgrade() -> None:
    """Take all of it back."""
    for name in SPARSE:
        op.drop_index(f"{DECISIONS}_{name}", DECISIONS)
        op.create_index(f"{DECISIONS}_{name}", DECISIONS, [name, "time"])
    op.create_index(f"{DECISIONS}_day", DECISIONS, ["day"])
    op.drop_index(f"{DECISIONS}_shadow", DECISIONS)
    where = sa.text("shadow")
    op.create_index(
        f"{DECISIONS}_shadow", DECISIONS, ["time"], sqlite_where=where, postgresql_where=where
    )
    op.drop_table("doorman_measures")
    for name in NEW:
        op.drop_column(DAILY, name)
