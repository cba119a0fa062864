"""What a client gets when the model's server misbehaves, plain and streamed; nothing private leaks."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from faults_kit import KEY, Place, error, events, place, post
from gateway_kit import Door, chunk, reply_body
from raw_server import LAST, STREAM, Step, head, piece, whole

from proxy.sse import encode

MODELS = """
- model_name: a
  litellm_params: {model: openai/gpt-4o, {0}, extra_headers: {x-team: planted-header-secret}}
"""
MORE = """
timeouts: {connect: 5, first_byte: 1, idle: 1, total: 9}
limits: {max_reply_bytes: 20000}
breaker: {failures: 1000}
"""
PLANTED = (
    KEY,
    "planted-header-secret",
    "db1.internal",
    "/srv/app/main.py",
    "Traceback",
    "127.0.0.1",
    "10.1.2.3",
)
TRACE = 'Traceback (most recent call last): File "/srv/app/main.py", line 3, on db1.internal'
"""Nothing of this may be in an answer or in the log."""


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Place, Door]]:
    with place(tmp_path_factory.mktemp("faults"), 1) as made:
        yield made, made.gateway(MODELS, MORE)


def told(message: str, **fields: Any) -> bytes:
    return json.dumps({"error": {"message": message, **fields}}).encode()


INVALID, LIMIT, SERVER = "invalid_request_error", "rate_limit_error", "server_error"
BROKEN, LATE, LARGE = "upstream_invalid_response", "upstream_timeout", "upstream_response_too_large"
Row = tuple[str, tuple[Step, ...], int, str, str | None]
STATUSES: list[Row] = [
    # name, script, status, type, code
    *[(f"{s}", error(s, "c"), s, INVALID, "c") for s in (400, 404, 408, 409, 413, 415, 422)],
    ("401", error(401, "c", f"Incorrect API key {KEY[:9]}***"), 401, INVALID, "upstream_unauthorized"),
    ("403", error(403, "c", "org planted-header-secret"), 403, INVALID, "upstream_unauthorized"),
    ("429", error(429, "c"), 429, LIMIT, "c"),
    *[(f"{s}", error(s, "c"), s, SERVER, "c") for s in (500, 502, 503, 504, 529)],
    ("its own type", (whole(told("no", type="insufficient_quota"), 429),), 429, "insufficient_quota", None),
    ("a trace", (whole(told(TRACE), 500),), 500, SERVER, "upstream_error"),
    ("a key", (whole(told(f"bad key {KEY}"), 400),), 400, INVALID, "upstream_error"),
    ("an address", (whole(told("no route to 10.1.2.3:8000"), 502),), 502, SERVER, "upstream_error"),
    ("a path", (whole(told("cannot open /srv/app/main.py"), 400),), 400, INVALID, "upstream_error"),
    ("an HTML page", (whole(b"<p>db1.internal</p>", 502, "text/html"),), 502, SERVER, "upstream_error"),
    ("an error in chunks", (head(503), piece(told("x")[:9]), piece(told("x")[9:]), LAST), 503, SERVER, None),
    ("an empty error", (whole(b"", 500),), 500, SERVER, "upstream_error"),
    ("garbage as an error", (whole(b"\xff\x00{", 500),), 500, SERVER, "upstream_error"),
    ("an error of the wrong shape", (whole(b'{"error": ["x"]}', 400),), 400, INVALID, "upstream_error"),
    ("an error that is cut", (head(500, length=500), b"{", "close"), 502, SERVER, BROKEN),
    ("an endless error", (head(500), *[piece(b"x" * 9000)] * 4), 502, SERVER, LARGE),
]  # fmt: skip
OK = whole(json.dumps(reply_body("fine")).encode())
BOTH: list[Row] = [
    ("hangs", ("gone",), 504, SERVER, LATE),
    ("closes", ("close",), 502, SERVER, BROKEN),
    ("resets", ("reset",), 502, SERVER, BROKEN),
    ("half a head", (b"HTTP/1.1 200 OK\r\ncontent-", "close"), 502, SERVER, BROKEN),
    ("a head and nothing", (head(), "close"), 502, SERVER, BROKEN),
    ("no HTTP", (b"SSH-2.0-db1.internal\r\n\r\n", "close"), 502, SERVER, BROKEN),
    ("a redirect", (whole(b"", 302, location="http://10.1.2.3/"),), 502, SERVER, BROKEN),
    ("HTML with 200", (whole(b"<h1>db1.internal</h1>", 200, "text/html"),), 502, SERVER, BROKEN),
    ("no content type", (b"HTTP/1.1 200 X\r\ncontent-length: 2\r\n\r\n{}",), 502, SERVER, BROKEN),
    ("204", (b"HTTP/1.1 204 X\r\n\r\n",), 502, SERVER, BROKEN),
]
PLAIN: list[Row] = [
    ("a slow first byte", (3.0, OK), 504, SERVER, LATE),
    ("hangs within", (head(), piece(b"{"), "gone"), 504, SERVER, LATE),
    ("reset within", (head(length=99), b'{"id', "reset"), 502, SERVER, BROKEN),
    ("half closed", (head(length=99), b'{"id', "close"), 502, SERVER, BROKEN),
    ("garbage", (whole(b"\x00\xff garbage db1.internal"),), 502, SERVER, BROKEN),
    ("empty", (whole(b""),), 502, SERVER, BROKEN),
    ("compressed", (whole(b"\x1f\x8b", content_encoding="gzip"),), 502, SERVER, BROKEN),
    ("oversized", (whole(b'{"a": "' + b"x" * 30_000 + b'"}'),), 502, SERVER, LARGE),
]
STREAMED: list[Row] = [
    ("hangs before the first event", (STREAM, "gone"), 504, SERVER, LATE),
    ("resets before it", (STREAM, "reset"), 502, SERVER, BROKEN),
    ("compressed events", (STREAM[:-2] + b"content-encoding: br\r\n\r\n", "close"), 502, SERVER, BROKEN),
    ("an empty stream", (STREAM, LAST), 502, SERVER, BROKEN),
    ("events of garbage", (STREAM, piece(b"data: {db1.internal\n\n"), LAST), 502, SERVER, BROKEN),
    ("plain JSON", (OK,), 502, SERVER, BROKEN),
]  # fmt: skip
CASES = [(row, False) for row in (*STATUSES, *BOTH, *PLAIN)] + [
    (row, True) for row in (*STATUSES, *BOTH, *STREAMED)
]


@pytest.mark.parametrize(
    ("row", "streams"), CASES, ids=[f"{row[0]}-{'stream' if s else 'plain'}" for row, s in CASES]
)
def test_faults(
    one: tuple[Place, Door], row: Row, streams: bool, caplog: pytest.LogCaptureFixture
) -> None:
    _, script, status, kind, code = row
    made, door = one
    made.servers[0].play(script)
    with caplog.at_level(logging.DEBUG):
        answer = post(door, stream=streams)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/json"
    fault = answer.json()["error"]
    assert set(fault) == {"message", "type", "param", "code"}
    assert (fault["type"], fault["code"]) == (kind, code)
    assert fault["message"]
    assert answer.headers["x-doorman-action"] == "forward" if status < 502 else "x-request-id"
    record = door.records.next()
    assert record.upstream_called
    assert len(record.attempts) == 1
    private(answer.text + str(answer.headers) + str(record), caplog)


def private(shown: str, caplog: pytest.LogCaptureFixture) -> None:
    ours = [r for r in caplog.records if r.name.startswith("doorman")]
    logged = "\n".join(r.getMessage() + (r.exc_text or "") for r in ours)
    for secret in PLANTED:
        assert secret not in shown
        assert secret not in logged


SAID = encode(chunk({"role": "assistant", "content": "Some words"}))
WITHIN: list[tuple[str, tuple[Step, ...], str]] = [
    ("hangs", ("gone",), LATE),
    ("closes", ("close",), BROKEN),
    ("resets", ("reset",), BROKEN),
    ("ends early", (LAST, "close"), BROKEN),
    ("garbage", (piece(b"data: {db1.internal\n\n"), LAST), BROKEN),
    ("wrong chunks", (b"zz\r\nhello", "close"), BROKEN),
    ("an error event", (piece(b"data: " + told(f"{TRACE} {KEY}") + b"\n\n"), LAST), BROKEN),
    ("oversized", (*[piece(SAID)] * 200, LAST), LARGE),
]


@pytest.mark.parametrize(("name", "rest", "code"), WITHIN, ids=[row[0] for row in WITHIN])
def test_faults_within_a_stream(
    one: tuple[Place, Door],
    name: str,
    rest: tuple[Step, ...],
    code: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    made, door = one
    made.servers[0].play((STREAM, piece(SAID), 0.3, *rest))  # what came first has left by then
    with caplog.at_level(logging.DEBUG):
        answer = post(door, stream=True)
    assert answer.status_code == 200
    first, *_, last = events(answer)
    assert first["choices"][0]["delta"]["content"] == "Some words"
    assert (last["error"]["code"], last["error"]["type"]) == (code, SERVER)
    assert "[DONE]" not in answer.text
    record = door.records.next()
    assert (record.ended, record.status) == (code, 200)
    assert len(made.servers[0].seen) == 1
    private(answer.text + str(record), caplog)


@pytest.mark.parametrize("streams", [False, True])
def test_limits_are_passed_on_and_the_servers_own_headers_are_not(
    one: tuple[Place, Door], streams: bool
) -> None:
    made, door = one
    passed = {
        "retry-after": "7",
        "retry-after-ms": "7000",
        "x-ratelimit-limit-requests": "5",
        "x-ratelimit-remaining-tokens": "0",
        "x-ratelimit-reset-requests": "1s",
    }
    kept = {"server": "db1.internal", "via": "db1.internal", "set-cookie": "a=b", "location": "/x"}
    more = {name.replace("-", "_"): value for name, value in (passed | kept).items()}
    made.servers[0].play(error(429, "rate_limit_exceeded", **more))
    answer = post(door, stream=streams)
    door.records.next()
    assert answer.status_code == 429
    assert answer.headers.items() >= passed.items()
    assert not answer.headers.keys() & kept.keys()


INFORMED = b"HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n"


def test_what_is_no_fault(one: tuple[Place, Door]) -> None:
    """Informational replies before the real one, and a reply in odd pieces."""
    made, door = one
    body = json.dumps(reply_body("fine")).encode()
    pieces = [piece(body[i : i + 1]) for i in range(len(body))]
    for script in ((INFORMED + OK,), (head(), *pieces, LAST)):
        made.servers[0].play(script)
        answer = post(door)
        door.records.next()
        assert answer.json()["choices"][0]["message"]["content"] == "fine"


def test_log_lines_of_the_breaker_name_the_alias_only(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with place(tmp_path, 1) as made, caplog.at_level(logging.DEBUG):
        made.servers[0].play(error(500, message=TRACE))
        door = made.gateway(MODELS, "breaker: {failures: 1}")
        post(door)
        assert "model a has failed repeatedly" in caplog.text
        private(post(door).text, caplog)
