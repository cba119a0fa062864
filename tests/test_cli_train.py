"""doorman train as a user runs it: what it prints, refuses and pays for."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("sklearn", reason="scikit-learn is not installed (extra `train`)")

from scripted_llm import ScriptedLlm
from train_kit import (
    TINY,
    contents,
    doorman,
    options,
    rows_of,
    text_of,
    write_jsonl,
    write_task,
)

from classifiers.packs import read_pack
from classifiers.training.train import train
from proxy.cli import main

KEYWORDS = {"refund": "refund", "prize": "prize"}
OPTIONS = ("--cache", "cache", "--encoder", str(TINY), "--no-report")

SHIPPED = ("--cache", "cache", "--no-report")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("DOORMAN_LLM_API_BASE", "DOORMAN_LLM_API_KEY", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


@pytest.fixture
def server(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ScriptedLlm]:
    with ScriptedLlm(KEYWORDS) as running:
        monkeypatch.setenv("DOORMAN_LLM_API_BASE", running.base)
        monkeypatch.setenv("DOORMAN_LLM_API_KEY", "sk-secret-of-the-test-0001")
        yield running


def terminal(*arguments: str, cwd: Path) -> str:
    """What a command draws on a terminal, without the codes for colours."""
    leader, follower = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "proxy.cli", *arguments], cwd=cwd, stdout=follower,
        stderr=subprocess.DEVNULL, env={**os.environ, "COLUMNS": "100", "TERM": "xterm"},
    )  # fmt: skip
    os.close(follower)
    drawn = b""
    while True:
        try:
            part = os.read(leader, 1 << 16)
        except OSError:
            break
        if not part:
            break
        drawn += part
    os.close(leader)
    assert process.wait() == 0, drawn
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", drawn.decode())


# -- what cannot be used --------------------------------------------------------------------------

FEW = rows_of(6)
BAD: dict[str, tuple[dict[str, Any], dict[str, str], str]] = {
    "an empty file": ({}, {"rows.jsonl": ""}, "rows.jsonl"),
    "a missing file": ({"data": ["nowhere.csv"]}, {}, "task.yaml:"),
    "a broken task": ({}, {"task.yaml": "name: a\nlabels: [a, b\n"}, "task.yaml:"),
    "an unknown key": ({"lables": ["a"]}, {}, "did you mean 'labels'"),
    "no labels": ({"labels": []}, {}, "task.yaml:"),
    "an unknown column": ({"data": [{"path": "rows.jsonl", "text": "txt"}]}, {}, "'txt'"),
    "one class": (
        {"labels": ["garden"], "kind": "any_of"},
        {"rows.jsonl": "".join(json.dumps(r) + "\n" for r in rows_of(9, ("garden",)))},
        "every row has the label 'garden', so that nothing can be learnt; add rows without it",
    ),
    "a label with one row": (
        {},
        {"rows.jsonl": "".join(json.dumps(r) + "\n" for r in [*FEW[::3], *FEW[1::3], FEW[2]])},
        "the label 'travel' has 1 row; add rows",
    ),
    "an unknown label": (
        {"labels": ["garden", "kitchen", "travle"]}, {}, "unknown label 'travel' in 6 rows; did you"
    ),
    "nothing but conflicts": (
        {},
        {
            "rows.jsonl": "".join(
                json.dumps({"text": f"the same text {n}", "label": label}) + "\n"
                for n in range(5)
                for label in ("garden", "kitchen")
            )
        },
        "has no rows; add rows",
    ),
    "spans that lie outside": (
        {"kind": "spans", "labels": ["plant", "day"]},
        {"rows.jsonl": '{"text": "abc", "spans": [[0, 99, "plant"]]}\n'},
        "rows.jsonl",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_told_in_plain_lines_and_nothing_is_written(
    home: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    more, files, message = BAD[name]
    write_task(home, FEW, **more)
    for file, content in files.items():
        (home / file).write_text(content)
    before = contents(home)
    status = main(["train", "task.yaml", "-o", "deep/pack", *OPTIONS])
    said = capsys.readouterr()
    assert (status, said.out) == (2, ""), said
    assert message in said.err
    assert "Traceback" not in said.err
    assert all(line.startswith("doorman: ") for line in said.err.splitlines())
    assert len(said.err.splitlines()) <= 5
    assert contents(home) == before
    assert not (home / "deep").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere.yaml"], "nowhere.yaml"),
        (["task.yaml", "--threads", "0"], "--threads is 0; give 1 or more"),
        (["task.yaml", "--force"], "--force goes with --update"),
        (["task.yaml", "--name", "x"], "--name goes with --update; write name: in the task"),
        (["task.yaml", "-o", "rows.jsonl"], "rows.jsonl is a file; name a folder with -o"),
        (["task.yaml", "-o", "."], "is a folder with other files"),
        (["task.yaml", "--encoder", "nowhere"], "nowhere: no manifest.json"),
        (["rows.jsonl", "--update", "nowhere"], "nowhere: no pack is there"),
    ],
)
def test_bad_arguments(
    home: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    write_task(home, FEW)
    before = contents(home)
    assert main(["train", *OPTIONS, *arguments]) == 2
    said = capsys.readouterr()
    assert message in said.err
    assert len(said.err.splitlines()) == 1
    assert said.out == ""
    assert contents(home) == before


def test_conflicting_rows_are_told_and_the_rest_is_trained_on(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    twice = {"text": FEW[0]["text"], "label": "kitchen"}
    write_task(home, [*rows_of(20), twice])
    assert main(["train", "task.yaml", *OPTIONS]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["cleanup"]["conflicting"] == 2
    assert any("rows.jsonl:1 and rows.jsonl:61 (garden / kitchen)" in w for w in report["warnings"])


# -- what is printed ------------------------------------------------------------------------------


def test_in_a_pipe_it_prints_json(home: Path) -> None:
    write_task(home, rows_of(20))
    done = doorman("train", "task.yaml", *OPTIONS, cwd=home)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert done.stderr == ""
    assert report["pack"] == "hobby"
    assert (home / "hobby" / "manifest.json").is_file()
    assert report["method"] == "head"
    assert report["overall"]["accuracy"]["of"] > 0


def test_on_a_terminal_it_draws_a_table_and_takes_labels_as_they_are(home: Path) -> None:
    rows = [{**row, "label": f"[{row['label']}]"} for row in rows_of(20)]
    labels = ["[garden]", "[kitchen]", "[travel]"]
    slices = {"[/b]": [{"text": FEW[0]["text"], "label": "[garden]"}]}
    write_task(home, rows, labels=labels, slices=slices)
    drawn = terminal("train", "task.yaml", "-o", "pack", *OPTIONS, cwd=home)
    assert "hobby in pack (" in drawn
    assert "Method: head, since" in drawn
    assert all(f"│ {label}" in drawn for label in labels)
    assert "slice [/b]: 1 of 1 pass" in drawn
    assert "is not promised for [garden], [kitchen], [travel]" in drawn
    write_jsonl(home / "fix.jsonl", [{"text": "a quibble", "label": "[travel]"}])
    drawn = terminal("train", "fix.jsonl", "--update", "pack", *OPTIONS, cwd=home)
    assert "remembered: [garden]" in drawn
    assert "Written to pack, version" in drawn
    drawn = terminal("evaluate", "pack", "rows.jsonl", "--encoder", str(TINY), cwd=home)
    assert "[kitchen]" in drawn
    assert "decided right: " in drawn


def test_the_cases_of_a_slice_that_fail_are_named(home: Path) -> None:
    cases = [{"text": text_of("garden", n), "label": "travel"} for n in range(900, 912)]
    unwanted = {"text": text_of("kitchen", 900), "not": "kitchen"}
    task = write_task(home, rows_of(40), slices={"s": [unwanted, *cases]})
    drawn = terminal("train", "task.yaml", "-o", "pack", *OPTIONS, cwd=home)
    lines = task.read_text().splitlines()
    number = next(n for n, line in enumerate(lines, 1) if cases[0]["text"][:30] in line)
    assert "slice s: 0 of 13 pass" in drawn
    assert f"  task.yaml:{number}: expected travel, said garden" in drawn
    assert drawn.count(": expected ") == 10
    assert "  and 3 more; --json lists them all" in drawn
    write_task(home, rows_of(40), slices={"s": [unwanted]})
    drawn = terminal("train", "task.yaml", "-o", "pack", *OPTIONS, cwd=home)
    assert ": expected not kitchen, said kitchen" in drawn


# -- chat models ----------------------------------------------------------------------------------

LABELS = {
    "refund": {"description": "wants money back", "near_misses": ["How do returns work?"]},
    "prize": "promises a prize",
}
WRITE = {"model": "openai/test", "per_label": 12, "batch": 6}
SYNTH = {"labels": LABELS, "synthesize": WRITE}


def test_rows_that_a_model_writes_lie_beside_the_pack_and_are_paid_once(
    home: Path, server: ScriptedLlm, capsys: pytest.CaptureFixture[str]
) -> None:
    write_task(home, name="tickets", **SYNTH)
    assert main(["train", "task.yaml", "-o", "out/pack", *SHIPPED]) == 0
    report = json.loads(capsys.readouterr().out)
    beside = home / "out" / "pack.rows" / "synthetic"
    rows = [json.loads(line) for line in (beside / "rows.jsonl").read_text().splitlines()]
    assert len(rows) >= 20
    assert server.count("write") > 0
    assert server.count("label") > 0
    assert report["bills"]["synthesize"]["calls"] == server.count()
    assert sum(report["rows"].values()) <= len(rows)
    made = read_pack(home / "out" / "pack", kind=kind(home / "out" / "pack"))
    assert "synthesized" in made["sources"]
    paid = server.count()
    assert main(["train", "task.yaml", "-o", "out/pack", *SHIPPED]) == 0
    assert server.count() == paid
    assert "chat-model" not in {thread.name for thread in threading.enumerate()}
    again = read_pack(home / "out" / "pack", kind=made["kind"])
    assert again["hash"] == made["hash"]


def test_what_is_new_on_a_bill_and_what_is_not(home: Path, server: ScriptedLlm) -> None:
    priced = {**WRITE, "model": "openai/gpt-4o-mini"}
    write_task(home, name="tickets", labels=LABELS, synthesize=priced)
    drawn = terminal("train", "task.yaml", "-o", "pack", *SHIPPED, cwd=home)
    assert f"synthesize: {server.count()} calls, " in drawn
    drawn = terminal("train", "task.yaml", "-o", "pack", *SHIPPED, cwd=home)
    assert re.search(r"synthesize: 0 new calls, 0\.\d{4} dollars in all", drawn)


def kind(pack: Path) -> str:
    return str(json.loads((pack / "manifest.json").read_text())["kind"])


def test_a_run_that_fails_keeps_what_is_paid_for(
    home: Path, server: ScriptedLlm, capsys: pytest.CaptureFixture[str]
) -> None:
    write_task(home, name="tickets", **SYNTH)
    server.always["label"] = "401"
    assert main(["train", "task.yaml", "-o", "pack", *SHIPPED]) == 2
    said = capsys.readouterr().err
    assert "the provider refused the key" in said
    assert "run it again" in said
    assert "sk-secret" not in said
    assert len(said.splitlines()) == 1
    assert not (home / "pack").exists()
    server.always.clear()
    assert main(["train", "task.yaml", "-o", "pack", *SHIPPED]) == 0
    prompts = [asked.prompt for asked in server.asked if asked.kind == "write"]
    assert len(set(prompts)) == len(prompts)


def test_without_a_key_nothing_is_called_and_the_variable_is_named(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_task(home, name="tickets", **SYNTH)
    assert main(["train", "task.yaml", "-o", "pack", *OPTIONS]) == 2
    said = capsys.readouterr().err
    assert "openai/test: there is no key for the provider; set OPENAI_API_KEY" in said
    assert len(said.splitlines()) == 1
    assert not (home / "pack").exists()


def test_a_run_that_is_paid_for_needs_no_key(
    home: Path, server: ScriptedLlm, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_task(home, name="tickets", **SYNTH)
    assert main(["train", "task.yaml", "-o", "pack", *SHIPPED]) == 0
    for name in ("DOORMAN_LLM_API_BASE", "DOORMAN_LLM_API_KEY"):
        monkeypatch.delenv(name)
    assert main(["train", "task.yaml", "-o", "pack", *SHIPPED]) == 0


def test_a_model_that_nobody_knows(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_task(home, name="t", labels=LABELS, synthesize={"model": "no-such-thing"})
    assert main(["train", "task.yaml", *OPTIONS]) == 2
    said = capsys.readouterr().err
    assert said.startswith("doorman: the chat model: ")
    assert len(said.splitlines()) == 1


def test_from_python_without_a_chat_model(home: Path) -> None:
    task = write_task(home, name="t", **SYNTH)
    with pytest.raises(
        ValueError, match=r"task.yaml:\d+: there is no chat model here .*`doorman train`"
    ):
        train(task, home / "pack", options(home))


def texts(server: ScriptedLlm, count: int) -> list[str]:
    return [server.text(("refund", "prize", "")[n % 3]) for n in range(count)]


def test_a_teacher_labels_texts_and_its_report_is_in_the_pack(
    home: Path, server: ScriptedLlm, capsys: pytest.CaptureFixture[str]
) -> None:
    (home / "mail.txt").write_text("\n".join(texts(server, 90)) + "\n")
    write_task(
        home, name="tickets", kind="any_of", labels=LABELS,
        teacher={"model": "openai/test", "sample": 90, "texts": ["mail.txt"]},
    )  # fmt: skip
    assert main(["train", "task.yaml", "-o", "pack", *OPTIONS]) == 0
    report = json.loads(capsys.readouterr().out)
    teacher = report["teacher"]
    assert teacher["labelled"] == 90
    assert teacher["self_contradiction"] == 0
    assert 0 < teacher["agreement"]["texts"] <= 90
    assert read_pack(home / "pack", kind="head")["teacher"] == teacher
    assert (home / "pack.rows" / "taught" / "labelled.jsonl").is_file()
    paid = server.count()
    assert main(["train", "task.yaml", "-o", "pack", *OPTIONS]) == 0
    assert server.count() == paid
    assert "chat-model" not in {thread.name for thread in threading.enumerate()}


def test_a_teacher_may_judge_the_data_and_leaves_known_texts_alone(
    home: Path, server: ScriptedLlm, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [{"text": text, "label": "prize", "split": "train" if n % 2 else "test"}
            for n, text in enumerate(texts(server, 90))]  # fmt: skip
    (home / "calm.txt").write_text("".join(f"{server.text('')}\n" for _ in range(30)))
    write_task(
        home, rows, name="tickets", kind="any_of", labels=LABELS, benign=["calm.txt"],
        teacher={"model": "openai/test", "sample": 90},
    )  # fmt: skip
    assert main(["train", "task.yaml", "-o", "pack", *OPTIONS]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["teacher"]["labelled"] == 90
    assert report["rows"]["test"] >= 30
    made = read_pack(home / "pack", kind="head")
    assert {"calm", "rows"} <= made["sources"].keys()
    judged = {text for asked in server.asked if asked.kind == "label" for text in asked.texts}
    assert judged == {row["text"] for row in rows}


def test_a_moderation_endpoint_as_the_teacher(home: Path, server: ScriptedLlm) -> None:
    (home / "mail.txt").write_text("\n".join(texts(server, 60)) + "\n")
    write_task(
        home, name="tickets", kind="any_of", labels=LABELS,
        teacher={"endpoint": f"{server.base}/moderations", "endpoint_format": "moderations",
                 "sample": 60, "texts": ["mail.txt"]},
    )  # fmt: skip
    assert main(["train", "task.yaml", "-o", "pack", *OPTIONS]) == 0
    assert server.count("moderate") > 0
    assert server.count("label") == 0
    assert "chat-model" not in {thread.name for thread in threading.enumerate()}
    assert server.asked[-1].headers["authorization"] == "Bearer sk-secret-of-the-test-0001"


def test_moderations_need_an_endpoint(
    home: Path, server: ScriptedLlm, capsys: pytest.CaptureFixture[str]
) -> None:
    (home / "mail.txt").write_text("\n".join(texts(server, 30)) + "\n")
    teacher = {"model": "omni", "endpoint_format": "moderations", "texts": ["mail.txt"]}
    write_task(home, name="tickets", kind="any_of", labels=LABELS, teacher=teacher)
    assert main(["train", "task.yaml", *OPTIONS]) == 2
    assert "moderations needs its address; write endpoint:" in capsys.readouterr().err
    assert server.count() == 0


def test_a_shipped_pack_goes_by_its_name_and_is_never_overwritten(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_jsonl(home / "more.jsonl", [{"text": "a very good day to you all", "label": "greeting"}])
    assert main(["train", "more.jsonl", "--update", "intent"]) == 2
    assert "intent is a shipped pack" in capsys.readouterr().err
    told = ["-o", "mine", "--name", "my-intent", "--cache", "cache"]
    assert main(["train", "more.jsonl", "--update", "intent", *told]) == 0
    assert read_pack(home / "mine", kind="head")["name"] == "my-intent"
