"""Is everything that is forwarded given to the classifiers? Random bodies say.

    python -m benchmarks.coverage --bodies 100000

A body is made with a word in every string and every key. What would go to the upstream is parsed,
and each of its words must stand in a text that the classifiers get, or in a part that is listed as
unscanned. What the API itself says (``words.VALUES``, identifiers without a word in them, the
model's name) is counted apart.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from random import Random
from typing import Any

import orjson

from benchmarks.coverage_shapes import REQUESTS, made
from classifiers.types import OperatingPoint
from policies.attached import Attached
from policies.schema import bind, loads
from proxy.endpoints import ENDPOINTS, leaves
from proxy.endpoints.base import Address, Body, Endpoint
from proxy.endpoints.derived import across_turns
from proxy.errors import InvalidRequest
from proxy.upstream import outgoing

_KEY = "(key)"
"""Last step of the address of a key."""

POLICY = """
name: everything
rules:
  - name: all-of-it
    when: {any-word: word}
    roles: [system, developer, user, assistant, tool, function]
    do: {block: "No."}
"""


class AnyWord:
    """A classifier that policies can name; nothing is classified here."""

    name = "any-word"
    labels = ("word",)
    kind = "any_of"
    version = "1"

    def thresholds(self, labels: Any, point: OperatingPoint) -> dict[str, float]:
        return dict.fromkeys(labels, 0.5)


@dataclass
class Found:
    """What became of the strings and keys of the bodies.

    Attributes:
        bodies: that would be forwarded.
        refused: that the endpoint refuses.
        counts: strings and keys by what became of them: ``scanned``, ``unscanned``, ``protocol``.
        missed: endpoint, address and word of what was forwarded unread. Must be empty.
    """

    bodies: int = 0
    refused: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    missed: list[tuple[str, Address, str]] = field(default_factory=list)


def everything() -> Attached:
    """A policy that looks at the texts of everyone."""
    return Attached([bind(loads(POLICY), {"any-word": AnyWord()})])  # type: ignore[dict-item]


def check(endpoint: Endpoint, body: Body, words: dict[str, str], policy: Attached) -> Found:
    """What becomes of one body."""
    found = Found()
    try:
        endpoint.validate(body)
    except InvalidRequest:
        found.refused = 1
        return found
    found.bodies = 1
    _, raw = outgoing(body, orjson.dumps(body), "m")
    assert raw is not None
    texts = endpoint.texts(body)
    texts = [*texts, *across_turns(texts, policy.refusals)]
    contents = {texts[i].content for i in policy.in_scope("input", texts)}
    read = "\n".join(contents).lower()
    # Not as records show them: there all unknown names are one.
    unread = set(endpoint.unread(body))
    for address, string in _everything(orjson.loads(raw)):
        forms = (words.get(string, string).lower(), string.lower())
        if address in unread:
            found.counts["unscanned"] += 1
        elif string in contents or any(form in read for form in forms):
            found.counts["scanned"] += 1
        elif string not in words and _declared(address, string):
            found.counts["protocol"] += 1
        else:
            found.missed.append((endpoint.path, address, string))
    return found


def _everything(value: Any, address: Address = ()) -> Iterator[tuple[Address, str]]:
    """Every string and every key that goes up."""
    stack: list[tuple[Address, Any]] = [(address, value)]
    while stack:
        address, value = stack.pop()
        if isinstance(value, str) and value:
            yield address, value
        elif isinstance(value, dict):
            for key, item in value.items():
                if key:
                    yield (*address, key, _KEY), key
                stack.append(((*address, key), item))
        elif isinstance(value, list):
            stack += (((*address, i), item) for i, item in enumerate(value))


def _declared(address: Address, string: str) -> bool:
    """Whether a string is the API's own: a name of a field it knows, or a value of protocol."""
    if address[-1] == _KEY:
        return string in leaves.KNOWN_KEYS or string.isdecimal()
    return leaves.is_protocol(address, string)


def run(bodies: int, seed: int) -> Found:
    """Check many bodies, in turn for every endpoint."""
    total, rng, policy = Found(), Random(seed), everything()
    while total.bodies < bodies:
        for path, endpoint in ENDPOINTS.items():
            body, words = made(REQUESTS[path], rng)
            found = check(endpoint, body, words, policy)
            total.bodies += found.bodies
            total.refused += found.refused
            total.counts += found.counts
            total.missed += found.missed
    return total


def main() -> None:
    """Print the figures; the exit status is 1 if anything was forwarded unread."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bodies", type=int, default=100_000, help="how many are forwarded")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    started = time.perf_counter()
    total = run(options.bodies, options.seed)
    print(f"endpoints: {', '.join(ENDPOINTS)}")
    print(f"bodies: {total.bodies} forwarded, {total.refused} refused by their endpoint")
    print(f"strings and keys: {sum(total.counts.values()) + len(total.missed)}")
    for what in ("scanned", "unscanned", "protocol"):
        print(f"  {what}: {total.counts[what]}")
    print(f"  forwarded unread: {len(total.missed)}")
    print(f"seconds: {time.perf_counter() - started:.0f}")
    for path, address, string in total.missed[:20]:
        print("UNREAD", path, ".".join(map(str, address)), string)
    raise SystemExit(1 if total.missed else 0)


if __name__ == "__main__":
    main()
