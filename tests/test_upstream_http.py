"""Passing through: what goes up, what comes down, and every way in which a server can fail."""

from __future__ import annotations

import asyncio
import json
import socket
from contextlib import asynccontextmanager

import pytest
from raw_server import LAST, STREAM, RawServer, head, piece, whole

from proxy.config import LitellmParams, ModelEntry, Timeouts
from proxy.errors import UpstreamError
from proxy.sse import DONE, encode
from proxy.upstream import HttpLimits, make_upstreams

KEY = "sk-the-operators-own"
BODY = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
RAW = b'{"model":"m",  "messages":[{"role":"user","content":"hi"}]}'
REPLY = b'{"id": "1", "choices": []}'
QUICK = Timeouts(connect=2, first_byte=0.2, idle=0.2, total=1)
PATIENT = Timeouts(connect=5, first_byte=5, idle=5, total=5)
EVENT = encode({"choices": []})


@asynccontextmanager
async def upstream_at(base, timeouts=PATIENT, limits=None, **params):
    entry = ModelEntry(
        model_name="alias",
        litellm_params=LitellmParams(model="openai/m", api_key=KEY, api_base=base, **params),
    )
    upstreams = make_upstreams([entry], timeouts, limits)
    try:
        yield upstreams.resolve("alias").upstream
    finally:
        await upstreams.close()


async def read(stream):
    return [event async for event in stream]


async def test_a_request_goes_up_as_it_came_with_the_operators_key():
    client = {
        "authorization": "Bearer the-clients-own",
        "cookie": "a=b",
        "x-forwarded-for": "10.0.0.1",
        "openai-organization": "org-client",
        "openai-project": "proj-client",
        "user-agent": "client/1",
        "idempotency-key": "key-1",
        "openai-beta": "assistants=v2",
        "accept-encoding": "gzip",
        "host": "evil.example",
        "content-length": "3",
        "transfer-encoding": "chunked",
        "api-key": "x",
    }
    async with RawServer([whole(REPLY)]) as server, upstream_at(server.base + "/") as upstream:
        reply = await upstream.complete(BODY, RAW, client)
        await upstream.complete(BODY, None, {"idempotency-key": "bad\nvalue"})
    assert (reply.status, reply.body, reply.json) == (200, REPLY, json.loads(REPLY))
    first, second = server.seen
    assert first.line == "POST /v1/chat/completions HTTP/1.1"
    assert first.body == RAW
    assert json.loads(second.body) == BODY
    assert first.headers.pop("user-agent").startswith("doorman/")
    assert first.headers == {
        "host": f"127.0.0.1:{server.port}",
        "authorization": f"Bearer {KEY}",
        "content-type": "application/json",
        "accept": "application/json",
        "accept-encoding": "identity",
        "content-length": str(len(RAW)),
        "idempotency-key": "key-1",
        "openai-beta": "assistants=v2",
    }
    assert "idempotency-key" not in second.headers
    assert server.connections == 1


async def test_other_paths_and_large_bodies():
    async with RawServer([whole(REPLY)]) as server, upstream_at(server.base) as upstream:
        large = json.dumps({"model": "m", "x": "y" * 3_000_000}).encode()
        await upstream.complete({}, large, {}, path="embeddings")
    assert server.seen[0].line.startswith("POST /v1/embeddings ")
    assert server.seen[0].body == large


async def test_no_key_and_extra_headers_of_the_operator():
    entry = LitellmParams(
        model="hosted_vllm/m",
        api_base="http://set-below",
        extra_headers={"X-Title": "mine"},
        organization="org-1",
    )
    async with RawServer([whole(REPLY)]) as server:
        entry = entry.model_copy(update={"api_base": server.base})
        upstreams = make_upstreams([ModelEntry(model_name="a", litellm_params=entry)], PATIENT)
        await upstreams.resolve("a").upstream.complete(BODY, RAW, {})
        await upstreams.close()
    headers = server.seen[0].headers
    assert "authorization" not in headers
    assert (headers["x-title"], headers["openai-organization"]) == ("mine", "org-1")


async def test_only_some_headers_come_down():
    reply = whole(
        REPLY, server="nginx", set_cookie="a=b", x_request_id="req-up", x_ratelimit_limit_requests="5",
        retry_after="3", openai_processing_ms="12", openai_organization="org-secret", via="internal",
        connection="keep-alive", x_internal_host="db1",
    )  # fmt: skip
    expected = {
        "x-request-id": "req-up",
        "x-ratelimit-limit-requests": "5",
        "retry-after": "3",
        "openai-processing-ms": "12",
    }
    async with RawServer([reply]) as server, upstream_at(server.base) as upstream:
        assert (await upstream.complete(BODY, RAW, {})).headers == expected
        server.script = [reply.replace(b"application/json", b"text/event-stream")]
        async with upstream.stream(BODY, RAW, {}) as stream:
            assert stream.headers == expected


TOLD = b'{"error": {"message": "max_tokens is too large", "type": "invalid_request_error"}}'


async def call(upstream, way):
    if way == "plain":
        await upstream.complete(BODY, RAW, {})
    else:
        async with upstream.stream(BODY, RAW, {}) as stream:
            await read(stream)


