"""Databases in a real PostgreSQL: that on the local socket, or the one ``DOORMAN_TEST_POSTGRES`` names."""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import asyncpg
import pytest

SERVER = os.environ.get("DOORMAN_TEST_POSTGRES", "postgresql:///postgres?host=/var/run/postgresql")


def sql(url: str, *queries: str) -> list[dict[str, Any]]:
    """Run queries; rows of the last one."""

    async def run() -> list[dict[str, Any]]:
        connection = await asyncpg.connect(url, timeout=10)
        try:
            found: list[Any] = []
            for query in queries:
                found = await connection.fetch(query)
            return [dict(row) for row in found]
        finally:
            await connection.close()

    return asyncio.run(run())


@contextmanager
def new_database() -> Iterator[str]:
    """The URL of a new, empty database; skips the test where there is no server."""
    name = f"doorman_test_{secrets.token_hex(6)}"
    try:
        sql(SERVER, f"CREATE DATABASE {name}")
    except (OSError, asyncpg.PostgresError, TimeoutError) as error:
        pytest.skip(
            f"no PostgreSQL that can be used at DOORMAN_TEST_POSTGRES: {type(error).__name__}"
        )
    base, question, options = SERVER.partition("?")
    try:
        yield f"{base.rpartition('/')[0]}/{name}{question}{options}"
    finally:
        sql(SERVER, f"DROP DATABASE {name} WITH (FORCE)")
