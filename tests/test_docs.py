"""The generated parts of the docs: nothing is without a description."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from classifiers.pii_detectors import LABELS
from classifiers.training.recipes import RECIPES
from classifiers.training.recipes.descriptions import LABELS as DESCRIBED
from proxy.errors import ANSWERS, CODES, ERRORS

DOCS = Path(__file__).parent.parent / "docs"
TABLES = (
    "settings",
    "metrics",
    "attributes",
    "instruments",
    "savings",
    "errors",
    "record",
    "stage",
    "cause",
    "rule_error",
    "pii",
    "grades",
    "task",
)


@pytest.fixture(scope="module")
def generate() -> ModuleType:
    spec = importlib.util.spec_from_file_location("_generate", DOCS / "_generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("table", TABLES)
def test_every_row_says_what_it_is_about(generate: ModuleType, table: str) -> None:
    rows = getattr(generate, table)().splitlines()[2:]
    assert rows
    for row in rows:
        assert row.removesuffix("|").rpartition("|")[2].strip(), row


def test_every_code_and_label_is_there(generate: ModuleType) -> None:
    errors = generate.errors()
    assert all(f"`{code}`" in errors for code in (*CODES, *ANSWERS))
    assert Exception in ERRORS
    assert str(Exception.__doc__) not in errors
    assert all(f"| `{label}` |" in generate.pii() for label in LABELS)


def test_every_label_of_a_shipped_pack_is_described_in_its_order() -> None:
    described = {name: tuple(own) for name, own in DESCRIBED.items()}
    assert described == {name: recipe.labels for name, recipe in RECIPES.items()}
    assert all(what.endswith(".") for own in DESCRIBED.values() for what in own.values())


def test_python_is_translated_to_json(generate: ModuleType) -> None:
    assert "None" not in generate.record()
    assert "null if it was not called" in generate.record()


@pytest.mark.parametrize(
    "name", ["observability.md", "policies.md", "reference.md", "savings.md", "training.md"]
)
def test_every_generated_part_is_used(name: str) -> None:
    text = (DOCS / name).read_text("utf-8")
    assert "_generate." in text
    assert text.count("[[[cog") == text.count("[[[end]]]")
