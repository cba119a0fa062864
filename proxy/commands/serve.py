"""Run the gateway until SIGTERM or Ctrl-C; open requests are finished first."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Literal

from proxy.commands.output import (
    CommandError,
    config_option,
    faults,
    one_blas_thread,
    read_config,
)
from proxy.linewriter import LineWriter
from proxy.logs import FORMS

if TYPE_CHECKING:
    import uvicorn

    from proxy.config import Config
    from proxy.workers import Link

log = logging.getLogger("doorman")

_COLLECT = (5_000, 20, 50)
"""How many new objects the garbage collector lets come before it looks at them, and so on. A request makes
thousands, nearly all of which go by themselves."""
_STDOUT = 1
"""Its file descriptor."""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    config_option(parser)
    parser.add_argument("--host", help="address to listen on (default: the config's)")
    parser.add_argument("--port", type=int, help="port to listen on (default: the config's)")
    parser.add_argument("--workers", type=int, help="processes on the port (default: the config's)")


def run(options: argparse.Namespace) -> int:
    """Serve. Everything that can be wrong with config and policies is said before the port opens."""
    one_blas_thread()
    from proxy.keystore import any_stored

    config = _with_options(read_config(options.config), options)
    with faults():
        config.check_exposure(any_stored)
        config.check_workers()
    with _bound(config.server.host, config.server.port) as sock:
        _log_to_stderr(config.server.log)
        if config.server.workers == 1:
            return _serve(config, sock, lambda: _say_where(sock))
        from proxy.workers import Workers

        with faults():
            return Workers(
                config.server.workers,
                sock,
                lambda link: _work(config, sock, link),
                lambda: _say_where(sock),
            ).run()


def _work(config: Config, sock: socket.socket, link: Link) -> int:
    """Serve as one of several processes."""
    from proxy.metrics_shared import share

    share(link.folder)
    try:
        return _serve(config, sock, link.say_ready, link)
    except CommandError as error:
        print(error, file=sys.stderr)
        return 1


def _serve(
    config: Config, sock: socket.socket, started: Callable[[], None], link: Link | None = None
) -> int:
    from proxy.app import create_app
    from proxy.server import server_config

    with _records(None if link is None else link.turns):
        config = _with_room(config)
        with faults():
            app = create_app(config)
            app.state.gateway.load()
        # What is loaded stays: the collector need not look through it again and again.
        gc.collect()
        gc.freeze()
        gc.set_threshold(*_COLLECT)
        loop = "uvloop" if sys.platform != "win32" else "asyncio"
        alive = None if link is None else link.alive
        server = _announcing(server_config(app, config, loop=loop), started, alive)
        # uvicorn raises the signal that stopped it once more when all is done; being stopped is
        # no failure, so it finds nothing to do then.
        for stopping in (signal.SIGINT, signal.SIGTERM):
            signal.signal(stopping, lambda *_: None)
        server.run(sockets=[sock])
    return 0 if server.started else 1


def _announcing(
    config: uvicorn.Config, started: Callable[[], None], alive: int | None
) -> uvicorn.Server:
    """A server that says so once connections are accepted, not before.

    Args:
        alive: a pipe; at its end the server stops.
    """
    import uvicorn

    class Announcing(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets=sockets)
            if self.started:
                started()
            if alive is not None:
                asyncio.get_running_loop().add_reader(alive, self._orphaned, alive)

        def _orphaned(self, alive: int) -> None:
            asyncio.get_running_loop().remove_reader(alive)
            self.should_exit = True

    return Announcing(config)


def _say_where(sock: socket.socket) -> None:
    host, port = sock.getsockname()[:2]
    log.info("listening on http://%s:%d", f"[{host}]" if ":" in host else host, port)


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
    given = {"host": options.host, "port": options.port, "workers": options.workers}
    changes = {name: value for name, value in given.items() if value is not None}
    if options.port is not None and not 0 <= options.port <= 65535:
        raise CommandError(f"--port {options.port} is no port; use 0 to 65535")
    if options.workers is not None and not 1 <= options.workers <= 64:
        raise CommandError(f"--workers {options.workers} is no number of processes; use 1 to 64")
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


def _log_to_stderr(form: Literal["text", "json"]) -> None:
    stderr = logging.StreamHandler(sys.stderr)
    stderr.setFormatter(FORMS[form]())
    logging.basicConfig(level=logging.INFO, handlers=[stderr])
    logging.getLogger("watchfiles").setLevel(logging.WARNING)


@contextlib.contextmanager
def _records(turns: int | None) -> Iterator[None]:
    """Decision records as bare JSON lines on stdout, everything else on stderr.

    Records are written by a thread of their own: whoever reads them slowly must not hold up requests.

    Args:
        turns: a file by whose lock several processes take turns.
    """
    decisions = logging.getLogger("doorman.decisions")
    sys.stdout.flush()
    handler = LineWriter(_STDOUT, turns=turns)
    decisions.addHandler(handler)
    decisions.propagate = False
    try:
        yield
    finally:
        decisions.removeHandler(handler)
        handler.finish()
