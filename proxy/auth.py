"""Client keys: who is calling, without ever comparing or keeping a key in the clear."""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from proxy.config_keys import ClientKey
from proxy.errors import Forbidden, Unauthorized, Unavailable
from proxy.grants import ANYBODY, NOBODY, Caller

__all__ = ["ANYBODY", "Keys", "Known", "digest_of"]


@dataclass(frozen=True, slots=True)
class Known:
    """A key that counts.

    Attributes:
        digest: see :func:`digest_of`.
        ends: unix seconds from which on it is as good as unknown: revoked, or replaced; None: never.
    """

    digest: bytes
    caller: Caller
    ends: float | None = None


class Keys:
    """The keys of the config and those of the database, as hashes.

    Args:
        keys: of the config.
        clock: unix seconds.
    """

    def __init__(self, keys: Iterable[ClientKey], clock: Callable[[], float] = time.time) -> None:
        self._configured = [
            Known(digest_of(key.key.get_secret_value()), Caller(key.name, key.grant))
            for key in keys
        ]
        self._clock = clock
        self.replace((), ever=False)
        self.unread = False
        """Whether there are keys in a database that could not be read yet: nobody is let in unseen."""

    def replace(self, stored: Iterable[Known], *, ever: bool) -> None:
        """Exchange the keys of the database.

        Args:
            stored: those that count.
            ever: there has been a key, even if none of them counts any more: taking the last one away
                must not let everybody in.
        """
        known = [*stored, *self._configured]
        self._known = {key.digest: key for key in known}
        self.unread = False
        self.needed = ever or bool(known)
        """Whether requests need a key."""

    @property
    def admins(self) -> bool:
        """Whether there is an admin key that counts, expired or not."""
        now = self._clock()
        return any(
            key.caller.grant.admin and (key.ends is None or key.ends > now)
            for key in self._known.values()
        )

    def caller(self, headers: Mapping[str, str]) -> Caller:
        """The key in a request's ``Authorization``, or else in its ``x-api-key``, which is where
        Anthropic's clients put it.

        Args:
            headers: by lower-case name.

        Raises:
            Unauthorized: there are keys, and this is none of them, or it has expired.
            Unavailable: it may be one of the database, which could not be read yet.
        """
        if not self.needed and not self.unread:
            return NOBODY
        scheme, _, token = headers.get("authorization", "").partition(" ")
        given = [token] if scheme.lower() == "bearer" else []
        given = [key.strip() for key in (*given, headers.get("x-api-key", "")) if key.strip()]
        if not given:
            raise Unauthorized("No client key; send it as `Authorization: Bearer KEY`.")
        return self.known(*given).caller

    def known(self, *given: str) -> Known:
        """The first of these keys that counts.

        Raises:
            Unauthorized: none of them does, or it has expired.
            Unavailable: it may be one of the database, which could not be read yet.
        """
        now, found = self._clock(), [self._find(key) for key in given]
        known = next((k for k in found if k and (k.ends is None or k.ends > now)), None)
        if known is None and self.unread:
            raise Unavailable("The client keys cannot be read now; retry.", "keys_unavailable")
        if known is None:
            raise Unauthorized("Unknown client key; ask whoever runs this gateway for one.")
        expires = known.caller.grant.expires
        if expires is not None and expires <= now:
            raise Unauthorized(
                "This client key has expired; ask whoever runs this gateway for a new one.",
                code="expired_api_key",
            )
        return known

    def admin(self, digest: bytes) -> Caller | None:
        """The admin whose key has this digest, if it counts now."""
        found, now = self._known.get(digest), self._clock()
        if found is None or (found.ends is not None and found.ends <= now):
            return None
        grant = found.caller.grant
        expired = grant.expires is not None and grant.expires <= now
        return found.caller if grant.admin and not expired else None

    def named(self, name: str) -> Caller | None:
        """The caller of this name, if one of its keys counts."""
        callers = (key.caller for key in self._known.values())
        return next((caller for caller in callers if caller.name == name), None)

    def check_admin(self, caller: Caller) -> None:
        """Raise Forbidden for any other key than an admin's, once there is one."""
        if not caller.grant.admin and self.admins:
            raise Forbidden("This needs an admin key; that of a client does not do.")

    def check_client(self, caller: Caller) -> None:
        """Raise Forbidden for an admin's key that was not given models."""
        if not caller.is_client:
            raise Forbidden("An admin key calls no models; use a client's key.")

    def _find(self, key: str) -> Known | None:
        # How long a dictionary takes depends on the digest of what was sent, and nobody can steer
        # that towards another's: it says nothing about the keys.
        digest = digest_of(key)
        known = self._known.get(digest)
        return known if known and hmac.compare_digest(known.digest, digest) else None


def digest_of(key: str) -> bytes:
    """SHA-256 of a key. Made keys have 256 bits of chance: there is nothing to guess, so that the
    slowness and the salt of a password's hash would cost each request and gain nothing."""
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()
