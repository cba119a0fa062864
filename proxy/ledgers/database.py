"""How to reach the database of a ledger: URLs, connections, migrations, and which errors mean what."""

from __future__ import annotations

import asyncio
import importlib.util
import logging
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import (
    Connection,
    Engine,
    Select,
    create_engine,
    event,
    exc,
    inspect,
    literal_column,
    select,
    table,
    text,
)
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import AsyncAdaptedQueuePool, NullPool

from proxy.config_ledger import SQLITE
from proxy.ledgers.tables import VERSION_TABLE
from proxy.yaml_source import ConfigError

MIGRATIONS = Path(__file__).resolve().parent.parent / "migrations"
LOCK_CLASS = 0x646F6F72
"""PostgreSQL's advisory locks of this program: this, and a number; 0 is for migrations."""


class Away(Exception):
    """The database cannot be used now; trying again later may help."""


class Refused(Exception):
    """The database will never take this row."""


class Newer(Exception):
    """The database has a version that this program does not know."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a ledger is.

    Attributes:
        url: with SQLAlchemy's name of the driver. Holds a password.
        file: SQLite's file, None for PostgreSQL.
        wait_seconds: until a lock that others hold, or a server that is silent, counts as away.
        fsync: whether SQLite waits for the disk at each commit.
    """

    url: str
    file: Path | None
    wait_seconds: float = 5.0
    fsync: bool = False

    @classmethod
    def of(cls, url: str, *, wait_seconds: float = 5.0, fsync: bool = False) -> Place:
        """The place that an URL of the config names.

        Raises:
            ConfigError: the driver is not installed, or the URL cannot be read.
        """
        if url.startswith(SQLITE):
            file = Path(url.removeprefix(SQLITE))
            return cls(f"sqlite+aiosqlite:///{file}", file, wait_seconds, fsync)
        if importlib.util.find_spec("asyncpg") is None:
            raise ConfigError(
                "ledger: PostgreSQL needs asyncpg, which is not installed; pip install 'doorman[postgres]'"
            )
        try:
            parsed = make_url(url).set(drivername="postgresql+asyncpg")
        except (exc.ArgumentError, ValueError):
            raise ConfigError(
                "ledger.url: cannot be read; write postgresql://USER:PASSWORD@HOST/DATABASE, with "
                "special characters of the password percent-encoded"
            ) from None
        # libpq's word, which every provider's ready-made URL has, is another one in asyncpg.
        mode = parsed.query.get("sslmode")
        if mode is not None:
            parsed = parsed.difference_update_query(["sslmode"]).update_query_dict({"ssl": mode})
        return cls(parsed.render_as_string(hide_password=False), None, wait_seconds, fsync)

    @property
    def shown(self) -> str:
        """For messages: without user, password and folders."""
        if self.file is not None:
            return self.file.name
        url = make_url(self.url)
        return f"postgresql on {url.host or 'a local socket'}, database {url.database}"

    def engine(self, *, write: bool, pool_size: int = 1) -> AsyncEngine:
        """Connections to it from an event loop, opened when they are needed."""
        pool: dict[str, Any] = {"poolclass": AsyncAdaptedQueuePool, "pool_size": pool_size}
        if pool_size == 0:
            pool = {"poolclass": NullPool}
        if self.file is None:
            seconds = self.wait_seconds
            arguments = {"timeout": seconds, "command_timeout": seconds if write else None}
            return create_async_engine(self.url, connect_args=arguments, **pool)
        engine = create_async_engine(self.url, connect_args=self._sqlite, **pool)
        self._prepared(engine.sync_engine, write=write)
        return engine

    def blocking_engine(self) -> Engine:
        """One connection to SQLite for a thread that writes."""
        engine = create_engine(
            f"sqlite:///{self.file}",
            connect_args={**self._sqlite, "check_same_thread": False},
            poolclass=NullPool,
        )
        self._prepared(engine, write=True)
        return engine

    @property
    def _sqlite(self) -> dict[str, Any]:
        # Transactions are begun below: Python's own begin would come too late for DDL.
        return {"timeout": self.wait_seconds, "isolation_level": None}

    def _prepared(self, engine: Engine, *, write: bool) -> None:
        sync = "FULL" if self.fsync else "NORMAL"

        def opened(connection: Any, _: object) -> None:
            cursor = connection.cursor()
            cursor.execute("PRAGMA journal_mode=WAL")
            cursor.execute(f"PRAGMA synchronous={sync}")
            cursor.close()

        def begun(connection: Connection) -> None:
            # Who will write says so at once: a reader that turns writer may find it is too late.
            connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")

        event.listen(engine, "connect", opened)
        event.listen(engine, "begin", begun)


