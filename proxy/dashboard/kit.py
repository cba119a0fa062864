"""What a page is made with: the visit it answers, and the ways to answer it."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlencode

from proxy.dashboard.fields import Fields
from proxy.errors import Unavailable
from proxy.gateway import Gateway
from proxy.ledgers.keys import KeyTable
from proxy.ledgers.read import Reader

if TYPE_CHECKING:
    from proxy.dashboard.desk import Desk

HOME = "/dashboard"
NO_LEDGER = "There is no ledger to read: the config says `ledger: {url: none}`; give `ledger.url` a database."
Method = Literal["GET", "POST"]


@dataclass(frozen=True, slots=True)
class Answer:
    """What goes back to the browser."""

    body: bytes = b""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    content_type: str = "text/html; charset=utf-8"


Handler = Callable[["Visit"], Awaitable[Answer]]


@dataclass(frozen=True, slots=True)
class Page:
    """One line of the table of pages.

    Attributes:
        path: below ``/dashboard``, with ``{name}`` for what ``Visit.params`` gets.
        handler: answers; it may raise what ``proxy.errors`` and the ledger know.
        methods: what it answers to; a POST has passed the check of its token.
        title: its place in the navigation; empty: none.
        open: whether it is there for people who have not logged in.
        bare: whether it is there for everybody, at any time, and sets no cookie.
        notices: what the page says at its top, by the word that :meth:`Visit.redirect` was given.
    """

    path: str
    handler: Handler
    methods: tuple[Method, ...] = ("GET",)
    title: str = ""
    open: bool = False
    bare: bool = False
    notices: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Visit:
    """One request for a page, as its handler sees it.

    Attributes:
        params: what stands in the path's ``{name}``.
        query, form: fields of the URL and of a POST's body.
        actor: name of the admin key, for the audit; ``local`` where there are no keys.
        keyless: nobody has logged in, because there are no keys and only this machine is served.
        csrf: the token that each POST must bring back; templates put it in by themselves.
        htmx: asked by htmx, which takes a fragment.
        secure: the browser speaks HTTPS.
        address: of the client.
        cookie: of the session, or of the visit before a login.
    """

    desk: Desk = field(repr=False)
    gateway: Gateway = field(repr=False)
    page: Page
    method: str
    path: str
    params: Mapping[str, str] = field(default_factory=dict)
    query: Fields = field(default_factory=Fields)
    form: Fields = field(default_factory=Fields)
    actor: str = ""
    keyless: bool = False
    csrf: str = field(default="", repr=False)
    htmx: bool = False
    secure: bool = False
    theme: str = ""
    address: str = ""
    cookie: str = field(default="", repr=False)

    def template(
        self,
        name: str,
        status: int = 200,
        headers: Mapping[str, str] | None = None,
        /,
        **values: Any,
    ) -> Answer:
        """Answer with a template: a whole page if it extends ``base.html``, else a fragment.

        Args:
            values: what the template gets besides ``visit`` and the filters of ``shown.py``.
        """
        text = self.desk.render(name, visit=self, **values)
        return Answer(text.encode("utf-8", "replace"), status, headers or {})

    def redirect(self, path: str, notice: str = "", **query: str) -> Answer:
        """Send the browser to another page, after a POST.

        Args:
            notice: a word of that page's ``notices``.
        """
        asked = {**query, **({"done": notice} if notice else {})}
        target = f"{path}?{urlencode(asked)}" if asked else path
        if self.htmx:  # a fetch would follow a redirect unseen
            return Answer(b"", 200, {"hx-redirect": target})
        return Answer(b"", 303, {"location": target})

    @property
    def reader(self) -> Reader:
        """What reads the ledger. Raises Unavailable where there is none."""
        if self.desk.reader is None:
            raise Unavailable(NO_LEDGER)
        return self.desk.reader

    @property
    def keys(self) -> KeyTable:
        """The keys of the database and the audit; changes bear the actor's name. Raises Unavailable
        where there is no database."""
        if self.gateway.key_table is None:
            raise Unavailable(NO_LEDGER)
        return self.gateway.key_table.by(self.actor)

    async def audit(self, action: str, name: str, **details: Any) -> None:
        """Enter a change into the audit, before or after it is made.

        Args:
            action: a word or two, such as ``promote``; at most 32 characters.
            name: of what was changed.
            details: anything that JSON takes; no user text, no secrets.
        """
        if self.gateway.key_table is not None:
            await self.keys.note(action, name, details, time.time())
        self.desk.log.info("dashboard: %r did %s to %r", self.actor, action, name)
