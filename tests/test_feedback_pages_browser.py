"""The pages of feedback in a real Chromium: keys that keep their place, texts that are not typed twice."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("sklearn", reason="scikit-learn is not installed (extra `train`)")
from browser_kit import FAINT, OVERFLOW, UNNAMED, browser, picture, window
from feedback_kit import NEW, ask, candidate, home_of, served, trained, with_candidate
from gateway_kit import Door, ScriptedUpstream
from train_kit import WORDS, run, text_of

pytestmark = pytest.mark.timeout(400)  # a browser on a busy machine
FAQ = 'questions: [{id: hours, ask: ["When are you open?"], answer: "From 9 to 18."}]'
RULES = """
rules:
  - {name: faq, do: {answer_from: {faq: faq.yaml, at: 0.99}}}
  - {name: no-kitchen, when: {hobby: kitchen}, do: {block: "Not in here."}}
"""
LABELS = [f"hobby-{n}" for n in range(1, 13)]


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    with browser() as found:
        yield found


@pytest.fixture(scope="module")
def pack(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return with_candidate(trained(tmp_path_factory.mktemp("trained")))


@pytest.fixture
def door(pack: Path, tmp_path: Path, upstream: ScriptedUpstream) -> Iterator[Door]:
    (tmp_path / "faq.yaml").write_text(FAQ)
    more = 'feedback: {near: 0, sample: 1}\nrecord: {hash_key: "0123456789abcdef"}'
    with served(home_of(tmp_path, pack), upstream, more, RULES) as found:
        yield found


def focused(page: Any) -> str:
    """The decision whose card has the focus."""
    found: str = page.evaluate("document.activeElement.closest('.item')?.dataset.id ?? ''")
    return found


def test_the_keys_keep_their_place(chromium: Any, door: Door) -> None:
    for text in NEW[:4]:
        ask(door, text)
    with window(chromium) as page:
        page.goto(f"{door.url}/dashboard/review")
        ids = page.locator(".item").evaluate_all("all => all.map((e) => e.dataset.id)")
        assert len(ids) == 4
        page.keyboard.press("j")
        page.keyboard.press("j")
        assert focused(page) == ids[1]
        page.keyboard.press("c")
        page.get_by_role("status").get_by_text("the decision was correct").wait_for()
        assert focused(page) == ids[2]
        page.keyboard.press("j")
        assert focused(page) == ids[3]
        page.keyboard.press("w")  # of the last one: the one before it is next
        page.get_by_text("it counts as called wrong").wait_for()
        assert page.locator(".item").count() == 2
        assert focused(page) == ids[2]
        page.reload()
        assert focused(page) == ""


def test_a_label_without_the_text_asks_for_it_in_its_place(chromium: Any, door: Door) -> None:
    id, action = ask(door, "soup, oven, bread and cheese with a recipe")
    assert action == "block"
    with window(chromium) as page:
        page.goto(f"{door.url}/dashboard/review")
        page.keyboard.press("2")
        assert page.url.endswith("/dashboard/review")
        box = page.get_by_label("The text", exact=False)
        assert box.evaluate("e => e === document.activeElement && e.matches(':invalid')")
        picture(page, "feedback-text-missing")
        box.fill("soup, oven, bread and cheese with a recipe")
        page.get_by_role("button", name="travel").click()
        page.get_by_text("As a correction it counts").wait_for()
    [one] = door.loop.run(door.app.state.gateway.feedback.table.corrections("hobby"))
    assert (one.decision_id, one.labels) == (id, ("travel",))


def test_a_text_that_is_wrong_is_told_in_its_place(chromium: Any, door: Door) -> None:
    ids = [ask(door, f"{word} {'soup, oven, bread, cheese'}")[0] for word in ("hot", "cold")]
    context = chromium.new_context()
    page = context.new_page()  # the browser itself tells of the 400
    page.goto(f"{door.url}/dashboard/review")
    card = page.locator(f".item[data-id='{ids[0]}']")
    card.get_by_label("The text", exact=False).fill("another one")
    card.get_by_role("button", name="garden").click()
    page.get_by_text("is no text of that request").wait_for()
    assert page.locator(".item").count() == 2
    assert focused(page) == ids[0]
    box = card.get_by_label("The text", exact=False)
    assert box.evaluate("e => e === document.activeElement")
    assert box.input_value() == "another one"
    picture(page, "feedback-fault")
    context.close()


def test_a_proved_text_is_not_pasted_twice(chromium: Any, door: Door) -> None:
    text = "soup, oven,\nbread and cheese"
    id, _ = ask(door, text)
    with window(chromium) as page:
        page.goto(f"{door.url}/dashboard/decisions/{id}")
        box = page.get_by_label("The text", exact=False)
        why = page.get_by_label("Text of the user", exact=False)
        why.fill("another one")
        page.get_by_role("button", name="Explain").click()
        page.get_by_text("This is not a text of the request").wait_for()
        assert box.input_value() == ""
        why.fill(text)
        page.get_by_role("button", name="Explain").click()
        page.get_by_text("This is the text of the request").wait_for()
        assert box.input_value() == text
        assert page.locator("kbd").count() == 0  # keys are of the queue
        assert "soup" not in page.url
        picture(page, "feedback-proved")
        page.get_by_role("button", name="travel", exact=True).click()
        page.get_by_role("button", name="Correct").wait_for()
    [one] = door.loop.run(door.app.state.gateway.feedback.table.corrections("hobby"))
    assert one.text == text


def test_labels_after_the_ninth_have_letters(
    chromium: Any, tmp_path: Path, upstream: ScriptedUpstream
) -> None:
    made = tmp_path / "made"
    made.mkdir()
    topics = list(WORDS)
    rows = [
        {"text": f"{label} {text_of(topics[n % 3], 100 * n + row)}", "label": label}
        for n, label in enumerate(LABELS)
        for row in range(20)
    ]
    run(made, rows, labels=LABELS)
    rules = "rules: [{name: first, when: {hobby: hobby-1}, do: {block: 'No.'}}]"
    more = "feedback: {near: 0, sample: 1}\nrecord: {content: full}"
    with served(home_of(tmp_path, made), upstream, more, rules) as door, window(chromium) as page:
        id, _ = ask(door, "roses and soup")
        page.goto(f"{door.url}/dashboard/review")
        keys = page.locator("button[data-key]").evaluate_all("all => all.map((e) => e.dataset.key)")
        assert len(keys) == len(set(keys))
        assert keys[:13] == ["c", *"123456789", "a", "b", "d"]
        picture(page, "feedback-letters")
        page.keyboard.press("j")
        page.keyboard.press("b")
        page.get_by_text("As a correction it counts").wait_for()
        [one] = door.loop.run(door.app.state.gateway.feedback.table.corrections("hobby"))
        assert (one.decision_id, one.labels) == (id, ("hobby-11",))


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [400, 1280])
def test_the_pages_look_right(chromium: Any, door: Door, width: int, scheme: str) -> None:
    short = candidate(door)
    ids = [ask(door, text)[0] for text in (NEW[1], NEW[1], "soup, oven, bread and cheese")]
    ask(door, "When are you open?")
    door.loop.run(door.app.state.gateway.feedback.try_beside("hobby", short, "ann"))
    wrong: list[Any] = []
    context = chromium.new_context(
        viewport={"width": width, "height": 900}, color_scheme=scheme
    )  # the browser itself tells of the 404
    page = context.new_page()
    paths = {
        "review": "/review",
        "decision": f"/decisions/{ids[-1]}",
        "retrain": "/retrain/hobby",
        "error": "/retrain/nobody",
    }
    for name, path in paths.items():
        page.goto(f"{door.url}/dashboard{path}")
        page.locator("h1").first.wait_for()
        picture(page, f"feedback-{name}-{width}-{scheme}")
        over = page.evaluate(OVERFLOW)
        wrong += [(name, "is too wide by", over)] if over else []
        wrong += [(name, "no name", html) for html in page.evaluate(UNNAMED)]
        wrong += [(name, "faint", told) for told in page.evaluate(FAINT)]
        assert page.locator("h1").count() == 1, name
        assert page.locator("nav [aria-current]").count() == (name != "error"), name
    context.close()
    assert wrong == []
