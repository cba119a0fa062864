"""What reaches the client of a guarded model was checked, was dropped, or is reported unscanned."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from benchmarks.coverage_replies import EVENTS, REPLIES
from benchmarks.coverage_shapes import made
from proxy.endpoints import ENDPOINTS, leaves, media, responses_leaves
from proxy.endpoints.base import Address, Body, Endpoint

OWN_WORDS = frozenset(
    {"created", "id", "call_id", "item_id", "model", "object", "role", "status", "type", "service_tier",
     "finish_reason", "stop_reason"}
)  # fmt: skip
OWN_WORDS |= responses_leaves.PROTOCOL_KEYS
"""Fields of a reply that the provider fills with names of its own: no sentences."""
RANDOM = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))


def passed(endpoint: Endpoint, body: Body, contents: set[str], words: dict[str, str]) -> list[Any]:
    """What would reach the client unread."""
    read = "\n".join(contents).lower()
    unscanned = set(endpoint.reply_unscanned(body))
    endpoint.strip(body)
    found = []
    for address, string in strings(body):
        where = ".".join(map(str, ("reply", *leaves.shown(address))))
        word = words.get(string, string).lower()
        own = (address[-1] in OWN_WORDS and " " not in string) or (
            leaves.is_protocol(address, string) or media.last_name(address) in media.BLOB_KEYS
        )
        if not (string in contents or word in read or where in unscanned or own):
            found.append((address, string))
    return found


def strings(body: Any) -> Iterator[tuple[Address, str]]:
    return ((at, string) for at, string in leaves.strings(body) if string)


def test_every_endpoint_has_a_shape() -> None:
    assert REPLIES.keys() == ENDPOINTS.keys()
    assert EVENTS.keys() == {path for path, endpoint in ENDPOINTS.items() if endpoint.speaks}


@pytest.mark.parametrize("path", REPLIES)
@RANDOM
@given(rng=st.randoms(use_true_random=False))
def test_every_string_of_a_reply_is_checked(path: str, rng: Random) -> None:
    endpoint = ENDPOINTS[path]
    body, words = made(REPLIES[path], rng)
    if not endpoint.sound(body):
        return  # a guarded reply of this shape is refused
    contents = {text.content for text in endpoint.reply_texts(body)}
    assert passed(endpoint, body, contents, words) == []


@pytest.mark.parametrize("path", EVENTS)
@RANDOM
@given(rng=st.randoms(use_true_random=False))
def test_every_string_of_an_event_is_checked(path: str, rng: Random) -> None:
    endpoint = ENDPOINTS[path]
    body, words = made(EVENTS[path], rng)
    if not endpoint.sound(body):
        return
    contents = {delta.text for delta in endpoint.deltas(body)}
    assert passed(endpoint, body, contents, words) == []
