"""The streaming guard: nothing unchecked leaves, nothing else is changed, every end is told."""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import json
import re
from collections.abc import AsyncIterator, Sequence

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from classifiers.engine import Overloaded
from classifiers.types import Text
from policies.decision import Cause, Decision, Redaction, Reply
from proxy.endpoints import ENDPOINTS
from proxy.endpoints.base import ReplyContext, Usage
from proxy.errors import Unavailable, UpstreamError
from proxy.sse import DONE, Event, Parser, encode
from proxy.stream_pace import Pace
from proxy.streaming import StreamReport, guarded

CHAT = ENDPOINTS["/v1/chat/completions"]
CONTEXT = ReplyContext("chatcmpl-here", "m", 1)
REPLY = Reply("Let's stop here.", "content_filter")
BLOCK = Decision("output", "block", reply=REPLY)
ALLOW = Decision("output")
FAST = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def chunk(delta, index=0, finish=None):
    choice = {"index": index, "delta": delta, "finish_reason": finish}
    return encode({"id": "c", "object": "chat.completion.chunk", "choices": [choice]})


def said(pieces, index=0, key="content"):
    return [chunk({key: piece}, index) for piece in pieces]


def parsed(wire: Sequence[bytes]) -> list[Event]:
    parser = Parser()
    return [event for piece in wire for event in parser.feed(piece)] + parser.close()


class Source:
    """Events of an upstream: bytes, seconds to wait, or exceptions to raise."""

    def __init__(self, script):
        self.script = script
        self.closed = False
        self.read = 0

    async def __aiter__(self) -> AsyncIterator[Event]:
        try:
            for item in self.script:
                if isinstance(item, Exception):
                    raise item
                if isinstance(item, float):
                    await asyncio.sleep(item)
                    continue
                for event in parsed([item]):
                    self.read += 1
                    yield event
        finally:
            self.closed = True


class Checker:
    """A check that keeps what it was shown."""

    def __init__(self, decide=lambda texts: ALLOW):
        self.decide = decide
        self.seen: list[list[Text]] = []

    async def __call__(self, texts: Sequence[Text]) -> Decision:
        self.seen.append(list(texts))
        decision = self.decide(texts)
        if isinstance(decision, Exception):
            raise decision
        return decision


PACE = {field.name for field in dataclasses.fields(Pace)}


def each(piece: bytes) -> list[bytes]:
    """The events of a piece: what leaves together is sent together."""
    return re.findall(rb".*?(?>\r\n|\n|\r){2}|.+", piece, re.DOTALL)


def run(
    script, check=None, *, context=CONTEXT, report=None, hold_chars=20, overlap_chars=20, **options
):
    """Guard a script; returns the bytes that came out."""
    source = Source(script)
    out: list[bytes] = []
    shape = {"hold_chars": hold_chars, "overlap_chars": overlap_chars, "tail_chars": 16}
    shape |= {"whole_chars": 40, "hold_seconds": 60.0}

    async def consume():
        stream = guarded(
            source.__aiter__(),
            CHAT,
            check or Checker(),
            context,
            Pace(**shape | {key: options[key] for key in options if key in PACE}),
            report=report,
            **{key: options[key] for key in options if key not in PACE},
        )
        async for piece in stream:
            out.extend(each(piece))  # what came before an exception counts

    try:
        asyncio.run(consume())
    finally:
        assert source.closed
    return out


def joined(wire) -> dict[tuple, str]:
    """What a client reads, per channel."""
    channels: dict[tuple, str] = {}
    for event in parsed(wire):
        for delta in CHAT.deltas(event.json or {}):
            channels[delta.channel] = channels.get(delta.channel, "") + delta.text
    return channels


def reasons(wire) -> dict[int, str]:
    return {
        choice["index"]: choice["finish_reason"]
        for event in parsed(wire)
        for choice in (event.json or {}).get("choices", ())
        if choice.get("finish_reason")
    }


def find(word):
    """A decision that blocks on a word."""
    return lambda texts: BLOCK if any(word in text.content for text in texts) else ALLOW


def redact(pattern, *, label="X", placeholder="<X>", restore=False):
    """A decision that redacts what a pattern finds, numbered within its texts like policies do."""

    def decide(texts):
        names: dict[str, str] = {}
        redactions = []
        for number, text in enumerate(texts):
            for match in re.finditer(pattern, text.content):
                name = names.setdefault(
                    match.group(), placeholder.replace("{n}", str(len(names) + 1))
                )
                redactions.append(Redaction(number, *match.span(), name, label, restore))
        return Decision(
            "output", "redact" if redactions else "forward", redactions=tuple(redactions)
        )

    return decide


