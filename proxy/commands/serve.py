"""Run the gateway until SIGTERM or Ctrl-C; open requests are finished first."""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import signal
import socket
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

from proxy.commands.output import (
    CommandError,
    config_option,
    faults,
    one_blas_thread,
    read_config,
)
from proxy.linewriter import LineWriter

if TYPE_CHECKING:
    import uvicorn

    from proxy.config import Config

log = logging.getLogger("doorman")

_STDOUT = 1
"""Its file descriptor."""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    config_option(parser)
    parser.add_argument("--host", help="address to listen on (default: the config's)")
    parser.add_argument("--port", type=int, help="port to listen on (default: the config's)")


def run(options: argparse.Namespace) -> int:
    """Serve. Everything that can be wrong with config and policies is said before the port opens."""
    one_blas_thread()
    from proxy.app import create_app
    from proxy.keystore import any_stored
    from proxy.server import server_config

    config = _with_options(read_config(options.config), options)
    with faults():
        config.check_exposure(any_stored)
    with _bound(config.server.host, config.server.port) as sock, _logs():
        config = _with_room(config)
        with faults():
            app = create_app(config)
            app.state.gateway.load()
        loop = "uvloop" if sys.platform != "win32" else "asyncio"
        server = _announcing(server_config(app, config, loop=loop), sock)
        # uvicorn raises the signal that stopped it once more when all is done; being stopped is
        # no failure, so it finds nothing to do then.
        for stopping in (signal.SIGINT, signal.SIGTERM):
            signal.signal(stopping, lambda *_: None)
        server.run(sockets=[sock])
    return 0 if server.started else 1


def _announcing(config: uvicorn.Config, sock: socket.socket) -> uvicorn.Server:
    """A server that says where it listens once connections are accepted, not before."""
    import uvicorn

    class Announcing(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets=sockets)
            if self.started:
                host, port = sock.getsockname()[:2]
                log.info("listening on http://%s:%d", f"[{host}]" if ":" in host else host, port)

    return Announcing(config)


def _bound(host: str, port: int) -> socket.socket:
    """A socket on the address, not listening yet: a taken port is said at once."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        sock = socket.socket(family, kind, protocol)
    except OSError as error:
        raise CommandError(
            f"cannot listen on {host}: {error.strerror}; use another --host"
        ) from None
    try:
        if os.name == "posix":  # elsewhere it would let two programs share the port
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(address)
    except OSError as error:
        sock.close()
        raise CommandError(
            f"cannot listen on {host} port {port}: {error.strerror}; use another --port"
        ) from None
    return sock


def _with_options(config: Config, options: argparse.Namespace) -> Config:
    given = {"host": options.host, "port": options.port}
    changes = {name: value for name, value in given.items() if value is not None}
    if options.port is not None and not 0 <= options.port <= 65535:
        raise CommandError(f"--port {options.port} is no port; use 0 to 65535")
    return config.model_copy(update={"server": config.server.model_copy(update=changes)})


def _with_room(config: Config) -> Config:
    """As many connections as the system has files for; fewer than configured are said."""
    from proxy.server import allow_open_files

    wanted = config.limits.max_connections
    room = allow_open_files(wanted)
    if room >= wanted:
        return config
    log.warning(
        "limits.max_connections is %d, but open files are enough for %d; raise `ulimit -n`",
        wanted,
        room,
    )
    limits = config.limits.model_copy(update={"max_connections": room})
    return config.model_copy(update={"limits": limits})


@contextlib.contextmanager
def _logs() -> Iterator[None]:
    """Decision records as bare JSON lines on stdout, everything else on stderr.

    Records are written by a thread of their own: whoever reads them slowly must not hold up requests.
    """
    logging.basicConfig(
        level=logging.INFO,
        stream=sys.stderr,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )
    logging.getLogger("watchfiles").setLevel(logging.WARNING)
    decisions = logging.getLogger("doorman.decisions")
    sys.stdout.flush()
    handler = LineWriter(_STDOUT)
    decisions.addHandler(handler)
    decisions.propagate = False
    try:
        yield
    finally:
        decisions.removeHandler(handler)
        handler.finish()
