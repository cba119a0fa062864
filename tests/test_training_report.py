"""The report of a classifier: plain words, one page that needs nothing else, nothing in it runs."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="scikit-learn is not installed (extra `train`)")
pytest.importorskip("matplotlib", reason="matplotlib is not installed (extra `train`)")

from classifiers.training.data import Row
from classifiers.training.evaluate import Given, evaluate, judge_slice
from classifiers.training.evaluation import Evaluation
from classifiers.training.fit import truth_table
from classifiers.training.metrics import proportion
from classifiers.training.report import render, write_report
from classifiers.training.verdict import percent, share, summarise

NONE: frozenset[str] = frozenset()
MANIFEST = {
    "name": "support-mail",
    "description": "Tells what a mail asks for.",
    "encoder_name": "tiny",
    "sources": {"mail": {"rows": 900, "licence": "Apache-2.0"}},
}
EVIL = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "font-family: x",
    "$\\frac{a$ url(#a) id=",
    "--><svg onload=alert(1)>",
)
VOID = {"meta", "br", "link", "wbr", "img", "input", "hr"}


class Page(HTMLParser):
    """What is in a page: tags, attributes, ids; and whether every tag is closed where it should be."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: Counter[str] = Counter()
        self.attributes: list[tuple[str, str, str]] = []
        self.open: list[str] = []
        self.feed(text)
        assert not self.open, self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def all(self, name: str) -> list[str]:
        return [value for _, own, value in self.attributes if own == name]


def case(
    labels: tuple[str, ...] = ("billing", "legal"),
    count: int = 600,
    *,
    decision: str = "any_of",
    noise: float = 0.12,
    text: str = "",
    source: str = "mail",
    given: Given | None = None,
) -> Evaluation:
    """An evaluation of made-up scores: the less noise, the better."""
    random = np.random.default_rng(0)
    rows = []
    for number in range(count):
        if decision == "one_of":
            held = frozenset({labels[number % len(labels)]})
        else:
            held = frozenset(label for label in labels if random.random() < 0.3)
        rows.append(
            Row(text or f"text {number}", held, None, source, "test", benign=not held,
                place=f"{source}.csv:{number}")
        )  # fmt: skip
    truth = truth_table(rows, labels)
    scores = np.clip(truth * 0.85 + 0.07 + random.normal(0, noise, truth.shape), 0, 1)
    if decision == "one_of":
        scores /= scores.sum(axis=1, keepdims=True)
    return evaluate(scores, truth, rows, labels, decision, dict.fromkeys(labels, 0.5), given)


def points(rate: float, *labels: str, **more: Any) -> dict[str, dict[str, Any]]:
    return {one: {"max_false_positive_rate": rate, "benign_rows": 1000, **more} for one in labels}


def everything(text: str = "refund please", name: str = "polite", **changes: Any) -> Given:
    failed = judge_slice(
        name, [Row(text, NONE, place=text)], np.asarray([[0.9]]), ["x"], "any_of", {"x": 0.5},
        with_texts=True,
    )  # fmt: skip
    figures: dict[str, float | int | None] = {
        "rows": 10, "right": 0.9, "found": 0.8, "stopped": 0.0, "changed": None,
    }  # fmt: skip
    return Given(
        judged_on=name,
        sizes={"train": 900, "test": 600},
        learning_curve=[(100, 0.6), (900, 0.8)],
        learning_figure=name,
        left_out={name: {"rows": 30, name: 0.5}},
        robustness={"as written": figures, name: {**figures, "found": 0.3}},
        slices=(failed,),
        out_of_scope=(np.linspace(0.5, 1, 50), np.linspace(0, 0.7, 50)),
        with_texts=True,
        **changes,
    )


def test_the_page_needs_nothing_else() -> None:
    labels = tuple(f"label{n}" for n in range(20))
    for page in (
        render(MANIFEST, case(given=everything(points=points(0.01, "billing")))),
        render(MANIFEST, case(labels, decision="one_of")),
    ):
        found = Page(page)
        assert "http:" not in page
        assert "https:" not in page
        assert "@import" not in page
        assert not {"script", "link", "img", "iframe", "object", "embed", "form"} & set(found.tags)
        ids = found.all("id")
        assert [one for one, count in Counter(ids).items() if count > 1] == []
        for target in found.all("href"):
            assert target.startswith("data:image/png;base64,") or target[1:] in ids
        for target in re.findall(r"url\(([^)]*)\)", page):
            assert target[0] == "#"
            assert target[1:] in ids
        assert "default-src 'none'" in page


