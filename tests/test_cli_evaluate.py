"""doorman evaluate and compare as a user runs them: what they print and refuse."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("sklearn", reason="scikit-learn is not installed (extra `train`)")

from train_kit import TINY, options, rows_of, span_rows, write_jsonl, write_task

from classifiers.training.train import train
from proxy.cli import main


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def packs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A pack that picks a label, and one of kind spans."""
    found = {}
    for kind, rows, labels in (
        ("one_of", rows_of(20), ["garden", "kitchen", "travel"]),
        ("spans", span_rows(60), ["plant", "day"]),
    ):
        folder = tmp_path_factory.mktemp(kind)
        train(write_task(folder, rows, kind=kind, labels=labels), folder / "pack", options(folder))
        found[kind] = str(folder / "pack")
    return found


def test_evaluate_and_compare(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train(write_task(home, rows_of(20)), home / "a", options(home))
    train(write_task(home, rows_of(40)), home / "b", options(home))
    write_jsonl(home / "new.jsonl", [{**row, "split": "test"} for row in rows_of(60)[120:]])
    tiny = ["--encoder", str(TINY)]
    assert main(["evaluate", "a", "new.jsonl", "-o", "figures", *tiny]) == 0
    measured = json.loads(capsys.readouterr().out)
    assert measured["overall"]["rows"] == 60
    assert {p.name for p in (home / "figures").iterdir()} == {"report.html", "report.json"}
    assert main(["compare", "a", "b", "new.jsonl", *tiny]) == 0
    assert json.loads(capsys.readouterr().out)["verdict"]
    for arguments, message in (
        (["evaluate", "c", "new.jsonl"], "no pack 'c'"),
        (["evaluate", "a", "nowhere.jsonl"], "there is no file 'nowhere.jsonl'"),
        (["evaluate", "a", "new.jsonl", "--split", "dev"], "no rows of the split 'dev'"),
        (["evaluate", "a", "new.jsonl", "--label", "lab"], "'lab'"),
        (["compare", "a", "c", "new.jsonl"], "no pack 'c'"),
        (["evaluate", "spam", "new.jsonl"], "made for encoder"),
    ):
        assert main([*arguments, *tiny]) == 2
        said = capsys.readouterr()
        assert message in said.err
        assert said.out == ""
        assert all(line.startswith("doorman: ") for line in said.err.splitlines())


def test_spans_can_be_evaluated(
    home: Path, packs: Mapping[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("spans", "marks"):
        rows = [{"text": row["text"], name: row["spans"]} for row in span_rows(60)]
        write_jsonl(home / "rows.jsonl", rows)
        named = [] if name == "spans" else ["--spans", name]
        assert main(["evaluate", packs["spans"], "rows.jsonl", "--encoder", str(TINY), *named]) == 0
        assert json.loads(capsys.readouterr().out)["overall"]["rows"] == 60


TASK_KEYS = ("label:", "text:", "spans:", "label_map:", "kind:", "max_rows:")
UNKNOWN = [{"text": f"about number {n}", "label": "gardn"} for n in range(12)]
REFUSED: dict[str, tuple[str, list[dict[str, Any]], list[str], list[str]]] = {
    "no column of labels": ("one_of", [{"text": "a", "team": "red"}], [], ["name it with --label."]),
    "no column of texts": ("one_of", [{"label": "garden", "n": 1}], [], ["name it with --text."]),
    "no column of spans": ("spans", [{"text": "a", "x": []}], [], ["name it with --spans."]),
    "another column": (
        "spans", [{"text": "a", "spans": []}], ["--spans", "span"], ["no column 'span' (--spans)"]
    ),
    "spans of labels": (
        "one_of", UNKNOWN, ["--spans", "label"], ["hobby is of kind one_of", "with --label"]
    ),
    "labels of spans": (
        "spans", UNKNOWN, ["--label", "label"], ["hobby is of kind spans", "with --spans"]
    ),
    "unknown labels": (
        "one_of", UNKNOWN, [],
        ["rows.jsonl:1: unknown label 'gardn' in 12 rows; did you mean 'garden'?",
         "(or take these rows out)"],
    ),
    "two labels": (
        "one_of", [{"text": "a", "label": "garden|travel"}], [],
        ["2 labels (a text of this pack has one)"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("command", ["evaluate", "compare"])
@pytest.mark.parametrize("name", REFUSED)
def test_what_is_wrong_is_told_in_the_words_of_the_command(
    home: Path,
    packs: Mapping[str, str],
    capsys: pytest.CaptureFixture[str],
    command: str,
    name: str,
) -> None:
    kind, rows, more, words = REFUSED[name]
    write_jsonl(home / "rows.jsonl", rows)
    pack = [packs[kind]] * (1 if command == "evaluate" else 2)
    assert main([command, *pack, "rows.jsonl", "--encoder", str(TINY), *more]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert all(word in said.err for word in words), said.err
    assert not any(f" {key}" in said.err for key in TASK_KEYS), said.err
    assert len(said.err.splitlines()) <= 2


def test_a_fault_of_many_rows_is_told_once(
    home: Path, packs: Mapping[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    write_jsonl(home / "rows.jsonl", [*rows_of(20), *UNKNOWN, {"text": "b", "label": ""}])
    assert main(["evaluate", packs["one_of"], "rows.jsonl", "--encoder", str(TINY)]) == 0
    said = capsys.readouterr().err
    assert said.splitlines() == [
        "doorman: rows.jsonl: 13 of 73 rows skipped: rows.jsonl:61: unknown label 'gardn' in 12 rows; "
        "rows.jsonl:73: no label"
    ]
