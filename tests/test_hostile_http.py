"""Requests that no honest client sends, byte by byte: refused in OpenAI's shape, nobody else harmed."""

from __future__ import annotations

import json
import time

import pytest
from gateway_kit import WAIT, Door, ScriptedUpstream, StartGateway
from hostile_kit import (
    ASK,
    CHAT,
    Said,
    chat,
    connected,
    head,
    heard,
    is_refusal,
    is_served,
    post,
    say,
)

from proxy.connection import MAX_HEADERS

LIMITS = "limits: {max_header_bytes: 20000}"


@pytest.fixture
def door(shared_gateway: StartGateway, upstream: ScriptedUpstream) -> Door:
    return shared_gateway("", LIMITS)


BODY = chat()
CHUNKED = b"transfer-encoding: chunked"
JSON = b"content-type: application/json"
LENGTH = b"content-length: %d" % len(BODY)
IN_CHUNKS = b"%x\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY)

ODD: dict[str, tuple[int, bytes]] = {
    "length and chunks": (400, head(JSON, LENGTH, CHUNKED) + BODY),
    "chunks and length": (400, head(JSON, CHUNKED, LENGTH) + IN_CHUNKS),
    "two lengths": (400, head(JSON, LENGTH, b"content-length: 3") + BODY),
    "the same length twice": (400, head(JSON, LENGTH, LENGTH) + BODY),
    "a list of lengths": (400, head(JSON, b"content-length: 2, 2") + b"{}"),
    "negative length": (400, head(JSON, b"content-length: -1") + BODY),
    "signed length": (400, head(JSON, b"content-length: +2") + b"{}"),
    "length beyond 64 bits": (400, head(JSON, b"content-length: 99999999999999999999")),
    "length of a petabyte": (413, head(JSON, b"content-length: 1000000000000000")),
    "chunks of another name": (400, head(JSON, b"transfer-encoding: xchunked") + BODY),
    "chunks, then identity": (400, head(JSON, b"transfer-encoding: chunked, identity") + BODY),
    "identity": (400, head(JSON, b"transfer-encoding: identity") + BODY),
    "compressed chunks": (400, head(JSON, b"transfer-encoding: gzip, chunked") + IN_CHUNKS),
    "chunks twice": (400, head(JSON, CHUNKED, CHUNKED) + IN_CHUNKS),
    "chunks in HTTP/1.0": (
        400,
        head(JSON, CHUNKED).replace(b"HTTP/1.1", b"HTTP/1.0") + IN_CHUNKS,
    ),
    "negative chunk": (400, head(JSON, CHUNKED) + b"-1\r\n" + BODY),
    "chunk beyond 64 bits": (400, head(JSON, CHUNKED) + b"f" * 17 + b"\r\n" + BODY),
    "chunk extension with a line": (400, head(JSON, CHUNKED) + b"1;a\nb\r\n{\r\n"),
    "endless chunk extension": (431, head(JSON, CHUNKED) + b"1;" + b"a" * 300_000),
    "endless trailer": (431, head(JSON, CHUNKED) + b"0\r\nx: " + b"a" * 300_000),
    "folded header": (400, head(JSON, b"x: a\r\n b", LENGTH) + BODY),
    "null byte in a header": (400, head(JSON, b"x: a\0b", LENGTH) + BODY),
    "bare CR in a header": (400, head(JSON, b"x: a\rb", LENGTH) + BODY),
    "bare LF lines": (400, head(JSON, LENGTH).replace(b"\r\n", b"\n") + BODY),
    "space before the colon": (400, head(JSON, b"x : a", LENGTH) + BODY),
    "header without a name": (400, head(JSON, b": a", LENGTH) + BODY),
    "null byte in the path": (400, head(target=b"/v1/\0models", method=b"GET")),
    "raw bytes in the path": (400, head(target=b"/v1/\xff", method=b"GET")),
    "no host": (400, head(JSON, LENGTH, host=False) + BODY),
    "two hosts": (400, head(JSON, b"host: y", LENGTH) + BODY),
    "two content types": (400, head(JSON, JSON, LENGTH) + BODY),
    "two keys": (400, head(b"authorization: Bearer a", b"authorization: Bearer b", method=b"GET")),
    "HTTP/0.9": (400, b"GET /v1/models\r\n\r\n"),
    "HTTP/1.2": (400, b"GET /v1/models HTTP/1.2\r\nhost: x\r\n\r\n"),
    "HTTP/2": (400, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    "TLS": (400, bytes.fromhex("16030100a5010000a10303") + b"\0" * 100),
    "no HTTP at all": (400, b"hello?\r\n\r\n"),
    "unknown method": (400, b"BREW /v1/models HTTP/1.1\r\nhost: x\r\n\r\n"),
    "h2c": (400, head(JSON, LENGTH, b"connection: upgrade", b"upgrade: h2c") + BODY),
    "websocket": (
        400,
        head(b"connection: upgrade", b"upgrade: websocket", target=b"/v1/models", method=b"GET"),
    ),
    "tunnel": (404, head(target=b"example.com:443", method=b"CONNECT")),
    "absolute target": (404, head(target=b"http://example.com/v1/models", method=b"GET")),
    "asterisk": (404, head(target=b"*", method=b"OPTIONS")),
    "fragment": (404, head(target=b"/v1/models#x", method=b"GET")),
    "one large header": (431, head(JSON, b"x: " + b"a" * 20_001, LENGTH) + BODY),
    "a header without an end": (431, head(JSON)[:-2] + b"x: " + b"a" * 400_000),
    "a path without an end": (431, b"GET /" + b"a" * 400_000),
    "many headers": (
        431,
        head(JSON, *[b"x-%d: a" % i for i in range(MAX_HEADERS)], LENGTH) + BODY,
    ),
    "gzip": (415, post(BODY, b"content-encoding: gzip")),
    "deflate": (415, post(BODY, b"content-encoding: deflate")),
    "br": (415, post(BODY, b"content-encoding: br")),
    "two codings": (415, post(BODY, b"content-encoding: identity, gzip")),
    "no content type": (415, head(LENGTH) + BODY),
    "text": (415, post(BODY, kind=b"text/plain")),
    "form": (415, post(BODY, kind=b"application/x-www-form-urlencoded")),
    "JSON of another kind": (415, post(BODY, kind=b"application/json-seq")),
}


@pytest.mark.parametrize(("status", "request_bytes"), ODD.values(), ids=ODD)
def test_odd_http_is_refused(
    door: Door, upstream: ScriptedUpstream, status: int, request_bytes: bytes
) -> None:
    is_refusal(say(door.url, request_bytes), status)
    assert upstream.seen == []
    is_served(door.url)


FINE: dict[str, bytes] = {
    "chunks": head(JSON, CHUNKED) + IN_CHUNKS,
    "a chunk extension": head(JSON, CHUNKED) + IN_CHUNKS.replace(b"\r\n", b";name=value\r\n", 1),
    "many small chunks": head(JSON, CHUNKED)
    + b"".join(b"1\r\n%c\r\n" % byte for byte in BODY)
    + b"0\r\n\r\n",
    "a charset": post(BODY, kind=b"application/json; charset=utf-8"),
    "identity": post(BODY, b"content-encoding: identity"),
    "HTTP/1.0": post(BODY).replace(b"HTTP/1.1", b"HTTP/1.0"),
    "a query": post(BODY, target=CHAT.encode() + b"?api-version=1"),
    "empty lines first": b"\r\n\r\n" + post(BODY),
    "a name of headers in capitals": post(BODY).replace(b"content-type", b"Content-TYPE"),
}


@pytest.mark.parametrize("request_bytes", FINE.values(), ids=FINE)
def test_unusual_http_is_served(
    door: Door, upstream: ScriptedUpstream, request_bytes: bytes
) -> None:
    said = say(door.url, request_bytes)
    assert said.status == 200, said
    assert upstream.seen[0].json["messages"] == ASK["messages"]


def test_a_query_goes_nowhere(door: Door, upstream: ScriptedUpstream) -> None:
    lines: list[str] = []
    answer = upstream.script

    async def script(request: object) -> object:
        lines.append(str(request.rel_url))  # type: ignore[attr-defined]
        return await answer(request)  # type: ignore[arg-type]

    upstream.script = script  # type: ignore[assignment]
    assert say(door.url, post(BODY, target=CHAT.encode() + b"?api_base=http://x")).status == 200
    assert lines == [CHAT]


def test_trailers_do_not_pass_for_headers(door: Door) -> None:
    body = IN_CHUNKS[:-2] + b"x-request-id: from-a-trailer\r\ncontent-type: text/plain\r\n\r\n"
    said = say(door.url, head(JSON, CHUNKED) + body)
    assert said.status == 200
    assert said.headers["x-request-id"] != "from-a-trailer"


def test_continue_is_said_before_the_body(door: Door) -> None:
    with connected(door.url) as sock:
        sock.sendall(head(JSON, LENGTH, b"expect: 100-continue"))
        assert sock.recv(1000) == b"HTTP/1.1 100 Continue\r\n\r\n"
        sock.sendall(BODY)
        assert heard(sock).status == 200


def test_continue_is_not_said_to_what_is_refused(door: Door) -> None:
    large = b"content-length: 900000000"
    for lines, status in (((JSON, large), 413), ((b"content-type: text/plain", LENGTH), 415)):
        with connected(door.url) as sock:
            sock.sendall(head(*lines, b"expect: 100-continue"))
            is_refusal(heard(sock), status)


def test_a_bomb_is_refused_unread(door: Door) -> None:
    """The answer comes though the body never does."""
    promised = b"content-length: 5000000"
    said = say(door.url, head(JSON, promised, b"content-encoding: gzip") + b"\x1f\x8b")
    is_refusal(said, 415)


def test_a_pipelined_request_is_not_answered_out_of_turn(
    door: Door, upstream: ScriptedUpstream
) -> None:
    """The first is answered, then the connection is closed: the client sends the second again."""
    with connected(door.url) as sock:
        sock.sendall(post(BODY) + post(BODY))
        first = heard(sock)
        assert first.status == 200
        assert first.headers["connection"] == "close"
        assert heard(sock) == Said(0, {}, b"")
    assert len(upstream.seen) == 1
    with connected(door.url) as sock:
        for _ in range(3):  # one after the other they share a connection
            sock.sendall(post(BODY))
            assert heard(sock).status == 200


def test_what_is_smuggled_behind_a_body_is_not_served(
    door: Door, upstream: ScriptedUpstream
) -> None:
    hidden = post(chat(model="small"))
    for length in (b"0", b"2"):
        upstream.seen.clear()
        said = say(door.url, head(JSON, b"content-length: " + length) + b"{}" + hidden)
        is_refusal(said)
        assert upstream.seen == []


PATHS = [
    "//v1//chat/completions", "/v1/chat/completions/", "/v1/chat//completions", "/v1//chat/completions",
    "/v1/./chat/completions", "/v1/../v1/chat/completions", "/v1/%2e%2e/v1/chat/completions",
    "/v1/chat/completions;a=b", "/v1;x/chat/completions", "/V1/chat/completions",
    "/v1/Chat/Completions", "/v1/%63hat/completions", "/v1/chat%2fcompletions",
    "/v1/chat%2Fcompletions", "/v1%2fchat/completions", "/v1/chat/completions%00",
    "/v1/chat/completions%20", "/v1/chat/completions%0d%0ax:y", "/v1/chat\\completions",
    "/v1/chat/completions%3fx", "/v1/chat/completions.json", "/chat/completions", "/v1", "/",
    "/v1/files", "/v1/models/../chat/completions", "/openai/v1/chat/completions", "/v1/%E2%80%8Bchat",
]  # fmt: skip


@pytest.mark.parametrize("path", PATHS)
def test_only_exact_paths_are_served(door: Door, upstream: ScriptedUpstream, path: str) -> None:
    said = say(door.url, post(BODY, target=path.encode()))
    assert said.status in (404, 405), said
    is_refusal(said)
    assert upstream.seen == []


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"])
def test_other_methods_are_refused(door: Door, method: str) -> None:
    said = say(door.url, head(method=method.encode()))
    assert (said.status, said.headers["allow"]) == (405, "POST")
    if method != "HEAD":
        is_refusal(said, 405)


REQUEST_IDS = [
    b"a\tb", b"x" * 129, b"id\xc2\x85", b"id\xff", b"<script>", b"a b", b"a;b", b"data: x", b"",
    b"id\\r\\nset-cookie: a=b", b"%0d%0aset-cookie: a=b",
]  # fmt: skip


@pytest.mark.parametrize("given", REQUEST_IDS)
def test_a_request_id_is_echoed_only_if_it_is_harmless(door: Door, given: bytes) -> None:
    said = say(door.url, post(BODY, b"x-request-id: " + given))
    assert said.status == 200
    assert said.headers["x-request-id"].startswith("req_")
    assert "set-cookie" not in said.headers


def test_a_refused_request_that_runs_is_stopped(door: Door, upstream: ScriptedUpstream) -> None:
    """A fault within the body: whoever reads it gives up, and one answer leaves."""
    with connected(door.url) as sock:
        sock.sendall(head(JSON, CHUNKED) + b"5\r\n{")
        time.sleep(0.05)
        sock.sendall(b"    zzzz\r\n")
        is_refusal(heard(sock), 400)
        assert heard(sock).status == 0
    assert upstream.seen == []
    is_served(door.url)


def test_refusals_are_counted(door: Door) -> None:
    def counted() -> float:
        text = door.app.state.gateway.metrics.text().decode()
        name = 'doorman_requests_total{path="other",status="431"}'
        found = [line for line in text.splitlines() if line.startswith(name)]
        return float(found[0].split()[-1]) if found else 0.0

    before = counted()
    say(door.url, ODD["one large header"][1])
    assert counted() == before + 1


def test_a_client_that_has_its_answer_may_not_go_on_for_ever(door: Door) -> None:
    """A body that was refused is dropped for a while, then the connection ends."""
    with connected(door.url, 3 * WAIT) as sock:
        sock.sendall(head(b"content-type: text/plain", b"content-length: 1000000000"))
        is_refusal(heard(sock), 415)
        limit = time.monotonic() + 2 * WAIT
        try:
            while time.monotonic() < limit:
                sock.sendall(b"x" * 1000)
                time.sleep(0.05)
        except ConnectionError:
            return
        pytest.fail("it may go on for ever")


def test_the_body_is_json_whatever_else_is_said(door: Door) -> None:
    said = say(door.url, post(json.dumps(ASK).encode("utf-16")))
    is_refusal(said, 400)
