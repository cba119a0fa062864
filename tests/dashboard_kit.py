"""Visiting the dashboard as a browser does, with forms and cookies."""

from __future__ import annotations

import re
from typing import Any

import httpx
from gateway_kit import Door
from ledger_kit import ledger

ADMIN = "dm-admin-0123456789"
CLIENT = "dm-client-0123456789"
KEYS = f"""
keys:
  - {{name: boss, key: {ADMIN}, admin: true}}
  - {{name: app, key: {CLIENT}}}
"""
_TOKEN = re.compile(r'x-csrf-token": "([0-9a-f]{64})"')


class Visitor:
    """An HTTP client with the cookies of one browser."""

    def __init__(self, door: Door) -> None:
        self.http = httpx.Client(base_url=door.url, timeout=30)

    def get(self, path: str = "", **options: Any) -> httpx.Response:
        return self.http.get(f"/dashboard{path}", **options)

    def token(self, path: str = "") -> str:
        """The token of a page's forms."""
        page = self.get(path)
        found = _TOKEN.search(page.text)
        assert found is not None, page.text
        return found[1]

    def post(self, path: str, *, of: str = "", **fields: Any) -> httpx.Response:
        """Send a form of the page ``of``."""
        return self.http.post(f"/dashboard{path}", data={"csrf": self.token(of), **fields})

    def login(self, key: str = ADMIN) -> httpx.Response:
        return self.post("/login", of="/login", key=key)


def login(door: Door, key: str = ADMIN) -> Visitor:
    """A visitor who is logged in."""
    visitor = Visitor(door)
    answer = visitor.login(key)
    assert answer.status_code == 303, answer.text
    return visitor


def secret(answer: httpx.Response) -> str:
    """The key that a page shows once."""
    found = re.search(r'id="secret" value="(dm-[A-Za-z0-9_-]{43})"', answer.text)
    assert found is not None, answer.text
    return found[1]


def settings(folder: Any, more: str = "", keys: str = KEYS) -> str:
    """A config with a ledger and an admin key."""
    return f"{ledger(folder)}\n{keys}\n{more}\n"
