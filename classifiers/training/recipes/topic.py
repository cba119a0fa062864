"""Training rows of the pack `topic`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

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
CLINC_TOPICS = {
    "travel": "travel",
    "kitchen_and_dining": "food_cooking",
    "banking": "finance",
    **dict.fromkeys(("home", "utility", "auto_and_commute", "small_talk", "meta"), "other_topic"),
}
CLINC_INTENT_TOPICS = {
    "order_status": "orders_shipping",
    "translate": "writing_editing",
    "next_song": "entertainment_sports",
    "play_music": "entertainment_sports",
    "what_song": "entertainment_sports",
    "update_playlist": "entertainment_sports",
    "calculator": "math",
    "definition": "education_science",
    "calories": "health",
    "bill_due": "billing_payments",
    "pay_bill": "billing_payments",
    "bill_balance": "billing_payments",
    "pin_change": "account_access",
    "account_blocked": "account_access",
}
BANKING_TOPICS = {
    **dict.fromkeys(
        (
            "Refund_not_showing_up",
            "request_refund",
            "transaction_charged_twice",
            "extra_charge_on_statement",
            "card_payment_fee_charged",
            "transfer_fee_charged",
            "top_up_by_card_charge",
            "declined_card_payment",
        ),
        "billing_payments",
    ),
    **dict.fromkeys(
        (
            "passcode_forgotten",
            "verify_my_identity",
            "unable_to_verify_identity",
            "edit_personal_details",
            "terminate_account",
            "pin_blocked",
        ),
        "account_access",
    ),
    **dict.fromkeys(
        ("card_arrival", "card_delivery_estimate", "order_physical_card"), "orders_shipping"
    ),
}
HWU_TOPICS = {
    **dict.fromkeys(
        (
            "play_music",
            "play_podcasts",
            "play_game",
            "music_likeness",
            "music_query",
            "recommendation_movies",
        ),
        "entertainment_sports",
    ),
    **dict.fromkeys(("transport_ticket", "transport_query", "transport_taxi"), "travel"),
    **dict.fromkeys(("cooking_recipe", "takeaway_order", "takeaway_query"), "food_cooking"),
    **dict.fromkeys(("qa_maths",), "math"),
    **dict.fromkeys(("qa_stock", "qa_currency"), "finance"),
    **dict.fromkeys(
        (
            "alarm_set",
            "calendar_set",
            "weather_query",
            "iot_hue_lightoff",
            "iot_cleaning",
            "email_sendemail",
            "lists_createoradd",
            "news_query",
        ),
        "other_topic",
    ),
}
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
    for name, table in (("banking77", BANKING_TOPICS), ("hwu64", HWU_TOPICS)):
        source = f"intent/{name}"
        rows += public(data, source, lambda r, s=source, t=table: _mapped(r, t.get(r["label"]), s))  # type: ignore[misc]
    rows += public(
        data,
        "intent/clinc150",
        lambda r: _mapped(
            r,
            CLINC_INTENT_TOPICS.get(r["label"], CLINC_TOPICS.get(r["domain"])),
            "intent/clinc150",
        ),
    )
    return without_duplicates(rows)


def _mapped(item: dict[str, Any], label: str | None, source: str) -> Row | None:
    return row_of(item, frozenset({label}), source, weight=0.15) if label else None
