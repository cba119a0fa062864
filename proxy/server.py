"""The HTTP server in front of the application: one set-up for the command line and the tests."""

from __future__ import annotations

import contextlib
import math
import sys
from typing import Any

import uvicorn
from fastapi import FastAPI

from proxy.app import OTHER_PATHS
from proxy.config import Config
from proxy.connection import connection_class

SPARE_FILES = 1200
"""Open files beyond one per client: connections to models, model packs, logs."""


def server_config(app: FastAPI, config: Config, **options: Any) -> uvicorn.Config:
    """How uvicorn serves the gateway; ``options`` are further ones of ``uvicorn.Config``."""
    metrics = app.state.gateway.metrics

    def refused(status: int) -> None:
        metrics.add("doorman_requests_total", path=OTHER_PATHS, status=str(status))

    return uvicorn.Config(
        app,
        http=connection_class(config.limits, refused),
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=math.ceil(config.limits.keepalive_seconds),
        timeout_graceful_shutdown=math.ceil(config.server.drain_seconds),
        **options,
    )


def allow_open_files(connections: int) -> int:
    """Raise this process's limit of open files to what so many clients need, as far as it may be.

    Returns:
        How many clients there is room for.
    """
    if sys.platform == "win32":
        return connections
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 2 * connections + SPARE_FILES  # each may have a connection to a model
    if soft != resource.RLIM_INFINITY and soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return connections
    return max(1, (soft - SPARE_FILES) // 2)
