"""The dashboard in a real Chromium: by keyboard, live, at two widths, in light and dark."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from browser_kit import FAINT, OVERFLOW, UNNAMED, browser, picture, window
from dashboard_kit import ADMIN, CLIENT, settings
from gateway_kit import Door, ScriptedUpstream, completion, make_config, serve
from ledger_kit import RULES, ended

from proxy.dashboard.pages import PAGES

pytestmark = pytest.mark.timeout(400)  # a browser on a busy machine

EVIL = "<img src=x onerror='window.hacked=1'><script>window.hacked=1</script> an attack"
NAV = [page for page in PAGES if page.title]


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    with browser() as found:
        yield found


@pytest.fixture(scope="module")
def place(_upstream: ScriptedUpstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A gateway with a few decisions, and its folder."""
    folder = tmp_path_factory.mktemp("browser")
    _upstream.script = completion("ok")
    more = settings(folder, "record: {content: full}")
    with serve(make_config(folder, _upstream.port, RULES, more)) as door:
        for text in (EVIL, "hello", "something cheap", "Paris?"):
            ask(door, text)
        ended(folder, 4)
        yield door, folder


def ask(door: Door, content: str, key: str = CLIENT) -> None:
    client = door.client(api_key=key, max_retries=0)
    client.chat.completions.create(model="default", messages=[{"role": "user", "content": content}])


def enter(page: Any, door: Door, key: str = ADMIN) -> None:
    page.goto(f"{door.url}/dashboard/login")
    page.get_by_label("Admin key").fill(key)
    page.get_by_role("button", name="Log in").click()
    page.wait_for_url("**/dashboard")


def test_by_keyboard_alone(chromium: Any, place: tuple[Door, Path]) -> None:
    door, _ = place
    with window(chromium) as page:
        page.goto(f"{door.url}/dashboard/decisions")
        assert page.url.endswith("/dashboard/login?next=/dashboard/decisions")
        page.keyboard.type(ADMIN)  # the focus is there
        page.keyboard.press("Enter")
        page.wait_for_url("**/dashboard/decisions")
        page.get_by_role("heading", name="Decisions").wait_for()
        page.keyboard.press("Tab")
        skip = page.get_by_role("link", name="Skip to content")
        assert skip.evaluate("e => e === document.activeElement")
        assert skip.bounding_box()["y"] >= 0
        page.keyboard.press("Enter")
        assert page.evaluate("document.activeElement.id") == "main"
        page.keyboard.press("Tab")
        style = "getComputedStyle(document.activeElement).outlineStyle"
        assert page.evaluate(style) == "solid"
        page.get_by_label("Rule", exact=True).focus()
        page.keyboard.type("greet")
        page.keyboard.press("Enter")
        page.wait_for_url("**rule=greet**")
        assert page.locator("#rows tr").count() == 1
        page.locator("#rows a").focus()
        page.keyboard.press("Enter")
        page.get_by_role("heading", name="Answered here by greet").wait_for()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_every_page_can_be_read(
    chromium: Any, place: tuple[Door, Path], width: int, scheme: str
) -> None:
    door, folder = place
    (block, *_) = (row["decision_id"] for row in ended(folder, 4) if row["action"] == "block")
    paths = [page.path for page in NAV]
    paths += [f"/dashboard/decisions/{block}", "/dashboard/keys/of/app", "/dashboard/nothing/here"]
    wrong = []
    with window(chromium, width=width, scheme=scheme) as page:
        enter(page, door)
        for path in paths[:-1]:
            page.goto(f"{door.url}{path}")
            page.locator("h1").first.wait_for()
            if path.endswith(block):
                page.get_by_text("Judged again").first.wait_for()
            picture(
                page, f"{path.strip('/').replace('/', '_')}-{width}-{scheme}".replace(block, "id")
            )
            over = page.evaluate(OVERFLOW)
            wrong += [(path, "is too wide by", over)] if over else []
            wrong += [(path, "no name", html) for html in page.evaluate(UNNAMED)]
            wrong += [(path, "faint", told) for told in page.evaluate(FAINT)]
            assert page.title().endswith("· Doorman"), path
            assert page.locator("h1").count() == 1, path
    assert wrong == []


def test_the_colours_that_were_chosen_stay(chromium: Any, place: tuple[Door, Path]) -> None:
    door, _ = place
    ground = "getComputedStyle(document.body).backgroundColor"
    with window(chromium, scheme="light") as page:
        enter(page, door)
        light = page.evaluate(ground)
        page.get_by_role("button", name="Use dark colours").click()
        dark = page.evaluate(ground)
        assert dark != light
        page.goto(f"{door.url}/dashboard/keys")
        assert page.evaluate(ground) == dark
        page.get_by_role("button", name="Use light colours").click()
        page.reload()
        assert page.evaluate(ground) == light


def test_new_decisions_come_in_and_nothing_moves(chromium: Any, place: tuple[Door, Path]) -> None:
    door, folder = place
    count = len(ended(folder, 4))
    with window(chromium) as page:
        enter(page, door)
        page.goto(f"{door.url}/dashboard/decisions")
        shown = page.locator("#rows tr")
        assert shown.count() == count
        ask(door, "hello")
        page.locator("#rows tr.fresh").wait_for()
        assert shown.count() == count + 1
        assert "greet" in shown.first.inner_text()
        # While somebody is in the list, it stays as it is.
        link = shown.nth(1).locator("a")
        link.focus()
        before = link.bounding_box()
        ask(door, "an attack")
        waiting = page.get_by_role("button", name="1 new")
        waiting.wait_for()
        assert shown.count() == count + 1
        assert link.bounding_box() == before
        assert page.locator("#told").inner_text() == "1 new decisions wait"
        waiting.click()
        assert shown.count() == count + 2
        assert "no-attacks" in shown.first.inner_text()
        assert not waiting.is_visible()
        page.get_by_role("button", name="Pause").click()
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.wait_for_timeout(2500)  # longer than from one look to the next
        assert asked == []


