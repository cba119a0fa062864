"""What all pages of a gateway share: sessions, templates, static files, the reader of the ledger."""

from __future__ import annotations

import functools
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2

from proxy.backtests.job import Job
from proxy.backtests.sample import Sample
from proxy.config_ledger import NONE
from proxy.dashboard import assets
from proxy.dashboard.kit import HOME, Page
from proxy.dashboard.sessions import Attempts, MemorySessions, Sessions, SessionStore
from proxy.dashboard.shown import ACTIONS, FILTERS
from proxy.gateway import Gateway
from proxy.keystore import place_of
from proxy.ledgers.read import Reader
from proxy.ledgers.sessions import SessionTable

TEMPLATES = Path(__file__).resolve().parent / "templates"
HOUR = 3600.0


class Desk:
    """See the module.

    Args:
        pages: all there are, for the navigation.
    """

    log = logging.getLogger("doorman.dashboard")

    def __init__(self, gateway: Gateway, pages: Sequence[Page]) -> None:
        config = gateway.config
        self.gateway = gateway
        self.pages = pages
        self.assets = assets.load()
        self.attempts = Attempts()
        self.sample = Sample()
        self.backtest: Job | None = None
        stored = config.ledger.url != NONE
        self.reader = Reader(place_of(config.ledger)) if stored else None
        store: SessionStore = SessionTable(place_of(config.ledger)) if stored else MemorySessions()
        self.sessions = Sessions(store, gateway.keys, config.dashboard.session_hours * HOUR)
        self._templates = jinja2.Environment(
            loader=jinja2.FileSystemLoader(TEMPLATES),
            autoescape=True,
            undefined=jinja2.StrictUndefined,
            auto_reload=False,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._templates.filters.update(FILTERS)
        self._templates.globals.update(
            home=HOME,
            actions=ACTIONS,
            nav=[page for page in pages if page.title],
            static=functools.partial(assets.address, self.assets),
        )

    def render(self, name: str, /, **values: Any) -> str:
        """A template with its values."""
        return self._templates.get_template(name).render(**values)

    async def close(self) -> None:
        """Close the connections to the database."""
        self.sample.close()
        if self.backtest is not None:
            self.backtest.stop()
        await self.sessions.close()
        if self.reader is not None:
            await self.reader.close()
