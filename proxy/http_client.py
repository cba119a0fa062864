"""HTTP/1.1 towards models' servers, over connections that are kept.

Only what a gateway needs: no redirects, no cookies, no decompression, no proxies. A general client takes
several times as long for each request and each piece of a reply.
"""

from __future__ import annotations

import asyncio
import functools
import ssl
from collections import deque
from collections.abc import Mapping

from proxy.http_address import Address, Origin
from proxy.http_connection import Connection, HttpFault

__all__ = ["HttpClient", "HttpFault", "Reply"]


class Reply:
    """The reply to one request; its connection is kept if it is read to its end before ``close``."""

    def __init__(self, client: HttpClient, origin: Origin, connection: Connection) -> None:
        self._client = client
        self._origin = origin
        self._connection: Connection | None = connection
        self.status = connection.status
        self.headers: Mapping[str, str] = connection.headers

    @property
    def content_type(self) -> str:
        """Without parameters."""
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()

    async def read(self, deadline: float) -> bytes:
        """The next bytes, empty at the end. Raises HttpFault or TimeoutError."""
        if self._connection is None:
            raise HttpFault("broken")
        return await self._connection.read(deadline)

    def close(self) -> None:
        """Keep the connection for others, or end it."""
        connection, self._connection = self._connection, None
        if connection is not None:
            self._client.release(self._origin, connection)


class HttpClient:
    """Connections to all servers.

    Args:
        keepalive_seconds: how long an idle one is kept.
        most: how many exchanges at once; further ones wait for one of them to end, no longer than for a
            new connection.
    """

    def __init__(self, keepalive_seconds: float, most: int) -> None:
        self._keepalive = keepalive_seconds
        self._most = most
        self._idle: dict[Origin, deque[Connection]] = {}
        self._purge: asyncio.TimerHandle | None = None
        self._closed = False
        self._busy = 0
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def post(
        self,
        address: Address,
        headers: bytes,
        body: bytes,
        *,
        connect_seconds: float,
        deadline: float,
    ) -> Reply:
        """Send a request, and wait for the head of its reply.

        Args:
            headers: lines of the head, but for host and length.
            connect_seconds: for a new connection.
            deadline: of the head, by the event loop's clock.

        Raises:
            HttpFault: no connection came about, or it broke.
            TimeoutError: the deadline has passed.
        """
        origin = address.origin
        head = b"%b%bcontent-length: %d\r\n\r\n" % (address.head, headers, len(body))
        await self._enter(connect_seconds)
        connection: Connection | None = None
        try:
            connection = self._kept(origin)
            if connection is None:
                connection = await self._connect(origin, connect_seconds, deadline)
            await connection.send(head, body, deadline)
        except BaseException:
            self._leave()
            if connection is not None:
                connection.close()
            raise
        return Reply(self, origin, connection)

    def release(self, origin: Origin, connection: Connection) -> None:
        """Take a connection back after an exchange."""
        if self._closed or not connection.reusable:
            connection.close()
            self._leave()
            return
        idle = self._idle.setdefault(origin, deque())
        loop = asyncio.get_running_loop()
        connection.busy, connection.idle_since = False, loop.time()
        idle.append(connection)
        self._leave()
        if self._purge is None:
            self._purge = loop.call_later(self._keepalive, self._drop_old)

    async def close(self) -> None:
        """End all that are idle; those in use end with their exchange."""
        self._closed = True
        if self._purge is not None:
            self._purge.cancel()
            self._purge = None
        for idle in self._idle.values():
            while idle:
                idle.popleft().close()

    async def _enter(self, seconds: float) -> None:
        if self._busy < self._most:
            self._busy += 1
            return
        waiter = asyncio.get_running_loop().create_future()
        self._waiting.append(waiter)
        try:
            async with asyncio.timeout(seconds):
                await waiter  # whoever leaves hands its place over
        except BaseException as error:
            if waiter.done() and not waiter.cancelled():
                self._leave()
            if isinstance(error, TimeoutError):
                raise HttpFault("connect") from None
            raise

    def _leave(self) -> None:
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return
        self._busy -= 1

    def _kept(self, origin: Origin) -> Connection | None:
        idle = self._idle.get(origin)
        oldest = asyncio.get_running_loop().time() - self._keepalive
        while idle:
            connection = idle.pop()  # the latest, which its server has the least reason to close
            if connection.open and connection.idle_since > oldest:
                return connection
            connection.close()
        return None

    async def _connect(self, origin: Origin, seconds: float, deadline: float) -> Connection:
        loop = asyncio.get_running_loop()
        until = min(loop.time() + seconds, deadline)
        try:
            async with asyncio.timeout_at(until):
                _, connection = await loop.create_connection(
                    lambda: Connection(loop),
                    origin.host,
                    origin.port,
                    ssl=_tls() if origin.tls else None,
                )
        except TimeoutError:
            if until >= deadline:
                raise
            raise HttpFault("connect") from None
        except ssl.SSLError:
            raise HttpFault("tls") from None
        except OSError:
            raise HttpFault("connect") from None
        return connection

    def _drop_old(self) -> None:
        self._purge = None
        loop = asyncio.get_running_loop()
        oldest = loop.time() - self._keepalive
        for idle in self._idle.values():
            while idle and (idle[0].idle_since <= oldest or not idle[0].open):
                idle.popleft().close()
        if any(self._idle.values()):
            self._purge = loop.call_later(self._keepalive / 2, self._drop_old)


@functools.cache
def _tls() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])
    return context
