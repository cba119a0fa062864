"""Who may see a page, and what a POST must bring so that no other site can send it."""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import urlsplit

from starlette.types import Scope

from proxy.asgi import Request
from proxy.config_server import is_direct, is_loopback, names_loopback
from proxy.dashboard.desk import Desk
from proxy.dashboard.fields import Fields
from proxy.dashboard.sessions import COOKIE
from proxy.errors import Forbidden, Unauthorized, Unavailable

LOCAL = "local"
"""Who changes things where there are no keys."""


class LoggedOut(Unauthorized):
    """Nobody is logged in; the browser is sent to the form."""


class Closed(Forbidden):
    """As things are nobody may see the dashboard; the message says what to do."""


def cookies_of(request: Request) -> Mapping[str, str]:
    """The cookies of a request; none where they cannot be read."""
    try:
        jar = SimpleCookie(request.headers.get("cookie", ""))
    except CookieError:
        return {}
    return {name: morsel.value for name, morsel in jar.items()}


async def who(desk: Desk, request: Request, scope: Scope, cookies: Mapping[str, str]) -> str:
    """The admin who is logged in; ``LOCAL`` where there are no keys and the browser is on this machine.

    Raises:
        LoggedOut: nobody is.
        Closed: see :func:`check_open`.
        Unavailable: the keys cannot be read yet.
    """
    if check_open(desk, request, scope):
        return LOCAL
    caller = await desk.sessions.find(cookies.get(COOKIE, ""))
    if caller is None:
        raise LoggedOut("Log in with an admin key.")
    return caller.name


def check_open(desk: Desk, request: Request, scope: Scope) -> bool:
    """Whether the dashboard may be seen without a login.

    Raises:
        Closed: nobody can log in: there is no admin key, or no key at all and the browser is not on
            this machine.
        Unavailable: the keys cannot be read yet.
    """
    keys = desk.gateway.keys
    if keys.unread:
        raise Unavailable("The keys cannot be read now; retry.", "keys_unavailable")
    if keys.needed and not keys.admins:
        raise Closed(
            "There are client keys, but no admin key to log in with. Make one: "
            "`doorman keys create NAME --admin`."
        )
    config = desk.gateway.config
    if keys.needed and config.server.workers > 1 and desk.reader is None:
        raise Closed(
            "Logins are kept in the ledger's database, for several workers to know them; give "
            "`ledger.url` one, or set `server.workers: 1`."
        )
    if keys.needed:
        return False
    if not is_local(request, scope):
        raise Closed(
            "Without any keys the dashboard is shown to this machine alone, by the address "
            "http://127.0.0.1 or http://localhost. For anyone else make a key to log in with: "
            "`doorman keys create NAME --admin`."
        )
    return True


def is_local(request: Request, scope: Scope) -> bool:
    """Whether a browser on this machine asks, and knows the gateway by an address of this machine.

    A page of another site, whose name was made to point here (DNS rebinding), asks by that name.
    """
    client = scope.get("client")
    # No browser speaks HTTP/1.0; a proxy that adds no headers (nginx, as it comes) may.
    direct = is_direct(request.headers) and scope.get("http_version") != "1.0"
    near = client is not None and is_loopback(client[0])
    return near and direct and names_loopback(request.headers)


def check_post(request: Request, form: Fields, csrf: str) -> None:
    """Refuse a POST that another site may have made.

    Raises:
        Forbidden: the browser says so, or the token of the page is missing or of another session.
    """
    site = request.headers.get("sec-fetch-site")
    origin = request.headers.get("origin")
    if site is not None and site != "same-origin":
        raise Forbidden("This was sent from another site.")
    if site is None and origin is not None:
        hosts = [request.headers.get(name) for name in ("host", "x-forwarded-host")]
        if urlsplit(origin).netloc not in hosts:
            raise Forbidden("This was sent from another site.")
    given = request.headers.get("x-csrf-token") or form.get("csrf", "")
    if not hmac.compare_digest(given.encode("utf-8", "replace"), csrf.encode()):
        raise Forbidden("The page that sent this is too old; load it again and repeat.")


def is_plain(pattern: str, scope: Scope) -> bool:
    """Whether a path is spelled as its page's is: with escapes, what stands in front of the gateway and
    keeps the dashboard to some people may take it for another one."""
    raw = scope.get("raw_path", b"").decode("latin-1")
    prefix, brace, _ = pattern.partition("{")
    return raw.startswith(prefix) and (bool(brace) or "%" not in raw)


def is_secure(request: Request, scope: Scope) -> bool:
    """Whether the browser speaks HTTPS, here or to what stands in front."""
    said: Any = (
        scope.get("scheme"),
        request.headers.get("x-forwarded-proto"),
        request.headers.get("origin", "").partition(":")[0],
    )
    return "https" in said
