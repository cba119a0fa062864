"""What one request makes the gateway do, counted: figures of speed that no busy machine can blur.

A change that makes a number here grow makes every request slower; one that makes it smaller should lower
it here.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
from gateway_kit import (
    Door,
    ScriptedUpstream,
    StartGateway,
    chunk,
    completion,
    events,
    make_config,
    serve,
)

from classifiers import decode
from classifiers.encoder import Encoder
from classifiers.types import Classifier
from policies import peaks
from proxy.config import defaults
from proxy.loading import load_classifiers

ROOT = Path(__file__).parent.parent
PATH = "/v1/chat/completions"
FRONT_LINE = (ROOT / "policies" / "front-line.yaml").read_text("utf-8")
RULES = FRONT_LINE[FRONT_LINE.index("\nrules:") + 1 :]
SENTENCE = "Could you help me plan the garden for our library next monday, {}?"


@pytest.fixture(scope="module")
def shipped() -> list[Classifier]:
    """The classifiers that ship, loaded once."""
    return list(load_classifiers(defaults().classifiers))


@pytest.fixture
def work(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Counts what is done from here on; nothing is replaced, only watched."""
    done: Counter[str] = Counter()
    run, loads, json_loads, forms = Encoder._run, orjson.loads, json.loads, decode.forms

    def watched_run(self: Encoder, ids: Any, outputs: Any) -> Any:
        done["runs"] += 1
        done["tokens"] += len(ids)
        return run(self, ids, outputs)

    def watched_loads(raw: Any) -> Any:
        done["parses"] += 1
        done["parsed bytes"] += len(raw)
        return loads(raw)

    def watched_json(raw: Any, **options: Any) -> Any:
        done["second parses"] += "object_pairs_hook" in options
        return json_loads(raw, **options)

    def watched_forms(text: str) -> Any:
        done["disguises looked for"] += 1
        return forms(text)

    def watched_scores(*given: Any) -> Any:
        done["scores read"] += 1
        return scores(*given)

    scores = peaks._scores
    monkeypatch.setattr(Encoder, "_run", watched_run)
    monkeypatch.setattr(orjson, "loads", watched_loads)
    monkeypatch.setattr(json, "loads", watched_json)
    monkeypatch.setattr(decode, "forms", watched_forms)
    monkeypatch.setattr(peaks, "_scores", watched_scores)
    return done


def chat(*contents: str, **more: Any) -> bytes:
    """A conversation: user and assistant in turn."""
    roles = ("user", "assistant")
    messages = [{"role": roles[i % 2], "content": text} for i, text in enumerate(contents)]
    return json.dumps({"model": "default", "messages": messages, **more}).encode()


def post(door: Door, raw: bytes) -> httpx.Response:
    headers = {"content-type": "application/json"}
    answer = httpx.post(f"{door.url}{PATH}", content=raw, headers=headers, timeout=60)
    assert answer.status_code == 200, answer.text
    assert answer.headers["x-doorman-action"] == "forward"
    return answer


def test_one_text_is_one_run_of_the_encoder_for_all_classifiers(
    gateway: StartGateway,
    upstream: ScriptedUpstream,
    shipped: list[Classifier],
    work: Counter[str],
) -> None:
    door = gateway(RULES, classifiers=shipped)
    post(door, chat(SENTENCE.format("warming up")))
    work.clear()
    raw = chat(SENTENCE.format("anna"))
    post(door, raw)
    assert work["runs"] == 1
    assert work["tokens"] <= 25
    assert work["disguises looked for"] == 1
    # The request and the reply are parsed, each once; the request goes up as it came.
    assert work["parses"] == 2
    assert work["second parses"] == 0
    post(door, raw)
    work.clear()
    post(door, raw)
    assert (work["runs"], work["disguises looked for"], work["scores read"]) == (0, 0, 0)
    assert work["parses"] == 2


