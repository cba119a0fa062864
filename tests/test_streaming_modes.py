"""``stream_check``: what each mode lets leave, and what the record says of it, through the real client."""

from __future__ import annotations

import asyncio

import pytest
from gateway_kit import ScriptedUpstream, StartGateway, chunk, completion, events, serve, words
from test_streaming import BLOCK, CONTEXT, Checker, Source, find, said
from test_streaming import chunk as encoded

from policies import schema
from policies.schema import PolicyError
from proxy.config import load
from proxy.endpoints import ENDPOINTS
from proxy.sse import DONE
from proxy.stream_pace import Pace
from proxy.streaming import StreamReport, guarded

CHAT = ENDPOINTS["/v1/chat/completions"]
RULES = """
rules:
  - {name: no-attacks, when: {guard: attack}, check: [output], do: {block: "Let's stop here."}}
"""
HIDE = """
rules:
  - {name: hide, when: {pii: EMAIL}, do: {redact: {restore: true}}}
"""
ASK = [{"role": "user", "content": "hello"}]


def read(client, **more):
    """Text, finish reason and headers of a stream."""
    options = {"model": "default", "messages": ASK, "stream": True, **more}
    reply = client.chat.completions.with_raw_response.create(**options)
    chunks = [c for c in reply.parse() if c.choices]
    text = "".join(c.choices[0].delta.content or "" for c in chunks)
    return text, chunks[-1].choices[0].finish_reason, reply.headers


@pytest.mark.parametrize("mode", ["hold", "after"])
def test_a_stream_is_cut_where_a_check_says_so(
    gateway: StartGateway, upstream: ScriptedUpstream, mode: str
) -> None:
    door = gateway(f"stream_check: {mode}{RULES}", "streaming: {first_chars: 10, hold_chars: 10}")
    head, tail = [f"fine word {n} " for n in range(20)], [f"more word {n} " for n in range(200)]
    slow = [item for word in tail for item in (chunk({"content": word}), 0.05)]
    upstream.script = events(
        *(chunk({"content": word}) for word in [*head, "then attack "]), *slow, chunk({}, 0, "stop")
    )
    text, finish, headers = read(door.client())
    assert finish == "content_filter"
    assert headers["x-doorman-stream-check"] == mode
    assert "more word 199" not in text  # long before its end
    assert ("attack" in text) == (mode == "after")
    record = door.records.next()
    assert (record.action, record.stream_check, record.unchecked) == ("block", mode, ())
    assert record.stages["output"]["outcome"] == "block"
    assert record.exposed_chars is not None
    assert record.exposed_chars <= len(text)
    metrics = door.client().with_options(base_url=door.url).get("/metrics", cast_to=str)
    assert "doorman_stream_exposed_chars_count 1.0" in metrics


def test_off_looks_at_no_stream_and_the_record_says_so(
    gateway: StartGateway, upstream: ScriptedUpstream
) -> None:
    door = gateway(f"stream_check: off{RULES}")
    upstream.script = words("an ", "attack ", "here")
    text, finish, headers = read(door.client())
    assert (text, finish) == ("an attack here", "stop")
    assert headers["x-doorman-stream-check"] == "off"
    record = door.records.next()
    assert (record.stream_check, record.unchecked) == ("off", ("test@1",))
    assert "output" not in record.stages
    # A plain reply is not a stream.
    door = gateway(f"stream_check: off{RULES}")
    upstream.script = completion("an attack here")
    reply = door.client().chat.completions.create(model="default", messages=ASK)
    assert reply.choices[0].finish_reason == "content_filter"
    assert door.records.next().stream_check is None


@pytest.mark.parametrize(
    ("modes", "expected", "unchecked"),
    [
        (("hold", "off"), "hold", ("b@1",)),
        (("after", "off"), "after", ("b@1",)),
        (("off", "after"), "after", ("a@1",)),
        (("after", "hold"), "hold", ()),
        (("off", "off"), "off", ("a@1", "b@1")),
    ],
)
def test_the_strictest_of_several_policies_wins(
    gateway: StartGateway, upstream: ScriptedUpstream, tmp_path, modes, expected, unchecked
) -> None:
    labels = {"a": "attack", "b": "secret"}
    for (name, label), mode in zip(labels.items(), modes, strict=True):
        rule = f"{{name: r, when: {{guard: {label}}}, check: [output], do: {{block: Stop.}}}}"
        policy = f"name: {name}\nstream_check: {mode}\nrules:\n  - {rule}\n"
        (tmp_path / f"{name}.yaml").write_text(policy)
    config = tmp_path / "both.yaml"
    config.write_text(
        "model_list: [{model_name: default, litellm_params: {model: openai/gpt-4o, api_key: sk-x, "
        f'api_base: "http://127.0.0.1:{upstream.port}/v1"}}}}]\n'
        "policies: [a.yaml, b.yaml]\nwatch_policies: false\n"
    )
    with serve(load(config)) as door:
        for (name, label), mode in zip(labels.items(), modes, strict=True):
            upstream.script = words("the ", f"{label} ", "word")
            text, finish, headers = read(door.client())
            assert headers["x-doorman-stream-check"] == expected
            assert finish == ("stop" if mode == "off" else "content_filter")
            if expected == "hold" and mode != "off":
                assert label not in text
            record = door.records.next()
            assert (record.stream_check, record.unchecked) == (expected, unchecked), name


