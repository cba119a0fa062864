"""The ledger as a database: one row per decision and totals per day. SQLAlchemy's home.

``tables`` what is stored, ``rows`` how a record becomes a row, ``database`` how to reach it, ``store``
what is written, ``writer`` the group commit, ``ledger`` what the gateway holds; ``read``, ``verify`` and
``export`` serve the command line.
"""
