"""The rim of the dashboard: one page as an ASGI application, and the headers of every answer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from proxy import errors
from proxy.asgi import Request, Responder, aside, log_unexpected, read_body
from proxy.dashboard import access, sessions
from proxy.dashboard.access import LoggedOut
from proxy.dashboard.desk import Desk
from proxy.dashboard.entry import LOGIN, cookie, login_for
from proxy.dashboard.fields import Fields
from proxy.dashboard.kit import Answer, Page, Visit
from proxy.errors import NotFound, Unavailable, WrongMethod
from proxy.ledgers.database import Away, Refused

FORM = "application/x-www-form-urlencoded"
FORM_BYTES = 1 << 20
SECURITY = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' data:; connect-src 'self'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
    "cache-control": "no-store",
}
"""Headers of every answer; a page's own come over them."""


def routes(pages: Iterable[Page]) -> list[Route]:
    """The pages as routes of the application; ``app.state.desk`` must be there when they are asked."""
    return [Route(page.path, PageDoor(page)) for page in pages]


class PageDoor:
    """One page: login, token, form, handler; whatever goes wrong is a page too."""

    def __init__(self, page: Page) -> None:
        self.page = page

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        desk: Desk = scope["app"].state.desk
        request = Request.of(scope)
        telemetry = desk.gateway.telemetry
        trace = telemetry.begin(request.headers)
        cookies = access.cookies_of(request)
        visit = self._visit(desk, request, scope)
        try:
            visit = await self._enter(visit, request, scope, cookies)
            visit = await self._filled(visit, request, receive)
            answer = await self.page.handler(visit)
        except ConnectionResetError:
            return
        except Exception as error:
            answer = refusal(visit, error, request)
        headers = {**SECURITY, "x-request-id": request.request_id, **answer.headers}
        if visit.cookie and visit.cookie not in cookies.values() and "set-cookie" not in headers:
            headers["set-cookie"] = cookie(visit, sessions.VISIT, visit.cookie)
        await Responder(send).whole(answer.status, answer.body, headers, answer.content_type)
        status = str(answer.status)
        desk.gateway.metrics.add("doorman_requests_total", path=self.page.path, status=status)
        telemetry.finish(trace, request.method, self.page.path, answer.status)

    def _visit(self, desk: Desk, request: Request, scope: Scope) -> Visit:
        """What is known of a visitor before anything was checked."""
        theme = access.cookies_of(request).get(sessions.THEME, "")
        client = scope.get("client") or ("",)
        return Visit(
            desk,
            desk.gateway,
            self.page,
            "GET" if request.method == "HEAD" else request.method,
            request.path,
            params=scope.get("path_params", {}),
            htmx=request.headers.get("hx-request") == "true",
            secure=access.is_secure(request, scope),
            theme=theme if theme in ("light", "dark") else "",
            address=str(client[0]),
        )

    async def _enter(
        self, visit: Visit, request: Request, scope: Scope, cookies: Mapping[str, str]
    ) -> Visit:
        """Who it is; raises what :mod:`proxy.dashboard.access` does."""
        if not access.is_plain(self.page.path, scope):
            raise NotFound("There is no such page.")
        if visit.method not in self.page.methods:
            raise WrongMethod(f"Use {' or '.join(self.page.methods)} for this page.")
        if self.page.bare:
            return visit
        if not visit.gateway.ready:
            raise Unavailable("The gateway is not ready; retry.", "not_ready")
        if self.page.open:
            actor, keyless = "", access.check_open(visit.desk, request, scope)
        else:
            actor = await access.who(visit.desk, request, scope, cookies)
            keyless = not visit.gateway.keys.needed
        own = cookies.get(sessions.VISIT if keyless or self.page.open else sessions.COOKIE, "")
        own = own if sessions.is_token(own) else sessions.new_token()
        return replace(visit, actor=actor, keyless=keyless, cookie=own, csrf=sessions.csrf_of(own))

    @staticmethod
    async def _filled(visit: Visit, request: Request, receive: Receive) -> Visit:
        """With the fields of the URL and of the form, once the form's token was found good."""
        visit = replace(visit, query=Fields.parse(request.query))
        if visit.method != "POST":
            return visit
        limits = visit.gateway.config.limits
        most = min(FORM_BYTES, limits.max_body_bytes)
        raw = await read_body(request, receive, most, limits.body_seconds, FORM)
        form = await aside(len(raw), lambda: Fields.parse(raw))
        access.check_post(request, form, visit.csrf)
        return replace(visit, form=form)


def refusal(visit: Visit, error: Exception, request: Request) -> Answer:
    """The page for an exception; never with any text of a user's."""
    if isinstance(error, LoggedOut):
        target = login_for(request.path) if visit.method == "GET" else LOGIN
        if visit.htmx:
            return Answer(b"", 401, {"hx-redirect": LOGIN})
        return Answer(b"", 303, {"location": target})
    if isinstance(error, Away | Refused):
        error = Unavailable(f"The ledger's database cannot be used now: {error}.")
    told = errors.answer(error, request.request_id)
    if told.status == 500:
        log_unexpected(error, request.request_id)
    headers = {n: v for n, v in told.headers.items() if n == "retry-after"}
    if isinstance(error, WrongMethod):
        headers["allow"] = ", ".join(visit.page.methods)
    name = "error_part.html" if visit.htmx else "error.html"
    message = told.body["error"]["message"]
    return visit.template(name, told.status, headers, code=told.status, message=message)
