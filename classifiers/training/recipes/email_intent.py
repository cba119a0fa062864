"""Training rows of the pack `email_intent`."""

from __future__ import annotations

import random
from pathlib import Path

from classifiers.training.data import Row, without_duplicates
from classifiers.training.recipes.common import DOCUMENTS, benign_rows, ours, relabel, row_of

EMAIL_INTENT = (
    "request_action",
    "request_information",
    "meeting_scheduling",
    "provide_information",
    "confirmation",
    "complaint",
    "thank_you",
    "introduction",
    "follow_up",
    "newsletter_marketing",
    "out_of_office",
    "invoice_payment",
    "job_application",
    "personal",
    "other",
)
# These hold e-mails and personal messages of every purpose, so ``other`` would be wrong.
HOLD_EMAILS = {"injection/llmail_benign_emails", DOCUMENTS}
HOLD_MESSAGES = {"personal_message", "dialogue", "feelings"}


def email_intent_rows(data: Path) -> list[Row]:
    """What an e-mail wants; texts that are no e-mail, and e-mails for nothing named, ``other``."""
    rows = [row_of(r, frozenset({r["label"]}), "ours", weight=2.0) for r in ours("email_intent")]
    chooser = random.Random(19)  # noqa: S311 (not for secrets)
    other = frozenset({"other"})
    purposeful = {r["text"] for r in ours("benign") if r["kind"] in HOLD_MESSAGES}
    rows += [
        relabel(row, other)
        for row in benign_rows(data)
        if row.source not in HOLD_EMAILS and row.text not in purposeful and chooser.random() < 0.05
    ]
    return without_duplicates(rows)
