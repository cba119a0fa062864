"""``doorman backtest`` where a rule answers from a FAQ, on what a real gateway has recorded."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest
from gateway_kit import StartGateway
from ledger_kit import ended, ledger
from test_backtest_cli import ASK, ATTACK, config, run

ORDER = "Where is the order that I placed on Monday?"
DELIVERY = "Do you deliver to Paris?"
PASSWORD = "How can I reset my password?"
TREES = "How tall do oak trees grow?"
HELP_DESK = Path(__file__).parents[1] / "policies" / "faq" / "help-desk.yaml"
SHIPPED = "[jailbreak, entities, pii]"
RULES = """
rules:
  - {name: no-attacks, when: {jailbreak: jailbreak, at: 0.5}, do: {block: "No."}}
  - {name: no-addresses, when: {pii: EMAIL}, do: redact}  # without it no text is kept redacted
  - {name: faq, do: {answer_from: {faq: faq.yaml, max_wrong_answer_rate: 1%}}}
"""


def recorded(folder: Path, gateway: StartGateway, mode: str, said: Sequence[str]) -> str:
    """A config whose ledger holds what was said; returns its path."""
    (folder / "faq.yaml").write_text(HELP_DESK.read_text())
    more = f"record: {{content: {mode}}}\n{ledger(folder)}"
    door = gateway(RULES, f"classifiers: {{shipped: {SHIPPED}}}\n{more}", classifiers=None)
    for text in said:
        body = {"model": "default", "messages": [{"role": "user", "content": text}]}
        answer = httpx.post(f"{door.url}/v1/chat/completions", json=body, timeout=60)
        answer.raise_for_status()
    ended(folder, len(said))
    return config(folder, SHIPPED, more)


def judged(
    capsys: pytest.CaptureFixture[str], folder: Path, where: str, rules: str, *more: str
) -> Any:
    (folder / "new.yaml").write_text(f"name: test\nversion: 2\n{rules}")
    status, found, err = run(
        capsys, folder, "-c", where, "--policy", str(folder / "new.yaml"), *more
    )
    assert (status, err) == (0, "")
    return found


def of_rule(found: Any, name: str) -> dict[str, int]:
    (rule,) = [one for one in found["rules"] if one["rule"] == name]
    return {key: rule[key] for key in ("before", "after", "new", "gone", "untold")}


SAME = {"before": 2, "after": 2, "new": 0, "gone": 0, "untold": 0}


@pytest.mark.parametrize("mode", ["hash", "redacted"])
def test_a_faq_that_nobody_changed_answers_as_it_did(
    mode: str, tmp_path: Path, gateway: StartGateway, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its thresholds are computed anew, from features in half precision; another rule is what changes."""
    where = recorded(tmp_path, gateway, mode, (PASSWORD, DELIVERY, ASK, ATTACK))
    for rules in (RULES, RULES.replace("at: 0.5", "at: 0.6")):
        found = judged(capsys, tmp_path, where, rules)
        assert found["judged"] == {"scores": 4}
        assert (found["changes"], found["unchanged"]) == ([], 4)
        assert of_rule(found, "faq") == SAME


def test_rules_that_scores_tell_are_not_judged_by_texts_that_lack_something(
    tmp_path: Path, gateway: StartGateway, capsys: pytest.CaptureFixture[str]
) -> None:
    """A further classifier asks for the texts; the place that the answer needs was taken out of them."""
    where = recorded(tmp_path, gateway, "redacted", (PASSWORD, DELIVERY, ORDER))
    spam = "  - {name: no-spam, when: {spam: spam, at: 0.9}, do: {block: 'No.'}}\n"
    (tmp_path / "config.yaml").write_text(
        Path(where).read_text().replace(SHIPPED, SHIPPED.replace("]", ", spam]"))
    )
    found = judged(capsys, tmp_path, where, RULES + spam)
    assert found["judged"] == {"texts": 1, "altered": 2}
    assert (found["changes"], found["unchanged"]) == ([], 3)
    assert of_rule(found, "faq") == SAME


def test_a_faq_that_changed_is_judged_by_texts_that_are_whole(
    tmp_path: Path, gateway: StartGateway, capsys: pytest.CaptureFixture[str]
) -> None:
    where = recorded(tmp_path, gateway, "redacted", (PASSWORD, DELIVERY, TREES))
    other = HELP_DESK.read_text().replace(
        "questions:", f"questions:\n  - ask: ['{TREES}']\n    answer: Tall.", 1
    )
    (tmp_path / "other.yaml").write_text(other)
    found = judged(capsys, tmp_path, where, RULES.replace("faq: faq.yaml", "faq: other.yaml"))
    # Whether it would fill its slot cannot be told: there is no place left in the text.
    assert found["judged"] == {"texts": 2, "untold": 1}
    assert found["untold_because"] == {
        "test: faq looks for what was taken out of the kept texts: personal data": 1
    }
    (change,) = found["changes"]
    assert (change["before"], change["after"], change["requests"]) == ("forward", "answer", 1)
    assert of_rule(found, "faq") == {"before": 2, "after": 2, "new": 1, "gone": 0, "untold": 1}


def test_a_faq_that_changed_cannot_be_told_without_texts(
    tmp_path: Path, gateway: StartGateway, capsys: pytest.CaptureFixture[str]
) -> None:
    where = recorded(tmp_path, gateway, "hash", (PASSWORD, DELIVERY, ATTACK))
    found = judged(capsys, tmp_path, where, RULES.replace("rate: 1%", "rate: 5%"))
    assert found["judged"] == {"scores": 1, "untold": 2}  # the attack is blocked in any case
    # In place, under the old version: what was answered then was another FAQ's answer.
    (tmp_path / "faq.yaml").write_text(HELP_DESK.read_text() + "\n  - Hm?\n")
    found = judged(capsys, tmp_path, where, RULES)
    assert found["judged"] == {"scores": 1, "untold": 2}
    assert of_rule(found, "faq") == {"before": 2, "after": 0, "new": 0, "gone": 0, "untold": 2}
    assert found["untold_without_texts"] == 2
