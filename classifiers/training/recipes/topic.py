"""Training rows of the pack `topic`."""

from __future__ import annotations

from pathlib import Path

from classifiers.training.data import Row, without_duplicates
from classifiers.training.recipes.common import (
    ours,
    public,
    row_of,
)

TOPIC = (
    "billing_payments",
    "orders_shipping",
    "account_access",
    "technical_support",
    "programming",
    "writing_editing",
    "education_science",
    "math",
    "health",
    "legal",
    "finance",
    "travel",
    "food_cooking",
    "entertainment_sports",
    "shopping_products",
    "other_topic",
)
CLINC_TOPICS = {"travel": "travel", "kitchen_and_dining": "food_cooking", "banking": "finance"}
MMLU_TOPICS = {
    **dict.fromkeys(
        (
            "elementary_mathematics",
            "high_school_mathematics",
            "college_mathematics",
            "abstract_algebra",
        ),
        "math",
    ),
    **dict.fromkeys(("professional_law", "jurisprudence", "international_law"), "legal"),
    **dict.fromkeys(
        ("professional_medicine", "clinical_knowledge", "nutrition", "human_aging", "anatomy"),
        "health",
    ),
    **dict.fromkeys(("professional_accounting",), "finance"),
    **dict.fromkeys(
        (
            "high_school_biology",
            "high_school_physics",
            "high_school_chemistry",
            "college_biology",
            "college_physics",
            "astronomy",
            "prehistory",
            "high_school_world_history",
            "high_school_geography",
        ),
        "education_science",
    ),
}


def topic_rows(data: Path) -> list[Row]:
    """What an everyday message is about."""
    rows = [row_of(r, frozenset({r["label"]}), "ours", weight=2.0) for r in ours("topic")]
    rows += public(
        data,
        "benign/gsm8k_sample",
        lambda r: row_of(r, frozenset({"math"}), "benign/gsm8k_sample", weight=0.2),
    )
    rows += public(
        data,
        "benign/cyberseceval_coding",
        lambda r: row_of(r, frozenset({"programming"}), "benign/cyberseceval_coding", weight=0.2),
    )
    rows += public(
        data,
        "benign/mmlu_sample",
        lambda r: (
            row_of(r, frozenset({MMLU_TOPICS[r["subject"]]}), "benign/mmlu_sample", weight=0.3)
            if r["subject"] in MMLU_TOPICS
            else None
        ),
    )
    rows += public(
        data,
        "intent/clinc150",
        lambda r: (
            row_of(r, frozenset({CLINC_TOPICS[r["domain"]]}), "intent/clinc150", weight=0.15)
            if r["domain"] in CLINC_TOPICS
            else None
        ),
    )
    return without_duplicates(rows)