# -- properties -----------------------------------------------------------------------------------

WORDS = st.lists(
    st.sampled_from(
        ["a", "bcd", " ", " ", "\n", "forbidden", "forbid", "den", "é", "😀", "x" * 30]
    ),
    max_size=40,
).map("".join)
SIZES = st.lists(st.integers(1, 12), min_size=1, max_size=60)


def split(text: str, sizes: list[int]) -> list[str]:
    pieces, at, i = [], 0, 0
    while at < len(text):
        size = sizes[i % len(sizes)]
        pieces.append(text[at : at + size])
        at, i = at + size, i + 1
    return pieces


@st.composite
def streams(draw, *, texts=WORDS, channels=None, interleave=True):
    """Events of some channels with their finish, and the text of each."""
    keys = channels or draw(
        st.sampled_from(
            [
                [(0, "content")],
                [(0, "content"), (1, "content")],
                [(0, "reasoning_content"), (0, "content")],
                [(0, "content"), (1, "refusal"), (2, "content")],
            ]
        )
    )
    told = {key: draw(texts) for key in keys}
    queues = {key: said(split(text, draw(SIZES)), *key) for key, text in told.items()}
    wire = [
        chunk({"role": "assistant", "content": ""}, index) for index in {key[0] for key in keys}
    ]
    while any(queues.values()):
        waiting = [key for key in keys if queues[key]]
        key = draw(st.sampled_from(waiting)) if interleave else waiting[0]
        wire.append(queues[key].pop(0))
        if draw(st.integers(0, 9)) == 0:
            wire.append(draw(st.sampled_from([b": keep-alive\n\n", b"\n"])))
    wire += [chunk({}, index, "stop") for index in sorted({key[0] for key in keys})]
    usage = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}
    wire += [encode({"choices": [], "usage": usage}), DONE]
    return wire, told


OPTIONS = st.fixed_dictionaries(
    {
        "hold_chars": st.integers(1, 60),
        "overlap_chars": st.integers(0, 60),
        "tail_chars": st.integers(0, 40),
        "whole_chars": st.sampled_from([0, 50, 10_000]),
        "patience": st.integers(1, 3),
    }
)


@FAST
@given(streams(), OPTIONS)
def test_an_allowed_stream_leaves_byte_for_byte(stream, options):
    wire, told = stream
    report = StreamReport()
    check = Checker()
    assert b"".join(run(wire, check, report=report, **options)) == b"".join(wire)
    chars = sum(map(len, told.values()))
    assert (report.ended, report.text_chars, report.exposed_chars) == ("done", chars, chars)
    assert report.usage == Usage(1, 2)
    assert report.checks == len(check.seen)
    # Every character was shown to the check.
    assert sum(len(text.content) for texts in check.seen for text in texts) >= chars


@FAST
@given(streams(), OPTIONS)
def test_a_forbidden_word_never_leaves_however_it_is_split(stream, options):
    wire, told = stream
    report = StreamReport()
    context = ReplyContext("chatcmpl-here", "m", 1, choices=1 + max(key[0] for key in told))
    options["overlap_chars"] = max(options["overlap_chars"], len("forbidden"))
    out = run(wire, Checker(find("forbidden")), report=report, context=context, **options)
    bad = any("forbidden" in text for text in told.values())
    assert report.ended == ("blocked" if bad else "done")
    channels = joined(out)
    assert not any("forbidden" in text for text in channels.values())
    if bad:
        assert out[-1] == DONE
        assert set(reasons(out).values()) <= {"content_filter", "stop"}
        assert len(reasons(out)) == context.choices
        for key, text in channels.items():
            shown = text.removesuffix(REPLY.content)
            assert told.get(key, "").startswith(shown)


SECRETS = st.lists(
    st.sampled_from(["secret7", "secret88", "7", " ", "\n", "sec", "words", "ret", "y" * 30]),
    max_size=40,
).map("".join)
PATTERN = r"secret\d{1,3}(?!\d)"


