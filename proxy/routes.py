"""The HTTP surface: who may call what, and which handler answers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from contextlib import nullcontext
from typing import Any

from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from proxy import local
from proxy.asgi import Ask, ErrorShape, Request, Responder, aside, read_body, unless_left
from proxy.config_server import names_loopback
from proxy.decisions import decisions
from proxy.endpoints import ENDPOINTS
from proxy.endpoints.base import Endpoint
from proxy.errors import Forbidden, NotFound, RateLimited, Unavailable, WrongMethod
from proxy.exchange import CLIENT_LEFT_STATUS, Call
from proxy.feedback.endpoint import feedback
from proxy.gateway import Gateway
from proxy.grants import NOBODY, Caller
from proxy.jsonbody import parse
from proxy.metrics import CONTENT_TYPE
from proxy.openapi import document
from proxy.pipeline import handle
from proxy.ticket import Ticket
from proxy.turned_away import turned_away

Handler = Callable[[Gateway, Ask, Responder], Coroutine[Any, Any, None]]
_NOT_COUNTED = nullcontext()


class Door:
    """One path as an ASGI application: method, key, body, handler; exceptions by the table."""

    def __init__(
        self,
        path: str,
        method: str,
        handler: Handler,
        *,
        open: bool = False,
        admin: bool = False,
        either: bool = False,
        endpoint: Endpoint | None = None,
    ) -> None:
        self.path = path
        self._endpoint = endpoint
        self._shape: ErrorShape | None = None if endpoint is None else endpoint.shaped
        self._admin = admin
        self._either = either  # clients' keys and admins' alike
        self._method = method
        self._handler = handler
        self._open = open

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        gateway: Gateway = scope["app"].state.gateway
        request = Request.of(scope)
        respond = Responder(send, self._shape)
        ticket = Ticket()
        trace = gateway.telemetry.begin(request.headers)
        try:
            with gateway.in_flight() if self._method == "POST" else _NOT_COUNTED:
                ticket.caller = self._enter(gateway, request, scope)
                if self._method == "POST":
                    respond.limits = ticket.headers
                    respond.before_end = lambda: gateway.admission.settle(ticket)
                    await gateway.admission.admit(ticket)
                ask = await self._read(gateway, request, scope, receive, ticket)
                await unless_left(receive, self._handler(gateway, ask, respond))
        except ConnectionResetError:
            return  # nobody is there to be answered
        except WrongMethod as error:
            await respond.error(error, request.request_id, {"allow": self._method})
        except RateLimited as error:
            if self._endpoint is None:
                await respond.error(error, request.request_id)
            else:
                args = (self._endpoint, ticket.caller, request, error, respond)
                await turned_away(gateway, *args)
        except Exception as error:
            await respond.error(error, request.request_id)
        finally:
            await gateway.admission.settle(ticket)
            status = respond.status or CLIENT_LEFT_STATUS
            gateway.metrics.add("doorman_requests_total", path=self.path, status=str(status))
            gateway.telemetry.finish(trace, request.method, self.path, status)

    def _enter(self, gateway: Gateway, request: Request, scope: Scope) -> Caller:
        """Who is calling; everything that is known before a body."""
        if "%" in scope.get("raw_path", b"").decode("latin-1") and "{" not in self.path:
            # With escapes, what stands in front of the gateway may take it for another path.
            raise no_such_path()
        if request.method != self._method and (request.method, self._method) != ("HEAD", "GET"):
            raise WrongMethod(f"Use {self._method} for {self.path}.")
        if self._open:
            return NOBODY
        caller = gateway.keys.caller(request.headers)
        if caller is NOBODY and "origin" in request.headers and not names_loopback(request.headers):
            # A page whose name was made to point here (DNS rebinding); nobody else sends an origin.
            raise Forbidden(
                "Without keys, web pages may ask this gateway by an address of this machine alone."
            )
        if self._admin:
            gateway.keys.check_admin(caller)
        elif self._method == "POST" and not self._either:
            gateway.keys.check_client(caller)
        if not gateway.ready:
            raise Unavailable("The gateway is not ready; retry.", "not_ready")
        return caller

    async def _read(
        self,
        gateway: Gateway,
        request: Request,
        scope: Scope,
        receive: Receive,
        ticket: Ticket,
    ) -> Ask:
        key, params = ticket.caller.name, scope.get("path_params", {})
        if self._method == "GET":
            return Ask(request, key, params, ticket=ticket)
        limits = gateway.config.limits
        raw = await read_body(request, receive, limits.max_body_bytes, limits.body_seconds)
        body = await aside(len(raw), lambda: parse(raw, limits.max_json_depth, limits.max_texts))
        return Ask(request, key, params, body, raw, ticket)


def no_such_path() -> NotFound:
    """What is said of every path that does not exist."""
    return NotFound(
        "No such path here; the APIs are below /v1, see /v1/models.", code="unknown_url"
    )


def guard(endpoint: Endpoint) -> Handler:
    """The handler of an API whose requests are guarded and forwarded."""

    async def guarded(gateway: Gateway, ask: Ask, respond: Responder) -> None:
        request = ask.request
        call = Call(
            endpoint, ask.body, ask.raw, request.headers, ask.key, request.request_id, ask.ticket
        )
        await handle(gateway, call, respond)

    return guarded


def answering(make: Callable[[Gateway, Ask], Awaitable[Any]]) -> Handler:
    """The handler of a path that is answered here with JSON."""

    async def answer(gateway: Gateway, ask: Ask, respond: Responder) -> None:
        value = await make(gateway, ask)
        await respond.json(200, value, {"x-request-id": ask.request.request_id})

    return answer


async def health(gateway: Gateway, ask: Ask, respond: Responder) -> None:
    """The process runs."""
    await respond.json(200, {"status": "ok"}, {})


async def ready(gateway: Gateway, ask: Ask, respond: Responder) -> None:
    """Classifiers and policies are loaded; 503 until then."""
    status = "ready" if gateway.ready else "starting"
    await respond.json(200 if gateway.ready else 503, {"status": status}, {})


async def openapi(gateway: Gateway, ask: Ask, respond: Responder) -> None:
    """What is served, for tools that make clients."""
    await respond.json(200, document(), {})


async def metrics(gateway: Gateway, ask: Ask, respond: Responder) -> None:
    """Prometheus metrics; behind the keys, the admin's if there is one: they tell what is spent."""
    await respond.whole(200, gateway.metrics.text(), {}, CONTENT_TYPE)


def routes() -> list[Route]:
    """Every path there is."""
    doors = [
        *(
            Door(path, "POST", guard(endpoint), endpoint=endpoint)
            for path, endpoint in ENDPOINTS.items()
        ),
        Door("/v1/decisions", "POST", answering(decisions)),
        Door("/v1/moderations", "POST", answering(local.moderations)),
        Door("/v1/classify", "POST", answering(local.classify)),
        Door("/v1/feedback", "POST", answering(feedback), either=True),
        Door("/v1/models", "GET", answering(local.models)),
        Door("/v1/models/{id:path}", "GET", answering(local.model)),
        Door("/metrics", "GET", metrics, admin=True),
        Door("/health", "GET", health, open=True),
        Door("/ready", "GET", ready, open=True),
        Door("/openapi.json", "GET", openapi, open=True),
    ]
    return [Route(door.path, door) for door in doors]