def test_the_page_can_be_read_by_everyone() -> None:
    page = render(MANIFEST, case(given=everything(points=points(0.01, "billing"))))
    found = Page(page)
    assert found.tags["table"] == found.tags["caption"] > 5
    assert found.tags["svg"] == found.all("role").count("img") >= 7
    assert all(len(text) > 30 for text in found.all("aria-label") if "." in text)
    regions = [value for tag, name, value in found.attributes if (tag, name) == ("div", "tabindex")]
    assert regions == ["0"] * found.tags["table"]
    assert ("html", "lang", "en") in found.attributes
    assert "prefers-color-scheme: dark" in page
    assert "width=device-width" in page
    assert found.tags["h1"] == 1
    assert {f"#{one}" for one in ("summary", "labels", "mistakes")} <= set(found.all("href"))


@pytest.mark.parametrize("evil", [" ".join(EVIL), EVIL[1]])
def test_hostile_text_is_inert_wherever_it_stands(evil: str, tmp_path: Path) -> None:
    given = everything(evil, evil, points=points(0.01, evil, "legal"), train_rows={evil: 3})
    found = case((evil, "legal"), text=evil, source=evil, noise=0.5, given=given)
    manifest = {
        "name": evil,
        "description": evil,
        "version": evil,
        "sources": {evil: {"rows": evil, "licence": evil}},
    }
    write_report(tmp_path, manifest, found)
    page = Page((tmp_path / "report.html").read_text("utf-8"))
    assert not {"script", "img"} & set(page.tags)
    assert page.tags["svg"] == page.all("role").count("img")
    assert not [name for _, name, _ in page.attributes if name.startswith("on")]
    assert json.loads((tmp_path / "report.json").read_text("utf-8"))["hardest"][0]["text"] == evil


def test_drawings_are_well_formed_and_take_the_colours_of_the_page() -> None:
    page = render(MANIFEST, case(given=everything()))
    drawings = re.findall(r"<svg.*?</svg>", page, re.S)
    assert len(drawings) >= 7
    for drawing in drawings:
        ElementTree.fromstring(drawing)
        assert "#0102" not in drawing
        assert "font-family" not in drawing
        assert "<style" not in drawing
        assert "currentColor" in drawing
    assert "billing" in "".join(drawings)


