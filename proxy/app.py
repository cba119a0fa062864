"""The application: routes, lifespan, and one answer for whatever has no route."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager

from fastapi import FastAPI
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from classifiers.types import Classifier
from proxy.asgi import Request, Responder
from proxy.config import Config
from proxy.dashboard import door
from proxy.dashboard.desk import Desk
from proxy.dashboard.pages import PAGES
from proxy.endpoints import ENDPOINTS
from proxy.gateway import Gateway
from proxy.ledger import Ledger
from proxy.logs import quiet
from proxy.routes import Door, no_such_path, routes
from proxy.upstream import Upstreams

OTHER_PATHS = "other"
"""What ``doorman_requests_total`` calls all paths that do not exist."""


def create_app(
    config: Config,
    *,
    upstream: Upstreams | None = None,
    classifiers: Iterable[Classifier] | None = None,
    ledger: Ledger | None = None,
) -> FastAPI:
    """The gateway as an ASGI application; its :class:`Gateway` is ``app.state.gateway``.

    Args:
        config: what the operator wrote.
        upstream: stands in for the upstreams of the config.
        classifiers: stand in for the classifiers of the config.
        ledger: where decision records go, the log by default.

    Classifiers and policies are loaded when the application starts (ASGI lifespan), and a fault in
    them fails the start.
    """
    gateway = Gateway(config, upstream=upstream, classifiers=classifiers, ledger=ledger)
    desk = Desk(gateway, PAGES) if config.dashboard.enabled else None

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        asyncio.get_running_loop().set_exception_handler(quiet)
        await gateway.start()
        try:
            yield
        finally:
            if desk is not None:
                await desk.close()
            await gateway.stop()

    # No generated documentation: it would describe handlers that read bodies by themselves.
    app = Doorman(
        title="Doorman", docs_url=None, redoc_url=None, openapi_url=None, lifespan=lifespan
    )
    app.state.gateway = gateway
    app.router.routes.extend(routes())
    if desk is not None:
        app.state.desk = desk
        app.router.routes.extend(door.routes(PAGES))
    app.router.redirect_slashes = False
    app.router.default = nowhere
    return app


class Doorman(FastAPI):
    """FastAPI with the guarded paths in front of it: what it does for every request costs about as much
    as the rest of the way, and they need none of it."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer by the door of the path, or else as FastAPI does."""
        plain = scope["type"] == "http" and not self.user_middleware
        door = self._doors.get(scope["path"]) if plain else None
        if door is None:
            await super().__call__(scope, receive, send)
            return
        scope["app"] = self
        await door(scope, receive, send)

    @functools.cached_property
    def _doors(self) -> Mapping[str, Door]:
        """The paths that need no match. Routes are complete before the first request."""
        return {
            route.path: route.endpoint
            for route in self.router.routes
            if isinstance(route, Route)
            and isinstance(route.endpoint, Door)
            and "{" not in route.path
        }


async def nowhere(scope: Scope, receive: Receive, send: Send) -> None:
    """Unknown paths are never forwarded: what is not guarded does not exist."""
    if scope["type"] != "http":
        # A handshake that is closed before it was accepted is answered with 403.
        await send({"type": "websocket.close", "code": 1000})
        return
    request = Request.of(scope)
    gateway: Gateway = scope["app"].state.gateway
    trace = gateway.telemetry.begin(request.headers)
    error = no_such_path()
    near = (e for path, e in ENDPOINTS.items() if request.path.startswith(f"{path}/"))
    endpoint = next(near, None)
    shape = None if endpoint is None else endpoint.shaped
    await Responder(send, shape).error(error, request.request_id)
    # Not by its path: clients invent as many as they like.
    gateway.metrics.add("doorman_requests_total", path=OTHER_PATHS, status="404")
    gateway.telemetry.finish(trace, request.method, None, 404)
