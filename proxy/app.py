"""The application: routes, lifespan, and one answer for whatever has no route."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

from fastapi import FastAPI
from starlette.types import Receive, Scope, Send

from classifiers.types import Classifier
from proxy.asgi import Request, Responder
from proxy.config import Config
from proxy.endpoints import ENDPOINTS
from proxy.gateway import Gateway
from proxy.ledger import Ledger
from proxy.routes import no_such_path, routes
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

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await gateway.start()
        try:
            yield
        finally:
            await gateway.stop()

    # No generated documentation: it would describe handlers that read bodies by themselves.
    app = FastAPI(
        title="Doorman", docs_url=None, redoc_url=None, openapi_url=None, lifespan=lifespan
    )
    app.state.gateway = gateway
    app.router.routes.extend(routes())
    app.router.redirect_slashes = False
    app.router.default = nowhere
    return app


async def nowhere(scope: Scope, receive: Receive, send: Send) -> None:
    """Unknown paths are never forwarded: what is not guarded does not exist."""
    if scope["type"] != "http":
        # A handshake that is closed before it was accepted is answered with 403.
        await send({"type": "websocket.close", "code": 1000})
        return
    request = Request.of(scope)
    error = no_such_path()
    near = (e for path, e in ENDPOINTS.items() if request.path.startswith(f"{path}/"))
    endpoint = next(near, None)
    shape = None if endpoint is None else endpoint.shaped
    await Responder(send, shape).error(error, request.request_id)
    metrics = scope["app"].state.gateway.metrics
    # Not by its path: clients invent as many as they like.
    metrics.add("doorman_requests_total", path=OTHER_PATHS, status="404")
