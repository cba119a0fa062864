"""Request bodies: read strictly, and changed without touching the bytes around the change."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import orjson

from proxy.errors import InvalidRequest

Address = tuple[str | int, ...]

# Strings and structure of a valid document; numbers and literals are skipped over.
_TOKEN = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"|[{}\[\],:]', re.DOTALL)


def parse(raw: bytes, max_depth: int) -> dict[str, Any]:
    """The object that a body holds.

    Two readers may understand a lenient body differently, and what the guards did not see must
    not reach the model: repeated keys, NaN, broken UTF-8 and lone surrogates are refused.

    Raises:
        InvalidRequest: not a JSON object, or one of the above.
    """
    if not raw:
        raise InvalidRequest("The body is empty; send a JSON object.")
    try:
        value = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise InvalidRequest(f"The body is not valid JSON: {_fault(raw, error)}.") from None
    if not isinstance(value, dict):
        raise InvalidRequest(f"The body is a JSON {_kind(value)}; send a JSON object.")
    if raw.count(b"{") + raw.count(b"[") > max_depth and _depth(value) > max_depth:
        raise InvalidRequest(f"The body is nested deeper than {max_depth} levels; flatten it.")
    _refuse_repeated_keys(raw)
    return value


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


def _refuse_repeated_keys(raw: bytes) -> None:
    try:
        # Numbers are kept as text: nothing is made of them here.
        json.loads(raw, object_pairs_hook=_pairs, parse_int=str, parse_float=str)
    except _RepeatedKey:
        raise InvalidRequest("The body repeats a key within one object; send each once.") from None
