"""The HTTP surface: who may call what, and which handler answers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from proxy import local
from proxy.asgi import Ask, Request, Responder, aside, read_body, unless_left
from proxy.endpoints import ENDPOINTS
from proxy.endpoints.base import Endpoint
from proxy.errors import Unavailable, WrongMethod
from proxy.exchange import CLIENT_LEFT_STATUS, Call
from proxy.gateway import Gateway
from proxy.jsonbody import parse
from proxy.metrics import CONTENT_TYPE
from proxy.pipeline import handle

Handler = Callable[[Gateway, Ask, Responder], Coroutine[Any, Any, None]]


class Door:
    """One path as an ASGI application: method, key, body, handler; exceptions by the table."""

    def __init__(self, path: str, method: str, handler: Handler, *, open: bool = False) -> None:
        self.path = path
        self._method = method
        self._handler = handler
        self._open = open

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        gateway: Gateway = scope["app"].state.gateway
        request = Request.of(scope)
        respond = Responder(send)
        try:
            ask = await self._admit(gateway, request, scope, receive)
            await unless_left(receive, self._handler(gateway, ask, respond))
        except ConnectionResetError:
            return  # nobody is there to be answered
        except Exception as error:
            await respond.error(error, request.request_id)
        finally:
            status = str(respond.status or CLIENT_LEFT_STATUS)
            gateway.metrics.add("doorman_requests_total", path=self.path, status=status)

    async def _admit(
        self, gateway: Gateway, request: Request, scope: Scope, receive: Receive
    ) -> Ask:
        if request.method != self._method and (request.method, self._method) != ("HEAD", "GET"):
            raise WrongMethod(f"Use {self._method} for {request.path}.")
        params = scope.get("path_params", {})
        if self._open:
            return Ask(request, "", params)
        key = gateway.keys.caller(request.headers.get("authorization"))
        if not gateway.ready:
            raise Unavailable("The gateway is not ready; retry.", "not_ready")
        if self._method == "GET":
            return Ask(request, key, params)
        limits = gateway.config.limits
        raw = await read_body(request, receive, limits.max_body_bytes, limits.body_seconds)
        body = await aside(len(raw), lambda: parse(raw, limits.max_json_depth, limits.max_texts))
        return Ask(request, key, params, body, raw)


def guard(endpoint: Endpoint) -> Handler:
    """The handler of an API whose requests are guarded and forwarded."""

    async def guarded(gateway: Gateway, ask: Ask, respond: Responder) -> None:
        request = ask.request
        call = Call(endpoint, ask.body, ask.raw, request.headers, ask.key, request.request_id)
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


async def metrics(gateway: Gateway, ask: Ask, respond: Responder) -> None:
    """Prometheus metrics; behind the keys, because they tell what is spent."""
    await respond.whole(200, gateway.metrics.text(), {}, CONTENT_TYPE)


def routes() -> list[Route]:
    """Every path there is."""
    doors = [
        *(Door(path, "POST", guard(endpoint)) for path, endpoint in ENDPOINTS.items()),
        Door("/v1/moderations", "POST", answering(local.moderations)),
        Door("/v1/classify", "POST", answering(local.classify)),
        Door("/v1/models", "GET", answering(local.models)),
        Door("/v1/models/{id:path}", "GET", answering(local.model)),
        Door("/metrics", "GET", metrics),
        Door("/health", "GET", health, open=True),
        Door("/ready", "GET", ready, open=True),
    ]
    return [Route(door.path, door) for door in doors]
