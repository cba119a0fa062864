"""Reading policy files: every way to write a thing, and what is said about every mistake."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest
from policies_fakes import policy

from classifiers.types import OperatingPoint
from policies.actions import ACTIONS, Action, Allow, Answer, Block, Flag, Redact, Route
from policies.decision import RANK
from policies.schema import PolicyError, load, load_all, loads


def test_the_table_of_actions_is_the_union() -> None:
    union = get_args(Action)[0]
    classes = {get_args(member)[0] for member in get_args(union)}
    assert classes == set(ACTIONS.values())
    assert all(name == action.name for name, action in ACTIONS.items())
    ranks = [action.rank() for action in ACTIONS.values()]
    assert ranks == sorted(ranks)
    assert all(action.rank() == RANK[action.outcome] for action in ACTIONS.values())


@pytest.mark.parametrize(
    ("written", "action"),
    [
        ("allow", Allow()),
        ("{allow: }", Allow()),
        ("flag", Flag()),
        ("{flag: }", Flag()),
        ("{flag: legal}", Flag(tag="legal")),
        ("{flag: {tag: legal}}", Flag(tag="legal")),
        ("redact", Redact()),
        ('{redact: "[gone]"}', Redact.model_validate({"as": "[gone]"})),
        (
            '{redact: {as: "[{label} {n}]", restore: true}}',
            Redact.model_validate({"as": "[{label} {n}]", "restore": True}),
        ),
        ("{redact: {restore: true}}", Redact(restore=True)),
        ("{route: small}", Route(model="small")),
        ("{route: {model: small}}", Route(model="small")),
        ("{answer: Hello.}", Answer(message="Hello.")),
        ("{answer: {spam: Hello.}}", Answer(by_label={"spam": "Hello."})),
        ("{block: No.}", Block(message="No.")),
        ("{block: {message: No.}}", Block(message="No.")),
        (
            "{block: {message: No., as: error}}",
            Block.model_validate({"message": "No.", "as": "error"}),
        ),
    ],
)
def test_forms_of_actions(written: str, action: object) -> None:
    rule = loads(f"name: p\nrules:\n  - {{name: a, when: {{spam: spam}}, do: {written}}}").rules[0]
    assert rule.do == action


def test_defaults() -> None:
    loaded = loads("name: p\nrules:\n  - {name: a, when: {spam: spam}, do: {block: No.}}")
    assert (loaded.id, loaded.on_error, loaded.attach.models, loaded.attach.keys) == (
        "p@1",
        "block",
        ("*",),
        ("*",),
    )
    rule = loaded.rules[0]
    assert rule.check == ("input",)
    assert rule.enforced
    assert rule.scope.roles == {"user", "tool"}


@pytest.mark.parametrize(
    ("version", "read"),
    [("3", "3"), ("v1.2", "v1.2"), ("2025-06-01", "2025-06-01"), ('"1.0"', "1.0")],
)
def test_versions(version: str, read: str) -> None:
    text = f"name: p\nversion: {version}\nrules:\n  - {{name: a, when: {{spam: spam}}, do: flag}}"
    assert loads(text).version == read


@pytest.mark.parametrize(
    ("point", "expected"),
    [
        ("", OperatingPoint()),
        (", at: 0.9", OperatingPoint("at", 0.9)),
        (", at: 1", OperatingPoint("at", 1.0)),
        (", at: 90%", OperatingPoint("at", 0.9)),
        (", max_false_positive_rate: 0.5%", OperatingPoint("max_false_positive_rate", 0.005)),
        (", max_false_positive_rate: 0.5 %", OperatingPoint("max_false_positive_rate", 0.005)),
        (", max_false_positive_rate: 0.005", OperatingPoint("max_false_positive_rate", 0.005)),
        (", min_recall: 95%", OperatingPoint("min_recall", 0.95)),
    ],
)
def test_operating_points(point: str, expected: OperatingPoint) -> None:
    text = f"name: p\nrules:\n  - {{name: a, when: {{spam: spam{point}}}, do: flag}}"
    (leaf,) = loads(text).rules[0].when.positive()
    assert leaf.point == expected


def test_aliases_are_read() -> None:
    one = loads(
        "name: p\nrules:\n"
        "  - {name: a, when: &w {spam: spam}, do: flag}\n  - {name: b, when: *w, do: allow}"
    )
    assert one.rules[1].when == one.rules[0].when


RULE = "name: p\nrules:\n  - name: a\n    when: {spam: spam}\n"


def test_files(tmp_path: Path) -> None:
    good = tmp_path / "good.yaml"
    good.write_text(RULE + "    do: flag\n")
    twin = tmp_path / "twin.yaml"
    twin.write_text("# a\n" + RULE + "    do: flag\n")
    latin = tmp_path / "latin.yaml"
    latin.write_bytes(b"name: p\n# \xe9\n")
    marked = tmp_path / "marked.yaml"
    marked.write_bytes(
        b"\xef\xbb\xbfname: marked\nrules:\n  - {name: a, when: {spam: spam}, do: flag}"
    )
    assert load(good).source == str(good)
    assert load(good).at("rules", 0, "do") == f"{good}:5"
    assert [p.name for p in load_all([good, marked])] == ["p", "marked"]
    with pytest.raises(PolicyError, match=r"latin.yaml:2: the text is not UTF-8; save it"):
        load(latin)
    with pytest.raises(PolicyError, match=r"none.yaml:1: the file cannot be read \(No such file"):
        load(tmp_path / "none.yaml")
    with pytest.raises(PolicyError) as caught:
        load_all([good, latin, twin])
    assert "latin.yaml:2:" in caught.value.problems[0]
    assert caught.value.problems[1].startswith(f"{twin}:2: {good} has a policy 'p' already")


def test_what_a_bound_policy_needs() -> None:
    bound = policy("""
  - {name: a, when: {all: [{jailbreak: jailbreak}, {not: {topic: math}}]}, do: {block: x}}
  - {name: b, when: {safety: hate}, check: [input, output], do: {block: x}}
  - {name: c, when: {pii: EMAIL}, check: output, do: redact}
  - {name: d, when: {spam: spam}, do: {route: small}}
  - {name: e, when: {spam: spam}, mode: shadow, do: {route: tiny}}
  - {name: f, when: {spam: spam}, do: {route: small}}
""")
    assert bound.id == "p@1"
    assert bound.classifiers == {"jailbreak@v1", "topic@v1", "safety@v1", "pii@v1", "spam@v1"}
    assert bound.classifiers_for("input") == {"jailbreak@v1", "topic@v1", "safety@v1", "spam@v1"}
    assert bound.classifiers_for("output") == {"safety@v1", "pii@v1"}
    assert bound.policy.routes() == ("small", "tiny")
