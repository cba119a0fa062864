"""Client keys: who is calling, without ever comparing or keeping a key in the clear."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable

from proxy.config import ClientKey
from proxy.errors import Unauthorized

ANYBODY = ""
"""Name of the caller where no keys are configured. No key can be named so, and of the patterns that
policies attach by only ``*`` matches it."""


class Keys:
    """The configured client keys, as hashes."""

    def __init__(self, keys: Iterable[ClientKey]) -> None:
        self._hashes = [(key.name, _hash(key.key.get_secret_value())) for key in keys]

    def caller(self, authorization: str | None) -> str:
        """Name of the key in an ``Authorization`` header.

        Raises:
            Unauthorized: keys are configured, and this is none of them.
        """
        if not self._hashes:
            return ANYBODY
        scheme, _, token = (authorization or "").partition(" ")
        if scheme.lower() != "bearer" or not token.strip():
            raise Unauthorized("No client key; send it as `Authorization: Bearer KEY`.")
        given = _hash(token.strip())
        # Every key is compared, whatever matches: the time taken says nothing about the keys.
        matches = [name for name, known in self._hashes if hmac.compare_digest(given, known)]
        if not matches:
            raise Unauthorized("Unknown client key; ask whoever runs this gateway for one.")
        return matches[0]


def _hash(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()
