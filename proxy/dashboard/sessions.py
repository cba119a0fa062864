"""Logins: random cookies of which only the hash is kept, bound to the key that opened them."""

from __future__ import annotations

import hmac
import re
import secrets
import time
from collections import deque
from collections.abc import Callable
from typing import Protocol

from proxy.auth import Keys, digest_of
from proxy.errors import Forbidden, RateLimited
from proxy.grants import Caller
from proxy.ledgers.sessions import StoredSession

COOKIE = "doorman_session"
VISIT = "doorman_visit"
"""The cookie of a browser that has not logged in, which its forms' tokens are made from."""
THEME = "doorman_theme"
_TOKEN = re.compile(r"[A-Za-z0-9_-]{43}")
_MOST_KEPT = 10_000
ATTEMPTS, ATTEMPTS_OF_ALL = 10, 100
"""Logins that may fail within ``WINDOW`` seconds: of one address, and of all together."""
WINDOW = 60.0


class SessionStore(Protocol):
    """Where sessions are kept; see :class:`proxy.ledgers.sessions.SessionTable`."""

    async def add(self, session: StoredSession) -> None:
        """Open a session."""
        ...

    async def find(self, digest: str) -> StoredSession | None:
        """A session, ended or not."""
        ...

    async def end(self, digest: str) -> None:
        """End a session."""
        ...

    async def close(self) -> None:
        """Close what it needs."""
        ...


class MemorySessions:
    """Sessions of this process alone, where there is no database."""

    def __init__(self) -> None:
        self._known: dict[str, StoredSession] = {}

    async def add(self, session: StoredSession) -> None:
        """See :class:`SessionStore`."""
        kept = {d: s for d, s in self._known.items() if s.ends > session.created}
        while len(kept) >= _MOST_KEPT:
            kept.pop(next(iter(kept)))
        self._known = {**kept, session.digest: session}

    async def find(self, digest: str) -> StoredSession | None:
        """See :class:`SessionStore`."""
        return self._known.get(digest)

    async def end(self, digest: str) -> None:
        """See :class:`SessionStore`."""
        self._known.pop(digest, None)

    async def close(self) -> None:
        """See :class:`SessionStore`."""


class Sessions:
    """Opens, finds and ends sessions.

    Args:
        seconds: how long one lasts.
        clock: unix seconds.
    """

    def __init__(
        self,
        store: SessionStore,
        keys: Keys,
        seconds: float,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._keys = keys
        self._clock = clock
        self.seconds = seconds

    async def open(self, key: str) -> tuple[str, Caller]:
        """Log in with an admin key. Returns the cookie, which is random and never the same.

        Raises:
            Unauthorized: no such key.
            Forbidden: a client's key.
            Unavailable: the keys could not be read yet.
        """
        known = self._keys.known(key)
        if not known.caller.grant.admin:
            raise Forbidden("This is a client's key; the dashboard needs an admin's.")
        cookie, now = new_token(), self._clock()
        digest, ends = _hex(cookie), now + self.seconds
        name = known.caller.name
        await self._store.add(StoredSession(digest, name, known.digest.hex(), now, ends))
        return cookie, known.caller

    async def find(self, cookie: str) -> Caller | None:
        """Who is logged in with a cookie: nobody once it or its key has ended."""
        if not _TOKEN.fullmatch(cookie):
            return None
        # As with keys: how long the database looks depends on a hash that nobody can steer.
        session = await self._store.find(_hex(cookie))
        if session is None or not hmac.compare_digest(session.digest, _hex(cookie)):
            return None
        if session.ends <= self._clock():
            return None
        return self._keys.admin(bytes.fromhex(session.key_digest))

    async def end(self, cookie: str) -> None:
        """Log out."""
        await self._store.end(_hex(cookie))

    async def close(self) -> None:
        """Close the store."""
        await self._store.close()


class Attempts:
    """Counts logins that fail, so that nobody can try keys in numbers."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._made: deque[tuple[float, str]] = deque()

    def count(self, address: str) -> None:
        """Count an attempt before it is made.

        Raises:
            RateLimited: too many of this address, or of all, have failed.
        """
        now = self._clock()
        while self._made and self._made[0][0] <= now - WINDOW:
            self._made.popleft()
        own = [at for at, who in self._made if who == address]
        if len(own) >= ATTEMPTS or len(self._made) >= ATTEMPTS_OF_ALL:
            oldest = own[0] if len(own) >= ATTEMPTS else self._made[0][0]
            wait = max(1, round(oldest + WINDOW - now))
            raise RateLimited(f"Too many logins have failed; wait {wait} seconds.", wait)
        self._made.append((now, address))

    def worked(self, address: str) -> None:
        """The last attempt of an address was none to count."""
        last = next((entry for entry in reversed(self._made) if entry[1] == address), None)
        if last is not None:
            self._made.remove(last)


def new_token() -> str:
    """256 bits of chance, for a cookie."""
    return secrets.token_urlsafe(32)


def is_token(cookie: str) -> bool:
    """Whether a cookie has the form of :func:`new_token`."""
    return _TOKEN.fullmatch(cookie) is not None


def csrf_of(cookie: str) -> str:
    """What the forms of a browser with this cookie must bring along; it tells nothing of the cookie."""
    return hmac.new(cookie.encode(), b"doorman csrf", "sha256").hexdigest()


def _hex(cookie: str) -> str:
    return digest_of(cookie).hex()
