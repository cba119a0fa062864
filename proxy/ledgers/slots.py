"""Which gateways are alive: each holds a numbered lock that the system drops when it dies.

Rows bear the number, so that those of the dead can be told from those of the living.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import IO, Protocol

from sqlalchemy import Connection, text

from proxy.ledgers.database import LOCK_CLASS, Place

MOST = 1000
"""Gateways that may share a ledger."""


class Slots(Protocol):
    """Numbered locks, from 1."""

    def take(self, connection: Connection, number: int) -> bool:
        """Hold a number; False if a living gateway has it."""
        ...

    def drop(self, connection: Connection, number: int) -> None:
        """Let go of a number that was taken."""
        ...

    def close(self) -> None:
        """Let go of all that a connection does not hold by itself."""
        ...


class FileSlots:
    """Lock files beside SQLite's file."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._held: dict[int, IO[bytes]] = {}

    def take(self, connection: Connection, number: int) -> bool:
        """See :class:`Slots`. Without flock (Windows) there is one gateway a file."""
        if number in self._held or sys.platform == "win32":
            return True
        import fcntl

        lock = self._file.with_name(f"{self._file.name}.{number}.lock").open("ab")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            return False
        self._held[number] = lock
        return True

    def drop(self, connection: Connection, number: int) -> None:
        """See :class:`Slots`. The file stays: to delete it would let two hold the same number."""
        if lock := self._held.pop(number, None):
            lock.close()

    def close(self) -> None:
        """See :class:`Slots`."""
        for lock in self._held.values():
            lock.close()
        self._held.clear()


class AdvisorySlots:
    """PostgreSQL's advisory locks, which end with their connection."""

    def take(self, connection: Connection, number: int) -> bool:
        """See :class:`Slots`."""
        return self._call(connection, "pg_try_advisory_lock", number)

    def drop(self, connection: Connection, number: int) -> None:
        """See :class:`Slots`."""
        self._call(connection, "pg_advisory_unlock", number)

    def close(self) -> None:
        """See :class:`Slots`."""

    @staticmethod
    def _call(connection: Connection, function: str, number: int) -> bool:
        query = text(f"SELECT {function}(:class, :number)")
        found = connection.execute(query, {"class": LOCK_CLASS, "number": number})
        return bool(found.scalar_one())


def slots_of(place: Place) -> Slots:
    """The locks of this kind of database."""
    return AdvisorySlots() if place.file is None else FileSlots(place.file)