def test_the_same_figures_give_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        write_report(tmp_path / name, MANIFEST, case(given=everything()))
    for file in ("report.html", "report.json"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()
    written = json.loads((tmp_path / "one" / "report.json").read_text("utf-8"))
    assert written == case(given=everything()).to_json()


def test_many_labels_are_drawn_without_numbers() -> None:
    labels = tuple(f"intent_{n}" for n in range(77))
    page = render(MANIFEST, case(labels, 1540, decision="one_of"))
    assert "the three weakest and the three most frequent are drawn" in page
    assert page.count("data:image/png") == 1
    assert 'class="heat"' not in page
    assert page.count('<th scope="row">intent_<wbr>76</th>') == 1
    assert len(re.findall(r'id="scores-\d-figure_1"', page)) == 6


def test_texts_are_shown_only_where_they_were_asked_for() -> None:
    hidden = render(MANIFEST, case(text="my secret order", noise=0.6))
    assert "my secret order" not in hidden
    assert "mail.csv:" in hidden
    shown = render(MANIFEST, case(text="my secret order", noise=0.6, given=Given(with_texts=True)))
    assert "my secret order" in shown


def test_what_cannot_be_written_is_replaced(tmp_path: Path) -> None:
    found = case(text="broken \ud800 text", noise=0.6, given=Given(with_texts=True))
    write_report(tmp_path, MANIFEST, found)
    assert "broken ? text" in (tmp_path / "report.html").read_text("utf-8")
    assert "broken ? text" in (tmp_path / "report.json").read_text("utf-8")


def test_a_label_without_rows_is_shown_as_unknown() -> None:
    found = case(("billing", "legal"))
    rows = [Row(f"t{n}", frozenset({"billing"}) if n % 2 else NONE) for n in range(200)]
    scores = np.asarray([[0.9 if n % 2 else 0.1, 0.1] for n in range(200)])
    cuts = {"billing": 0.5, "legal": 0.5}
    labels = ("billing", "legal")
    found = evaluate(scores, truth_table(rows, labels), rows, labels, "any_of", cuts)
    page = render(MANIFEST, found)
    assert "No held-out rows at all, so nothing is known: legal." in page
    assert summarise(MANIFEST, found).trust == "care"


@pytest.mark.parametrize(
    ("noise", "count", "budget", "trust"),
    [
        (0.1, 3000, 0.01, "yes"),
        (0.1, 60, 0.01, "unknown"),
        (0.4, 3000, 0.2, "care"),
        (0.3, 3000, 0.001, "no"),
        (3.0, 3000, 0.9, "no"),
    ],
)
def test_trust(noise: float, count: int, budget: float, trust: str) -> None:
    given = Given(points=points(budget, "billing", "legal"))
    found = summarise(MANIFEST, case(count=count, noise=noise, given=given))
    assert found.trust == trust, found


def test_the_summary_says_what_is_promised_and_what_would_help() -> None:
    given = Given(
        points=points(0.01, "billing", "legal"),
        train_rows={"billing": 40, "legal": 900},
        learning_curve=[(100, 0.6), (900, 0.8)],
    )
    found = summarise(MANIFEST, case(noise=0.45, count=200, given=given))
    assert found.does == "Tells what a mail asks for. It looks for billing, legal."
    assert found.promises[0] == (
        "Of 1,000 ordinary texts, each label stops at most 10, with 95\u00a0% confidence, if they "
        "are like those that its threshold was proven on."
    )
    assert "60 more rows of “billing” (it learnt from 40)." in found.helps
    assert any(one.startswith("More rows of any kind: from 100 to 900") for one in found.helps)
    assert summarise(MANIFEST, case()).promises == ("Nothing: no budget of false alarms was set.",)


def test_the_summary_counts_the_ordinary_texts_that_are_lacking() -> None:
    given = Given(points=points(0.01, "billing", "legal"))
    evaluation = case(count=200, noise=0.01, given=given)
    (first, *_) = summarise(MANIFEST, evaluation).helps
    there = evaluation.budgets[0].achieved.of
    assert first == (
        f"About {299 - there} more held-out ordinary texts, to prove the 1.0\u00a0% of “billing” again; "
        f"there are {there}."
    )


def test_what_was_not_proven_is_not_promised() -> None:
    unproven = {"promised": False, "benign_rows_needed": 1299, "benign_rows": 99}
    asked = {"min_recall": 0.9, "recall_promised": False}
    given = Given(points=points(0.01, "billing") | points(0.01, "legal", **unproven, **asked))
    evaluation = case(count=3000, noise=0.1, given=given)
    found = summarise(MANIFEST, evaluation)
    assert found.trust == "care"
    assert found.promises[0].startswith("Of 1,000 ordinary texts, “billing” stops at most 10,")
    assert "NOT promised, there were too few ordinary texts to prove it: legal." in found.promises
    assert found.promises[-1].startswith(
        "At least 90\u00a0% of “legal” found is asked for, but NOT"
    )
    assert found.helps[0].startswith("1,200 more ordinary texts to train with, to promise the 1.0")
    assert [(one.label, one.kept) for one in evaluation.recalls] == [("legal", "yes")]
    assert "was not proven" in render(MANIFEST, evaluation)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"), (0.0, "0 %"), (0.0001, "<0.1 %"), (0.012, "1.2 %"), (0.5, "50 %"),
        (0.934, "93.4 %"), (0.99996, ">99.9 %"), (1.0, "100 %"),
    ],
)  # fmt: skip
def test_percentages(value: float | None, text: str) -> None:
    assert percent(value) == text.replace(" ", "\u00a0")


def test_shares() -> None:
    assert share(proportion(450, 484)).replace("\u00a0", " ") == (
        "93.0 % (90.3 to 95.1 %; 450 of 484)"
    )
    assert share(proportion(0, 0)) == "– (none)"


def test_drawing_is_imported_when_something_is_drawn() -> None:
    code = "import sys, classifiers.training.report; assert 'matplotlib' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
