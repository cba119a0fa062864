"""The trainer from a task to a pack: every kind, and what it says."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("sklearn", reason="scikit-learn is not installed (extra `train`)")

from train_kit import (
    BEGIN,
    END,
    TINY,
    WORDS,
    Rows,
    options,
    rows_of,
    run,
    span_rows,
    text_of,
    write_jsonl,
    write_task,
)

from classifiers.encoder import Encoder
from classifiers.loading import load_packs
from classifiers.packs import SHIPPED, read_pack
from classifiers.training.data import Row
from classifiers.training.features import FeatureCache
from classifiers.training.gather import Helpers, gather
from classifiers.training.methods import choose
from classifiers.training.slices import passed, read_slices
from classifiers.training.task import load_task
from classifiers.training.train import train
from classifiers.types import Batch

PLAIN: Rows = [
    {"text": f"{begin} weather {end} and nothing else", "label": None}
    for begin in BEGIN
    for end in END[:5]
]


def best(pack: Path, text: str, encoder: Path = TINY) -> str:
    own = load_packs([pack], Encoder(encoder))[0].predict(Batch([text]))[0]
    return max((p for p in own if p.label != "out_of_scope"), key=lambda p: p.score).label


def manifest(pack: Path, kind: str = "head") -> dict[str, Any]:
    return read_pack(pack, kind=kind)


def test_one_of(tmp_path: Path) -> None:
    report = run(tmp_path, rows_of(40))
    assert report.method == "head"
    assert "rows" in report.reason
    assert set(report.rows) == {"train", "dev", "test"}
    assert report.seconds > 0
    assert report.folder == tmp_path / "pack"
    for label in ("garden", "kitchen", "travel"):
        assert best(tmp_path / "pack", text_of(label, 999)) == label
    made = manifest(tmp_path / "pack")
    assert made["method"] == "head"
    assert made["train_rows"].keys() == set(made["labels"])
    assert report.evaluation is not None
    assert report.evaluation.overall.accuracy.value > 0.75
    json.dumps(report.to_json(), allow_nan=False)


def test_any_of_with_ordinary_texts(tmp_path: Path) -> None:
    both = [
        {"text": f"{text_of('garden', n)} and {text_of('kitchen', n)}", "label": "garden|kitchen"}
        for n in range(300, 330)
    ]
    rows = [*rows_of(40, ("garden", "kitchen")), *both, *PLAIN]
    report = run(tmp_path, rows, kind="any_of", labels=["garden", "kitchen"])
    own = load_packs([tmp_path / "pack"], Encoder(TINY))[0]
    assert own.kind == "any_of"
    assert own.labels == ("garden", "kitchen")
    scores = {p.label: p.score for p in own.predict(Batch([both[0]["text"]]))[0]}
    assert min(scores.values()) > 0.5
    assert report.evaluation is not None
    assert report.evaluation.any_flagged.of > 0


def test_benign_files_train_an_any_of_task_and_not_a_one_of(tmp_path: Path) -> None:
    (tmp_path / "calm.txt").write_text("\n".join(row["text"] for row in PLAIN) + "\n")
    report = run(
        tmp_path, rows_of(40, ("garden",)), labels=["garden"], benign=["calm.txt"]
    )  # one label: any_of
    assert manifest(tmp_path / "pack")["sources"]["calm"]["rows"] > 10
    assert not any("benign: is not used" in line for line in report.warnings)
    report = run(tmp_path, rows_of(20), benign=["calm.txt"])
    assert any("benign: is not used" in line for line in report.warnings)


def test_what_was_skipped_in_a_benign_file_is_said(tmp_path: Path) -> None:
    lines = [{"text": row["text"]} for row in PLAIN]
    (tmp_path / "calm.jsonl").write_text(
        "".join(json.dumps(line) + "\n" for line in lines) + "{broken\n"
    )
    report = run(tmp_path, rows_of(40, ("garden",)), labels=["garden"], benign=["calm.jsonl"])
    assert any("calm.jsonl" in line and "1 of 61 rows" in line for line in report.warnings)


def test_spans(tmp_path: Path) -> None:
    report = run(tmp_path, span_rows(80), kind="spans", labels=["plant", "day"])
    assert report.method == "spans"
    own = load_packs([tmp_path / "pack"], Encoder(TINY))[0]
    text = "my aunt likes her tulips on Friday near the river"
    found = {
        (p.label, text[p.span.start : p.span.end]) for p in own.predict(Batch([text]))[0] if p.span
    }
    assert found == {("plant", "tulips"), ("day", "Friday")}
    assert report.evaluation is not None
    assert "had not seen" in report.evaluation.judged_on
    # The same labels at other places are no contradiction.
    assert not any("different labels" in line for line in report.warnings)
    assert (tmp_path / "pack" / "README.md").read_text().startswith("# hobby\n")


def test_spans_say_what_they_do_not_use(tmp_path: Path) -> None:
    labels = {"plant": {"examples": ["roses"]}, "day": None}
    report = run(tmp_path, span_rows(60), kind="spans", labels=labels, min_recall=0.9)
    assert any(
        line.startswith("examples: and near_misses: are not used") for line in report.warnings
    )
    assert any("are those with the best F1" in line for line in report.warnings)


@pytest.mark.parametrize("key", ["synthesize", "teacher"])
def test_a_chat_model_is_not_paid_for_spans(tmp_path: Path, key: str) -> None:
    with pytest.raises(
        ValueError, match=r"task\.yaml:\d+: a chat model labels texts, not stretches"
    ):
        run(
            tmp_path, span_rows(60), kind="spans", labels=["plant", "day"],
            **{key: {"model": "openai/test"}},
        )  # fmt: skip


def test_examples_alone(tmp_path: Path) -> None:
    labels = {
        name: {"examples": [text_of(name, n) for n in range(4)], "near_misses": ["well, hardly"]}
        for name in ("garden", "kitchen")
    }
    home = SHIPPED / "encoder"
    report = train(
        write_task(tmp_path, labels=labels), tmp_path / "pack", options(tmp_path, encoder=home)
    )
    assert report.method == "examples"
    assert "4 rows or fewer" in report.reason
    assert best(tmp_path / "pack", "They planted a hedge.", home) == "garden"
    assert best(tmp_path / "pack", "Bake the bread.", home) == "kitchen"
    assert manifest(tmp_path / "pack", "examples")["examples"] == 8


@pytest.mark.parametrize(
    ("counts", "method"),
    [((5, 5), "examples"), ((6, 6), "head"), ((2, 40), "head"), ((2, 3, 40), "examples")],
)
def test_auto_takes_the_method_by_the_median_label(counts: tuple[int, ...], method: str) -> None:
    names = [f"label {n}" for n in range(len(counts))]
    rows = [
        Row("x", frozenset({name})) for name, n in zip(names, counts, strict=True) for _ in range(n)
    ]
    found, reason = choose(rows, names)
    assert found == method
    assert reason


def test_the_task_may_name_the_method(tmp_path: Path) -> None:
    report = run(tmp_path, rows_of(20), method="examples")
    assert (report.method, report.reason) == ("examples", "the task says so")


@pytest.mark.parametrize("method", ["auto", "head"])
def test_two_rows_a_label_are_enough(tmp_path: Path, method: str) -> None:
    report = run(tmp_path, rows_of(2), method=method)
    assert sum(report.rows.values()) == 6
    assert any("'garden' has 2 rows" in line for line in report.warnings)


def test_dev_and_test_rows_as_a_column_says(tmp_path: Path) -> None:
    rows = rows_of(60)
    for number, row in enumerate(rows):
        row["split"] = "test" if number >= 120 else "dev" if number >= 100 else "train"
    report = run(tmp_path, rows)
    assert report.evaluation is not None
    assert 30 <= report.evaluation.overall.rows == report.rows["test"] <= 60
    assert report.evaluation.judged_on == "texts that it was not trained on"
    assert sum(manifest(tmp_path / "pack")["train_rows"].values()) == sum(
        report.rows[part] for part in ("train", "dev")
    )


def test_nearly_equal_texts_never_stand_on_both_sides(tmp_path: Path) -> None:
    rows = rows_of(40)
    for number, row in enumerate(rows):
        row["split"] = "test" if number >= 84 else "train"
    copies = [{**row, "text": row["text"].upper() + "!", "split": "train"} for row in rows[84:]]
    task = load_task(write_task(tmp_path, [*rows, *copies]))
    encoder = Encoder(TINY)
    with FeatureCache(encoder, tmp_path / "cache") as cache:
        gathered = gather(task, encoder, cache, tmp_path / "beside", Helpers())
    spelt: dict[str, set[str]] = {}
    for row in gathered.rows:
        spelt.setdefault(row.text.casefold().rstrip("!"), set()).add(row.split)
    assert set().union(*spelt.values()) >= {"train", "test"}
    assert all(len(splits) == 1 for splits in spelt.values())
    groups: dict[str, set[str]] = {}
    for row in gathered.rows:
        groups.setdefault(row.group, set()).add(row.split)
    assert all(len(splits) == 1 for splits in groups.values())


def test_slices_are_judged_stored_and_the_same_in_both(tmp_path: Path) -> None:
    slices = {
        "met": [
            {"text": text_of("garden", 998), "label": "garden"},
            {"text": text_of("kitchen", 997), "not": "garden"},
        ],
        "not met": [{"text": text_of("garden", 999), "label": "travel"}],
    }
    report = run(tmp_path, rows_of(40), slices=slices)
    assert report.evaluation is not None
    judged = {one.name: (one.passed, one.failed) for one in report.evaluation.slices}
    assert judged == {"met": (2, 0), "not met": (0, 1)}
    met, other = report.to_json()["slices"]
    assert (met["name"], met["failures"]) == ("met", [])
    (failure,) = other["failures"]
    lines = (tmp_path / "task.yaml").read_text().splitlines()
    number = int(failure["place"].rpartition(":")[2])
    assert text_of("garden", 999)[:20] in " ".join(lines[number - 1 : number + 1])
    assert (failure["expected"], failure["said"], failure["text"]) == (["travel"], ["garden"], "")
    stored = read_slices(tmp_path / "pack")
    assert stored["met"][0].without == ("kitchen", "travel")
    own = load_packs([tmp_path / "pack"], Encoder(TINY))[0]
    assert passed(own, stored) == {"met": (2, 2), "not met": (0, 1)}
    assert "slices.json" in manifest(tmp_path / "pack")["files"]


def test_a_case_of_an_any_of_slice_names_all_labels_that_hold(tmp_path: Path) -> None:
    cases = [
        {"text": text_of("garden", n), "label": label} for n, label in ((1, "garden"), (2, None))
    ]
    run(
        tmp_path, [*rows_of(40, ("garden", "kitchen")), *PLAIN], kind="any_of",
        labels=["garden", "kitchen"], slices={"s": cases},
    )  # fmt: skip
    one, none = read_slices(tmp_path / "pack")["s"]
    assert (one.labels, one.without) == (("garden",), ("kitchen",))
    assert (none.labels, none.without) == ((), ("garden", "kitchen"))


@pytest.mark.parametrize(
    ("rows", "more", "said"),
    [
        (rows_of(40), {}, "of other labels and there are"),
        (
            [*rows_of(40, ("garden", "kitchen")), *PLAIN],
            {"kind": "any_of", "labels": ["garden", "kitchen"]},
            "without any label and there are",
        ),
    ],
)
def test_a_promise_that_cannot_be_kept_is_said(
    tmp_path: Path, rows: Rows, more: dict[str, Any], said: str
) -> None:
    report = run(tmp_path, rows, **more)
    (line,) = [line for line in report.warnings if "false-positive rate of 1%" in line]
    points = manifest(tmp_path / "pack")["operating_points"]
    least = min(point["benign_rows"] for name, point in points.items() if name != "out_of_scope")
    assert f"299 held-out rows {said} {least}; add {299 - least} more" in line
    assert points["garden"]["promised"] is False


def test_a_promise_that_can_be_kept_is_not_doubted(tmp_path: Path) -> None:
    report = run(tmp_path, rows_of(60), max_false_positive_rate=0.1, min_recall=0.5)
    assert not any("promised" in line or "proven" in line for line in report.warnings)
    point = manifest(tmp_path / "pack")["operating_points"]["garden"]
    assert point["max_false_positive_rate"] == 0.1
    assert point["recall_promised"] is True


def test_a_recall_that_is_not_proven_is_said(tmp_path: Path) -> None:
    report = run(tmp_path, rows_of(40), min_recall=0.99)
    assert any("a recall of 99% is not proven" in line for line in report.warnings)


def test_rows_of_one_mould_are_trained_on_and_doubted(tmp_path: Path) -> None:
    rows = [
        {"text": f"please tell me about the {one} and the {two} this morning", "label": label}
        for label, words in (("garden", WORDS["garden"]), ("kitchen", WORDS["kitchen"]))
        for one in words[:4]
        for two in words[4:]
    ]
    report = run(tmp_path, rows, labels=["garden", "kitchen"])
    assert any("rows are much alike" in line for line in report.warnings)
    assert any("is not promised for garden, kitchen: most rows" in line for line in report.warnings)
    points = manifest(tmp_path / "pack", "examples")["operating_points"]
    for label in ("garden", "kitchen"):
        assert points[label]["promised"] is False
        assert "like those it learnt from judge it" in points[label]["promise_fault"]
    with pytest.raises(ValueError, match=r"all \d+ rows belong to one group"):
        run(tmp_path, [{**row, "group": "a"} for row in rows], labels=["garden", "kitchen"],
            data=[{"path": "rows.jsonl", "group": "group"}])  # fmt: skip


def test_the_report_and_its_sources(tmp_path: Path) -> None:
    rows = rows_of(40)
    for number, row in enumerate(rows):
        row["source"] = "mail" if number % 2 else "chat"
    task = write_task(tmp_path, rows, slices={"s": [{"text": "roses", "label": "garden"}]})
    report = train(task, tmp_path / "pack", options(tmp_path, report=True))
    made = manifest(tmp_path / "pack")
    assert {"report.html", "report.json", "README.md", "replay.safetensors"} <= made["files"].keys()
    assert set(made["sources"]) == {"mail", "chat"}
    assert report.evaluation is not None
    assert set(report.evaluation.left_out) == {"mail", "chat"}
    page = (tmp_path / "pack" / "report.html").read_text()
    assert text_of("garden", 3) not in page
    assert json.loads((tmp_path / "pack" / "report.json").read_text())["decision"] == "one_of"


def test_the_same_task_gives_the_same_pack(tmp_path: Path) -> None:
    task = write_task(tmp_path, rows_of(20))
    for name in ("one", "two"):
        train(task, tmp_path / name, options(tmp_path))
    one, two = (manifest(tmp_path / name)["hash"] for name in ("one", "two"))
    assert one == two


def test_from_python_without_a_file(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "rows.jsonl", rows_of(20))
    task = {
        "name": "hobby",
        "labels": ["garden", "kitchen", "travel"],
        "data": [str(tmp_path / "rows.jsonl")],
    }
    report = train(task, str(tmp_path / "new" / "pack"), options(tmp_path))
    assert manifest(report.folder)["description"] == "Tells garden, kitchen, travel."


def test_a_trained_pack_survives_being_copied(tmp_path: Path) -> None:
    run(tmp_path, rows_of(20))
    text = text_of("travel", 5)
    before = load_packs([tmp_path / "pack"], Encoder(TINY))[0].predict(Batch([text]))
    shutil.copytree(tmp_path / "pack", tmp_path / "elsewhere")
    shutil.rmtree(tmp_path / "pack")
    assert load_packs([tmp_path / "elsewhere"], Encoder(TINY))[0].predict(Batch([text])) == before


def test_a_trained_pack_works_in_the_gateway_and_in_policy_tests(tmp_path: Path) -> None:
    from proxy import config
    from proxy.cli import main
    from proxy.loading import load_classifiers

    task = write_task(tmp_path, rows_of(20))
    train(task, tmp_path / "pack", options(tmp_path, encoder=SHIPPED / "encoder"))
    path = tmp_path / "doorman.yaml"
    (tmp_path / "policies").mkdir()
    (tmp_path / "policies" / "hobby.yaml").write_text(
        "name: hobby\nrules:\n"
        "  - name: plants\n    when: {hobby: garden, at: 0.4}\n    do: {block: No plants here.}\n"
        "  - name: strange\n    when: {hobby: out_of_scope, at: 1.0}\n    do: flag\n"
        "tests:\n"
        f"  - user: {text_of('garden', 3)!r}\n    expect: block\n    rule: plants\n"
        f"  - user: {text_of('kitchen', 3)!r}\n    expect: forward\n"
    )
    path.write_text(
        "model_list: [{model_name: default, litellm_params: {model: openai/gpt-4o}}]\n"
        f"classifiers: {{shipped: [], packs: [{tmp_path / 'pack'}]}}\n"
    )
    loaded = load_classifiers(config.load(path, secrets=False).classifiers)
    assert [one.name for one in loaded] == ["hobby"]
    assert "out_of_scope" in loaded[0].labels
    assert main(["policy", "test", str(tmp_path / "policies" / "hobby.yaml"), "-c", str(path)]) == 0


def test_the_shipped_encoder_learns_from_sixty_rows(tmp_path: Path) -> None:
    task = write_task(tmp_path, rows_of(20))
    train(task, tmp_path / "pack", options(tmp_path, encoder=SHIPPED / "encoder"))
    for label, text in (
        ("garden", "Should I water the roses twice a day?"),
        ("kitchen", "The sauce burnt in my pan."),
        ("travel", "My luggage did not arrive at the airport."),
    ):
        assert best(tmp_path / "pack", text, SHIPPED / "encoder") == label
