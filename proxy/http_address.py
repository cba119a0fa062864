"""Where a server is, and how the head of a request to it begins."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import quote, urlsplit

_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")


@dataclass(frozen=True, slots=True)
class Origin:
    """A server: scheme, host and port of its URL."""

    tls: bool
    host: str
    port: int


@dataclass(frozen=True, slots=True)
class Address:
    """An URL, taken apart: where its server is, and the beginning of each request's head."""

    origin: Origin
    head: bytes

    @classmethod
    def of(cls, url: str) -> Address:
        """From an ``http`` or ``https`` URL. Raises ValueError for one without a host."""
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("no URL of a server")
        host = parts.hostname
        host = host if host.isascii() else host.encode("idna").decode()
        tls = parts.scheme == "https"
        named = f"[{host}]" if ":" in host else host
        if parts.port is not None and parts.port != (443 if tls else 80):
            named += f":{parts.port}"
        path = quote(parts.path or "/", safe="/%:@!$&'()*+,;=~-._")
        origin = Origin(tls, host, parts.port or (443 if tls else 80))
        return cls(origin, f"POST {path} HTTP/1.1\r\nhost: {named}\r\n".encode())


def lines(headers: Mapping[str, str]) -> bytes:
    """Headers as they are written. Raises ValueError for what would be more than one line each."""
    for name, value in headers.items():
        if not _NAME.fullmatch(name) or not _VALUE.fullmatch(value):
            raise ValueError(f"header {name[:40]!r} is none")
    return "".join(f"{name}: {value}\r\n" for name, value in headers.items()).encode("latin-1")
