"""The threshold slider and the backtest page in a real Chromium."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browser_kit import FAINT, OVERFLOW, UNNAMED, browser, picture, window
from dashboard_kit import ADMIN, CLIENT, login, settings
from gateway_kit import Door, ScriptedUpstream, completion, make_config, serve
from ledger_kit import ended
from test_dashboard_policies import CANDIDATE, RULES, SAID, classifiers, finished, promoted

THRESHOLD = "/dashboard/policies/of/test/threshold?rule=no-attacks&number=0"


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    with browser() as found:
        yield found


@pytest.fixture(scope="module")
def door(_upstream: ScriptedUpstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    """A gateway that has judged a few graded requests, and its admin key."""
    folder = tmp_path_factory.mktemp("policies")
    _upstream.script = completion("ok")
    config = make_config(folder, _upstream.port, RULES, settings(folder))
    with serve(config, classifiers=classifiers()) as found:
        client = found.client(api_key=CLIENT, max_retries=0)
        for text in SAID:
            client.chat.completions.create(
                model="default", messages=[{"role": "user", "content": text}]
            )
        ended(folder, len(SAID))
        yield found


@pytest.fixture(scope="module")
def later(_upstream: ScriptedUpstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    """The same after a pack was promoted, and after a backtest that can tell little."""
    _upstream.script = completion("ok")
    with promoted(tmp_path_factory.mktemp("promoted"), _upstream.port) as found:
        visitor = login(found)
        visitor.post("/backtest/start", of="/backtest", text=CANDIDATE, days="7")
        finished(visitor)
        yield found


def enter(page: Any, door: Door) -> None:
    page.goto(f"{door.url}/dashboard/login")
    page.get_by_label("Admin key").fill(ADMIN)
    page.get_by_role("button", name="Log in").click()
    page.wait_for_url("**/dashboard")


def test_the_slider_shows_what_would_change(chromium: Any, door: Door) -> None:
    with window(chromium) as page:
        enter(page, door)
        page.get_by_role("link", name="Policies").click()
        page.get_by_role("row", name="no-attacks").get_by_role("link", name="guard").click()
        page.locator("#histogram canvas").wait_for()
        slide = page.get_by_label("Threshold", exact=True)
        slide.fill("0.35")
        page.get_by_text("{guard: attack, at: 0.35}").wait_for()
        stopped = page.locator(".figure", has_text="Newly stopped")
        assert stopped.locator(".value").inner_text() == "1"
        picture(page, "threshold")
        page.locator("#what-if a.mono").click()
        page.get_by_role("heading", level=1).wait_for()
        assert "/dashboard/decisions/dec_" in page.url
        page.go_back()
        page.get_by_label("Threshold, as a number").fill("0.1")
        page.get_by_text("{guard: attack, at: 0.1}").wait_for()
        assert stopped.locator(".value").inner_text() == "2"
        slide.focus()  # by keyboard, too
        page.keyboard.press("ArrowRight")
        page.get_by_text("{guard: attack, at: 0.101}").wait_for()


def test_tests_run_again_in_place(chromium: Any, door: Door) -> None:
    with window(chromium) as page:
        enter(page, door)
        page.goto(f"{door.url}/dashboard/policies/of/test")
        page.get_by_role("button", name="Run the tests again").click()
        page.get_by_text("All 2 tests pass.").wait_for()
        assert page.url.endswith("/policies/of/test")


def test_a_backtest_from_a_file(chromium: Any, door: Door, tmp_path: Path) -> None:
    (tmp_path / "new.yaml").write_text(CANDIDATE)
    with window(chromium) as page:
        enter(page, door)
        page.goto(f"{door.url}/dashboard/backtest")
        page.get_by_label("or a file").set_input_files(tmp_path / "new.yaml")
        page.wait_for_function("document.getElementById('text').value.includes('version: 2')")
        page.get_by_role("button", name="Run").click()
        page.get_by_role("heading", name="Result").wait_for()
        page.get_by_text("decided otherwise: 1; as before: 5").wait_for()
        picture(page, "backtest")
        page.get_by_role("link", name="dec_").click()
        page.wait_for_url("**/decisions/dec_**")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("when", ["door", "later"])
def test_the_pages_can_be_read(
    chromium: Any, request: pytest.FixtureRequest, when: str, width: int, scheme: str
) -> None:
    wrong = []
    door = request.getfixturevalue(when)
    with window(chromium, width=width, scheme=scheme) as page:
        enter(page, door)
        for path in ("/dashboard/policies/of/test", f"{THRESHOLD}&at=0.1", "/dashboard/backtest"):
            page.goto(f"{door.url}{path}")
            page.locator("h1").first.wait_for()
            name = path.partition("?")[0].strip("/").replace("/", "_")
            picture(page, f"{name}-{when}-{width}-{scheme}")
            over = page.evaluate(OVERFLOW)
            wrong += [(path, "is too wide by", over)] if over else []
            wrong += [(path, "no name", html) for html in page.evaluate(UNNAMED)]
            wrong += [(path, "faint", told) for told in page.evaluate(FAINT)]
    assert wrong == []
