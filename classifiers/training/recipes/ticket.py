"""Training rows of the pack `ticket`."""

from __future__ import annotations

import random
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

from classifiers.training.data import Row, without_duplicates
from classifiers.training.recipes.common import benign_rows, ours, public, row_of

TICKET = (
    "account_access",
    "billing",
    "refund_return",
    "order_status",
    "shipping_delivery",
    "product_question",
    "technical_issue",
    "cancellation",
    "complaint",
    "feature_request",
    "sales_inquiry",
    "data_privacy",
    "other",
)
# Left out as unclear: delete_account, switch_account, newsletter_subscription, place_order, review.
BITEXT_INTENTS = {
    "cancel_order": "cancellation",
    "change_order": "order_status",
    "change_shipping_address": "shipping_delivery",
    "check_cancellation_fee": "cancellation",
    "check_invoice": "billing",
    "check_payment_methods": "billing",
    "check_refund_policy": "refund_return",
    "complaint": "complaint",
    "contact_customer_service": "other",
    "contact_human_agent": "other",
    "create_account": "account_access",
    "delivery_options": "shipping_delivery",
    "delivery_period": "shipping_delivery",
    "edit_account": "account_access",
    "get_invoice": "billing",
    "get_refund": "refund_return",
    "payment_issue": "billing",
    "recover_password": "account_access",
    "registration_problems": "account_access",
    "set_up_shipping_address": "shipping_delivery",
    "track_order": "order_status",
    "track_refund": "refund_return",
}
# Credit reports, debts and contracts fit none of the labels and are left out.
CFPB_ISSUES = {
    "Communication tactics": "complaint",
    "Can't contact lender or servicer": "complaint",
    "Fees or interest": "billing",
    "Problem when making payments": "billing",
    "Problem with a lender or other company charging your account": "billing",
    "Problem with a purchase shown on your statement": "billing",
    "Trouble during payment process": "billing",
    "Wrong amount charged or received": "billing",
}
_MASK = re.compile(r" ?\bX{2,}(?:/X{2,})*(?:/\d+)?\b")
_AMOUNT = re.compile(r"\{(\$[\d.,]+)\}")


def ticket_rows(data: Path) -> list[Row]:
    """What a message to a support desk is about; what is none of its business is ``other``."""
    rows = [row_of(r, frozenset({r["label"]}), "ours", weight=2.0) for r in ours("ticket")]
    chooser = random.Random(17)  # noqa: S311 (not for secrets)

    def bitext(r: dict[str, Any]) -> Row | None:
        if (label := BITEXT_INTENTS.get(r["intent"])) is None:
            return None
        return row_of(r, frozenset({label}), "tickets/bitext_customer_support", weight=0.3)

    def cfpb(r: dict[str, Any]) -> Row | None:
        if (label := CFPB_ISSUES.get(r["issue"])) is None:
            return None
        unmasked = {**r, "text": _unmask(r["text"])}
        return row_of(unmasked, frozenset({label}), "tickets/cfpb_complaints_small", weight=0.5)

    rows += public(data, "tickets/bitext_customer_support", bitext)
    rows += public(data, "tickets/cfpb_complaints_small", cfpb)
    other = frozenset({"other"})
    rows += [
        replace(row, labels=other, weight=0.5)
        for row in benign_rows(data)
        if chooser.random() < 0.1
    ]
    return without_duplicates(rows)


def _unmask(text: str) -> str:
    """Blacked-out words (``XXXX``) are taken out and ``{$5.00}`` becomes ``$5.00``."""
    return _MASK.sub("", _AMOUNT.sub(r"\1", text))