STATUSES = [
    # status, body, content type, what the client sees of it
    (400, TOLD, "application/json", "max_tokens is too large"),
    (404, TOLD, "application/json", "max_tokens is too large"),
    (429, b'{"error": {"message": "slow down"}}', "application/json", "slow down"),
    (
        500,
        b"<html>nginx on db1</html>",
        "text/html",
        "The model's server answered with status 500.",
    ),
    (503, b"", "text/plain", "The model's server answered with status 503."),
    (
        502,
        b'{"detail": "trace"}',
        "application/json",
        "The model's server answered with status 502.",
    ),
    (400, b'{"error": "text"}', "application/json", "The model's server answered with status 400."),
    (401, b'{"error": {"message": "bad key sk-the-***own"}}', "application/json", "refused"),
    (403, b'{"error": {"message": "org x"}}', "application/json", "refused"),
    (
        400,
        json.dumps({"error": {"message": f"bad {KEY}"}}).encode(),
        "application/json",
        "The model's server answered with status 400.",
    ),
]


@pytest.mark.parametrize(("status", "body", "content_type", "message"), STATUSES)
async def test_error_statuses_are_replies_in_openais_shape(status, body, content_type, message):
    async with (
        RawServer([whole(body, status, content_type, retry_after="7")]) as server,
        upstream_at(server.base) as upstream,
    ):
        replies = [await upstream.complete(BODY, RAW, {})]
        async with upstream.stream(BODY, RAW, {}) as stream:
            assert stream.status == status
            assert await read(stream) == []
            replies.append(stream.reply)
    for reply in replies:
        assert (reply.status, reply.headers) == (status, {"retry-after": "7"})
        assert message in reply.json["error"]["message"]
        assert json.loads(reply.body) == reply.json
        assert b"db1" not in reply.body
        assert KEY.encode() not in reply.body
        assert b"sk-the" not in reply.body


STREAMED = b": hello\n\n" + encode({"choices": [{"index": 0, "delta": {"content": "hi"}}]}) + DONE


@pytest.mark.parametrize("size", [1, 7, 10_000])
async def test_a_stream_comes_as_events_and_its_connection_is_used_again(size):
    chunks = [piece(STREAMED[at : at + size]) for at in range(0, len(STREAMED), size)]
    async with RawServer([STREAM, *chunks, LAST]) as server, upstream_at(server.base) as upstream:
        for _ in range(3):
            async with upstream.stream(BODY, RAW, {}) as stream:
                events = await read(stream)
            assert b"".join(event.raw for event in events) == STREAMED
            assert [event.done for event in events] == [False, False, True]
        assert server.seen[0].headers["accept"] == "text/event-stream"
    assert server.connections == 1


async def test_events_come_while_the_stream_still_runs():
    async with (
        RawServer([STREAM, piece(EVENT), "gone"]) as server,
        upstream_at(server.base) as upstream,
    ):
        async with upstream.stream(BODY, RAW, {}) as stream:
            assert (await anext(aiter(stream))).raw == EVENT
        # Leaving the context is what tells the server to stop.
        await asyncio.wait_for(server.client_left.wait(), 5)


@pytest.mark.parametrize(
    ("way", "script"),
    [
        ("plain", ["gone"]),
        ("plain", [head(), piece(b"{"), "gone"]),
        ("stream", ["gone"]),
        ("stream", [STREAM, piece(EVENT), "gone"]),
    ],
)
async def test_cancelling_ends_the_call(way, script):
    async with RawServer(script) as server, upstream_at(server.base) as upstream:
        task = asyncio.create_task(call(upstream, way))
        await asyncio.wait_for(server.asked.wait(), 5)
        task.cancel()
        await asyncio.wait({task})
        assert task.cancelled()
        await asyncio.wait_for(server.client_left.wait(), 5)


