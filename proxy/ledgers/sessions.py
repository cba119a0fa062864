"""Sessions of the dashboard in the database, so that all gateways that share it know them."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from sqlalchemy import delete, insert, select

from proxy.ledgers.connections import Connections
from proxy.ledgers.tables_sessions import sessions


@dataclass(frozen=True, slots=True)
class StoredSession:
    """A login.

    Attributes:
        digest: SHA-256 of the cookie, hexadecimal.
        name: of the admin key it was opened with.
        key_digest: hexadecimal, of that key.
        created, ends: unix seconds.
    """

    digest: str
    name: str
    key_digest: str
    created: float
    ends: float


class SessionTable(Connections):
    """The table of sessions; see :class:`Connections` for what its methods raise."""

    async def add(self, session: StoredSession) -> None:
        """Open a session, and forget those that have ended."""
        async with self.writing() as connection:
            await connection.execute(delete(sessions).where(sessions.c.ends <= session.created))
            await connection.execute(insert(sessions).values(**asdict(session)))

    async def find(self, digest: str) -> StoredSession | None:
        """A session, ended or not."""
        query = select(*(sessions.c[name] for name in StoredSession.__slots__))
        async with self.reading() as connection:
            found = await connection.execute(query.where(sessions.c.digest == digest))
            row = found.mappings().one_or_none()
            return None if row is None else StoredSession(**row)

    async def end(self, digest: str) -> None:
        """End a session."""
        async with self.writing() as connection:
            await connection.execute(delete(sessions).where(sessions.c.digest == digest))