@FAST
@given(
    streams(texts=SECRETS, channels=[(0, "content"), (1, "content")]),
    st.integers(1, 60),
    st.sampled_from([0, 50, 10_000]),
)
def test_redaction_is_that_of_the_whole_text(stream, hold_chars, whole_chars):
    wire, told = stream
    report = StreamReport()
    out = run(
        wire, Checker(redact(PATTERN)), report=report,
        hold_chars=hold_chars, overlap_chars=20, tail_chars=12, whole_chars=whole_chars, patience=1000,
    )  # fmt: skip
    expected = {key: re.sub(PATTERN, "<X>", text) for key, text in told.items() if text}
    assert joined(out) == expected
    assert report.exposed_chars == sum(map(len, expected.values()))
    found = sum(len(re.findall(PATTERN, text)) for text in told.values())
    assert len(report.decision.redactions if report.decision else ()) == found


@FAST
@given(
    streams(texts=SECRETS, channels=[(0, "reasoning_content"), (0, "content")], interleave=False),
    st.integers(1, 60),
)
def test_placeholders_are_numbered_over_the_whole_stream(stream, hold_chars):
    wire, told = stream
    out = run(
        wire, Checker(redact(PATTERN, placeholder="<X_{n}>")), hold_chars=hold_chars, tail_chars=12
    )
    names: dict[str, str] = {}
    whole = "\0".join(told.values())
    for value in re.findall(PATTERN, whole):
        names.setdefault(value, f"<X_{len(names) + 1}>")
    got = "\0".join(joined(out).get(key, "") for key in told)
    assert got == re.sub(PATTERN, lambda match: names[match.group()], whole)


ORIGINALS = {"<E_1>": "a@b.c", "<E_12>": 'say "hi"\n', "[P]": ""}
TEMPLATES = st.lists(
    st.sampled_from([*ORIGINALS, "<E_", "1", "2>", "<", ">", "[", "P]", " ", "word", "z" * 20]),
    max_size=40,
).map("".join)


def restored(text, values):
    if "".join(text.split())[:2] in ('{"', '["', "[{", "[["):  # a document: one string stays one
        values = {key: json.dumps(value)[1:-1] for key, value in values.items()}
    return re.sub(r"<E_12>|<E_1>|\[P\]", lambda match: values[match.group()], text)


@FAST
@given(
    streams(texts=TEMPLATES, channels=[(0, "content"), (1, "content")]),
    st.integers(1, 60),
    st.integers(0, 20),
)
def test_restoration_is_that_of_the_whole_text_and_unseen_by_the_check(
    stream, hold_chars, tail_chars
):
    wire, told = stream
    check = Checker(find("a@b.c"))
    out = run(
        wire,
        check,
        hold_chars=hold_chars,
        tail_chars=tail_chars,
        restorations=ORIGINALS,
        patience=1000,
    )
    expected = {key: restored(text, ORIGINALS) for key, text in told.items()}
    assert joined(out) == {key: text for key, text in expected.items() if text}


# -- redaction and restoration, by hand -----------------------------------------------------------


def test_an_original_in_the_arguments_of_a_tool_call_stays_one_string():
    def call(piece):
        return chunk({"tool_calls": [{"index": 0, "function": {"arguments": piece}}]})

    wire = [*map(call, ['{"to": "<E', "_12", '>", "x": 1}']), chunk({}, 0, "tool_calls"), DONE]
    out = run(wire, restorations=ORIGINALS)
    (arguments,) = joined(out).values()
    assert json.loads(arguments) == {"to": 'say "hi"\n', "x": 1}


def test_in_a_reply_that_is_a_document_an_original_stays_one_string():
    wire = [*said([' {"to": "<E', "_12", '>", "x": 1}']), chunk({}, 0, "stop"), DONE]
    out = run(wire, restorations=ORIGINALS)
    (document,) = joined(out).values()
    assert json.loads(document) == {"to": 'say "hi"\n', "x": 1}


def test_a_redaction_over_a_placeholder_wins():
    wire = [*said(["mail <E_1> now"]), chunk({}, 0, "stop"), DONE]
    out = run(wire, Checker(redact(r"mail <E_1>")), restorations=ORIGINALS)
    assert joined(out) == {(0, "content"): "<X> now"}


def test_unchanged_events_keep_their_bytes_and_rewritten_ones_lose_their_log_probabilities():
    def event(text, **more):
        choice = {
            "index": 0,
            "delta": {"content": text},
            "logprobs": {"content": [{"token": text}]},
        }
        return b'data:  {"choices" : [' + json.dumps(choice).encode() + b'], "x": 1.0}\r\n\r\n'

    wire = [event("so "), event("sec"), event("ret7"), event(" it is"), chunk({}, 0, "stop"), DONE]
    out = run(wire, Checker(redact(PATTERN)))
    assert (out[0], out[3:]) == (wire[0], wire[3:])
    assert joined(out) == {(0, "content"): "so <X> it is"}
    assert b"sec" not in b"".join(out)


