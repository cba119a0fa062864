"""Alembic's migrations of the ledger; ``doorman ledger migrate`` and every start run them."""