@asynccontextmanager
async def faults() -> AsyncIterator[None]:
    """Turn what the driver raises into :class:`Away` and :class:`Refused`, without any values."""
    try:
        yield
    except (exc.DataError, exc.IntegrityError) as error:
        raise Refused(_reason(error)) from None
    except exc.DBAPIError as error:
        raise Away(_reason(error)) from None
    except exc.StatementError as error:  # a value that the driver cannot bind
        raise Refused(type(error).__name__) from None
    except (exc.SQLAlchemyError, OSError, TimeoutError, sqlite3.Error, ValueError) as error:
        # aiosqlite says ValueError of a connection that is closed.
        raise Away(_reason(error)) from None
    except Exception as error:
        if type(error).__module__.partition(".")[0] != "asyncpg":
            raise
        raise Away(_reason(error)) from None  # of a connection that was refused


def _reason(error: BaseException) -> str:
    """What went wrong in a word or two; the whole message may hold values or a password."""
    inner = error.orig if isinstance(error, exc.DBAPIError) and error.orig is not None else error
    name = getattr(inner, "sqlite_errorname", None) or getattr(inner, "sqlstate", None)
    if name is None and isinstance(inner, OSError):
        name = inner.strerror
    return f"{type(inner).__name__} ({name})" if name else type(inner).__name__


def migrate(place: Place) -> None:
    """Bring the tables to what this program needs. Blocking; does nothing where all is done.

    Two that start at once take turns: SQLite's write lock, PostgreSQL's advisory lock.

    Raises:
        ConfigError: the database cannot be opened, or is of a newer program.
    """
    if place.file is not None:
        try:
            place.file.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(
                f"ledger.url: the folder of {place.shown} cannot be made ({error.strerror}); name "
                "another file"
            ) from None
    try:
        asyncio.run(_migrate(place))
    except Newer:
        raise ConfigError(
            f"ledger: {place.shown} was written by a newer version of doorman; update doorman"
        ) from None
    except (Away, Refused) as error:
        raise ConfigError(
            f"ledger: {place.shown} cannot be opened: {error}; mend `ledger.url`, or write "
            "`ledger: {url: none}`"
        ) from None


async def _migrate(place: Place) -> None:
    logging.getLogger("alembic").setLevel(logging.WARNING)
    engine = place.engine(write=True, pool_size=0)
    try:
        async with faults(), engine.begin() as connection:
            if place.file is None:
                lock = text("SELECT pg_advisory_xact_lock(:class, 0)")
                await connection.execute(lock, {"class": LOCK_CLASS})
            await connection.run_sync(_upgrade)
    finally:
        await engine.dispose()


def head() -> str:
    """The newest migration there is, by the names of their files."""
    return max(file.name[1:5] for file in (MIGRATIONS / "versions").glob("v[0-9]*.py"))


def _version(connection: Connection) -> str | None:
    """The migration that the tables have come to; None where there are none."""
    if not inspect(connection).has_table(VERSION_TABLE):
        return None
    query: Select[str] = select(literal_column("version_num")).select_from(table(VERSION_TABLE))
    found: str | None = connection.execute(query).scalar()
    return found


def _upgrade(connection: Connection) -> None:
    if _version(connection) == head():
        return
    # It takes half a second to import, at which most starts have nothing to do.
    import alembic.command
    import alembic.config
    from alembic.util.exc import CommandError

    config = alembic.config.Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    try:
        alembic.command.upgrade(config, "head")
    except CommandError:
        raise Newer from None
