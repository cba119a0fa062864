"""Request bodies: read strictly, and changed without touching the bytes around the change."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from typing import Any

import orjson

from proxy.errors import InvalidRequest, TooLarge

Address = tuple[str | int, ...]

# Strings and structure of a valid document; numbers and literals are skipped over.
_TOKEN = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"|[{}\[\],:]', re.DOTALL)

# The same without commas, for bytes that may not be a document: every byte is looked at once, and a
# string without an end reaches to the end.
_CROWD = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)|[{}\[\]:]', re.DOTALL)

_VALUE = re.compile(rb'\s*:\s*("[^"\\]*(?:\\.[^"\\]*)*")', re.DOTALL)

_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)', re.DOTALL)
_VALUES_FACTOR = 50
"""How many values of any kind there may be for each string that there may be: a million by default."""


def parse(raw: bytes, max_depth: int, max_texts: int | None = None) -> dict[str, Any]:
    """The object that a body holds.

    Two readers may understand a lenient body differently, and what the guards did not see must
    not reach the model: repeated keys, NaN, broken UTF-8 and lone surrogates are refused.

    Args:
        raw: the body.
        max_depth: levels of nesting.
        max_texts: fields of objects and strings in lists together, and as many objects and lists;
            fifty times as many values in all. None for no limit.

    Raises:
        InvalidRequest: not a JSON object, or one of the above.
        TooLarge: more strings, more objects and lists, or more values than ``max_texts`` allows.
    """
    if not raw:
        raise InvalidRequest("The body is empty; send a JSON object.")
    if max_texts is not None and len(raw) > max_texts:
        _refuse_crowds(raw, max_texts)
    try:
        value = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise InvalidRequest(f"The body is not valid JSON: {_fault(raw, error)}.") from None
    if not isinstance(value, dict):
        raise InvalidRequest(f"The body is a JSON {_kind(value)}; send a JSON object.")
    if raw.count(b"{") + raw.count(b"[") > max_depth and _depth(value) > max_depth:
        raise InvalidRequest(f"The body is nested deeper than {max_depth} levels; flatten it.")
    _refuse_repeated_keys(raw, value)
    return value


def cut(raw: bytes, keys: Collection[str]) -> bytes:
    """A valid document, an object, without some of its own keys, every other byte as it was."""
    members: list[tuple[str, int, int]] = []  # key, where it starts, where its value ends
    depth = 0
    start = -1
    key: str | None = None
    for token in _TOKEN.finditer(raw):
        first = raw[token.start()]
        if first == 0x22:  # "
            if depth == 1 and key is None:
                start = token.start()
                key = orjson.loads(token.group())
        elif first in b"{[":
            depth += 1
        elif first in b"}]":
            depth -= 1
        if key is not None and (depth == 0 or (depth == 1 and first == 0x2C)):
            members.append((key, start, token.start()))
            key = None
    kept = [index for index, member in enumerate(members) if member[0] not in keys]
    if len(kept) == len(members):
        return raw
    if not kept:
        return b"{}"
    # Up to the last one that stays, a member goes with the comma behind it; after that with the
    # one before it.
    pieces = [raw[: members[0][1]]]
    pieces += [raw[members[i][1] : members[i + 1][1]] for i in kept[:-1]]
    pieces += [raw[members[kept[-1]][1] : members[kept[-1]][2]], raw[members[-1][2] :]]
    return b"".join(pieces)


def splice(raw: bytes, replacements: Mapping[Address, str]) -> bytes:
    """A valid document with the strings at some addresses replaced, every other byte as it was.

    Raises:
        KeyError: there is no string at one of the addresses.
    """
    edits: list[tuple[int, int, bytes]] = []
    containers: list[int] = []  # the opening bytes around the current token
    path: list[str | int] = []  # the key or index within each of them
    at_key = False
    for token in _TOKEN.finditer(raw):
        start, end = token.span()
        first = raw[start]
        if first == 0x22:  # "
            if at_key:
                path[-1] = orjson.loads(raw[start:end])
            elif (address := tuple(path)) in replacements:
                edits.append((start, end, orjson.dumps(replacements[address])))
                if len(edits) == len(replacements):
                    break
        elif first in b"{[":
            containers.append(first)
            path.append(0 if first == 0x5B else "")
            at_key = first == 0x7B
        elif first in b"}]":
            containers.pop()
            path.pop()
            at_key = False
        elif first == 0x3A:  # :
            at_key = False
        elif containers[-1] == 0x7B:  # a comma in an object
            at_key = True
        else:
            path[-1] = int(path[-1]) + 1
    if len(edits) != len(replacements):
        raise KeyError("no string at an address that is to be replaced")
    pieces: list[bytes] = []
    done = 0
    for start, end, new in edits:
        pieces += (raw[done:start], new)
        done = end
    return b"".join((*pieces, raw[done:]))


def spliced(raw: bytes, key: str, value: str) -> bytes:
    """:func:`splice` of one field of the document itself.

    Where its name stands nowhere else and cannot be written another way (with escapes), it need not be
    looked for: going through a large body takes longer than parsing it.
    """
    name = b'"%b"' % key.encode()
    alone = raw.count(name) == 1 and b"\\u" not in raw
    if alone and (found := _VALUE.match(raw, raw.index(name) + len(name))):
        return raw[: found.start(1)] + orjson.dumps(value) + raw[found.end(1) :]
    return splice(raw, {(key,): value})


def _fault(raw: bytes, error: orjson.JSONDecodeError) -> str:
    """Where and why, without quoting the body."""
    try:
        raw.decode()
    except UnicodeDecodeError as broken:
        return f"invalid UTF-8 at byte {broken.start}"
    reason = error.msg.split(":", 1)[0].strip()
    return f"{reason} at line {error.lineno} column {error.colno}"


def _kind(value: Any) -> str:
    names = {list: "array", str: "string", bool: "boolean", type(None): "null"}
    return names.get(type(value), "number")


def _refuse_crowds(raw: bytes, most: int) -> None:
    """Count before anything else reads the body: each further step costs time and memory per value.

    The body may not be JSON at all; the count stops where it is too large, and is linear.
    """
    fields = containers = strings = 0
    lists: list[bool] = []  # whether each container around the current token is a list
    before = 0  # the token before a string
    for token in _CROWD.finditer(raw):
        first = raw[token.start()]
        if first == 0x3A:  # :
            fields += 1
        elif first == 0x22:  # "
            strings += 1
            fields += bool(lists) and lists[-1] and before != 0x3A
        elif first in b"{[":
            containers += 1
            lists.append(first == 0x5B)
        elif lists:
            lists.pop()
        before = first
        # A document has at most two strings a field; what has more is none, and is not read further.
        if fields > most or containers > most or strings > 2 * most + 1:
            raise TooLarge(
                f"The body holds over {most} strings and fields, or objects and lists (limits.max_texts); "
                "send fewer, or raise the limit."
            )
    # Only now: with few strings, taking them out is cheap.
    values = most * _VALUES_FACTOR
    if raw.count(b",") > values and _STRING.sub(b"", raw).count(b",") > values:
        raise TooLarge(
            f"The body holds over {values} values ({_VALUES_FACTOR} times limits.max_texts); send fewer, "
            "or raise the limit."
        )


def _depth(value: Any) -> int:
    depth, level = 0, [value]
    while level:
        depth += 1
        below: list[Any] = []
        for item in level:
            children = item.values() if isinstance(item, dict) else item
            below.extend(child for child in children if isinstance(child, dict | list))
        level = below
    return depth


class _RepeatedKey(Exception):
    pass


def _pairs(pairs: list[tuple[str, Any]]) -> None:
    if len({key for key, _ in pairs}) != len(pairs):
        raise _RepeatedKey


def _keys(value: dict[str, Any]) -> int:
    """How many fields all objects below a value have together."""
    count = 0
    stack: list[Any] = [value]
    while stack:
        item = stack.pop()
        if item.__class__ is dict:
            count += len(item)
            item = item.values()
        stack += [below for below in item if below.__class__ in (dict, list)]
    return count


def _refuse_repeated_keys(raw: bytes, value: dict[str, Any]) -> None:
    """Refuse a document that has more fields than what it was parsed to.

    A field is a quote with a colon behind it, and few texts have either: where there are no more of
    them than fields were read, none was read over, and nothing needs to be parsed a second time.
    """
    apart = sum(map(raw.count, (b" :", b"\t:", b"\n:", b"\r:")))
    if raw.count(b'":') + apart == _keys(value):
        return
    try:
        # Nothing is made of numbers here, least of all an object for each.
        json.loads(raw, object_pairs_hook=_pairs, parse_int=bool, parse_float=bool)
    except _RepeatedKey:
        raise InvalidRequest("The body repeats a key within one object; send each once.") from None
