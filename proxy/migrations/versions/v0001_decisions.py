"""Decisions, totals per day, marks."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "doorman_decisions",
        sa.Column("decision_id", sa.String(64), primary_key=True),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("instance", sa.Integer, nullable=False),
        sa.Column("time", sa.Double, nullable=False),
        sa.Column("day", sa.String(10), nullable=False),
        sa.Column("action", sa.String(16), nullable=False),
        sa.Column("status", sa.Integer),
        sa.Column("ended", sa.Text),
        sa.Column("key", sa.Text),
        sa.Column("model", sa.Text, nullable=False),
        sa.Column("upstream_model", sa.Text),
        sa.Column("endpoint", sa.String(64), nullable=False),
        sa.Column("policy", sa.Text),
        sa.Column("rule", sa.Text),
        sa.Column("classifier", sa.Text),
        sa.Column("label", sa.Text),
        sa.Column("score", sa.Double),
        sa.Column("shadow", sa.Boolean, nullable=False),
        sa.Column("prompt_tokens", sa.Integer),
        sa.Column("completion_tokens", sa.Integer),
        sa.Column("cost_usd", sa.Double),
        sa.Column("saved_usd", sa.Double),
        sa.Column("record", sa.Text, nullable=False),
    )
    table = "doorman_decisions"
    op.create_index(f"{table}_time", table, ["time", "decision_id"])
    for name in ("action", "status", "key", "model", "policy", "rule", "label"):
        op.create_index(f"{table}_{name}", table, [name, "time"])
    op.create_index(f"{table}_day", table, ["day"])
    for name, condition in {"shadow": "shadow", "unended": "state = 'open'"}.items():
        where = sa.text(condition)
        op.create_index(
            f"{table}_{name}", table, ["time"], sqlite_where=where, postgresql_where=where
        )
    op.create_table(
        "doorman_daily",
        sa.Column("day", sa.String(10), primary_key=True),
        sa.Column("policy", sa.Text, primary_key=True),
        sa.Column("model", sa.Text, primary_key=True),
        sa.Column("action", sa.String(16), primary_key=True),
        sa.Column("count", sa.Integer, nullable=False),
        sa.Column("prompt_tokens", sa.BigInteger, nullable=False),
        sa.Column("completion_tokens", sa.BigInteger, nullable=False),
        sa.Column("cost_usd", sa.Double, nullable=False),
        sa.Column("saved_usd", sa.Double, nullable=False),
    )
    op.create_table(
        "doorman_marks",
        sa.Column("name", sa.String(32), primary_key=True),
        sa.Column("value", sa.Double, nullable=False),
    )


def downgrade() -> None:
    """Drop the tables."""
    for name in ("doorman_marks", "doorman_daily", "doorman_decisions"):
        op.drop_table(name)
