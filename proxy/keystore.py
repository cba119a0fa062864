"""The keys of the database in a running gateway: read every few seconds, with what they have spent."""

from __future__ import annotations

import asyncio
import logging
import re
import secrets
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from pydantic import ValidationError

from proxy.auth import Keys, Known, digest_of
from proxy.config_keys import Terms
from proxy.config_ledger import NONE, LedgerConfig
from proxy.grants import Caller
from proxy.ledgers.database import Away, Place, Refused, migrate
from proxy.ledgers.keys import KeyTable, NewKey, StoredKey
from proxy.spending import Spending
from proxy.yaml_source import ConfigError

log = logging.getLogger("doorman.keys")

EVERY = 1.0
"""Seconds after which the database is asked for changes."""
PREFIX = "dm-"
_MADE = re.compile(rf"{PREFIX}[A-Za-z0-9_-]{{43}}")
SHOWN = len(PREFIX) + 6
"""Characters of a key that are shown: enough to tell keys apart, and 220 bits stay unknown."""


class KeyStore:
    """Keeps :class:`Keys` and :class:`Spending` up to date.

    While the database is away the keys that were read last count, and spending is kept until it is
    back.

    Args:
        table: where keys are; None where there is no database.
    """

    def __init__(self, table: KeyTable | None, keys: Keys, spending: Spending) -> None:
        self._table = table
        self._keys = keys
        self._spending = spending
        self._version = -1
        self._stopping = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._away = False
        keys.unread = table is not None

    async def start(self, *, must: bool) -> None:
        """Read everything once, then go on doing so.

        Args:
            must: not to start without; else it is tried again until it works.

        Raises:
            ConfigError: the keys cannot be read.
        """
        if self._table is None:
            return
        try:
            await self._refresh()
        except (Away, Refused) as error:
            if must:
                raise ConfigError(f"the client keys cannot be read: {error}") from None
            self._lost(error)
        self._task = asyncio.create_task(self._watch())

    async def refresh(self) -> None:
        """Read the keys again if they have changed. Raises Away or Refused."""
        if self._table is None:
            return
        version = await self._table.version()
        if version != self._version:
            stored = await self._table.all()
            self._keys.replace(known(stored, time.time()), ever=bool(stored))
            self._version = version

    async def stop(self) -> None:
        """Write what is left of the spending, and close."""
        if self._task is not None:
            # Not cancelled: a driver whose statement is cut off half-way may not be asked again.
            self._stopping.set()
            await asyncio.wait([self._task], timeout=EVERY)
            self._task.cancel()
        if self._table is not None:
            try:
                await self._spending.exchange(time.time())
            except (Away, Refused) as error:
                log.error("what keys have spent last could not be written: %s", error)
            await self._table.close()

    async def _watch(self) -> None:
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(EVERY):
                    await self._stopping.wait()
                return
            try:
                await self._refresh()
            except (Away, Refused) as error:
                self._lost(error)

    async def _refresh(self) -> None:
        await self.refresh()
        await self._spending.exchange(time.time())
        if self._away:
            self._away = False
            log.info("the client keys can be read again")

    def _lost(self, error: Exception) -> None:
        if not self._away:
            self._away = True
            log.error("the client keys cannot be read, those read last count: %s", error)


def key_table(config: LedgerConfig, actor: str = "") -> KeyTable | None:
    """The table of the ledger's database, None without one."""
    if config.url == NONE:
        return None
    return KeyTable(place_of(config), actor)


def place_of(config: LedgerConfig) -> Place:
    """Where the ledger's database is."""
    return Place.of(config.placed(Path.cwd()).url, wait_seconds=config.wait_seconds)


def any_stored(config: LedgerConfig) -> bool:
    """Whether the database has ever had a key, so that every request needs one. Blocking.

    Raises:
        ConfigError: it cannot be used.
    """

    async def look() -> int:
        table = key_table(config)
        assert table is not None
        try:
            return await table.version()
        except (Away, Refused) as error:
            raise ConfigError(f"the client keys cannot be read: {error}") from None
        finally:
            await table.close()

    if config.url == NONE:
        return False
    migrate(place_of(config))
    return asyncio.run(look()) > 0


def known(stored: Iterable[StoredKey], now: float) -> list[Known]:
    """The keys that count, or may still count a while."""
    found = []
    for key in stored:
        if key.ends is not None and key.ends <= now:
            continue
        try:
            grant = Terms.model_validate_json(key.terms).grant
        except ValidationError:
            # Of a newer program, or damaged: what it allows is not known, so it allows nothing.
            log.error("the terms of key %r cannot be read: it is refused", key.name)
            continue
        found.append(Known(bytes.fromhex(key.digest), Caller(key.name, grant), key.ends))
    return found


def is_made(key: str) -> bool:
    """Whether a key has the form of those that :func:`made` makes."""
    return _MADE.fullmatch(key) is not None


def made() -> tuple[str, NewKey]:
    """A new key in the clear, to be shown once, and what is stored of it."""
    key = PREFIX + secrets.token_urlsafe(32)
    return key, NewKey(digest_of(key).hex(), key[:SHOWN])
