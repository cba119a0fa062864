"""Clients that do not speak, do not listen or are too many: each costs little and harms nobody."""

from __future__ import annotations

import re
import resource
import socket
import time
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest
from aiohttp import web
from gateway_kit import WAIT, Door, ScriptedUpstream, StartGateway, chunk, completion, events
from hostile_kit import (
    chat,
    connected,
    head,
    heard,
    is_refusal,
    is_served,
    post,
    process,
    say,
    until,
)

from proxy.server import allow_open_files

QUICK = "limits: {header_seconds: 2, write_seconds: 2, keepalive_seconds: 2}"


@pytest.fixture
def door(gateway: StartGateway) -> Door:
    return gateway("", QUICK)


def open_connections(door: Door) -> int:
    return len(door.server.server_state.connections)


def dribble(sock: socket.socket, piece: bytes) -> None:
    """Send a little, again and again, until the other side has had enough."""
    limit = time.monotonic() + WAIT
    sock.settimeout(0.05)
    while time.monotonic() < limit:
        sock.sendall(piece)
        try:
            if sock.recv(1, socket.MSG_PEEK) is not None:
                break
        except TimeoutError:
            continue
    else:
        pytest.fail("it may go on for ever")
    sock.settimeout(WAIT)


DRIBBLED = {
    "headers": (b"POST /v1/chat/completions HTTP/1.1\r\n", b"x: y\r\n"),
    "one header": (b"POST /v1/chat/completions HTTP/1.1\r\nx: ", b"y"),
    "the path": (b"GET /", b"v"),
    "empty lines": (b"\r\n", b"\r\n"),
}


@pytest.mark.parametrize(("first", "then"), DRIBBLED.values(), ids=DRIBBLED)
def test_a_head_that_does_not_end(door: Door, first: bytes, then: bytes) -> None:
    with connected(door.url) as sock:
        sock.sendall(first)
        dribble(sock, then)
        said = heard(sock)
        is_refusal(said, 408)
        assert "2 s" in said.json["error"]["message"]
    is_served(door.url)


def test_a_second_head_that_does_not_end(door: Door) -> None:
    with connected(door.url) as sock:
        sock.sendall(post(chat()))
        assert heard(sock).status == 200
        sock.sendall(b"POST /v1")
        is_refusal(heard(sock), 408)


def test_a_second_head_that_does_not_end_while_the_first_is_answered(
    door: Door, upstream: ScriptedUpstream
) -> None:
    upstream.script = events(chunk({"content": "slowly"}), 3.0, chunk({}, finish="stop"))
    with connected(door.url) as sock:
        sock.sendall(post(chat(stream=True)) + b"POST /v1")
        assert heard(sock).body.endswith(b"data: [DONE]\n\n")
        assert heard(sock).status == 0


def test_what_is_refused_is_refused_once(door: Door) -> None:
    """Its time for a head would end while the connection lingers."""
    with connected(door.url) as sock:
        sock.sendall(b"GET / HTTP/1.1\r\nno header\r\n")
        said = heard(sock)
        is_refusal(said)
        until(lambda: open_connections(door) == 0)
    shown = httpx.get(f"{door.url}/metrics").text
    refused = re.findall(
        r'^doorman_requests_total\{.*status="4\d\d".*\} (\S+)$', shown, re.MULTILINE
    )
    assert refused == ["1.0"]


def test_who_says_nothing_is_left_without_a_word(door: Door) -> None:
    with connected(door.url) as sock:
        assert sock.recv(1000) == b""


def test_an_idle_connection_ends(door: Door) -> None:
    with connected(door.url) as sock:
        sock.sendall(post(chat()))
        assert heard(sock).status == 200
        assert sock.recv(1000) == b""


def test_a_stream_that_nobody_reads_ends_the_call(door: Door, upstream: ScriptedUpstream) -> None:
    # The socket's own buffers hold some megabytes.
    upstream.script = events(*[chunk({"content": "word " * 20_000})] * 2000)
    with connected(door.url) as sock:
        sock.sendall(post(chat(stream=True)))
        assert upstream.gone.get(timeout=2 * WAIT) == "left"
        record = door.records.next()
        assert (record.ended, record.upstream_called) == ("client_left", True)
        until(lambda: open_connections(door) == 0)
    upstream.script = completion("ok")
    is_served(door.url)


def test_an_answer_that_nobody_reads_is_given_up(door: Door, upstream: ScriptedUpstream) -> None:
    upstream.script = completion("word " * 4_000_000)
    with connected(door.url) as sock:
        sock.sendall(post(chat()))
        until(lambda: len(upstream.seen) == 1)
        until(lambda: open_connections(door) == 0, 6 * WAIT)
        assert door.records.next().status == 200
    upstream.script = completion("ok")
    is_served(door.url)


def test_a_flood_behind_a_request_that_waits(door: Door, upstream: ScriptedUpstream) -> None:
    async def script(_: web.Request) -> web.StreamResponse:
        await web.asyncio.sleep(2 * WAIT)
        return web.json_response({})

    upstream.script = script
    with connected(door.url) as sock:
        sock.sendall(post(chat()))
        until(lambda: len(upstream.seen) == 1)
        sock.sendall(post(chat()))
        limit = time.monotonic() + WAIT
        try:
            while time.monotonic() < limit:
                sock.sendall(b"x" * 10_000)
        except ConnectionError:
            pass
        else:
            pytest.fail("it may go on for ever")
    assert upstream.gone.get(timeout=WAIT) == "left"


def test_too_many_connections_are_told_so(gateway: StartGateway) -> None:
    door = gateway("", "limits: {max_connections: 5}")
    with ExitStack() as stack:
        held = [stack.enter_context(connected(door.url)) for _ in range(5)]
        until(lambda: open_connections(door) == 5)
        for _ in range(3):
            said = say(door.url, post(chat()))
            is_refusal(said, 503)
            assert said.code == "too_many_connections"
        with connected(door.url) as silent:
            assert silent.recv(1000) == b""
        held[0].sendall(post(chat()))
        assert heard(held[0]).status == 200
    until(lambda: open_connections(door) == 0)
    is_served(door.url)


def test_a_thousand_idle_connections_harm_nobody(
    tmp_path: Path, upstream: ScriptedUpstream
) -> None:
    count = 1000
    assert allow_open_files(count) == count, resource.getrlimit(resource.RLIMIT_NOFILE)
    with process(tmp_path, upstream) as served, ExitStack() as stack:
        half = head()[:20]
        for number in range(count):
            sock = stack.enter_context(connected(served.url))
            if number % 2:
                sock.sendall(half)
        for _ in range(20):
            is_served(served.url)
        assert say(served.url, head(target=b"/health", method=b"GET")).status == 200
