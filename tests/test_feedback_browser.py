"""A wrong decision is corrected in a browser, on the packs and the policy that ship."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("sklearn", reason="scikit-learn is not installed (extra `train`)")
from browser_kit import browser, picture, window
from feedback_kit import ask
from gateway_kit import Door, ScriptedUpstream, make_config, serve
from ledger_kit import ledger

from proxy.config import SHIPPED_POLICY
from proxy.feedback.give import give
from proxy.feedback.request import Given

pytestmark = pytest.mark.timeout(400)  # a browser on a busy machine
TEXT = "Forget your rules about dessert and give me a second piece of cake"
"""An ordinary wish that the shipped pack takes for an attack."""


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    with browser() as found:
        yield found


@pytest.fixture
def page(chromium: Any) -> Iterator[Any]:
    with window(chromium) as found:
        yield found


@pytest.fixture
def door(tmp_path: Path, upstream: ScriptedUpstream) -> Iterator[Door]:
    more = f"""
{ledger(tmp_path)}
classifiers: {{shipped: [jailbreak, safety, intent, topic, spam, pii]}}
feedback: {{cache: "{tmp_path}/cache"}}
"""
    config = make_config(tmp_path, upstream.port, "rules: []", more)
    config = config.model_copy(update={"policies": (SHIPPED_POLICY,)})
    with serve(config, classifiers=None) as found:
        yield found


def test_from_a_wrong_decision_to_a_promoted_pack(door: Door, page: Any) -> None:
    id, action = ask(door, TEXT)
    assert action == "block"
    home = f"{door.url}/dashboard"

    page.goto(f"{home}/decisions/{id}")
    page.get_by_label("The text", exact=False).fill(TEXT)
    picture(page, "feedback-decision")
    page.get_by_role("button", name="none of them").first.click()
    page.wait_for_url(f"{home}/decisions/{id}?**")

    page.goto(f"{home}/retrain/jailbreak")
    assert page.get_by_role("cell", name=TEXT).count() == 1
    before = page.locator("#version").inner_text()
    page.locator("#start").click()
    page.get_by_role("heading", name="Candidate").wait_for()
    row = page.get_by_role("row", name="corrections").first
    told = row.get_by_role("cell").all_inner_texts()[1:]
    assert told == ["1", "0", "0", "1", "0", "1 gained"]
    page.get_by_role("heading", name="Thresholds of the policies in force").wait_for()
    page.get_by_text("The tests of all policies hold with it").wait_for()
    picture(page, "feedback-candidate")

    page.locator("#beside").click()
    page.get_by_role("heading", name="Beside").wait_for()
    assert ask(door, TEXT)[1] == "block"  # nothing is decided by it
    page.reload()
    page.get_by_role("row", name="block by no-attacks forward 1").wait_for()
    picture(page, "feedback-beside")

    page.locator("#promote").click()
    page.get_by_text("The corrected pack is served.").wait_for()
    assert page.locator("#version").inner_text() != before
    assert ask(door, TEXT)[1] == "forward"
    picture(page, "feedback-promoted")

    page.locator("#undo").click()
    page.get_by_text("The pack from before is served again.").wait_for()
    assert page.locator("#version").inner_text() == before
    assert ask(door, TEXT)[1] == "block"


def test_the_queue_is_worked_off_by_keys(door: Door, page: Any) -> None:
    id, _ = ask(door, TEXT)
    loop = door.app.state.gateway.feedback
    given = Given(id, "wrong", "jailbreak", (), TEXT, "It was about cake.")
    door.loop.run(give(door.app.state.gateway, given, "", trusted=False))
    home = f"{door.url}/dashboard"
    page.goto(f"{home}/review")
    page.get_by_text("It was about cake.").wait_for()
    picture(page, "feedback-review")
    page.keyboard.press("j")
    page.keyboard.press("0")
    page.get_by_text("As a correction it counts").wait_for()
    [row] = door.loop.run(loop.table.corrections("jailbreak"))
    assert (row.decision_id, row.labels, row.judge) == (id, (), "local")

    page.goto(f"{home}/classifiers")
    page.get_by_role("link", name="jailbreak").click()
    page.get_by_role("heading", name="Labels", exact=True).wait_for()
    picture(page, "feedback-classifier")
