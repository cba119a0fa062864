"""Tries, fallbacks, balancing and the breaker, through the whole gateway."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from faults_kit import KEY, SAYS, Place, either, error, events, good, good_stream, place, post, said
from gateway_kit import Door, free_port
from raw_server import LAST, STREAM, Step, head, piece, whole

from proxy.sse import encode

A, B = "gpt-4o", "gpt-4o-mini"
TWO = f"""
- {{model_name: a, litellm_params: {{model: openai/{A}, {{0}}}}}}
- {{model_name: b, litellm_params: {{model: openai/{B}, {{1}}}}}}
"""
HANGS = TWO.replace("{0}", "{0}, timeout: 0.3")
"""The first server hangs; only it is given up soon, so that no other answer can come too late."""
BACK = "router_settings: {fallbacks: [{a: [b]}]}"
ROUTE = "rules: [{name: r, when: {topic: cheap}, do: {route: b}}]"


@pytest.fixture
def two(tmp_path: Path) -> Iterator[Place]:
    with place(tmp_path, 2) as made:
        yield made


FIRST_EVENT = encode(
    {"choices": [{"index": 0, "delta": {"content": "Some"}, "finish_reason": None}]}
)
ERROR_EVENT = encode({"error": {"message": "overloaded", "type": "server_error", "code": None}})
FAILED_EVENT = encode({"type": "error", "error": {"type": "overloaded_error", "message": "no"}})
FAULTS: list[tuple[str, tuple[Step, ...], str | None]] = [
    # what the first server does, its outcome in the record; None: the fallback is not asked
    ("400", error(400), None),
    ("401", error(401), None),
    ("404", error(404), None),
    ("408", error(408), None),
    ("422", error(422), None),
    ("429", error(429), "429"),
    ("429 for long", error(429, retry_after="3600"), "429"),
    ("500", error(500), "500"),
    ("502 in HTML", (whole(b"<html>", 502, "text/html"),), "502"),
    ("529", error(529), "529"),
    ("hangs", ("gone",), "upstream_timeout"),
    ("closes", ("close",), "upstream_invalid_response"),
    ("resets", ("reset",), "upstream_invalid_response"),
    ("hangs after the head", (head(), "gone"), "upstream_timeout"),
    ("hangs after a stream's head", (STREAM, "gone"), "upstream_timeout"),
    ("an empty stream", (STREAM, LAST), "upstream_invalid_response"),
    ("a stream of an error", (STREAM, piece(ERROR_EVENT), LAST), "upstream_invalid_response"),
    ("a stream of a failure", (STREAM, piece(FAILED_EVENT), LAST), "upstream_invalid_response"),
    ("begins and breaks off", (head(length=99), b"{", "close"), None),
    ("begins a stream and breaks off", (STREAM, piece(FIRST_EVENT), "close"), None),
    ("too long", error(400, "context_length_exceeded"), None),
]
CASES = [
    (*row, streams)
    for row in FAULTS
    for streams in (False, True)
    if "stream" not in row[0] or streams
    if "head" not in row[0] or streams is ("stream" in row[0])
    if row[0] != "begins and breaks off" or not streams
]


@pytest.mark.parametrize(
    ("name", "script", "outcome", "streams"), CASES, ids=[f"{r[0]}-{r[3]}" for r in CASES]
)
def test_what_goes_on_to_the_fallback(
    two: Place, name: str, script: tuple[Step, ...], outcome: str | None, streams: bool
) -> None:
    two.servers[0].play(script)
    two.servers[1].play(either(streams))
    door = two.gateway(HANGS if "gone" in script else TWO, BACK)
    answer = post(door, stream=streams)
    record = door.records.next()
    assert len(two.servers[0].seen) == 1
    if outcome is None:
        assert two.servers[1].seen == []
        assert said_or_none(answer) != SAYS
        assert [(t.alias, t.model) for t in record.attempts] == [("a", A)]
        assert record.upstream_model == A
        return
    assert (answer.status_code, said(answer)) == (200, SAYS)
    tries = [(t.alias, t.model, t.outcome) for t in record.attempts]
    assert tries == [("a", A, outcome), ("b", B, "200")]
    assert (record.upstream_model, record.upstream_status, record.ended) == (B, 200, "complete")
    assert f'"model":"{B}"' in two.servers[1].seen[0].body.decode().replace(" ", "")
    assert two.servers[1].seen[0].headers["authorization"] == f"Bearer {KEY}"


def said_or_none(answer: httpx.Response) -> str | None:
    return said(answer) if answer.status_code == 200 else None


def test_nothing_is_tried_again_unless_it_is_asked_for(two: Place) -> None:
    two.servers[0].play(error(500), good())
    door = two.gateway(TWO)
    assert post(door).status_code == 500
    assert len(two.servers[0].seen) == 1


RETRIES = [
    # litellm_params, sections, tries
    ("", "litellm_settings: {num_retries: 2}", 3),
    ("", "router_settings: {num_retries: 1}\nlitellm_settings: {num_retries: 2}", 2),
    (", num_retries: 1", "litellm_settings: {num_retries: 2}", 2),
    (", num_retries: 0", "litellm_settings: {num_retries: 2}", 1),
    (", max_retries: 1", "", 2),
]


@pytest.mark.parametrize("streams", [False, True])
@pytest.mark.parametrize(("params", "sections", "tries"), RETRIES)
def test_retries(two: Place, params: str, sections: str, tries: int, streams: bool) -> None:
    two.servers[0].play(error(503))
    more = f"{sections}\nbreaker: {{failures: 100}}"
    door = two.gateway(TWO.replace("{0}", "{0}" + params), more)
    assert post(door, stream=streams).status_code == 503
    assert [t.outcome for t in door.records.next().attempts] == ["503"] * tries
    two.servers[0].play(*[error(503)] * (tries - 1), either(streams))
    assert said(post(door, stream=streams)) == SAYS
    record = door.records.next()
    assert [t.outcome for t in record.attempts] == ["503"] * (tries - 1) + ["200"]


@pytest.mark.parametrize(
    ("header", "tries"),
    [
        ({"retry_after": "0"}, 2),
        ({"retry_after_ms": "10"}, 2),
        ({"retry_after": "11"}, 1),
        ({"retry_after": "3600"}, 1),
        ({"retry_after": "Fri, 31 Dec 2100 23:59:59 GMT"}, 1),
        ({"retry_after": "soon"}, 2),
        ({"retry_after": "nan"}, 2),
    ],
)
def test_a_server_that_says_when_to_come_back(
    two: Place, header: dict[str, str], tries: int
) -> None:
    two.servers[0].play(error(429, **header))
    door = two.gateway(TWO, "router_settings: {num_retries: 1}")
    answer = post(door)
    assert answer.status_code == 429
    assert answer.json()["error"]["type"] == "rate_limit_error"
    assert {k.replace("-", "_"): v for k, v in answer.headers.items()}.items() >= header.items()
    assert len(two.servers[0].seen) == tries


def test_all_tries_together_have_one_time(two: Place) -> None:
    two.servers[0].play(("gone",))
    more = "timeouts: {first_byte: 0.5, total: 0.8}\nrouter_settings: {num_retries: 5}"
    door = two.gateway(TWO, more)
    for streams in (False, True):
        answer = post(door, stream=streams)
        assert (answer.status_code, answer.json()["error"]["code"]) == (504, "upstream_timeout")
        assert 1 <= len(door.records.next().attempts) <= 3


SPECIAL = [
    ("context_window_fallbacks", error(400, "context_length_exceeded")),
    ("context_window_fallbacks", error(400, None, "This model's maximum context length is 8192")),
    ("content_policy_fallbacks", error(400, "content_filter")),
    ("content_policy_fallbacks", error(400, "content_policy_violation")),
]


@pytest.mark.parametrize("streams", [False, True])
@pytest.mark.parametrize(("key", "script"), SPECIAL)
def test_fallbacks_for_a_reason(
    two: Place, key: str, script: tuple[Step, ...], streams: bool
) -> None:
    two.servers[0].play(script)
    two.servers[1].play(either(streams))
    section = "litellm_settings" if streams else "router_settings"
    door = two.gateway(TWO, f"{section}: {{num_retries: 3, {key}: [{{a: [b]}}]}}")
    assert said(post(door, stream=streams)) == SAYS
    assert [t.outcome for t in door.records.next().attempts] == ["400", "200"]
    two.servers[1].play(script)
    answer = post(door, stream=streams)
    assert answer.status_code == 400
    assert [t.alias for t in door.records.next().attempts] == ["a", "b"]


def test_the_last_of_all_is_what_the_client_gets(two: Place) -> None:
    two.servers[0].play(error(500))
    two.servers[1].play(error(429, retry_after="7"))
    answer = post(two.gateway(TWO, BACK))
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "7")


@pytest.mark.parametrize(
    "settings", ["{default_fallbacks: [b]}", "{fallbacks: [{'*': [b]}]}", "{fallbacks: [{a: [b]}]}"]
)
def test_ways_to_say_what_stands_in(two: Place, settings: str) -> None:
    two.servers[0].play(error(500))
    two.servers[1].play(good())
    door = two.gateway(TWO, f"litellm_settings: {settings}")
    assert said(post(door)) == SAYS
    two.servers[1].play(error(500))
    assert post(door, "b").status_code == 500


def test_a_routed_request_has_the_fallbacks_of_where_it_was_sent_and_saves_nothing(
    two: Place,
) -> None:
    two.servers[0].play(good())
    two.servers[1].play(error(500))
    door = two.gateway(TWO, "router_settings: {fallbacks: [{b: [a]}]}", ROUTE)
    cheap = [{"role": "user", "content": "cheap"}]
    assert post(door, messages=cheap).status_code == 200
    record = door.records.next()
    assert [(t.alias, t.outcome) for t in record.attempts] == [("b", "500"), ("a", "200")]
    assert (record.action, record.upstream_model) == ("route", A)
    assert record.saved_usd == pytest.approx(0)
    dear = record.cost_usd
    two.servers[1].play(good())
    assert post(door, messages=cheap).status_code == 200
    record = door.records.next()
    assert record.upstream_model == B
    assert record.cost_usd is not None
    assert dear is not None
    assert record.saved_usd == pytest.approx(dear - record.cost_usd)


def test_a_fallback_costs_what_it_costs_and_is_no_saving(two: Place) -> None:
    two.servers[0].play(error(500))
    two.servers[1].play(good())
    door = two.gateway(TWO, BACK)
    post(door)
    record = door.records.next()
    # 1000 and 100 tokens at gpt-4o-mini's price
    assert record.cost_usd == pytest.approx(0.00021)
    assert record.saved_usd is None


# -- balancing ------------------------------------------------------------------------------------


def group(*params: str) -> str:
    return "\n".join(
        f"- {{model_name: a, litellm_params: {{model: openai/m{i}, {{{i}}}{more}}}}}"
        for i, more in enumerate(params)
    )


@pytest.mark.parametrize(
    ("params", "counts"),
    [(("", ""), [6, 6]), ((", weight: 2", ", weight: 1"), [8, 4]), ((", order: 2", ", order: 1"), [0, 12])],
)  # fmt: skip
def test_entries_of_one_name_share_its_requests(
    two: Place, params: tuple[str, str], counts: list[int]
) -> None:
    for server in two.servers:
        server.play(good())
    door = two.gateway(group(*params))
    for _ in range(12):
        assert said(post(door)) == SAYS
    assert [len(server.seen) for server in two.servers] == counts
    assert httpx.get(f"{door.url}/v1/models").json()["data"][0]["id"] == "a"


def test_the_next_try_goes_to_another_entry(two: Place) -> None:
    two.servers[0].play(error(429, retry_after="3600"))
    two.servers[1].play(good())
    door = two.gateway(group("", ""), "router_settings: {num_retries: 1}")
    for _ in range(4):
        assert said(post(door)) == SAYS


# -- the breaker ----------------------------------------------------------------------------------


class Clock:
    def __init__(self, door: Door) -> None:
        self.now = 0.0
        for breaker in door.app.state.gateway.upstreams.breakers.values():
            breaker._clock = lambda: self.now


def is_open(door: Door) -> dict[str, float]:
    text = httpx.get(f"{door.url}/metrics").text
    found = re.findall(r'doorman_upstream_open\{model="([^"]+)"\} (\S+)', text)
    return {model: float(value) for model, value in found}


@pytest.mark.parametrize(
    "settings",
    ["breaker: {failures: 3}", "router_settings: {allowed_fails: 2, cooldown_time: 30}"],
)  # fmt: skip
def test_a_server_that_fails_is_left_alone_and_tried_again(two: Place, settings: str) -> None:
    server = two.servers[0]
    server.play(error(500))
    door = two.gateway(TWO, settings)
    clock = Clock(door)
    assert [post(door).status_code for _ in range(3)] == [500] * 3
    assert is_open(door) == {"a": 1.0, "b": 0.0}
    clock.now = 10
    answer = post(door)
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "upstream_unavailable")
    assert answer.headers["retry-after"] == "20"
    assert len(server.seen) == 3
    for _ in range(3):
        door.records.next()
    record = door.records.next()
    assert (record.ended, record.upstream_called, record.attempts) == (
        "upstream_unavailable",
        False,
        (),
    )
    assert httpx.get(f"{door.url}/ready").status_code == 200
    clock.now = 30
    assert post(door).status_code == 500
    assert post(door).status_code == 503
    assert len(server.seen) == 4
    server.play(good())
    clock.now = 60
    assert said(post(door)) == SAYS
    assert said(post(door)) == SAYS
    assert is_open(door)["a"] == 0.0


@pytest.mark.parametrize("streams", [False, True])
def test_while_one_is_left_alone_the_others_answer(two: Place, streams: bool) -> None:
    two.servers[0].play(error(503))
    two.servers[1].play(either(streams))
    door = two.gateway(TWO, BACK + "\nbreaker: {failures: 2}")
    for _ in range(5):
        assert said(post(door, stream=streams)) == SAYS
    assert len(two.servers[0].seen) == 2
    two.servers[1].play(either(streams))
    shared = two.gateway(group("", ""), "breaker: {failures: 1}")
    two.servers[0].play(error(503))
    codes = [post(shared, stream=streams).status_code for _ in range(8)]
    assert codes.count(503) == 1
    assert is_open(shared) == {"a#1": 1.0, "a#2": 0.0}


COUNTED: list[tuple[tuple[Step, ...], bool]] = [
    (error(400), False), (error(401), False), (error(404), False), (error(429), False),
    (error(500), True), (error(529), True), (("gone",), True), (("reset",), True),
]  # fmt: skip


@pytest.mark.parametrize(("script", "opens"), COUNTED)
def test_what_counts_as_a_failure(two: Place, script: tuple[Step, ...], opens: bool) -> None:
    two.servers[0].play(script)
    door = two.gateway(HANGS if "gone" in script else TWO, "breaker: {failures: 1}")
    post(door)
    assert is_open(door)["a"] == float(opens)


def test_a_server_that_is_not_there_opens_the_breaker(two: Place) -> None:
    models = f"- {{model_name: a, litellm_params: {{model: openai/m, api_base: 'http://127.0.0.1:{free_port()}'}}}}"
    door = two.gateway(models, "breaker: {failures: 1}")
    assert post(door).json()["error"]["code"] == "upstream_unreachable"
    assert post(door).json()["error"]["code"] == "upstream_unavailable"


def test_streams_that_break_off_again_and_again_open_the_breaker(two: Place) -> None:
    two.servers[0].play((STREAM, piece(FIRST_EVENT), "close"))
    door = two.gateway(TWO, "breaker: {failures: 2}")
    for _ in range(2):
        assert events(post(door, stream=True))[-1]["error"]["code"] == "upstream_invalid_response"
        assert door.records.next().attempts[0].outcome == "upstream_invalid_response"
    assert post(door, stream=True).status_code == 503


@pytest.mark.parametrize("streams", [False, True])
def test_a_fallback_is_not_blamed_for_the_time_that_the_first_one_took(
    two: Place, streams: bool
) -> None:
    for server in two.servers:
        server.play(("gone",))
    door = two.gateway(
        TWO,
        "timeouts: {first_byte: 1.5, total: 2}\nrouter_settings: {fallbacks: [{a: [b]}]}\n"
        "breaker: {failures: 1}",
    )
    answer = post(door, stream=streams)
    assert (answer.status_code, answer.json()["error"]["code"]) == (504, "upstream_timeout")
    assert is_open(door) == {"a": 1.0, "b": 0.0}


LATER_FAULTS = {
    "an error": encode({"error": {"message": "no", "type": "server_error"}}),
    "no JSON": b"data: {\n\n",
}


@pytest.mark.parametrize("last", LATER_FAULTS.values(), ids=LATER_FAULTS)
def test_a_fault_within_a_stream_counts(two: Place, last: bytes) -> None:
    two.servers[0].play((STREAM, piece(FIRST_EVENT), piece(last), LAST))
    door = two.gateway(TWO, "breaker: {failures: 1}")
    assert events(post(door, stream=True))[-1]["error"]["code"] == "upstream_invalid_response"
    assert door.records.next().attempts[0].outcome == "upstream_invalid_response"
    assert is_open(door)["a"] == 1.0


REQUESTS_OWN = [
    {"message": "no", "code": 400},
    {"message": "no", "type": "invalid_request_error"},
]


@pytest.mark.parametrize("told", REQUESTS_OWN)
def test_a_fault_of_the_request_does_not_count_when_a_stream_tells_it(
    two: Place, told: dict[str, object]
) -> None:
    two.servers[0].play((STREAM, piece(encode({"error": told})), LAST))
    two.servers[1].play(good_stream())
    door = two.gateway(TWO, "router_settings: {fallbacks: [{a: [b]}]}\nbreaker: {failures: 1}")
    assert post(door, stream=True).json()["error"]["code"] == "upstream_invalid_response"
    assert two.servers[1].seen == []
    assert is_open(door)["a"] == 0.0


def test_streams_that_end_well_close_it(two: Place) -> None:
    two.servers[0].play(error(500), good_stream(), error(500), good_stream())
    door = two.gateway(TWO, "breaker: {failures: 2}")
    assert [post(door, stream=True).status_code for _ in range(4)] == [500, 200, 500, 200]
    assert is_open(door)["a"] == 0.0


def test_a_client_that_leaves_is_no_failure_and_gives_back_its_try(two: Place) -> None:
    two.servers[0].play(error(500))
    door = two.gateway(TWO, "breaker: {failures: 1}")
    clock = Clock(door)
    post(door)
    clock.now = 100
    two.servers[0].play(("gone",))
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(
            f"{door.url}/v1/chat/completions",
            json={"model": "a", "messages": [{"role": "user", "content": "x"}]},
            timeout=0.5,
        )
    door.records.next()
    assert door.records.next().attempts[0].outcome == "client_left"
    two.servers[0].play(good())
    assert said(post(door)) == SAYS
