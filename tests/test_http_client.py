"""The client towards models' servers: TLS, kept connections, large bodies, and servers that misbehave."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from proxy import http_client
from proxy.http_address import Address, lines
from proxy.http_client import HttpClient, HttpFault

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Coroutine[Any, Any, None]]
OK = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}"


@asynccontextmanager
async def server(serve: Serve, tls: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """A server on a free port; ``serve`` gets every connection."""
    made = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    async with made:
        yield made.sockets[0].getsockname()[1]


async def request(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    """Head and body of the next request."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
    return head, await reader.readexactly(length)


async def post(client: HttpClient, url: str, body: bytes = b"{}") -> tuple[int, bytes]:
    loop = asyncio.get_running_loop()
    headers = lines({"content-type": "application/json"})
    reply = await client.post(
        Address.of(url), headers, body, connect_seconds=5, deadline=loop.time() + 20
    )
    try:
        pieces = []
        while piece := await reply.read(loop.time() + 20):
            pieces.append(piece)
        return reply.status, b"".join(pieces)
    finally:
        reply.close()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A key and a certificate of localhost that nobody has signed."""
    folder = tmp_path_factory.mktemp("tls")
    key, file = folder / "key.pem", folder / "cert.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    command += ["-keyout", str(key), "-out", str(file), "-subj", "/CN=localhost"]
    try:
        subprocess.run(
            [*command, "-addext", "subjectAltName=DNS:localhost"], check=True, capture_output=True
        )
    except FileNotFoundError:
        pytest.skip("openssl is not installed")
    return key, file


@pytest.mark.parametrize(
    ("trusted", "host", "fault"),
    [(True, "localhost", None), (False, "localhost", "tls"), (True, "127.0.0.1", "tls")],
    ids=["trusted", "unknown", "of another name"],
)
async def test_tls_is_held_to_its_certificate(
    certificate: tuple[Path, Path],
    monkeypatch: pytest.MonkeyPatch,
    trusted: bool,
    host: str,
    fault: str | None,
) -> None:
    key, file = certificate
    own = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    own.load_cert_chain(file, key)
    if trusted:
        monkeypatch.setenv("SSL_CERT_FILE", str(file))
    http_client._tls.cache_clear()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request(reader)
        writer.write(OK)

    client = HttpClient(15, 10)
    try:
        async with server(serve, own) as port:
            if fault is None:
                assert await post(client, f"https://{host}:{port}/v1") == (200, b"{}")
            else:
                with pytest.raises(HttpFault) as found:
                    await post(client, f"https://{host}:{port}/v1")
                assert found.value.kind == fault
            await client.close()
    finally:
        http_client._tls.cache_clear()


async def test_a_connection_is_kept_until_its_server_or_its_age_ends_it() -> None:
    connections = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        while True:
            head, _ = await request(reader)
            if b"/last" in head:
                writer.write(OK.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n"))
                writer.close()
                return
            # What stands behind a reply was not asked for.
            writer.write(OK + (b"HTTP/1.1 200 OK\r\n" if b"/more" in head else b""))

    client = HttpClient(15, 10)
    async with server(serve) as port:
        for path, made in (("/a", 1), ("/b", 1), ("/more", 1), ("/a", 2), ("/last", 2), ("/a", 3)):
            assert await post(client, f"http://127.0.0.1:{port}{path}") == (200, b"{}"), path
            assert connections == made, path
        young = HttpClient(0.0, 10)
        for _ in range(2):
            await post(young, f"http://127.0.0.1:{port}/a")
        assert connections == 5
        await young.close()
        await client.close()


@pytest.mark.parametrize("size", [10, 70_000, 5_000_000])
async def test_bodies_of_any_size_arrive_both_ways(size: int) -> None:
    body = bytes(range(256)) * (size // 256 + 1)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        _, given = await request(reader)
        head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
        writer.write(head + b"%x\r\n%b\r\n0\r\n\r\n" % (len(given), given))

    client = HttpClient(15, 10)
    async with server(serve) as port:
        assert await post(client, f"http://127.0.0.1:{port}/v1", body) == (200, body)
        await client.close()


ODD: list[tuple[str, bytes, bytes | None]] = [
    ("two lengths", b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n{}", None),
    ("length and chunks", OK.replace(b"\r\n\r\n", b"\r\ntransfer-encoding: chunked\r\n\r\n"), None),
    ("a blank in a name", b"HTTP/1.1 200 OK\r\ncontent length: 2\r\n\r\n{}", None),
    ("an upgrade", b"HTTP/1.1 101 Switching\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n", None),
    ("interim replies", b"HTTP/1.1 103 Early\r\nlink: x\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n" + OK, b"{}"),
    ("no length", b"HTTP/1.1 200 OK\r\n\r\nall of it", b"all of it"),
    ("cut off", b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nall", None),
    ("cut off chunks", b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nall\r\n", None),
]  # fmt: skip


@pytest.mark.parametrize(("name", "said", "body"), ODD, ids=[row[0] for row in ODD])
async def test_odd_replies(name: str, said: bytes, body: bytes | None) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request(reader)
        writer.write(said)
        writer.close()

    client = HttpClient(15, 10)
    async with server(serve) as port:
        if body is None:
            with pytest.raises(HttpFault):
                await post(client, f"http://127.0.0.1:{port}/v1")
        else:
            assert await post(client, f"http://127.0.0.1:{port}/v1") == (200, body)
        await client.close()


async def test_a_slow_reader_makes_the_server_wait() -> None:
    written = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal written
        await request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        for _ in range(400):
            writer.write(b"10000\r\n" + b"x" * 65536 + b"\r\n")
            await writer.drain()
            written += 65536
        writer.write(b"0\r\n\r\n")

    client, loop = HttpClient(15, 10), asyncio.get_running_loop()
    async with server(serve) as port:
        address = Address.of(f"http://127.0.0.1:{port}/v1")
        reply = await client.post(address, b"", b"{}", connect_seconds=5, deadline=loop.time() + 20)
        before = -1
        while written != before:  # until nothing moves any more
            before = written
            await asyncio.sleep(0.2)
        assert written < 400 * 65536
        size = 0
        while piece := await reply.read(loop.time() + 20):
            size += len(piece)
        assert size == 400 * 65536
        reply.close()
        await client.close()


def test_a_header_of_two_lines_is_refused() -> None:
    for headers in ({"a": "b\r\nc: d"}, {"a\r\nb": "c"}, {"a b": "c"}, {"": "c"}, {"a": "\x00"}):
        with pytest.raises(ValueError, match="header"):
            lines(headers)