@pytest.mark.parametrize("mode", ["hold", "after", "off"])
def test_originals_are_put_back_in_every_mode(
    gateway: StartGateway, upstream: ScriptedUpstream, mode: str
) -> None:
    rule = RULES.removeprefix("\nrules:\n")
    door = gateway(f"stream_check: {mode}{HIDE}{rule}")
    upstream.script = words("I wrote to <EM", "AIL", "_1> and ", "to <EMAIL_1", ">.")
    asked = [{"role": "user", "content": "write to jane@example.com"}]
    text, finish, _ = read(door.client(), messages=asked)
    assert b"jane" not in upstream.seen[-1].raw
    assert (text, finish) == ("I wrote to jane@example.com and to jane@example.com.", "stop")


@pytest.mark.parametrize("mode", ["after", "off"])
def test_what_is_not_held_cannot_be_redacted(mode: str) -> None:
    policy = f"name: p\nstream_check: {mode}\n" + HIDE.replace("do:", "check: output, do:").lstrip()
    with pytest.raises(PolicyError, match=r"policy:4: .*cannot redact output.*stream_check: hold"):
        schema.loads(policy)
    assert schema.loads(policy.replace("check: output, ", "")).stream_check == mode
    with pytest.raises(PolicyError, match="is none of the values of stream_check"):
        schema.loads(policy.replace(f"stream_check: {mode}", "stream_check: later"))


# -- after, step by step --------------------------------------------------------------------------


def after(script, check, report=None, **shape):
    """Pieces of a stream that is checked while it goes, with how many events were read by then."""
    source, seen = Source(script), []

    async def consume():
        pace = Pace(**{"hold_chars": 20, "overlap_chars": 20, "mode": "after"} | shape)
        stream = guarded(source.__aiter__(), CHAT, check, CONTEXT, pace, report=report)
        seen.extend([(source.read, piece) async for piece in stream])

    asyncio.run(consume())
    assert source.closed
    return seen


def test_text_leaves_at_once_and_its_end_waits_for_the_verdict():
    release = asyncio.Event()

    async def check(texts):
        await release.wait()
        return BLOCK

    async def end():
        release.set()

    class Late(Source):
        async def __aiter__(self):
            async for event in super().__aiter__():
                yield event
            await end()

    wire = [*said(["word " * 6]), *said(["more "]), chunk_end(), DONE]
    source, seen, report = Late(wire), [], StreamReport()

    async def consume():
        stream = guarded(
            source.__aiter__(), CHAT, check, CONTEXT, Pace(20, 20, mode="after"), report=report
        )
        async for piece in stream:
            seen.append(piece)
            if len(seen) == 2:
                release.set()  # nothing else would ever end the check

    asyncio.run(consume())
    assert b"word" in seen[0]
    assert b"more" in seen[1]
    assert b'"stop"' not in b"".join(seen)
    assert b"content_filter" in seen[-1]
    assert (report.ended, report.exposed_chars) == ("blocked", 35)


def chunk_end():
    return encoded({}, 0, "stop")


def test_a_stream_waits_for_a_check_that_is_too_far_behind():
    report = StreamReport()

    async def check(texts):
        for _ in range(50):
            await asyncio.sleep(0)
        await asyncio.sleep(0.05)
        return find("forbidden")(texts)

    wire = [*said(["forbidden "]), *said(["word " * 20] * 500), chunk_end(), DONE]
    after(wire, check, report)
    assert report.ended == "blocked"
    assert report.exposed_chars < 3_000


def test_a_failing_check_ends_the_stream_with_an_error():
    def boom(texts):
        raise KeyError("user text")

    report = StreamReport()
    seen = after(
        [*said(["word " * 10]), 0.05, *said(["more"]), chunk_end(), DONE], Checker(boom), report
    )
    wire = b"".join(piece for _, piece in seen)
    assert report.ended == "check_failed"
    assert b"[DONE]" not in wire
    assert b"user text" not in wire
    assert b'"error"' in wire


def test_every_character_is_seen_by_some_check():
    check = Checker()
    text = [f"w{i:03} " for i in range(200)]
    seen = after([*said(text), chunk_end(), DONE], check, whole_chars=0)
    assert b"".join(piece for _, piece in seen) == b"".join([*said(text), chunk_end(), DONE])
    shown = " ".join(t.content for texts in check.seen for t in texts)
    assert all(word.strip() in shown for word in text)