def test_a_filtered_list_gets_what_fits_alone(chromium: Any, place: tuple[Door, Path]) -> None:
    door, _ = place
    with window(chromium) as page:
        enter(page, door)
        page.goto(f"{door.url}/dashboard/decisions?rule=watch&action=block")
        page.get_by_text("No decisions fit these filters").wait_for()
        page.goto(f"{door.url}/dashboard/decisions?rule=no-attacks")
        before = page.locator("#rows tr").count()
        ask(door, "hello")
        ask(door, "an attack")
        page.locator("#rows tr.fresh").wait_for()
        assert page.locator("#rows tr").count() == before + 1


def test_a_text_is_text(chromium: Any, place: tuple[Door, Path]) -> None:
    door, folder = place
    row = next(row for row in ended(folder, 4) if row["action"] == "block")
    with window(chromium) as page:
        enter(page, door)
        page.goto(f"{door.url}/dashboard/decisions/{row['decision_id']}")
        page.locator("p.text").first.wait_for()
        assert EVIL in page.locator("p.text").first.inner_text()
        page.goto(f"{door.url}/dashboard/playground")
        page.get_by_label("Text", exact=True).fill(EVIL)
        page.get_by_role("button", name="Look").click()
        page.get_by_role("heading", name="Rules, the nearest first").wait_for()
        page.get_by_role("button", name="Why secret").click()
        page.locator("#more article").wait_for()
        assert EVIL in page.locator("#more p.text").inner_text()
        assert page.evaluate("window.hacked") is None
        cut = "all => all.filter(e => e.scrollWidth > e.clientWidth).length"
        assert page.locator("#found .scroll, #found .card").evaluate_all(cut) == 0
        picture(page, "playground-tried-1280-light")


def test_the_legend_tells_the_newest(chromium: Any, place: tuple[Door, Path]) -> None:
    door, folder = place
    day = ended(folder, 4)[0]["day"]
    with window(chromium) as page:
        enter(page, door)
        page.goto(f"{door.url}/dashboard/savings")
        told = page.locator(".u-legend .u-value")
        assert told.first.inner_text() == day
        page.mouse.move(0, 0)
        page.locator(".u-over").hover()
        page.mouse.move(0, 0)
        assert told.first.inner_text() == day
        assert page.get_by_role("region", name="Savings by day").get_by_text(day).is_visible()
    with window(chromium, java_script_enabled=False) as page:
        enter(page, door)
        page.goto(f"{door.url}/dashboard/savings")
        assert not page.locator("figure.chart").is_visible()
        assert page.get_by_role("region", name="Savings by day").get_by_text(day).is_visible()


def test_tables_of_a_phone_hide_nothing(chromium: Any, place: tuple[Door, Path]) -> None:
    door, _ = place
    with window(chromium, width=390) as page:
        enter(page, door)
        for path, word in (("policies", "guard 0.500"), ("classifiers", "guard")):
            page.goto(f"{door.url}/dashboard/{path}")
            link = page.locator("main").get_by_role("link", name=word).first.bounding_box()
            assert 0 <= link["x"] < link["x"] + link["width"] <= 390, path
            assert page.evaluate(
                "[...document.querySelectorAll('.scroll')].every(e => e.scrollWidth <= e.clientWidth)"
            )


def test_what_goes_wrong_is_said_on_the_page(chromium: Any, place: tuple[Door, Path]) -> None:
    door, _ = place
    context = chromium.new_context()
    page = context.new_page()  # the browser itself tells of the 400
    enter(page, door)
    page.goto(f"{door.url}/dashboard/playground")
    page.get_by_label("Text", exact=True).fill("hi")
    page.get_by_label("It is").select_option("chat")
    page.get_by_role("button", name="Look").click()
    page.get_by_role("alert").get_by_text("A chat begins with").wait_for()
    context.close()


def test_a_key_is_made_and_its_end_logs_out(chromium: Any, place: tuple[Door, Path]) -> None:
    door, _ = place
    context = chromium.new_context()
    other = context.new_page()  # the browser itself tells of the 401
    with window(chromium) as page:
        enter(page, door)
        page.get_by_role("link", name="Keys and limits").click()
        page.get_by_role("textbox", name="Name").fill("deputy")
        page.get_by_label("Admin:").check()
        page.get_by_role("button", name="Make the key").click()
        key = page.locator("#secret").input_value()
        picture(page, "key-made-1280-light")
        page.get_by_role("link", name="Done").click()
        page.get_by_role("heading", name="deputy").wait_for()
        enter(other, door, key)
        other.goto(f"{door.url}/dashboard/decisions")
        page.get_by_label("I am sure").check()
        page.get_by_role("button", name="Revoke").click()
        page.get_by_role("status").get_by_text("The key is revoked").wait_for()
        # The list asks for new decisions by itself, and is told to log in.
        other.wait_for_url("**/dashboard/login")
        with pytest.raises(openai.AuthenticationError):
            ask(door, "hello", key)
    context.close()
