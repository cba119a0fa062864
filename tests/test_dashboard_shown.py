"""How values look on a page."""

from __future__ import annotations

import pytest

from proxy.dashboard.fields import Fields
from proxy.dashboard.markdown import markdown
from proxy.dashboard.shown import ago, badge, breaks, ms, score, since, usd
from proxy.errors import InvalidRequest


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "–"), (0, "$0.00"), (12.345, "$12.35"), (1234567, "$1,234,567.00"), (0.5, "$0.5000"),
        (0.004355, "$0.0044"), (0.00042, "$0.00042"), (-0.003, "−$0.0030"), (1e-9, "$0.0000000010"),
        (1e-30, "$0.0000000000"),
    ],
)  # fmt: skip
def test_dollars_have_the_digits_that_they_need(value: float | None, shown: str) -> None:
    assert usd(value) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0, "now"), (5, "5 s ago"), (90, "2 min ago"), (7200, "2 h ago"), (86_400 * 3, "3 d ago"),
        (-600, "in 10 min"),
    ],
)  # fmt: skip
def test_how_long_ago_a_time_was(seconds: float, shown: str) -> None:
    assert since(1000.0 - seconds, now=1000.0) == shown


def test_a_time_tells_itself() -> None:
    shown = ago(1_767_225_600.0)
    assert 'datetime="2026-01-01T00:00:00+00:00"' in shown
    assert 'title="2026-01-01 00:00:00 UTC"' in shown
    assert ago(None) == ""


@pytest.mark.parametrize(
    ("value", "shown"),
    [(None, "–"), (0.5, "0.500"), (1.0, "1.000"), (0.99996, "0.99996"), (0.0002, "0.00020")],
)
def test_a_score_is_no_certainty_before_it_is_one(value: float | None, shown: str) -> None:
    assert score(value) == shown


@pytest.mark.parametrize(
    ("value", "shown"), [(None, "–"), (0.123, "0.12 ms"), (12.34, "12.3 ms"), (1234, "1,234 ms")]
)
def test_milliseconds(value: float | None, shown: str) -> None:
    assert ms(value) == shown


def test_a_badge_is_no_place_for_markup() -> None:
    assert "<i>" not in badge("<i>", "<i>")
    assert 'class="badge badge-other"' in badge("<i>")


def test_fields_of_a_form() -> None:
    form = Fields.parse(b"a=1&a=2&b=+x+&c=%C3%A9&d=-5&e=1e3&f=")
    assert (form["a"], form.every("a"), form.text("b"), form["c"]) == ("1", ["1", "2"], "x", "é")
    assert form.whole("a", 7) == 1
    assert form.whole("nothing", 7) == 7
    assert form.number("e", 0) == 1000
    assert "x" not in repr(form)
    for name, bounds in (("d", {}), ("b", {}), ("a", {"least": 2}), ("c", {})):
        with pytest.raises(InvalidRequest, match="whole number"):
            form.whole(name, 0, **bounds)
    for raw in (b"n=nan", b"n=inf", b"n=1e400", b"n=x"):
        with pytest.raises(InvalidRequest, match="must be a number"):
            Fields.parse(raw).number("n", 0)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("", ""),
        ("# A *card*", "<h3>A <em>card</em></h3>"),
        ("###### deep ##", "<h6>deep</h6>"),
        ("one\ntwo\n\nthree", "<p>one two</p>\n<p>three</p>"),
        (
            "- a\n- **b**\n  more\n\n1. c",
            "<ul><li>a</li><li><strong>b</strong> more</li></ul>\n<ol><li>c</li></ol>",
        ),
        ("text\n- a", "<p>text</p>\n<ul><li>a</li></ul>"),
        ("```\n<b>\n# no\n```\nx", "<pre>&lt;b&gt;\n# no</pre>\n<p>x</p>"),
        ("```\nnever ends", "<pre>never ends</pre>"),
        ("a_b_c 2 * 3 * 4", "<p>a_b_c 2 * 3 * 4</p>"),
        (
            "`a*b*` [x](https://a.b/?c=d&e)",
            '<p><code>a*b*</code> <a href="https://a.b/?c=d&amp;e" rel="noreferrer noopener">x</a></p>',
        ),
        ("[x](javascript:alert(1))", "<p>[x](javascript:alert(1))</p>"),
        (
            '[x](https://a"onclick=b)',
            '<p><a href="https://a&#34;onclick=b" rel="noreferrer noopener">x</a></p>',
        ),
        (
            "<img src=x onerror=alert(1)> & <!-- -->",
            "<p>&lt;img src=x onerror=alert(1)&gt; &amp; &lt;!-- --&gt;</p>",
        ),
        ("{{ 7*7 }}", "<p>{{ 7*7 }}</p>"),
    ],
)
def test_a_card_is_shown_and_brings_no_markup(text: str, shown: str) -> None:
    assert markdown(text) == shown


def test_a_table_of_a_card() -> None:
    found = markdown("## F\n| a | b\\|c |\n|---|---:|\n| `x` | 1.5% |\n| <b> |\n\nafter")
    assert '<div class="scroll" tabindex="0" role="region" aria-label="F"><table>' in found
    assert '<th scope="col">a</th><th scope="col" class="number">b|c</th>' in found
    assert '<tr><td><code>x</code></td><td class="number">1.5%</td></tr>' in found
    assert '<tr><td>&lt;b&gt;</td><td class="number"></td></tr>' in found
    assert found.endswith("</table></div>\n<p>after</p>")


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    "text",
    [
        "[" * 200_000,
        "*a" * 100_000,
        "`" * 200_001,
        "# " + "#" * 200_000 + "x",
        "|-" * 100_000,
        "_a " * 100_000,
        "|a\n|" + "-" * 200_000 + "x",
        "- " * 100_000,
        "a|" * 5_000 + "\n|-|\n" + "|" * 200_000,
    ],
    ids=range(9),
)
def test_no_card_takes_long(text: str) -> None:
    assert markdown(text)


def test_names_may_go_on_in_the_next_line() -> None:
    assert breaks("messages.0/<b>") == "messages.<wbr>0/<wbr>&lt;b&gt;"
    assert breaks("") == ""
