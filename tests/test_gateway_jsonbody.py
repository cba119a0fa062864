"""Bodies are read strictly, and changed without touching the bytes around the change."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.errors import InvalidRequest, TooLarge
from proxy.jsonbody import cut, parse, splice, spliced

REFUSED = {
    "empty": (b"", "empty"),
    "not json": (b'{"a": }', "line 1"),
    "cut": (b'{"a": [1, 2', "not valid JSON"),
    "trailing": (b'{"a": 1} {"a": 2}', "not valid JSON"),
    "array": (b"[1]", "array"),
    "string": (b'"hi"', "string"),
    "number": (b"1", "number"),
    "null": (b"null", "null"),
    "invalid utf-8": (b'{"a": "\xff"}', "invalid UTF-8 at byte 7"),
    "encoded surrogate": (b'{"a": "\xed\xa0\x80"}', "invalid UTF-8"),
    "lone surrogate": (b'{"a": "\\ud800"}', "surrogate"),
    "byte order mark": (b"\xef\xbb\xbf{}", "not valid JSON"),
    "nan": (b'{"a": NaN}', "not valid JSON"),
    "infinity": (b'{"a": -Infinity}', "not valid JSON"),
    "overflow": (b'{"a": 1e999}', "not valid JSON"),
    "raw control character": (b'{"a": "\x01"}', "not valid JSON"),
    "repeated key": (b'{"a": 1, "a": 2}', "repeats a key"),
    "repeated key, written differently": (b'{"a": 1, "\\u0061": 2}', "repeats a key"),
    "repeated key inside": (b'{"m": [{"a": 1, "a": 1}]}', "repeats a key"),
    "deep": (b'{"a":' + b"[" * 100 + b"]" * 100 + b"}", "deeper than 100"),
    "very deep": (b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "depth limit"),
}


@pytest.mark.parametrize(("raw", "part"), REFUSED.values(), ids=REFUSED)
def test_refuses_what_two_readers_could_understand_differently(raw: bytes, part: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse(raw, 100)
    assert part in caught.value.message


def test_messages_do_not_quote_the_body() -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse(b'{"private": "my secret words', 100)
    assert "secret" not in caught.value.message


def test_reads_what_is_allowed() -> None:
    raw = (
        b'{"a": {"b": [1, 2.50, true, null, "\\ud83d\\ude00"]}, "c": '
        + b"[" * 99
        + b"]" * 99
        + b"}"
    )
    assert parse(raw, 100)["a"] == {"b": [1, 2.5, True, None, "\U0001f600"]}


def test_splice_keeps_every_other_byte() -> None:
    raw = (
        b'{ "n": 1.50e+00,"big":123456789012345678901234567890, '
        b'"m":[{"t":"a\\u0062c"} ,{"t":"x"}],"z" : "\\/"}'
    )
    out = splice(raw, {("m", 0, "t"): 'say "hi"\n', ("z",): "é"})
    assert out == raw.replace(b'"a\\u0062c"', b'"say \\"hi\\"\\n"').replace(
        b'"\\/"', '"é"'.encode()
    )


@pytest.mark.parametrize("address", [("x",), ("a", "b"), ("l", 5), ("a",), ("l",), ("n",)])
def test_splice_refuses_an_address_without_a_string(address: tuple[str | int, ...]) -> None:
    with pytest.raises(KeyError):
        splice(b'{"a": {"c": "x"}, "l": ["y"], "n": 1}', {address: "new"})


trees = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


def strings(value: Any, address: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    if isinstance(value, str):
        return [address]
    items = (
        value.items()
        if isinstance(value, dict)
        else enumerate(value)
        if isinstance(value, list)
        else ()
    )
    return [found for key, item in items for found in strings(item, (*address, key))]


def put(
    value: Any, changes: dict[tuple[str | int, ...], str], address: tuple[str | int, ...] = ()
) -> Any:
    if isinstance(value, dict):
        return {key: put(item, changes, (*address, key)) for key, item in value.items()}
    if isinstance(value, list):
        return [put(item, changes, (*address, i)) for i, item in enumerate(value)]
    return changes.get(address, value)


@given(
    st.dictionaries(st.text(), trees, max_size=4),
    st.data(),
    st.booleans(),
    st.sampled_from([None, 1]),
)
def test_splice_is_the_same_as_changing_the_value(
    value: dict[str, Any], data: st.DataObject, ascii_only: bool, indent: int | None
) -> None:
    addresses = strings(value)
    chosen = data.draw(st.lists(st.sampled_from(addresses), unique=True)) if addresses else []
    changes = {address: data.draw(st.text()) for address in chosen}
    raw = json.dumps(value, ensure_ascii=ascii_only, indent=indent).encode()
    assert json.loads(splice(raw, changes)) == put(value, changes)


CROWDS = {
    "strings": (b'{"a": ["x", "y", "z"], "b": {"c": "x"}}', 5, True),
    "as many as allowed": (b'{"a": ["x", "y", "z"], "b": {"c": "x"}}', 6, False),
    "lists": (b'{"a": [[], [], [], []]}', 5, True),
    "objects": (b'{"a": [{}, {"b": {}}]}', 3, True),
    "numbers in a list are none": (b'{"a": [1, 2, 3, 4, 5], "b": {}}', 3, False),
    "commas within a string are none": (rb'{"a": "' + rb"\"," * 500 + b'"}', 3, False),
    "fields are some": (b'{"a": {"b": null, "c": true, "d": 1}}', 3, True),
}


@pytest.mark.parametrize(("raw", "most", "refused"), CROWDS.values(), ids=CROWDS)
def test_a_crowd_of_strings_is_refused(raw: bytes, most: int, refused: bool) -> None:
    if not refused:
        assert parse(raw, 100, most) == json.loads(raw)
        return
    with pytest.raises(TooLarge, match=f"over {most} .*limits.max_texts"):
        parse(raw, 100, most)


def test_a_crowd_of_numbers_is_refused() -> None:
    """Each costs little, but a body has room for millions."""
    assert parse(b'{"a": [' + b"1," * 150 + b"1]}", 100, 3)
    with pytest.raises(TooLarge, match=r"over 150 values \(50 times limits\.max_texts\)"):
        parse(b'{"a": [' + b"1," * 151 + b"1]}", 100, 3)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text('ab",:{}[]\\ ', max_size=6),
    lambda below: (
        st.lists(below, max_size=3)
        | st.dictionaries(st.text('ab",', max_size=3), below, max_size=3)
    ),
    max_leaves=8,
)


@given(
    value=st.dictionaries(st.text('ab",\\', max_size=2), JSON, max_size=5),
    keys=st.sets(st.text('ab",\\', max_size=2), max_size=4),
    indent=st.sampled_from([None, 0, 2]),
)
def test_cut_takes_out_members_and_nothing_else(
    value: dict[str, Any], keys: set[str], indent: int | None
) -> None:
    raw = json.dumps(value, indent=indent).encode()
    out = cut(raw, keys)
    assert json.loads(out) == {key: item for key, item in value.items() if key not in keys}
    if not keys & value.keys():
        assert out == raw


@pytest.mark.parametrize(
    "raw",
    [
        b'{"model":"a","messages":[]}',
        b'{ "messages" : [ {"role":"user","content":"x"} ] ,\n "model"\t:\n "a" }',
        b'{"metadata":{"model":"a"},"model":"a"}',
        b'{"messages":[{"content":"\\"model\\": \\"a\\""}],"model":"a"}',
        b'{"note":"model","model":"a"}',
        b'{"mod\\u0065l":"a","metadata":{"model":"a"}}',
        b'{"mod\\u0065l":"a","note":"model"}',
        b'{"model":"a\\"b\\\\","n":1}',
    ],
)
def test_a_field_is_replaced_as_if_it_had_been_looked_for(raw: bytes) -> None:
    out = spliced(raw, "model", 'new "one"')
    assert out == splice(raw, {("model",): 'new "one"'})
    assert json.loads(out) == {**json.loads(raw), "model": 'new "one"'}


@pytest.mark.parametrize(
    "raw",
    [
        b'{"a":1,"a":2}',
        b'{"a" :1,"b":{"c":1,"c" :2}}',
        b'{"a"\t:1,"a"\n:2}',
        b'{"a"\r:1, "x":[{"b":1},{"c":1,"c":1}]}',
        b'{"a":1,"\\u0061":2}',
        b'{"t":"no quote: here","a":1,"a":2}',
    ],
)
def test_a_name_that_stands_twice_is_found_however_it_is_written(raw: bytes) -> None:
    with pytest.raises(InvalidRequest, match="repeats a key"):
        parse(raw, 64)
