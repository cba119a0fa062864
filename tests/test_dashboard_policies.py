"""The policies page with its what-ifs, and the backtest page."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from dashboard_kit import CLIENT, Visitor, login, settings
from gateway_kit import Door, ScriptedUpstream, StartGateway, WordClassifier, make_config, serve
from ledger_kit import ended, query, until
from train_kit import TINY

from classifiers.types import Batch, Prediction

RULES = """
rules:
  - {name: no-attacks, description: The first one., when: {guard: attack}, do: {block: "Not here."}}
  - {name: greet, when: {intent: greeting}, do: {answer: "Hello!"}}
  - name: watch
    mode: shadow
    when: {all: [{guard: attack, at: 0.2}, {not: {intent: greeting}}]}
    do: {block: "Never."}
tests:
  - {user: "an attack of 0.9", expect: block, rule: no-attacks}
  - {user: "how are you?", expect: forward}
"""  # fmt: skip
SAID = (
    "an attack of 0.9",
    "an attack of 0.6",
    "an attack of 0.4",
    "an attack of 0.3",
    "nothing",
    "hello",
)


class Graded(WordClassifier):
    """Gives the score that a text names."""

    def predict(self, batch: Batch) -> list[tuple[Prediction, ...]]:
        return [
            (Prediction(self.name, "attack", float(found[1]) if found else 0.001),)
            for found in (re.search(r"attack of (0\.\d+)", text) for text in batch.texts)
        ]


def classifiers(guard: str = "test") -> list[WordClassifier]:
    """``guard`` is the version of the first."""
    return [
        Graded("guard", {"attack": r"\battack\b"}, version=guard),
        WordClassifier("intent", {"greeting": r"^hello\b"}, breaks=False),
    ]


@pytest.fixture
def door(tmp_path: Path, gateway: StartGateway) -> Door:
    """A gateway with an admin key that has judged what is said above."""
    found = gateway(RULES, settings(tmp_path), classifiers=classifiers())
    for text in SAID:
        say(found, text)
    ended(tmp_path, len(SAID))
    return found


def say(door: Door, text: str) -> None:
    body = {"model": "default", "messages": [{"role": "user", "content": text}]}
    headers = {"authorization": f"Bearer {CLIENT}"}
    answer = httpx.post(f"{door.url}/v1/chat/completions", json=body, headers=headers)
    answer.raise_for_status()


def plain(answer: httpx.Response) -> str:
    """What a page says, without its marks."""
    assert answer.status_code == 200, answer.text
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", answer.text)).split())


def test_policies_with_what_their_rules_did(door: Door) -> None:
    visitor = login(door)
    listed = visitor.get("/policies")
    told = plain(listed)
    assert "test@1" in told
    assert "no-attacks The first one. enforced block input 2 2 guard 0.500 decided by it" in told
    assert "greet enforced answer input 1 1 intent 0.500" in told
    assert "watch shadow block input 4 – guard 0.200 intent 0.500 with shadow rules" in told
    assert "among the newest 6 requests" in told
    for address in re.findall(r'href="(/dashboard/decisions\?[^"]+)"', listed.text):
        rows = visitor.http.get(html.unescape(address))
        assert rows.text.count("/dashboard/decisions/dec_") > 0, address


def test_a_policy_and_its_tests_again(door: Door) -> None:
    visitor = login(door)
    told = plain(visitor.get("/policies/of/test"))
    assert "2 tests. They passed when the policy was loaded" in told
    assert "If a classifier fails block" in told
    again = visitor.post("/policies/of/test/tests", of="/policies/of/test")
    assert "All 2 tests pass." in plain(again)
    assert visitor.get("/policies/of/other").status_code == 404


def what_if(visitor: Visitor, at: str, rule: str = "no-attacks", number: int = 0) -> str:
    query = {"rule": rule, "number": number, "at": at}
    return plain(visitor.get("/policies/of/test/what-if", params=query))


@pytest.mark.parametrize(
    ("at", "told"),
    [
        ("0.5", "Reach it 2 now 2 Newly stopped 0 Let go 0"),
        ("0.35", "Reach it 3 now 2 Newly stopped 1 Let go 0"),
        ("0.1", "Reach it 4 now 2 Newly stopped 2 Let go 0"),
        ("0.7", "Reach it 1 now 2 Newly stopped 0 Let go 1"),
        ("1", "Reach it 0 now 2 Newly stopped 0 Let go 2"),
    ],
)
def test_another_threshold(door: Door, at: str, told: str) -> None:
    found = what_if(login(door), at)
    assert told in found
    assert f"write the condition as {{guard: attack, at: {at}}}" in found
    assert "policy.yaml:" in found


def test_another_threshold_of_a_shadow_rule_changes_nothing(door: Door) -> None:
    found = what_if(login(door), "0.35", rule="watch")
    assert "Reach it 3 now 4 Newly stopped 0 Let go 0 Otherwise decided 0" in found


def test_the_page_of_a_threshold(door: Door) -> None:
    visitor = login(door)
    page = visitor.get("/policies/of/test/threshold", params={"rule": "no-attacks"})
    assert "in each of the 6 requests" in plain(page)
    bins = re.search(r'data-bins="([^"]+)"', page.text)
    assert bins is not None
    counts = json.loads(html.unescape(bins[1]))["counts"]
    assert (sum(counts), counts[0], counts[30], counts[45]) == (6, 2, 1, 1)
    for asked in (
        {"rule": "none"}, {"rule": "no-attacks", "number": 7}, {"rule": "no-attacks", "at": "2"},
        {"rule": "no-attacks", "at": "0.001"}, {"rule": "no-attacks", "at": "x"},
    ):  # fmt: skip
        answer = visitor.get("/policies/of/test/threshold", params=asked)
        assert answer.status_code in (400, 404), asked


def test_no_text_of_a_user_is_on_any_page(door: Door) -> None:
    visitor = login(door)
    for path in ("/policies", "/policies/of/test/threshold?rule=no-attacks&at=0.1"):
        assert "attack of" not in visitor.get(path).text
    # A test of a policy is the operator's own text.
    assert "attack of" not in visitor.get("/policies/of/test").text


CANDIDATE = "name: test\nversion: 2\n" + RULES.replace(
    "{guard: attack},", "{guard: attack, at: 0.35},"
)


def finished(visitor: Visitor) -> str:
    until(lambda: "hx-refresh" in visitor.get("/backtest/job").headers, "it never ends")
    return plain(visitor.get("/backtest"))


def test_a_backtest_in_the_background(door: Door, tmp_path: Path) -> None:
    visitor = login(door)
    assert "name: test version: 1" in plain(visitor.get("/backtest", params={"policy": "test"}))
    answer = visitor.post("/backtest/start", of="/backtest", text=CANDIDATE, days="7")
    assert answer.headers["location"].startswith("/dashboard/backtest?done=started")
    told = finished(visitor)
    assert "test@2, asked for by" in told
    assert "6 requests: 6 from recorded scores" in told
    assert "decided otherwise: 1; as before: 5" in told
    assert "no false-positive rate can be given" in told
    assert "newly stopped: 16.67% (1 of 6; 95%: 0.42% to 64.12%)" in told
    assert "test no-attacks 2 3 1 0 2 3" in told
    (noted,) = query(tmp_path, "SELECT * FROM doorman_audit WHERE action = 'backtest'")
    assert (noted["actor"], noted["name"]) == ("boss", "test@2")


@contextmanager
def promoted(folder: Path, port: int, more: str = "") -> Iterator[Door]:
    """A gateway with another version of ``guard``, whose ledger holds what the first one has judged."""
    config = make_config(folder, port, RULES, settings(folder, more))
    with serve(config, classifiers=classifiers()) as first:
        for text in SAID:
            say(first, text)
        ended(folder, len(SAID))
    with serve(config, classifiers=classifiers("next")) as second:
        say(second, SAID[1])
        ended(folder, len(SAID) + 1)
        yield second


@pytest.mark.parametrize("mode", ["hash", "full"])
def test_a_promotion_takes_the_history_and_says_so(
    mode: str, tmp_path: Path, upstream: ScriptedUpstream
) -> None:
    with promoted(tmp_path, upstream.port, f"record: {{content: {mode}}}") as door:
        visitor = login(door)
        told = plain(visitor.get("/policies/of/test/threshold", params={"rule": "no-attacks"}))
        assert "in each of the 1 request, of the newest 7, that" in told
        assert (
            "6 of the newest 7 requests are left out: another version of guard has judged" in told
        )
        assert ("With record.content: redacted" in told) == (mode == "hash")
        assert ("Texts are kept" in told) == (mode == "full")
        visitor.post("/backtest/start", of="/backtest", text=CANDIDATE, days="7")
        told = finished(visitor)
        assert "7 requests: 1 from recorded scores, 6 cannot be told" in told
        assert "cannot be told, 6: test: no-attacks was judged by another version of its" in told
        assert "6 requests cannot be told because another version of a pack had judged" in told
        assert ("of 6 requests that cannot be told no texts were kept" in told) == (mode == "hash")
        assert ("of 6 requests that cannot be told here the texts were kept" in told) == (
            mode == "full"
        )
        assert "test no-attacks 3 1 + 6 unknown 0 0 3 1 + 6 unknown" in told


def test_a_rule_that_answers_from_a_faq_has_no_slider(
    tmp_path: Path, gateway: StartGateway
) -> None:
    (tmp_path / "faq.yaml").write_text("questions: [{ask: ['When are you open?'], answer: At 9.}]")
    rules = "rules: [{name: faq, do: {answer_from: {faq: faq.yaml, at: 0.86}}}]"
    tiny = f"classifiers: {{encoder: '{TINY}'}}"
    door = gateway(rules, settings(tmp_path, tiny), classifiers=classifiers())
    told = plain(login(door).get("/policies/of/test"))
    assert (
        "faq enforced answer input 0 0 FAQ 0.860 set by what the rule promises; no slider" in told
    )


def test_candidates_with_faults_are_refused(door: Door, tmp_path: Path) -> None:
    visitor = login(door)
    (tmp_path / "secret.yaml").write_text("hidden words")
    faq = CANDIDATE.replace('{answer: "Hello!"}', "{answer_from: secret.yaml}")
    for text, told in (
        ("name: [", "candidate.yaml:1"),
        (CANDIDATE.replace("guard: attack, at: 0.35", "guard: atack"), "did you mean 'attack'"),
        (CANDIDATE.replace('{answer: "Hello!"}', "{route: nowhere}"), "which model_list has not"),
        (faq, "a FAQ that no policy in force has"),
        ("", "candidate.yaml"),
    ):
        answer = visitor.post("/backtest/start", of="/backtest", text=text, days="7")
        assert answer.status_code == 400
        assert told in html.unescape(answer.text)
        assert "hidden words" not in answer.text
    refused = visitor.http.post("/dashboard/backtest/start", data={"text": CANDIDATE})
    assert refused.status_code == 403  # without its token
