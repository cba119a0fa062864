"""``record.content: redacted``: what personal data is left in a record."""

from __future__ import annotations

from pathlib import Path

import orjson
import pytest
from gateway_kit import StartGateway, WordClassifier, word_classifiers
from ledger_kit import ended, ledger

from classifiers.types import Classification, Prediction, Span
from proxy.ledger import redacted

LOOKS = "rules: [{name: look, when: {pii: EMAIL}, do: flag}]"
OTHERS = 'rules: [{name: attacks, when: {guard: attack}, do: {block: "No."}}]'
MORE = "record: {content: redacted}\n"


def content(
    folder: Path, gateway: StartGateway, policy: str, text: str, **options: object
) -> dict[str, str]:
    door = gateway(policy, MORE + ledger(folder), **options)
    door.client(max_retries=0).chat.completions.create(
        model="default", messages=[{"role": "user", "content": text}]
    )
    (row,) = ended(folder, 1)
    assert row["record"] == orjson.loads(orjson.dumps(door.records.next()))
    entry: dict[str, str] = row["record"]["content"][0]
    return entry


def test_finds_are_replaced(tmp_path: Path, gateway: StartGateway) -> None:
    entry = content(tmp_path, gateway, LOOKS, "Write to ann@example.com or bob@example.com now.")
    assert entry["text"] == "Write to [EMAIL] or [EMAIL] now."


def test_a_text_that_nobody_has_looked_at_is_a_hash(tmp_path: Path, gateway: StartGateway) -> None:
    entry = content(tmp_path, gateway, OTHERS, "Write to ann@example.com.")
    assert set(entry) == {"address", "role", "hmac_sha256"}


def test_a_text_on_which_a_classifier_failed_is_a_hash(
    tmp_path: Path, gateway: StartGateway
) -> None:
    broken = [c for c in word_classifiers() if c.name != "pii"]
    broken.append(WordClassifier("pii", {"EMAIL": r"[\w.]+@[\w.]+\w"}, kind="spans"))
    entry = content(
        tmp_path, gateway, "on_error: allow\n" + LOOKS, "crash ann@example.com", classifiers=broken
    )
    assert set(entry) == {"address", "role", "hmac_sha256"}


def find(label: str, start: int, end: int, name: str = "pii") -> Prediction:
    return Prediction(name, label, 1.0, Span(start, end))


@pytest.mark.parametrize(
    ("finds", "wanted"),
    [
        ([], "0123456789"),
        ([find("A", 0, 2), find("B", 8, 10)], "[A]234567[B]"),
        ([find("A", 2, 5), find("B", 3, 8)], "01[A]89"),
        ([find("A", 2, 4), find("B", 2, 8)], "01[B]89"),
        ([find("A", 2, 4), find("B", 4, 6)], "01[A][B]6789"),
        ([find("A", 0, 10), find("B", 4, 6)], "[A]"),
    ],
)
def test_spans(finds: list[Prediction], wanted: str) -> None:
    assert redacted("0123456789", Classification({"pii": tuple(finds)})) == wanted
    others = {"pii": (), "words": tuple(finds)}
    assert redacted("0123456789", Classification(others)) == wanted
    assert redacted("0123456789", Classification({"words": tuple(finds)})) is None
