"""A real browser for the dashboard's tests, and what is asked of every page in it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = Path(os.environ.get("DOORMAN_TEST_CHROMIUM", "/usr/bin/chromium"))
PICTURES = os.environ.get("DOORMAN_TEST_PICTURES")
"""A folder that gets a picture of every page that is looked at; None makes none."""
PATIENCE = 60_000
"""Milliseconds after which a step has failed."""

UNNAMED = """() => [...document.querySelectorAll("input:not([type=hidden]), select, textarea, button, a")]
  .filter((e) => e.checkVisibility() && !(e.labels?.length || e.ariaLabel || e.textContent.trim()))
  .map((e) => e.outerHTML)"""
"""What can be used and has no name."""

FAINT = """() => {
  const parse = (text) => {
    const n = text.match(/[\\d.]+/g).map(Number);
    if (text.startsWith("color(")) n.splice(0, 3, n[0] * 255, n[1] * 255, n[2] * 255);
    return [n[0], n[1], n[2], n[3] ?? 1];
  };
  const over = (top, under) => [0, 1, 2].map((i) => top[i] * top[3] + under[i] * (1 - top[3]));
  const ground = (element) => {
    const layers = [];
    for (let e = element; e; e = e.parentElement) {
      layers.unshift(parse(getComputedStyle(e).backgroundColor));
    }
    return layers.reduce((under, layer) => over(layer, under), [255, 255, 255]);
  };
  const linear = (c) => (c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
  const light = ([r, g, b]) =>
    linear(r / 255) * 0.2126 + linear(g / 255) * 0.7152 + linear(b / 255) * 0.0722;
  const left_out = ".hidden, .skip, svg, canvas, :disabled, .dim";
  const found = [];
  for (const e of document.querySelectorAll("body *")) {
    const own = [...e.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim());
    if (!own || !e.checkVisibility() || e.closest(left_out)) continue;
    const back = ground(e);
    const front = over(parse(getComputedStyle(e).color), back);
    const [low, high] = [light(back), light(front)].sort((a, b) => a - b);
    const ratio = (high + 0.05) / (low + 0.05);
    if (ratio < 4.5) found.push(`${ratio.toFixed(2)} ${e.outerHTML.slice(0, 120)}`);
  }
  return found;
}"""
"""Texts whose contrast is under 4.5 to 1 (WCAG 2.2, 1.4.3)."""

OVERFLOW = "() => document.documentElement.scrollWidth - document.documentElement.clientWidth"


@contextmanager
def browser() -> Iterator[Any]:
    """Chromium without a window; the test is skipped where there is none."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if not CHROMIUM.is_file():
        pytest.skip(f"there is no Chromium at {CHROMIUM} (DOORMAN_TEST_CHROMIUM)")
    with playwright.sync_playwright() as driver:
        arguments = ["--no-sandbox", "--disable-dev-shm-usage"]
        found = driver.chromium.launch(executable_path=str(CHROMIUM), args=arguments)
        yield found
        found.close()


@contextmanager
def window(
    browser: Any, *, width: int = 1280, scheme: str = "light", **options: Any
) -> Iterator[Any]:
    """A page of its own; a script's fault, or one that the browser has refused, fails the test."""
    context = browser.new_context(
        viewport={"width": width, "height": 900}, color_scheme=scheme, **options
    )
    page = context.new_page()
    page.set_default_timeout(PATIENCE)
    faults: list[str] = []
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("console", lambda m: faults.append(m.text) if m.type == "error" else None)
    page.on("dialog", lambda dialog: (faults.append("a dialog"), dialog.dismiss()))
    yield page
    context.close()
    assert faults == [], faults


def picture(page: Any, name: str) -> None:
    """Keep a picture for people to look at; nothing is compared."""
    if PICTURES:
        page.screenshot(path=Path(PICTURES) / f"{name}.png", full_page=True)
