"""Records of made-up requests, as the gateway would have written them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson
from hypothesis import strategies as st
from policies_fakes import Scores, found

from classifiers.types import Stage, Text
from policies.decision import RANK, Decision
from policies.engine import evaluate
from policies.schema import BoundPolicy
from proxy.backtests.cases import Case, of_record
from proxy.ledger import stage

Said = Sequence[tuple[Text, Scores]]


def conversations(scores: st.SearchStrategy[Any], across: bool = False) -> st.SearchStrategy[Any]:
    """Up to five texts with scores; those of the newest turn are of one speaker, as they always are."""

    def said(speaker: str, some: list[tuple[str, bool, bool, Any]]) -> list[tuple[Text, Any]]:
        return [
            (
                Text("t", speaker if last else role, last_turn=last, across=joined, derived=joined),
                own,
            )
            for role, last, joined, own in some
        ]

    roles = st.sampled_from(["user", "user", "tool", "assistant", "system"])
    joined = st.booleans() if across else st.just(False)
    texts = st.lists(st.tuples(roles, st.booleans(), joined, scores), min_size=1, max_size=5)
    return st.builds(said, st.sampled_from(["user", "tool"]), texts)


def decided(policies: Sequence[BoundPolicy], at: Stage, said: Said, **more: Any) -> Decision:
    """The decision on some texts with their scores."""
    texts = [text for text, _ in said]
    return evaluate(policies, at, texts, [found(s, text.content) for text, s in said], **more)


def record(
    policies: Sequence[BoundPolicy], request: Said, reply: Said | None = None, **more: Any
) -> dict[str, Any]:
    """What the ledger says of a request: policies have decided on it and, if it went on, on its reply."""
    decisions = {"input": decided(policies, "input", request)}
    called = RANK[decisions["input"].outcome] < RANK["answer"]
    if called and reply is not None:
        decisions["output"] = decided(policies, "output", reply)
    written = {
        "decision_id": "dec_1",
        "model": "default",
        "key": None,
        "endpoint": "chat.completions",
        "policies": [policy.id for policy in policies],
        "stages": {name: stage(decision) for name, decision in decisions.items()},
        "texts": sum(not text.derived for text, _ in request),
        "unscanned": [],
        "upstream_called": called,
        "milliseconds": {"upstream": 100.0},
        "tokens": {"prompt": 10, "completion": 20, "basis": "upstream"} if called else None,
        "cost_usd": 0.5 if called else None,
        "saved_usd": None if called else 0.25,
        "content": [],
        **more,
    }
    parsed: dict[str, Any] = orjson.loads(orjson.dumps(written))
    return parsed


def case(
    policies: Sequence[BoundPolicy], request: Said, reply: Said | None = None, **more: Any
) -> Case:
    """The same, ready to be judged again."""
    return of_record(record(policies, request, reply, **more))
