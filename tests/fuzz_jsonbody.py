"""Coverage-guided fuzzing of what reads bodies: ``python tests/fuzz_jsonbody.py -runs=100000``.

``tests/test_fuzz_guided.py`` runs it for a few seconds; the options are libFuzzer's.
"""

from __future__ import annotations

import json
import sys

import atheris

with atheris.instrument_imports(include=["proxy.jsonbody", "proxy.sse"]):
    from proxy.errors import InvalidRequest
    from proxy.jsonbody import cut, parse, splice
    from proxy.sse import Parser, SseError

MAX_DEPTH, MAX_TEXTS = 20, 50


def strings(value: object, at: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """The addresses of all strings."""
    if isinstance(value, str):
        return [at]
    items = value.items() if isinstance(value, dict) else ()
    if isinstance(value, list):
        items = enumerate(value)  # type: ignore[assignment]
    return [found for key, item in items for found in strings(item, (*at, key))]


def one_input(data: bytes) -> None:
    """Whatever the bytes: an object or a refusal, and no change but the one asked for."""
    parser = Parser(1000)
    try:
        events = [*parser.feed(data[: len(data) // 2]), *parser.feed(data[len(data) // 2 :])]
        assert all(isinstance(event.raw, bytes) for event in events)
    except SseError:
        pass
    try:
        value = parse(data, MAX_DEPTH, MAX_TEXTS)
    except InvalidRequest:
        return
    read = json.loads(data)  # a second reader understands the same
    assert read.keys() == value.keys()
    addresses = strings(value)
    changed = parse(splice(data, dict.fromkeys(addresses, "new")), MAX_DEPTH)
    assert strings(changed) == addresses
    if value:
        first = next(iter(value))
        assert list(parse(cut(data, [first]), MAX_DEPTH)) == list(value)[1:]


if __name__ == "__main__":
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()
