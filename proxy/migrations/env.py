"""Run by Alembic: migrate over the connection that :mod:`proxy.ledgers.database` has opened."""

from __future__ import annotations

from alembic import context

from proxy.ledgers import tables_feedback, tables_keys, tables_sessions
from proxy.ledgers.tables import VERSION_TABLE, metadata

# ``metadata`` knows them because they were imported.
_ = tables_feedback, tables_keys, tables_sessions

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    version_table=VERSION_TABLE,
    transactional_ddl=True,
)
with context.begin_transaction():
    context.run_migrations()
