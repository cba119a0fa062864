"""`doorman demo` on everything that ships: what the README promises is what comes out."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest


@pytest.fixture(scope="module")
def rows() -> list[dict[str, object]]:
    done = subprocess.run(
        [sys.executable, "-m", "proxy.cli", "demo", "--oneshot", "--json", "--port", "0"],
        capture_output=True,
        text=True,
        check=True,
        timeout=100,
    )
    found: list[dict[str, object]] = json.loads(done.stdout)
    return found


EXPECTED = {
    "greeting": ("answer", False),
    "thanks, streamed": ("answer", False),
    "order question": ("route", True),
    "order question, streamed": ("route", True),
    "question of the FAQ": ("answer", False),
    "coding question": ("forward", True),
    "homework, streamed": ("forward", True),
    "attack": ("block", False),
    "attack in a tool result": ("block", False),
    "harmful request": ("block", False),
    "threat, streamed": ("block", False),
    "greeting long ago": ("forward", True),
}


@pytest.mark.parametrize("request_title", EXPECTED)
def test_decisions(rows: list[dict[str, object]], request_title: str) -> None:
    row = next(row for row in rows if row["request"] == request_title)
    assert (row["action"], row["upstream_called"]) == EXPECTED[request_title], row


def test_a_near_miss_of_the_faq_goes_to_a_model(rows: list[dict[str, object]]) -> None:
    near = next(row for row in rows if row["request"] == "near to the FAQ")
    assert near["upstream_called"]
    asked = next(row for row in rows if row["request"] == "question of the FAQ")
    assert (asked["rule"], str(asked["label"]).split(": ")[1]) == (
        "common-questions",
        "reset-password",
    )
    assert "shop.example/login" in str(asked["reply"])


def test_what_was_not_forwarded_saved_money(rows: list[dict[str, object]]) -> None:
    for row in rows:
        if not row["upstream_called"]:
            assert isinstance(row["saved_usd"], float)
            assert row["saved_usd"] > 0


def test_personal_data_comes_back_to_the_user_but_is_never_sent(
    rows: list[dict[str, object]],
) -> None:
    row = next(row for row in rows if row["request"] == "personal data")
    assert "2 redacted" in row["tags"]  # type: ignore[operator]
    # doorman/echo repeats what it was sent; the originals are put back on the way out.
    assert "jane.doe@example.com" in str(row["reply"])
    assert "4111 1111 1111 1111" in str(row["reply"])
