"""Large bodies and what they cost the process that reads them."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
from gateway_kit import ScriptedUpstream
from hostile_kit import CHAT, Served, chat, head, is_refusal, is_served, post, process, say

MEGABYTES = 20
GROWTH = 300 << 20
WAIT = 60.0
KIND = b"content-type: application/json"


@pytest.fixture(scope="module")
def served(
    _upstream: ScriptedUpstream, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Served]:
    """A gateway whose limit lets all of these bodies in, so that it has to read them."""
    folder = tmp_path_factory.mktemp("memory")
    with process(folder, _upstream, "limits: {max_body_bytes: 33554432}") as found:
        yield found


def members(piece: bytes, megabytes: int = MEGABYTES) -> bytes:
    """A chat request with a list of so many megabytes."""
    many = (megabytes << 20) // len(piece)
    return chat()[:-1] + b', "x": [' + piece * many + b"1]}"


KEYS = b",".join(b'"%07x":1' % number for number in range((MEGABYTES << 20) // 12))
LARGE: dict[str, tuple[int, bytes]] = {
    "empty lists": (413, members(b"[],")),
    "empty objects": (413, members(b"{},")),
    "strings": (413, members(b'"a",')),
    "strings in no list": (413, b'"a",' * (MEGABYTES << 18)),
    "small numbers": (413, members(b"1,")),
    "fractions": (413, members(b"1.5,")),
    "booleans": (413, members(b"true,")),
    "keys": (413, chat()[:-1] + b', "x": {' + KEYS + b"}}"),
    "nesting": (413, chat()[:-1] + b', "x": ' + b"[" * (MEGABYTES << 20)),
    "escapes without an end": (400, chat()[:-1] + b', "x": "' + b'\\"' * (MEGABYTES << 19)),
    "one string": (413, chat(x="a" * (MEGABYTES << 20))),
    "colons": (413, b":" * (MEGABYTES << 20)),
    "commas": (413, b"," * (MEGABYTES << 20)),
    "white space": (400, b" " * (MEGABYTES << 20)),
}


def growth_of(served: Served, *requests: bytes) -> int:
    """The most by which the process grew while it was asked, in bytes."""
    own = psutil.Process(served.process.pid)
    before = most = own.memory_info().rss
    with ThreadPoolExecutor(len(requests)) as pool:
        asking = [pool.submit(say, served.url, request, seconds=WAIT) for request in requests]
        while not all(future.done() for future in asking):
            most = max(most, own.memory_info().rss)
        assert all(future.result().status for future in asking)
    return most - before


@pytest.mark.parametrize(("status", "body"), LARGE.values(), ids=LARGE)
def test_a_large_body_costs_a_bounded_amount(
    served: Served, upstream: ScriptedUpstream, status: int, body: bytes
) -> None:
    request = post(body)
    assert growth_of(served, request) <= GROWTH
    said = say(served.url, request, seconds=WAIT)
    is_refusal(said, status)
    is_served(served.url)


def test_what_is_over_the_limit_is_dropped_as_it_comes(
    tmp_path: Path, upstream: ScriptedUpstream
) -> None:
    body = members(b"1,")
    chunk = b"%x\r\n%s\r\n" % (1 << 20, b" " * (1 << 20))
    bomb = head(KIND, b"transfer-encoding: chunked") + chunk * 3 * MEGABYTES + b"0\r\n\r\n"
    with process(tmp_path, upstream) as served:
        assert growth_of(served, post(body), post(body), bomb, bomb) <= 64 << 20
        for request in (post(body), bomb):
            is_refusal(say(served.url, request, seconds=WAIT), 413)
        promised = head(KIND, b"content-length: 100000000", target=CHAT.encode())
        is_refusal(say(served.url, promised), 413)
        is_served(served.url)
    assert all(len(seen.raw) < 1000 for seen in upstream.seen)
