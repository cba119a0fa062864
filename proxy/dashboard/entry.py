"""Logging in and out."""

from __future__ import annotations

import re

from proxy.dashboard import sessions
from proxy.dashboard.kit import HOME, Answer, Visit
from proxy.errors import Forbidden, NotFound, Unauthorized
from proxy.keystore import is_made

LOGIN = f"{HOME}/login"
_PAGE = re.compile(rf"{HOME}(/[A-Za-z0-9_-][A-Za-z0-9_.-]*)*")
_MOST_KEY = 512


async def login(visit: Visit) -> Answer:
    """Show the form, or open a session for an admin key."""
    target = visit.form.text("next") or visit.query.text("next")
    if not _leads_on(target):
        target = HOME  # to nowhere else: the address may come from a link
    if visit.keyless:
        return visit.redirect(HOME)
    if visit.method == "GET":
        return visit.template("login.html", next=target, fault="")
    key = visit.form.text("key")[:_MOST_KEY]
    # One with 256 bits of chance is not found by trying; so who holds it is never locked out by others.
    guessed = not is_made(key)
    if guessed:
        visit.desk.attempts.count(visit.address)
    try:
        cookie_text, caller = await visit.desk.sessions.open(key)
    except (Unauthorized, Forbidden) as error:
        visit.desk.log.warning("dashboard: a login from %s failed", visit.address)
        return visit.template("login.html", 403, next=target, fault=error.message)
    if guessed:
        visit.desk.attempts.worked(visit.address)
    visit.desk.log.info("dashboard: %r has logged in", caller.name)
    seconds = int(visit.desk.sessions.seconds)
    set_cookie = cookie(visit, sessions.COOKIE, cookie_text, seconds)
    return Answer(b"", 303, {"location": target, "set-cookie": set_cookie})


def login_for(path: str) -> str:
    """The form that leads on to a page."""
    return f"{LOGIN}?next={path}" if _leads_on(path) else LOGIN


def _leads_on(path: str) -> bool:
    return _PAGE.fullmatch(path) is not None and not path.startswith(LOGIN)


async def logout(visit: Visit) -> Answer:
    """End the session."""
    if visit.keyless:
        return visit.redirect(HOME)
    await visit.desk.sessions.end(visit.cookie)
    return Answer(
        b"", 303, {"location": LOGIN, "set-cookie": cookie(visit, sessions.COOKIE, "", 0)}
    )


async def nowhere(visit: Visit) -> Answer:
    """Answer what is no page."""
    raise NotFound("There is no such page.")


def cookie(visit: Visit, name: str, value: str, seconds: int | None = None) -> str:
    """The header that sets a cookie no script and no other site can use; without ``seconds`` it goes
    with the browser."""
    age = "" if seconds is None else f"; Max-Age={seconds}"
    secure = "; Secure" if visit.secure else ""
    return f"{name}={value}; Path={HOME}; HttpOnly; SameSite=Strict{age}{secure}"
