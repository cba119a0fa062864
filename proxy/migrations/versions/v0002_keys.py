"""Client keys, the audit of their changes, what they have spent."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "doorman_keys",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("digest", sa.String(64), nullable=False, unique=True),
        sa.Column("shown", sa.String(16), nullable=False),
        sa.Column("created", sa.Double, nullable=False),
        sa.Column("ends", sa.Double),
        sa.Column("why", sa.String(16)),
        sa.Column("terms", sa.Text, nullable=False),
    )
    counts = sa.text("why IS NULL")
    op.create_index(
        "doorman_keys_name",
        "doorman_keys",
        ["name"],
        unique=True,
        sqlite_where=counts,
        postgresql_where=counts,
    )
    op.create_table(
        "doorman_audit",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("time", sa.Double, nullable=False),
        sa.Column("actor", sa.Text, nullable=False),
        sa.Column("action", sa.String(32), nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("shown", sa.String(16), nullable=False),
        sa.Column("details", sa.Text, nullable=False),
    )
    op.create_table(
        "doorman_spend",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("day", sa.String(10), primary_key=True),
        sa.Column("nano_usd", sa.BigInteger, nullable=False),
    )


def downgrade() -> None:
    """Drop the tables."""
    for name in ("doorman_spend", "doorman_audit", "doorman_keys"):
        op.drop_table(name)
