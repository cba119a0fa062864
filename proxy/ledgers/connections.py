"""Reading and writing tables beside the ledger's own line: a connection for each, within transactions."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sqlalchemy.ext.asyncio import AsyncConnection

from proxy.ledgers.database import Away, Place, faults


class Connections:
    """Connections to a database whose tables have been made, see ``database.migrate``.

    What is done with them raises ``Away`` while the database cannot be used, and ``Refused`` for rows
    that it will never take.
    """

    def __init__(self, place: Place) -> None:
        self._place = place
        self._reader = place.engine(write=False)
        self._writer = place.engine(write=True)

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[AsyncConnection]:
        """One consistent view."""
        self._check()
        async with faults(), self._reader.connect() as connection:
            yield connection

    @asynccontextmanager
    async def writing(self) -> AsyncIterator[AsyncConnection]:
        """One transaction: all of it, or none."""
        self._check()
        async with faults(), self._writer.begin() as connection:
            yield connection

    async def close(self) -> None:
        """Close the connections."""
        await self._reader.dispose()
        await self._writer.dispose()

    def _check(self) -> None:
        file = self._place.file
        if file is not None and not file.is_file():
            # An empty one would be made, without tables.
            raise Away(f"there is no file {file.name}")
