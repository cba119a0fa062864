"""The review queue through the dashboard: one card a text, whose buttons, and what cannot be trained."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("sklearn", reason="scikit-learn is not installed (extra `train`)")

from dashboard_kit import ADMIN, KEYS, Visitor, login
from feedback_kit import NEW, ask, home_of, say, served, trained
from gateway_kit import Door, ScriptedUpstream
from ledger_kit import ended, query, until

from proxy.cli import main
from proxy.feedback import review
from proxy.ledgers.savings import savings

APP = "dm-client-0123456789"
HOURS = "When are you open?"
FAQ = 'questions: [{id: hours, ask: ["When are you open?"], answer: "From 9 to 18."}]'
RULES = """
rules:
  - {name: faq, do: {answer_from: {faq: faq.yaml, at: 0.99}}}
  - {name: no-kitchen, when: {hobby: kitchen, at: 0.5}, do: {block: "Not in here."}}
"""
ALL = "feedback: {near: 20, sample: 1}\n"
CARD = re.compile(r'<article class="card item".*?</article>', re.S)


@pytest.fixture(scope="module")
def pack(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(tmp_path_factory.mktemp("trained"))


@pytest.fixture
def home(pack: Path, tmp_path: Path) -> Path:
    (tmp_path / "faq.yaml").write_text(FAQ)
    return home_of(tmp_path, pack)


@pytest.fixture
def door(home: Path, upstream: ScriptedUpstream) -> Iterator[Door]:
    with served(home, upstream, KEYS + ALL, RULES) as found:
        yield found


def cards(visitor: Visitor) -> list[str]:
    return CARD.findall(visitor.get("/review").text)


def label(visitor: Visitor, **fields: Any) -> Any:
    return visitor.post("/review/label", of="/review", **fields)


def corrections(door: Door, name: str = "hobby") -> list[Any]:
    found: list[Any] = door.loop.run(door.app.state.gateway.feedback.table.corrections(name))
    return found


def mistakes(door: Door) -> dict[str, int]:
    reader = door.app.state.gateway.feedback.reader
    return dict(door.loop.run(savings(reader, "2020-01-01")).mistakes.wrong)


def test_one_text_is_one_card_and_one_judgement(door: Door, home: Path) -> None:
    ids = [ask(door, NEW[0], api_key=APP)[0] for _ in range(4)]
    other, _ = ask(door, NEW[1], api_key=APP)
    until(lambda: len(query(home, "SELECT * FROM doorman_decisions WHERE state = 'done'")) == 5)
    visitor = login(door)
    shown = cards(visitor)
    assert len(shown) == 2
    [many] = [card for card in shown if "4 times" in card]
    assert ids[-1] in many  # the newest
    [single] = [card for card in shown if card != many]
    assert other in single
    assert "times" not in single
    assert "badge-warn" not in many

    # A client that is content with its own request has not judged the others of the text.
    say(door, {"decision_id": ids[0], "verdict": "correct"}, APP)
    assert len(cards(visitor)) == 2
    # A report of one of them takes the others in.
    say(door, {"decision_id": ids[1], "verdict": "wrong", "comment": "No!"}, APP)
    reported, _ = cards(visitor)
    assert "reported" in reported
    assert "4 times" in reported
    done = label(
        visitor, decision_id=ids[1], report="2", classifier="hobby", label="kitchen", text=NEW[0]
    )
    assert done.status_code == 303, done.text
    assert [other in card for card in cards(visitor)] == [True]
    assert [(c.text, c.labels) for c in corrections(door)] == [(NEW[0], ("kitchen",))]
    ask(door, NEW[0], api_key=APP)  # the same once more
    assert len(cards(visitor)) == 1


def test_without_recorded_content_nobody_can_tell_which_are_alike(
    home: Path, upstream: ScriptedUpstream
) -> None:
    with served(home, upstream, f"{KEYS}{ALL}record: {{content: none}}\n", RULES) as door:
        for _ in range(2):
            ask(door, NEW[0], api_key=APP)
        assert len(cards(login(door))) == 2


def test_an_uncertain_card_asks_for_the_labels_of_the_classifier_that_was_unsure(
    door: Door, home: Path
) -> None:
    id, action = ask(door, HOURS, api_key=APP)
    assert action == "answer"
    visitor = login(door)
    [card] = cards(visitor)
    assert '<input type="hidden" name="classifier" value="hobby">' in card
    told = re.sub(r"<[^>]+>", "", card)
    assert re.search(r"uncertain\s+hobby was unsure of kitchen: 0\.\d+, the rule’s threshold", told)
    assert re.search(r"Decided: answer by faq", told)
    # What is learnt is the text of that score, for that classifier.
    fields = {"stage": "input", "chosen_text": "0", "classifier": "hobby", "label": "travel"}
    assert label(visitor, decision_id=id, text=HOURS, **fields).status_code == 303
    assert [(c.text, c.labels) for c in corrections(door)] == [(HOURS, ("travel",))]


def test_an_uncertain_reply_is_not_taken_for_the_users_text(
    home: Path, upstream: ScriptedUpstream
) -> None:
    rules = "rules: [{name: no-kitchen, check: output, when: {hobby: kitchen}, do: {block: 'No.'}}]"
    more = f"{KEYS}{ALL}record: {{content: full}}\n"
    with served(home, upstream, more, rules) as door:
        id, _ = ask(door, NEW[0], api_key=APP)
        ended(home, 1)
        [item] = door.loop.run(review.queue(door.app.state.gateway))
        assert (item.stage, item.text, item.told) == ("output", None, "reply")
        visitor = login(door)
        [card] = cards(visitor)
        assert "Replies of the model are never recorded: paste the reply." in card
        assert NEW[0] not in card
        fields = {"stage": "output", "classifier": "hobby", "label": "travel"}
        refused = label(visitor, decision_id=id, **fields)
        assert refused.status_code == 400
        assert "set record.content to hash" not in refused.text
        assert label(visitor, decision_id=id, text="ok", **fields).status_code == 303
        [one] = corrections(door)
        assert (one.stage, one.text) == ("output", "ok")


def test_a_wrong_answer_of_a_faq_is_called_wrong_and_trains_nothing(
    home: Path, upstream: ScriptedUpstream
) -> None:
    with served(home, upstream, f"{KEYS}feedback: {{near: 0, sample: 0}}\n", RULES) as door:
        ids = [ask(door, HOURS, api_key=APP)[0] for _ in range(4)]
        until(lambda: len(query(home, "SELECT * FROM doorman_decisions WHERE state = 'done'")) == 4)
        visitor = login(door)
        # An admin's word counts at once; a client's waits for a person.
        first = say(door, {"decision_id": ids[0], "verdict": "wrong"}, ADMIN).json()
        assert (first["state"], first["classifier"], first["label"]) == (
            "accepted",
            "faq/faq",
            None,
        )
        assert mistakes(door) == {"answer": 1}
        report = say(door, {"decision_id": ids[1], "verdict": "wrong"}, APP).json()
        assert report["state"] == "reported"
        [card] = cards(visitor)
        assert 'name="use" value="nothing" formnovalidate data-key="w"' in card
        done = label(visitor, decision_id=ids[1], report=report["id"], use="nothing")
        assert done.headers["location"] == "/dashboard/review?done=counted"
        assert mistakes(door) == {"answer": 2}
        # On the decision's page, and on the command line.
        assert label(visitor, decision_id=ids[2], use="nothing", back="decision").status_code == 303
        assert mistakes(door) == {"answer": 3}
        say(door, {"decision_id": ids[3], "verdict": "wrong", "text": HOURS}, APP)
        table = door.app.state.gateway.feedback.table
        [waiting] = door.loop.run(table.page(5, state="reported"))
        accept = [f"{waiting.id}@{waiting.stamp}", "-c", str(home / "config.yaml")]
        (home / "config.yaml").write_text(f'ledger: {{url: "sqlite:///{home}/data/doorman.db"}}\n')
        assert main(["feedback", "accept", *accept]) == 2
        assert main(["feedback", "accept", "--nothing-to-train", *accept]) == 0
        assert mistakes(door) == {"answer": 4}
        found = door.loop.run(table.page(9, state="accepted"))
        assert [(one.labels, one.text) for one in found] == [(None, None)] * 4
        assert corrections(door) == corrections(door, "faq/faq") == []
        assert door.loop.run(table.counts()) == {}


def test_a_trained_classifiers_decision_waits_for_its_label(door: Door) -> None:
    text = "the recipe: soup, flour, bread and cheese in the oven"
    id, action = ask(door, text, api_key=APP)
    assert action == "block"
    said = say(door, {"decision_id": id, "verdict": "wrong"}, ADMIN).json()
    assert said["state"] == "reported"
    visitor = login(door)
    [card] = cards(visitor)
    assert 'value="nothing"' in card  # where nobody has the text any more
    assert label(visitor, decision_id=id, report=said["id"], use="nothing").status_code == 303
    assert corrections(door) == []
    assert mistakes(door) == {"block": 1}


def test_what_is_missing_is_told_where_it_was_said(door: Door) -> None:
    ids = [ask(door, text, api_key=APP)[0] for text in NEW[:2]]
    visitor = login(door)
    fields = {"decision_id": ids[0], "classifier": "hobby", "label": "kitchen"}
    page = label(visitor, **fields)
    assert page.status_code == 400
    assert len(CARD.findall(page.text)) == 2  # the queue is still there
    [card] = [card for card in CARD.findall(page.text) if 'role="alert"' in card]
    assert ids[0] in card
    assert "The text is needed." in card
    typed = label(visitor, text="something <else>", **fields)
    [card] = [card for card in CARD.findall(typed.text) if 'role="alert"' in card]
    assert "no text of that request" in card
    assert ">something &lt;else&gt;</textarea>" in card
    again = label(visitor, back="decision", text="something <else>", **fields)
    assert again.status_code == 400
    assert "Was this right?" in again.text
    assert ">something &lt;else&gt;</textarea>" in again.text
    gone = label(visitor, decision_id="dec_" + "0" * 24, classifier="hobby", label="kitchen")
    assert gone.status_code == 404
    assert '<a class="button" href="/dashboard/review">Back to Review</a>' in gone.text