def test_a_placeholder_never_takes_the_name_of_a_restoration():
    wire = [*said(["secret7"]), chunk({}, 0, "stop"), DONE]
    out = run(wire, Checker(redact(PATTERN, placeholder="<E_{n}>")), restorations=ORIGINALS)
    assert joined(out) == {(0, "content"): "<E_2>"}


def test_a_find_longer_than_the_tail_is_redacted_from_where_it_is_known():
    value = "secret" + "7" * 100
    wire = [*said(["see " * 10, *split(value, [7]), " ok"]), chunk({}, 0, "stop"), DONE]
    out = run(wire, Checker(redact(r"secret7+")), hold_chars=10, tail_chars=8, overlap_chars=8)
    assert joined(out) == {(0, "content"): "see " * 10 + "<X> ok"}


def test_a_find_that_shows_late_is_redacted_as_far_as_it_is_still_here():
    value = "7" * 60
    wire = [*said(split(value, [5])), *said([" ok"]), chunk({}, 0, "stop"), DONE]
    out = run(wire, Checker(redact(r"7{60}")), hold_chars=10, tail_chars=8, overlap_chars=60)
    text = joined(out)[0, "content"]
    assert re.fullmatch(r"7{1,59}<X> ok", text)


def test_repeated_citations_are_checked_once_and_redacted_each_time():
    def event(text, index):
        choice = {
            "index": 0,
            "delta": {"content": text},
            "finish_reason": (index == 3 and "stop") or None,
        }
        return encode({"choices": [choice], "citations": ["https://secret7.example/page"]})

    check = Checker(redact(PATTERN))
    out = run([event(f"word{i} ", i) for i in range(4)] + [DONE], check)
    shown = [text.content for texts in check.seen for text in texts if "https" in text.content]
    assert shown == ["https://secret7.example/page"]
    citations = [event.json["citations"] for event in parsed(out) if event.json]
    assert citations == [["https://<X>.example/page"]] * 4


# -- when checks happen ---------------------------------------------------------------------------


def arrivals(script, **options):
    """Pieces as a client gets them, None where the source was still being read."""
    source = Source(script)
    seen = []
    shape = {"hold_chars": 20, "overlap_chars": 20, "tail_chars": 4, "hold_seconds": 60.0}

    async def consume():
        async for piece in guarded(
            source.__aiter__(), CHAT, options.pop("check", Checker()), CONTEXT, Pace(**shape | options)
        ):  # fmt: skip
            seen.extend((source.read, event) for event in each(piece))

    asyncio.run(consume())
    return seen


def test_text_leaves_when_enough_of_it_has_come():
    wire = [*said(["word "] * 12), chunk({}, 0, "stop"), DONE]
    seen = arrivals(wire)
    assert b"".join(piece for _, piece in seen) == b"".join(wire)
    first = seen[0][0]
    assert first == 4  # 20 characters
    assert len({read for read, _ in seen}) > 2


def test_events_without_text_do_not_wait():
    wire = [
        b": ping\n\n",
        chunk({"role": "assistant", "content": ""}),
        *said(["hi"]),
        chunk({}, 0, "stop"),
        DONE,
    ]
    assert [read for read, _ in arrivals(wire)] == [1, 2, 4, 4, 5]


def test_text_does_not_wait_for_more_than_hold_seconds():
    wire = [*said(["hello wide world "]), 0.2, *said(["bye"]), chunk({}, 0, "stop"), DONE]
    (first, _), *_ = arrivals(wire, hold_seconds=0.02, tail_chars=0)
    assert first == 1


def test_a_channel_that_is_over_does_not_hold_up_the_next_one():
    reasoning = said(["hm "], key="reasoning_content")
    content = said(["word "] * 30)
    seen = arrivals([*reasoning, *content, chunk({}, 0, "stop"), DONE])
    assert seen[0][0] < 8
    assert len({read for read, _ in seen}) > 5


def test_a_silent_choice_does_not_hold_up_the_other_one():
    wire = [
        *said(["hm "], index=1),
        *said(["word "] * 40),
        chunk({}, 0, "stop"),
        chunk({}, 1, "stop"),
        DONE,
    ]
    seen = arrivals(wire, patience=2)
    assert seen[0][0] <= 13  # three checks of 20 characters


