"""Innocent texts that look odd pass the shipped policy, and few forms of them are read."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml

from classifiers.decode import MOST_ALONE, MOST_PIECES, views
from classifiers.engine import ClassifierEngine
from classifiers.types import Classification
from policies import schema
from policies.engine import attached, evaluate
from proxy.config import ClassifiersConfig
from proxy.endpoints import ENDPOINTS
from proxy.loading import load_classifiers

ROOT = Path(__file__).parent.parent
ROWS: list[dict[str, Any]] = yaml.safe_load(
    (ROOT / "tests" / "fixtures" / "odd.yaml").read_text("utf-8")
)
CHAT = ENDPOINTS["/v1/chat/completions"]


def test_the_texts_are_many_and_of_many_kinds() -> None:
    assert len(ROWS) >= 120
    assert len({row["text"] for row in ROWS}) == len({row["name"] for row in ROWS}) == len(ROWS)
    assert min(Counter(row["kind"] for row in ROWS).values()) >= 10


def test_few_forms_of_them_are_read() -> None:
    counts = {row["name"]: len(views(row["text"])) for row in ROWS}
    assert max(counts.values()) <= 2 + MOST_ALONE + MOST_PIECES
    assert sum(counts.values()) <= 2 * len(ROWS)


@pytest.mark.parametrize(
    "row", [r for r in ROWS if r["kind"] == "scripts"], ids=lambda r: r["name"]
)
def test_other_scripts_are_neither_decoded_nor_unwrapped(row: dict[str, Any]) -> None:
    assert len(views(row["text"])) <= 2


@pytest.fixture(scope="module")
def engine() -> Any:
    made = ClassifierEngine(load_classifiers(ClassifiersConfig()))
    yield made
    made.close()


def test_the_front_line_blocks_none_of_them(engine: ClassifierEngine) -> None:
    policy = schema.bind(schema.load(ROOT / "policies" / "front-line.yaml"), engine.classifiers)
    names = policy.classifiers_for("input")
    blocked: list[str] = []
    for row in ROWS:
        body = {"model": "default", "messages": [{"role": "user", "content": row["text"]}]}
        texts = CHAT.texts(body)
        found: list[Classification] = engine.classify_blocking([t.content for t in texts], names)
        decision = evaluate(attached([policy], "default", ""), "input", texts, found)
        if decision.outcome in ("block", "error"):
            blocked.append(row["name"])
    assert blocked == []
