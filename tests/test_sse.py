"""The event-stream parser and encoder: nothing lost, nothing injected."""

from __future__ import annotations

import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.sse import DONE, Parser, SseError, encode


def split(data: bytes, cuts: list[int]) -> list[bytes]:
    borders = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [data[a:b] for a, b in itertools.pairwise(borders)]


def parse(chunks: list[bytes], limit: int = 1 << 20):
    parser = Parser(limit)
    events = [event for chunk in chunks for event in parser.feed(chunk)]
    return events + parser.close()


WIRE = [
    # name, bytes, [(data, event name)] of the blocks that hold data
    ("LF", b'data: {"a":1}\n\ndata: [DONE]\n\n', [(b'{"a":1}', ""), (b"[DONE]", "")]),
    ("CRLF", b'data: {"a":1}\r\n\r\ndata: 2\r\n\r\n', [(b'{"a":1}', ""), (b"2", "")]),
    ("CR", b"data: 1\r\rdata: 2\r\r", [(b"1", ""), (b"2", "")]),
    ("mixed", b"data: 1\r\n\ndata: 2\n\r\n", [(b"1", ""), (b"2", "")]),
    ("no space", b"data:1\n\n", [(b"1", "")]),
    ("one space only is taken off", b"data:  1\n\n", [(b" 1", "")]),
    ("several lines", b"data: [\ndata: 1]\n\n", [(b"[\n1]", "")]),
    ("named", b"event: ping\ndata: 1\nid: 7\nretry: 3\n\n", [(b"1", "ping")]),
    (
        "the name ends with its event",
        b"event: a\ndata: 1\n\ndata: 2\n\n",
        [(b"1", "a"), (b"2", "")],
    ),
    ("comments", b": hello\n\n:\ndata: 1\n\n", [(b"1", "")]),
    ("extra blank lines", b"\n\ndata: 1\n\n\n", [(b"1", "")]),
    ("byte order mark", b"\xef\xbb\xbfdata: 1\n\n", [(b"1", "")]),
    ("unknown fields", b"datum: 1\ndata: 2\n\n", [(b"2", "")]),
    ("no blank line at the end", b"data: 1\n\ndata: 2", [(b"1", ""), (b"2", "")]),
    ("only a line end at the end", b"data: 1\n", [(b"1", "")]),
    ("nothing", b"", []),
]


@pytest.mark.parametrize(("name", "wire", "expected"), WIRE, ids=[row[0] for row in WIRE])
def test_wire_forms_in_any_chunking(name, wire, expected):
    for chunks in ([wire], [wire[i : i + 1] for i in range(len(wire))], [b"", wire, b""]):
        events = parse(chunks)
        assert [(event.data, event.name) for event in events if event.data] == expected
        assert b"".join(event.raw for event in events) == wire


@given(
    st.lists(
        st.sampled_from([b"data", b": x", b"event: e", b"\n", b"\r", b"\r\n", b": ", b"{}", b"a"])
    ),
    st.lists(st.integers(0, 10_000)),
)
def test_chunking_changes_nothing_and_no_byte_is_lost(parts, cuts):
    wire = b"".join(parts)
    whole = parse([wire])
    assert parse(split(wire, cuts)) == whole
    assert b"".join(event.raw for event in whole) == wire


@given(
    st.one_of(st.text(), st.dictionaries(st.text(), st.text())),
    st.text(st.characters(blacklist_characters="\r\n\0", blacklist_categories=["Cs"])),
    st.lists(st.integers(0, 10_000)),
)
def test_nothing_can_be_injected_through_the_encoder(data, name, cuts):
    if isinstance(data, str) and any(0xD800 <= ord(char) < 0xE000 for char in data):
        return
    events = parse(split(encode(data, name=name) + DONE, cuts))
    assert len(events) == 2
    assert events[1].done
    assert events[0].name == name
    if isinstance(data, dict):
        assert events[0].json == data
    else:
        assert events[0].data.decode() == data.replace("\r\n", "\n").replace("\r", "\n")


@pytest.mark.parametrize("name", ["a\nb", "a\rb", "a\0b", "x\n\ndata: evil"])
def test_a_name_with_line_ends_is_refused(name):
    with pytest.raises(ValueError, match="line end"):
        encode("x", name=name)


KINDS = [
    (b'{"a": 1}', {"json": {"a": 1}, "done": False, "malformed": False}),
    (b"[DONE]", {"json": None, "done": True, "malformed": False}),
    (b" [DONE] ", {"json": None, "done": True, "malformed": False}),
    (b'{"a": ', {"json": None, "done": False, "malformed": True}),
    (b"[1]", {"json": None, "done": False, "malformed": True}),
    (b"null", {"json": None, "done": False, "malformed": True}),
    (b'{"a": "\xff"}', {"json": None, "done": False, "malformed": True}),
    (b"", {"json": None, "done": False, "malformed": False}),
]


@pytest.mark.parametrize(("data", "expected"), KINDS)
def test_what_an_event_holds(data, expected):
    (event,) = parse([b"data: " + data + b"\n\n"])
    assert {name: getattr(event, name) for name in expected} == expected


def test_events_have_a_size_limit_however_they_arrive():
    fits = b"data: " + b"x" * 92 + b"\n\n"
    assert len(fits) == 100
    assert len(parse([fits * 50], limit=100)) == 50
    for wire in (b"data: " + b"x" * 93 + b"\n\n", b"x" * 101, b": a\n" * 26):
        for chunks in ([wire], [wire[i : i + 1] for i in range(len(wire))]):
            with pytest.raises(SseError, match="100 bytes"):
                parse(chunks, limit=100)


def test_the_text_of_an_event_is_not_in_its_repr():
    (event,) = parse([encode({"content": "my secret"})])
    assert "secret" not in repr(event)
    assert json.loads(event.data) == {"content": "my secret"}
