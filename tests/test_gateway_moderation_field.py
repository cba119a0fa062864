"""The request field ``moderation``: scored or stopped at the client's wish, beside the policies."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import openai
import pytest
from gateway_kit import (
    Door,
    ScriptedUpstream,
    StartGateway,
    completion,
    word_classifiers,
    words,
)

from classifiers.types import MODERATION
from policies.schema import PolicyError
from proxy.policy_store import load_set

POLICY = """
rules:
  - {name: guard, when: {guard: attack}, do: {block: "No."}}
"""


def messages(text: str) -> list[Any]:
    return [{"role": "user", "content": text}]


def wish(**modes: str) -> dict[str, Any]:
    policy = {stage: {"mode": mode} for stage, mode in modes.items()}
    return {"model": "omni-moderation-latest", "policy": policy}


def ask(door: Door, text: str, moderation: Any, **more: Any) -> Any:
    return door.client().chat.completions.create(
        model="default", messages=messages(text), moderation=moderation, **more
    )


def test_both_sides_are_scored_and_the_field_stays_here(
    gateway: StartGateway, upstream: ScriptedUpstream
) -> None:
    upstream.script = completion("hateful words")
    reply = ask(gateway(POLICY), "I will kill you", wish(input="score", output="score"))
    assert reply.choices[0].message.content == "hateful words"  # scored, not stopped
    given, made = reply.moderation.input, reply.moderation.output
    assert given.type == made.type == "moderation_results"
    assert given.model == "doorman/safety@test"
    assert [name for name, on in given.results[0].categories.items() if on] == ["violence"]
    assert [name for name, on in made.results[0].categories.items() if on] == ["hate"]
    assert set(given.results[0].category_scores) == set(MODERATION)
    assert given.results[0].flagged
    assert given.results[0].category_scores["violence"] == 0.99
    assert "moderation" not in upstream.seen[0].json


def test_without_the_field_nothing_is_said(
    gateway: StartGateway, upstream: ScriptedUpstream
) -> None:
    upstream.script = completion("hateful words")
    reply = ask(gateway(POLICY), "I will kill you", None)
    assert reply.moderation is None
    assert reply.choices[0].message.content == "hateful words"


@pytest.mark.parametrize("stream", [False, True])
def test_input_is_blocked_where_that_is_asked(
    gateway: StartGateway, upstream: ScriptedUpstream, stream: bool
) -> None:
    door = gateway(POLICY)
    asked = wish(input="block")
    if stream:
        chunks = list(ask(door, "I will kill you", asked, stream=True))
        reasons = [c.finish_reason for chunk in chunks for c in chunk.choices]
        assert reasons[-1] == "content_filter"
        said = chunks[-1].moderation
    else:
        reply = ask(door, "I will kill you", asked)
        assert reply.choices[0].finish_reason == "content_filter"
        said = reply.moderation
    assert said.input.results[0].flagged
    assert said.output.type == "error"
    assert said.output.code == "not_generated"
    assert not upstream.seen


def test_the_operators_policy_stands_whatever_is_asked(
    gateway: StartGateway, upstream: ScriptedUpstream
) -> None:
    reply = ask(gateway(POLICY), "attack", wish(input="score", output="score"))
    assert reply.choices[0].message.content == "No."
    assert not upstream.seen


def test_a_stream_is_scored_in_a_chunk_before_its_end(
    gateway: StartGateway, upstream: ScriptedUpstream
) -> None:
    upstream.script = words("That is ", "hateful, ", "you know.")
    chunks = list(ask(gateway(POLICY), "fine", wish(output="score"), stream=True))
    text = "".join(c.delta.content or "" for chunk in chunks for c in chunk.choices)
    assert text == "That is hateful, you know."
    assert [bool(chunk.moderation) for chunk in chunks] == [False] * (len(chunks) - 1) + [True]
    last = chunks[-1]
    assert last.choices == []
    assert last.id == chunks[0].id
    assert not last.moderation.input.results[0].flagged
    assert last.moderation.output.results[0].categories["hate"] is True


@pytest.mark.parametrize("stream", [False, True])
def test_output_is_blocked_where_that_is_asked(
    gateway: StartGateway, upstream: ScriptedUpstream, stream: bool
) -> None:
    upstream.script = words("So ", "hateful!") if stream else completion("So hateful!")
    found = ask(gateway(POLICY), "fine", wish(output="block"), stream=stream)
    if stream:
        chunks = list(found)
        assert "hateful" not in "".join(c.delta.content or "" for x in chunks for c in x.choices)
        found = chunks[-1]
    else:
        assert "hateful" not in found.choices[0].message.content
    assert found.moderation.output.results[0].flagged


def test_responses(gateway: StartGateway, upstream: ScriptedUpstream) -> None:
    client = gateway(POLICY).client()
    asked: Any = wish(input="block")
    reply: Any = client.responses.create(model="default", input="I will kill you", moderation=asked)
    assert reply.moderation.input.categories["violence"] is True
    stream = client.responses.create(
        model="default", input="I will kill you", moderation=asked, stream=True
    )
    ends: list[Any] = [event for event in stream if event.type == "response.completed"]
    assert ends[0].response.moderation.input.flagged
    assert not upstream.seen


@pytest.mark.parametrize(
    ("value", "where"),
    [
        ("all", "`moderation`"),
        ({"policy": "block"}, "`moderation.policy`"),
        ({"policy": {"outputs": {"mode": "block"}}}, "`moderation.policy` may have"),
        ({"policy": {"input": {"mode": "stop"}}}, "`moderation.policy.input.mode`"),
    ],
)
def test_what_cannot_be_read_is_refused(
    shared_gateway: StartGateway, upstream: ScriptedUpstream, value: Any, where: str
) -> None:
    with pytest.raises(openai.BadRequestError, match=where.replace(".", r"\.")):
        ask(shared_gateway(POLICY), "fine", value)
    assert not upstream.seen


def test_names_that_cannot_be_told_apart_are_refused(tmp_path: Path) -> None:
    paths = []
    for number, name in enumerate(("mine", "moderation", "mine")):
        paths.append(tmp_path / f"{number}.yaml")
        paths[-1].write_text(f"name: {name}\n{POLICY}")
    known = {one.name: one for one in word_classifiers()}
    with pytest.raises(PolicyError) as caught:
        load_set(paths, known, lambda texts, names: [], ())
    assert str(caught.value).splitlines() == [
        "two policies are named 'mine'; rename one",
        "a policy is named 'moderation', as what the request field of that name becomes in records; "
        "rename it",
    ]
