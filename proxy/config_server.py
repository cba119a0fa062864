"""Settings of the server: where it listens, in how many processes, and how it stops."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from typing import Literal
from urllib.parse import urlsplit

from pydantic import Field

from classifiers.types import StrictModel

_PASSED_ON = frozenset(
    "cf-connecting-ip client-ip forwarded true-client-ip via x-client-ip x-real-ip".split()
)
_FORWARDED = ("x-forwarded", "x-original-")
"""Headers that say that who asks is not at the other end of the connection, and how others begin."""


class ServerConfig(StrictModel):
    """Where the gateway listens, and how long it finishes open requests after SIGTERM."""

    host: str = "127.0.0.1"
    """Address to listen on; any but a loopback address needs ``keys``."""
    port: int = Field(default=8080, ge=0, le=65535)
    """Port to listen on; 0 takes a free one."""
    workers: int = Field(default=1, ge=1, le=64)
    """Processes that answer on the port. Each has classifiers and caches of its own, and
    ``limits`` that count for it alone; limits of keys need ``redis`` with more than one."""
    drain_seconds: float = Field(default=30, gt=0)
    """How long open requests may go on after SIGTERM."""
    log: Literal["text", "json"] = "text"
    """Form of the lines on standard error. Decisions on standard output are JSON in any case."""


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach the address; names other than localhost count as no."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def names_loopback(headers: Mapping[str, str]) -> bool:
    """Whether who asks knows the gateway by an address of this machine. A page of another site, whose
    name was made to point here (DNS rebinding), asks by that name.

    Args:
        headers: by lower-case name.
    """
    try:
        return is_loopback(urlsplit(f"//{headers.get('host', '')}").hostname or "")
    except ValueError:
        return False


def is_direct(headers: Mapping[str, str]) -> bool:
    """Whether no proxy says that it passed the request on; beyond one may be anybody."""
    return not any(name in _PASSED_ON or name.startswith(_FORWARDED) for name in headers)