FAULTS = [
    # name, script, kind, whether plain replies and streams fail by it
    ("closes at once", ["close"], "protocol", "both"),
    ("resets", ["reset"], "protocol", "both"),
    ("no HTTP", [b"SSH-2.0-OpenSSH_9.6\r\n", "close"], "protocol", "both"),
    ("hangs", ["gone"], "timeout", "both"),
    ("slow head", [0.5, whole(REPLY), "close"], "timeout", "both"),
    ("endless head", [b"HTTP/1.1 200 X\r\n" + b"a: b\r\n" * 20_000], "protocol", "both"),
    ("redirect", [whole(b"", 302, location="http://169.254.169.254/")], "protocol", "both"),
    ("hangs within", [head(), piece(b"{"), "gone"], "timeout", "plain"),
    ("half a body", [head(length=100), b"{", "close"], "protocol", "plain"),
    ("half a chunk", [head(), b"ff\r\n{", "close"], "protocol", "plain"),
    ("wrong chunk", [head(), b"zz\r\n{", "close"], "protocol", "plain"),
    ("no JSON", [whole(b"hello")], "protocol", "plain"),
    ("no object", [whole(b"[1]")], "protocol", "plain"),
    ("empty", [whole(b"")], "protocol", "plain"),
    ("invalid UTF-8", [whole(b'{"a": "\xff"}')], "protocol", "plain"),
    ("HTML with 200", [whole(b"{}", content_type="text/html")], "protocol", "plain"),
    ("a stream unasked", [STREAM, piece(EVENT), LAST], "protocol", "plain"),
    ("compressed", [whole(REPLY, content_encoding="gzip")], "protocol", "plain"),
    ("too large", [whole(b'{"a": "' + b"x" * 1000 + b'"}')], "too_large", "plain"),
    ("endless", [head(), *[piece(b" " * 100)] * 20], "too_large", "plain"),
    ("hangs before the first event", [STREAM, "gone"], "timeout", "stream"),
    ("hangs between events", [STREAM, piece(EVENT), "gone"], "timeout", "stream"),
    ("half an event stream", [STREAM, b"ff\r\ndata", "close"], "protocol", "stream"),
    ("plain JSON unasked", [whole(REPLY)], "protocol", "stream"),
    ("compressed events", [STREAM[:-2] + b"content-encoding: br\r\n\r\n"], "protocol", "stream"),
    ("an endless event", [STREAM, *[piece(b"data: " + b"x" * 100)] * 20], "too_large", "stream"),
    ("endless events", [STREAM, *[piece(EVENT)] * 100], "too_large", "stream"),
    ("never ends", [STREAM, *[piece(b": a\n\n"), 0.1] * 50], "timeout", "stream"),
]
CASES = [
    (name, script, kind, way)
    for name, script, kind, ways in FAULTS
    for way in ("plain", "stream")
    if ways in (way, "both")
]


@pytest.mark.parametrize(
    ("name", "script", "kind", "way"), CASES, ids=[f"{row[3]}: {row[0]}" for row in CASES]
)
async def test_faults(name, script, kind, way):
    limits = HttpLimits(reply_bytes=1000, event_bytes=500)
    async with RawServer(script) as server, upstream_at(server.base, QUICK, limits) as upstream:
        with pytest.raises(UpstreamError) as caught:
            await call(upstream, way)
    assert caught.value.kind == kind
    assert caught.value.__suppress_context__ or caught.value.__cause__ is None
    for private in (KEY, "127.0.0.1", str(server.port), "169.254"):
        assert private not in caught.value.message
    # Something was sent: it is never sent twice.
    assert len(server.seen) == 1


async def test_what_was_not_finished_is_left_to_the_reader_of_the_events():
    """An end without [DONE] is no fault of the transport; the guard judges it."""
    async with (
        RawServer([STREAM, piece(EVENT), LAST]) as server,
        upstream_at(server.base) as upstream,
        upstream.stream(BODY, RAW, {}) as stream,
    ):
        assert [event.raw for event in await read(stream)] == [EVENT]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.mark.parametrize("way", ["plain", "stream"])
async def test_a_server_that_is_not_there(way):
    async with upstream_at(f"http://127.0.0.1:{free_port()}/v1") as upstream:
        with pytest.raises(UpstreamError) as caught:
            await call(upstream, way)
    assert caught.value.kind == "connect"


async def test_a_connection_that_never_came_about_is_tried_again():
    port = free_port()
    async with upstream_at(f"http://127.0.0.1:{port}/v1") as upstream:
        task = asyncio.create_task(upstream.complete(BODY, RAW, {}))
        await asyncio.sleep(0.03)  # the first try is refused within this time
        server = RawServer([whole(REPLY)])
        listening = await asyncio.start_server(server._serve, "127.0.0.1", port)
        assert (await task).status == 200
        listening.close()
    assert len(server.seen) == 1


async def test_a_name_that_does_not_exist():
    async with upstream_at("http://no-such-host.invalid/v1") as upstream:
        with pytest.raises(UpstreamError) as caught:
            await upstream.complete(BODY, RAW, {})
    assert caught.value.kind == "connect"
    assert "no-such-host" not in caught.value.message


async def test_an_exception_of_the_caller_is_not_taken_for_the_upstreams():
    async with (
        RawServer([STREAM, piece(EVENT), "gone"]) as server,
        upstream_at(server.base) as upstream,
    ):
        with pytest.raises(TimeoutError, match="mine"):
            async with upstream.stream(BODY, RAW, {}):
                raise TimeoutError("mine")
        await asyncio.wait_for(server.client_left.wait(), 5)


async def test_a_models_own_timeout():
    async with RawServer(["gone"]) as server, upstream_at(server.base, timeout=0.1) as upstream:
        with pytest.raises(UpstreamError) as caught:
            await upstream.complete(BODY, RAW, {})
    assert caught.value.kind == "timeout"
    assert "0.1 s" in caught.value.message


async def test_many_calls_at_once_share_the_pool():
    async with (
        RawServer([0.01, whole(REPLY)]) as server,
        upstream_at(server.base, limits=HttpLimits(connections=4)) as upstream,
    ):
        replies = await asyncio.gather(*(upstream.complete(BODY, RAW, {}) for _ in range(40)))
        assert {reply.status for reply in replies} == {200}
    assert server.connections <= 4
    assert len(server.seen) == 40
