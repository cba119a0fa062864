"""Training rows of the pack `intent`."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

from classifiers.training.data import Row, without_duplicates
from classifiers.training.recipes.common import (
    benign_rows,
    ours,
    public,
    relabel,
    row_of,
)

INTENT = (
    "greeting",
    "farewell",
    "thank_you",
    "affirmation",
    "negation",
    "small_talk",
    "bot_capabilities",
    "feedback_positive",
    "feedback_negative",
    "clarification",
    "suggestion",
    "language_change",
    "other",
)
CLINC_INTENTS = {
    "greeting": "greeting",
    "goodbye": "farewell",
    "thank_you": "thank_you",
    "yes": "affirmation",
    "no": "negation",
    "what_can_i_ask_you": "bot_capabilities",
    "change_language": "language_change",
    "repeat": "clarification",
    "are_you_a_bot": "small_talk",
    "tell_joke": "small_talk",
    "how_old_are_you": "small_talk",
    "what_are_your_hobbies": "small_talk",
    "where_are_you_from": "small_talk",
    "who_made_you": "small_talk",
    "what_is_your_name": "small_talk",
    "do_you_have_pets": "small_talk",
    "meaning_of_life": "small_talk",
    "who_do_you_work_for": "small_talk",
}
HWU_INTENTS = {
    "general_affirm": "affirmation",
    "general_praise": "feedback_positive",
    "general_joke": "small_talk",
}
UNCLEAR_INTENTS = {
    *("maybe", "cancel", "user_name", "change_ai_name", "fun_fact", "oos"),
    *("general_negate", "general_repeat", "general_confirm", "general_dontcare", "general_explain"),
    *("general_quirky", "general_commandstop"),
}


def intent_rows(data: Path) -> list[Row]:
    """What a short chat message is for; everything that asks for something real is ``other``."""
    rows = [row_of(r, frozenset({r["label"]}), "ours", weight=2.0) for r in ours("intent")]
    chooser = random.Random(3)  # noqa: S311 (not for secrets)

    def make(r: dict[str, Any], source: str, table: dict[str, str]) -> Row | None:
        if r["label"] in UNCLEAR_INTENTS:
            return None
        label = table.get(r["label"], "other")
        if label == "other" and chooser.random() > 0.2:
            return None
        return row_of(r, frozenset({label}), source)

    rows += public(data, "intent/clinc150", lambda r: make(r, "intent/clinc150", CLINC_INTENTS))
    rows += public(data, "intent/hwu64", lambda r: make(r, "intent/hwu64", HWU_INTENTS))
    other = frozenset({"other"})
    rows += public(
        data,
        "intent/banking77",
        lambda r: row_of(r, other, "intent/banking77") if chooser.random() < 0.05 else None,
    )
    rows += [relabel(row, other) for row in benign_rows(data) if chooser.random() < 0.2]
    return without_duplicates(rows)