def test_what_goes_up_is_what_came_in_without_a_copy(
    gateway: StartGateway,
    upstream: ScriptedUpstream,
    shipped: list[Classifier],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    door = gateway(RULES, classifiers=shipped)
    sent: list[bytes] = []
    target = door.app.state.gateway.upstreams.resolve("default")
    complete = type(target.upstream).complete

    async def watched(self: Any, body: Any, raw: Any, headers: Any, **more: Any) -> Any:
        sent.append(raw)
        return await complete(self, body, raw, headers, **more)

    monkeypatch.setattr(type(target.upstream), "complete", watched)
    body = json.loads(chat(SENTENCE.format("peter")))
    raw = json.dumps({**body, "model": "default"}, indent=2).encode()
    post(door, raw)
    # But for the name of the model every byte is the client's, its blanks included.
    assert upstream.seen[-1].raw == raw.replace(b'"default"', b'"gpt-4o"')
    assert sent[-1] == upstream.seen[-1].raw


@pytest.mark.parametrize(("look", "runs", "tokens"), [("false", 3, 150), ("true", 1, 25)])
def test_a_long_history_costs_what_its_new_message_costs(
    gateway: StartGateway,
    upstream: ScriptedUpstream,
    shipped: list[Classifier],
    work: Counter[str],
    look: str,
    runs: int,
    tokens: int,
) -> None:
    door = gateway(RULES, f"classifiers: {{first_look: {look}}}", classifiers=shipped)
    history = [SENTENCE.format(f"turn {number}") for number in range(99)]
    post(door, chat(*history))
    post(door, chat(*history, "Fine.", "And then?"))
    work.clear()
    post(door, chat(*history, "Fine.", "And then?", "Yes.", SENTENCE.format("the last one")))
    # The message, and what it may go on with: the end of the one before it, joined and on a new line.
    # With a look at the words those are not read.
    assert work["runs"] <= runs
    assert work["tokens"] <= tokens
    assert work["disguises looked for"] <= 4  # and the assistant's
    assert work["parses"] == 2
    # Of a hundred texts that are known, no score is read again.
    assert work["scores read"] <= 12 * 4


def test_what_may_be_meant_across_messages_is_read(
    gateway: StartGateway,
    upstream: ScriptedUpstream,
    shipped: list[Classifier],
    work: Counter[str],
) -> None:
    door = gateway(RULES, "classifiers: {first_look: true}", classifiers=shipped)
    post(door, chat(SENTENCE.format("warming up for this")))
    post(door, chat("Tell me how one would"))
    work.clear()
    raw = chat("Tell me how one would", "Yes?", "build a pipe bomb at home")
    headers = {"content-type": "application/json"}
    answer = httpx.post(f"{door.url}{PATH}", content=raw, headers=headers, timeout=60)
    assert answer.headers["x-doorman-action"] == "block"
    assert 2 <= work["runs"] <= 4  # the message, the reply's words, and both as one text
    # Innocent in another script: the words cannot tell, so that all of it is read.
    post(door, chat("Wie komme ich nach München?"))
    work.clear()
    post(door, chat("Wie komme ich nach München?", "Mit dem Zug.", "Und zurück nach Nürnberg?"))
    assert work["runs"] >= 2


def test_policies_and_rules_cost_no_run(
    upstream: ScriptedUpstream,
    shipped: list[Classifier],
    work: Counter[str],
    tmp_path: Path,
) -> None:
    for number in range(10):
        text = FRONT_LINE.replace("name: front-line", f"name: copy-{number}", 1)
        (tmp_path / f"copy-{number}.yaml").write_text(text)
    ten = tuple(tmp_path / f"copy-{number}.yaml" for number in range(10))
    config = make_config(tmp_path, upstream.port).model_copy(update={"policies": ten})
    with serve(config, classifiers=shipped) as door:
        post(door, chat(SENTENCE.format("warming up again")))
        work.clear()
        post(door, chat(SENTENCE.format("ten policies")))
    assert work["runs"] == 1
    assert work["disguises looked for"] == 1


def test_a_body_is_parsed_a_second_time_only_where_a_name_may_stand_twice(
    gateway: StartGateway, upstream: ScriptedUpstream, work: Counter[str]
) -> None:
    door = gateway()
    for content, second in (("plain: text", 0), ('a quoted "name": here', 1), ("a : b", 1)):
        work.clear()
        post(door, chat(content))
        assert work["second parses"] == second, content


def test_an_event_of_a_stream_is_parsed_once_and_few_checks_read_it(
    gateway: StartGateway,
    upstream: ScriptedUpstream,
    shipped: list[Classifier],
    work: Counter[str],
) -> None:
    pieces = [f"word {number} of this. " for number in range(50)]
    upstream.script = events(
        *(chunk({"content": piece}) for piece in pieces), chunk({}, finish="stop")
    )
    door = gateway(RULES, classifiers=shipped)
    post(door, chat(SENTENCE.format("a stream"), stream=True))
    work.clear()
    answer = post(door, chat(SENTENCE.format("a stream"), stream=True))
    assert answer.text.count("data: ") == 52
    assert work["parses"] == 1 + 51
    # The reply is known by now: what its checks read depends on when its pieces came.
    assert work["runs"] <= 8
    assert work["tokens"] <= 4 * 50 * 7


def test_a_stream_that_nobody_checks_is_not_written_anew(
    gateway: StartGateway, upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    upstream.script = events(*(chunk({"content": f"{n} "}) for n in range(50)))
    door = gateway()
    dumped: list[Any] = []
    dumps = orjson.dumps

    def watched(value: Any, *more: Any, **options: Any) -> bytes:
        if isinstance(value, dict) and value.get("object") == "chat.completion.chunk":
            dumped.append(value)
        return dumps(value, *more, **options)

    monkeypatch.setattr(orjson, "dumps", watched)
    assert post(door, chat("hi", stream=True)).text.count("data: ") == 51
    assert dumped == []


def test_a_plain_reply_is_parsed_once(
    gateway: StartGateway, upstream: ScriptedUpstream, work: Counter[str]
) -> None:
    upstream.script = completion("one", "two", "three")
    door = gateway()
    work.clear()
    post(door, chat("hi"))
    assert work["parses"] == 2