def test_short_texts_are_checked_in_full_and_long_ones_with_their_overlap():
    check = Checker()
    text = "".join(f"w{i:03} " for i in range(60))
    wire = [*said(split(text, [5])), chunk({}, 0, "stop"), DONE]
    run(wire, check, hold_chars=20, overlap_chars=30, tail_chars=10, whole_chars=80)
    windows = [texts[0].content for texts in check.seen]
    assert [w for w in windows if len(w) <= 80][:4] == [text[:20], text[:40], text[:60], text[:80]]
    assert max(map(len, windows)) < 120
    assert text.endswith(windows[-1])
    for before, after in itertools.pairwise(windows):
        assert text.index(after) + len(after) > text.index(before) + len(before)
    assert {(t.role, t.stage) for texts in check.seen for t in texts} == {("assistant", "output")}


# -- how streams end ------------------------------------------------------------------------------


def error_of(out):
    last = parsed(out)[-1]
    assert last.json is not None
    return last.json["error"]


BROKEN = [
    ("it just ends", []),
    ("malformed JSON", [b'data: {"choices": [\n\n']),
    ("no object", [b"data: 17\n\n"]),
    ("an error event", [encode({"error": {"message": "sk-secret https://internal", "code": 1}})]),
    (
        "an error event after the finish",
        [chunk({}, 0, "stop"), encode({"error": "sk-secret"}), DONE],
    ),
    ("the connection breaks", [UpstreamError("timeout", "The model's server fell silent.")]),
    ("a bug", [RuntimeError("sk-secret")]),
]


@pytest.mark.parametrize(("name", "rest"), BROKEN, ids=[row[0] for row in BROKEN])
def test_a_broken_stream_ends_with_an_error_and_never_with_a_normal_stop(name, rest):
    report = StreamReport()
    out = run([*said(["hello ", "world"]), *rest], report=report, request_id="req_1")
    assert joined(out)[0, "content"] == "hello world"
    error = error_of(out)
    assert error["message"]
    assert error["code"]
    assert b"sk-secret" not in b"".join(out)
    assert b"[DONE]" not in b"".join(out)
    assert report.ended == "upstream_error"
    assert report.error is not None


@pytest.mark.parametrize(("name", "rest"), BROKEN, ids=[row[0] for row in BROKEN])
def test_a_failure_before_anything_has_left_is_raised(name, rest):
    if any(not isinstance(item, Exception) and b"finish_reason" in item for item in rest):
        rest = rest[1:]
    report = StreamReport()
    with pytest.raises((UpstreamError, RuntimeError)) as caught:
        run(rest, report=report)
    assert report.error is caught.value
    assert report.ended == "upstream_error"


def test_what_came_before_a_failure_is_checked_too():
    report = StreamReport()
    out = run(
        [*said(["forbidden"]), UpstreamError("protocol", "x")],
        Checker(find("forbidden")),
        report=report,
    )
    assert report.ended == "blocked"
    assert b"forbidden" not in b"".join(out)


FAILING = [
    ("the decision is an error", Decision("output", "error"), Unavailable),
    ("the engine is overloaded", Overloaded("9 texts wait"), Overloaded),
    ("a bug", KeyError("user text"), KeyError),
]


@pytest.mark.parametrize(("name", "outcome", "kind"), FAILING, ids=[row[0] for row in FAILING])
def test_a_failing_check_releases_nothing(name, outcome, kind):
    wire = [*said(["word "] * 4), *said(["never seen"]), chunk({}, 0, "stop"), DONE]
    report = StreamReport()
    with pytest.raises(kind):
        run(wire, Checker(lambda texts: outcome), report=report)
    assert (report.ended, report.exposed_chars) == ("check_failed", 0)

    seen_first = [True]

    def decide(texts):
        return ALLOW if seen_first.pop() is True and not seen_first.append(False) else outcome

    report = StreamReport()
    out = run(wire, Checker(decide), report=report, tail_chars=0)
    assert report.ended == "check_failed"
    assert b"never seen" not in b"".join(out)
    assert b"user text" not in b"".join(out)
    assert b"[DONE]" not in b"".join(out)
    assert error_of(out)["type"] == "server_error"


def test_a_server_without_done_is_fine_if_every_choice_finished():
    wire = [*said(["hi"]), chunk({}, 0, "stop")]
    report = StreamReport()
    assert run(wire, report=report) == wire
    assert report.ended == "done"


