"""One statement for many rows, as fast as the driver takes them."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from operator import itemgetter

from sqlalchemy import Connection, Insert, Table
from sqlalchemy.dialects import sqlite
from sqlalchemy.sql.compiler import SQLCompiler

from proxy.ledgers.database import Place
from proxy.ledgers.rows import Row


class Many:
    """An insert that is run again and again.

    SQLite gets its text, made once, and bare tuples: what SQLAlchemy does for each run takes as long
    as the transaction itself. PostgreSQL's driver prepares and keeps statements on its own.

    Args:
        statement: without parameters but the columns.
        table: whose columns a row has, all of them.
    """

    def __init__(self, statement: Insert, table: Table, place: Place) -> None:
        self._statement = statement
        self._names = tuple(column.name for column in table.c)
        self._text: str | None = None
        if place.file is not None:
            compiled = statement.compile(dialect=sqlite.dialect(), column_keys=self._names)
            assert isinstance(compiled, SQLCompiler)
            self._text = str(compiled)
            self._names = tuple(compiled.positiontup or ())
        self._values = itemgetter(*self._names)

    def run(self, connection: Connection, rows: Sequence[Row]) -> None:
        """Run it for rows; keys that are no columns are left out."""
        if self._text is not None:
            connection.exec_driver_sql(self._text, [self._values(row) for row in rows])
            return
        wanted = [dict(zip(self._names, self._values(row), strict=True)) for row in rows]
        connection.execute(self._statement, wanted)

    def run_bare(self, connection: sqlite3.Connection, rows: Sequence[Row]) -> None:
        """Run it on SQLite's own connection."""
        assert self._text is not None
        connection.executemany(self._text, map(self._values, rows))
