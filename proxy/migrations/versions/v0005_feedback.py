"""What people say of decisions."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

TABLE = "doorman_feedback"


def upgrade() -> None:
    """Create the table."""
    op.create_table(
        TABLE,
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("decision_id", sa.String(64), nullable=False),
        sa.Column("reporter", sa.Text, nullable=False),
        sa.Column("time", sa.Double, nullable=False),
        sa.Column("verdict", sa.String(8), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("stage", sa.String(8), nullable=False),
        sa.Column("policy", sa.Text, nullable=False),
        sa.Column("rule", sa.Text, nullable=False),
        sa.Column("classifier", sa.Text, nullable=False),
        sa.Column("labels", sa.Text),
        sa.Column("text", sa.Text),
        sa.Column("comment", sa.Text),
        sa.Column("judge", sa.Text),
        sa.Column("judged", sa.Double),
    )
    op.create_index(f"{TABLE}_once", TABLE, ["decision_id", "reporter"], unique=True)
    op.create_index(f"{TABLE}_state", TABLE, ["state", "classifier", "time"])
    op.create_index(f"{TABLE}_time", TABLE, ["time"])


def downgrade() -> None:
    """Drop the table."""
    op.drop_table(TABLE)