def test_a_block_after_some_text_cuts_what_is_open():
    wire = [
        *said(["fine words "] * 3),
        *said(["so forbidden"]),
        *said(["more"]),
        chunk({}, 0, "stop"),
        DONE,
    ]
    report = StreamReport()
    context = ReplyContext("i", "m", 1, choices=2, include_usage=True)
    out = run(wire, Checker(find("forbidden")), report=report, context=context, tail_chars=0)
    assert joined(out) == {(0, "content"): "fine words fine words ", (1, "content"): REPLY.content}
    assert reasons(out) == {0: "content_filter", 1: "content_filter"}
    assert parsed(out)[-2].json["usage"]["total_tokens"] == 0
    assert out[-1] == DONE
    assert (report.ended, report.decision.outcome) == ("blocked", "block")
    assert report.exposed_chars == len("fine words fine words ")


def test_a_block_before_any_text_is_the_policys_message():
    out = run(
        [chunk({"role": "assistant"}), *said(["forbidden"]), chunk({}, 0, "stop"), DONE],
        Checker(find("for")),
    )
    assert joined(out) == {(0, "content"): REPLY.content}
    assert reasons(out) == {0: "content_filter"}


def test_a_finished_choice_is_not_finished_again():
    wire = [
        *said(["fine"]),
        chunk({}, 0, "stop"),
        *said(["forbidden"], index=1),
        chunk({}, 1, "stop"),
        DONE,
    ]
    context = ReplyContext("i", "m", 1, choices=2)
    out = run(wire, Checker(find("forbidden")), context=context)
    assert reasons(out) == {0: "stop", 1: "content_filter"}
    assert joined(out) == {(0, "content"): "fine", (1, "content"): REPLY.content}


def test_the_upstream_is_closed_before_the_cut_is_sent():
    source = Source([*said(["forbidden " * 3]), 60.0, DONE])

    async def consume():
        stream = guarded(
            source.__aiter__(),
            CHAT,
            Checker(find("forbidden")),
            CONTEXT,
            Pace(5, 5),
        )
        await anext(stream)
        assert source.closed
        await stream.aclose()

    asyncio.run(consume())


@pytest.mark.parametrize("how", ["close", "cancel"])
def test_a_client_that_leaves_closes_the_upstream(how):
    source = Source([*said(["hello wide world, "]), 60.0, DONE])
    report = StreamReport()

    async def consume(begun):
        stream = guarded(
            source.__aiter__(), CHAT, Checker(), CONTEXT, Pace(5, 5, tail_chars=0), report=report
        )
        await anext(stream)
        begun.set()
        if how == "close":
            await stream.aclose()
        else:
            await anext(stream)

    async def main():
        begun = asyncio.Event()
        task = asyncio.create_task(consume(begun))
        await begun.wait()
        await asyncio.sleep(0.01)
        if how == "cancel":
            assert not source.closed
            task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert source.closed
        assert [t for t in asyncio.all_tasks() if t is not asyncio.current_task()] == []

    asyncio.run(main())
    assert report.ended == "client_gone"


def test_a_client_that_leaves_during_a_check_closes_the_upstream():
    source = Source([*said(["hello wide world"]), DONE])
    report = StreamReport()

    async def check(texts):
        await asyncio.sleep(60)

    async def main():
        stream = guarded(source.__aiter__(), CHAT, check, CONTEXT, Pace(5, 5), report=report)
        task = asyncio.create_task(anext(stream))
        await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert source.closed

    asyncio.run(main())
    assert report.ended == "client_gone"


def test_the_report_joins_all_checks():
    def cause(rule, score):
        return Cause("p@1", rule, "flag", True, "c@1", "l", score, 0.5, 0, (), "assistant")

    decisions = iter(
        [
            Decision("output", tags=("a",), fired=(cause("one", 0.6),)),
            Decision(
                "output",
                "redact",
                cause("two", 0.9),
                tags=("b",),
                fired=(cause("two", 0.9), cause("one", 0.7)),
            ),
            Decision("output", tags=("a",), shadow=(cause("three", 0.8),)),
        ]
    )
    report = StreamReport()
    run(
        [*said(["word "] * 8), chunk({}, 0, "stop"), DONE],
        Checker(lambda texts: next(decisions, ALLOW)),
        report=report,
    )
    assert report.checks >= 2
    merged = report.decision
    assert (merged.outcome, merged.tags) == ("redact", ("a", "b"))
    assert [c.rule for c in merged.fired] == ["one", "two"]
