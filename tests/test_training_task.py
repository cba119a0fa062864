"""The task file: what it means, and what is said about every mistake in it."""

from __future__ import annotations

from pathlib import Path

import pytest

from classifiers.training.task import TaskError, load_task, make_task

HEAD = "name: t\nlabels: [refund, shipping]\n"
TASK = HEAD + "data: [rows.csv]\n"

FULL = """\
name: refunds
description: Which team answers.
kind: any_of
labels:
  refund: The customer wants money back.
  shipping:
    description: Where a parcel is.
    examples: ["Where is my parcel?", It has not come]
    near_misses: ["Do you ship to Peru?"]
  other:
none_label: [none, ham]
data:
  - rows.csv
  - path: more.tsv.gz
    text: body
    labels: [refund, shipping]
    split: test
    source: forum
    delimiter: tab
    encoding: cp1252
    label_map: {Refunds: refund, junk: null}
languages: [en, pt-BR]
slices:
  politeness:
    - {text: "Please, my money", label: refund}
    - {text: "Hello", label: null}
    - {text: "Parcel and money", labels: [refund, shipping]}
    - {text: "I love it", not: refund}
benign: [good.txt]
max_false_positive_rate: 0.5%
min_recall: 80%
method: head
synthesize: {model: gpt, per_label: 20, personas: [a nurse], max_cost: 2.5}
teacher: {endpoint: "https://judge.test/v1", endpoint_format: moderations, texts: [good.txt]}
seed: 7
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("rows.csv", "more.tsv.gz", "good.txt"):
        (tmp_path / name).write_text("text,label\na,refund\n")
    return tmp_path


def written(folder: Path, text: str) -> Path:
    path = folder / "task.yaml"
    path.write_text(text, "utf-8")
    return path


def test_a_full_task_says_what_it_says(folder: Path) -> None:
    task = load_task(written(folder, FULL))
    assert task.label_names == ("refund", "shipping", "other")
    assert task.labels["refund"].description == "The customer wants money back."
    assert task.labels["shipping"].near_misses == ("Do you ship to Peru?",)
    assert task.labels["other"].description == ""
    assert task.data[0].path == folder / "rows.csv"
    assert (task.data[0].format, task.data[1].format, task.benign[0].format) == (
        "csv", "tsv", "txt",
    )  # fmt: skip
    assert task.data[1].delimiter == "\t"
    assert task.data[1].labels == ("refund", "shipping")
    assert task.data[1].label_map == {"Refunds": "refund", "junk": None}
    cases = task.slices["politeness"]
    assert [(case.labels, case.absent) for case in cases] == [
        (("refund",), ()), ((), ()), (("refund", "shipping"), ()), (None, ("refund",)),
    ]  # fmt: skip
    assert (task.max_false_positive_rate, task.min_recall, task.seed) == (0.005, 0.8, 7)
    assert task.synthesize
    assert (task.synthesize.per_label, task.synthesize.batch) == (20, 10)
    assert task.teacher
    assert task.teacher.texts[0].path == folder / "good.txt"
    assert task.at("seed") == f"{folder / 'task.yaml'}:{FULL.count(chr(10))}"


@pytest.mark.parametrize(
    ("text", "kind", "pooling"),
    [
        (TASK, "one_of", "mean"),
        ("name: t\nlabels: [spam]\ndata: [rows.csv]", "any_of", "max"),
        (TASK + "kind: any_of", "any_of", "max"),
        (TASK + "kind: any_of\npooling: mean", "any_of", "mean"),
        (TASK + "kind: spans", "spans", "mean"),
    ],
)
def test_kind_and_pooling_fit_the_labels(folder: Path, text: str, kind: str, pooling: str) -> None:
    task = load_task(written(folder, text))
    assert (task.kind, task.pooling) == (kind, pooling)
    assert task.max_false_positive_rate == 0.01


def test_a_label_of_a_list_may_say_what_it_means(folder: Path) -> None:
    task = load_task(
        written(folder, "name: t\nlabels:\n  - refund: money\n  - shipping\ndata: [rows.csv]")
    )
    assert task.labels["refund"].description == "money"


MISTAKES = [
    # (text, line, words of the message)
    ("", 1, ["the file is empty; a task needs at least 'name' and 'labels'"]),
    ("- a", 1, ["['a'] is no task; begin with name:, labels: and data:"]),
    ("name: t\nlabels: [", 2, ["not valid YAML"]),
    ("name: t\ndata: [rows.csv]", 1, ["the task has no 'labels'; add it"]),
    (TASK + "lables: []", 4, ["unknown key 'lables'; did you mean 'labels'? Keys are: name"]),
    ("name: a b\nlabels: [a, b]\ndata: [rows.csv]", 1, ["name of a task is 'a b'", "64 letters"]),
    ("name: t\nlabels: []\ndata: [rows.csv]", 2, ["there are no labels; write at least one"]),
    ("name: t\nlabels: spam\ndata: [rows.csv]", 2, ["labels is 'spam'; write a list of names"]),
    ("name: t\nlabels:\n  - a\n  - a\ndata: [rows.csv]", 4, ["'a' stands twice; remove one"]),
    ("name: t\nlabels: [Spam, spam]\ndata: [rows.csv]", 2, ["'Spam' and 'spam' differ in case"]),
    ("name: t\nlabels: [yes, b]\ndata: [rows.csv]", 2, ["the label True is no text; put it in q"]),
    ("name: t\nlabels: [1, 2]\ndata: [rows.csv]", 2, ["the label 1 is no text"]),
    ("name: t\nlabels: ['a ', b]\ndata: [rows.csv]", 2, ["the label 'a ' cannot be used"]),
    ("name: t\nlabels:\n  a:\n    exmples: [x]\n  b:\ndata: [rows.csv]", 4,
     ["unknown key 'exmples'; did you mean 'examples'?"]),
    ("name: t\nlabels: [a]\nkind: one_of\ndata: [rows.csv]", 3, ["there is one", "kind: any_of"]),
    (TASK + "kind: anyof", 4, ["'anyof' is none of the kinds; did you mean 'any_of'?"]),
    (TASK + "method: heads", 4, ["did you mean 'head'? Methods are: auto, head, examples"]),
    (TASK + "method: spans", 4, ["method spans does not fit kind one_of; write auto"]),
    (TASK + "pooling: avg", 4, ["'avg' is none of the poolings"]),
    (HEAD, 1, ["there is nothing to learn from; add data:"]),
    (HEAD + "data: []", 3, ["the list of data files is empty"]),
    (HEAD + "data: rows.csv", 3, ["data files must be a list, not 'rows.csv'"]),
    (HEAD + "data:\n  - rows.csv\n  - rwos.csv", 5, ["there is no file", "did you mean 'rows.csv'"]),
    (HEAD + "data: [.]", 3, ["the name of '.' does not tell its format"]),
    (HEAD + "data:\n  - {path: ., format: csv}", 4, ["is a folder; name the files in it"]),
    (HEAD + "data:\n  - rows.xlsx", 4, ["does not tell its format; save it as .csv"]),
    (HEAD + "data:\n  - {path: rows.csv, lable: x}", 4, ["'lable'; did you mean 'label'?"]),
    (HEAD + "data:\n  - {path: rows.csv, format: cvs}", 4, ["did you mean 'csv'?"]),
    (HEAD + "data:\n  - {path: rows.csv, delimiter: ', '}", 4, ["delimiter is ', '; write one"]),
    (HEAD + "data:\n  - {path: rows.csv, encoding: utf9}", 4, ["'utf9' is no encoding"]),
    (HEAD + "data:\n  - {path: rows.csv, encoding: hex}", 4, ["'hex' is no encoding"]),
    (HEAD + "data:\n  - {path: rows.csv, label: x, labels: y}", 4, ["either label or labels"]),
    (HEAD + "data:\n  - path: rows.csv\n    label_map:\n      money: refnd", 6,
     ["unknown label 'refnd'; did you mean 'refund'? Labels are: refund, shipping"]),
    (TASK + "slices:\n  a:\n    - {text: x, label: shiping}", 6,
     ["unknown label 'shiping'; did you mean 'shipping'?"]),
    (TASK + "slices:\n  a:\n    - {text: x, label: refund, not: shipping}", 6, ["says one of label"]),
    (TASK + "slices:\n  a:\n    - {text: x}", 6, ["here: none; write label: null"]),
    (TASK + "slices:\n  a: []", 5, ["the list of cases is empty"]),
    (TASK + "slices:\n  a:\n    - {text: '', label: refund}", 6, ["text of a case is empty"]),
    (TASK + "slices:\n  a:\n    - {text: x, labels: [refund, shipping]}", 6, ["has one label"]),
    (TASK + "max_false_positive_rate: 0", 4, ["0 is not over 0 and up to 1; write a percentage"]),
    (TASK + "max_false_positive_rate: 100%", 4, ["would allow every text to match"]),
    (TASK + "min_recall: most", 4, ["'most' is no share"]),
    (TASK + "languages: [english]", 4, ["'english' is no language code; write codes such as en"]),
    (TASK + "seed: -1", 4, ["'seed' is -1"]),
    (TASK + "max_rows: true", 4, ["'max_rows' is True and must be a whole number"]),
    (TASK + "synthesize: {per_label: 3}", 4, ["'synthesize' has no 'model'; add it"]),
    (TASK + "synthesize: {model: m, per_label: 0}", 4, ["'synthesize per_label' is 0"]),
    (TASK + "synthesize: {model: m, max_cost: much}", 4, ["is 'much' and must be a number"]),
    (TASK + "teacher: {sample: 3}", 4, ["a model or an endpoint; write one"]),
    (TASK + "teacher: {endpoint: https://a.test}", 4, ["write which one with model:"]),
    (TASK + "teacher: {model: m, endpoint: a.test}", 4, ["'a.test' is no address; begin it with https://"]),
    (HEAD + "teacher: {model: m}", 3, ["the teacher has no texts to judge; add texts:"]),
]  # fmt: skip


@pytest.mark.parametrize(("text", "line", "words"), MISTAKES)
def test_a_mistake_is_told_with_its_line_and_the_fix(
    folder: Path, text: str, line: int, words: list[str]
) -> None:
    path = written(folder, text)
    with pytest.raises(TaskError) as caught:
        load_task(path)
    lines = str(caught.value).splitlines()
    assert lines[0].startswith(f"{path}:{line}: ")
    for word in words:
        assert word in lines[0]


def test_all_mistakes_are_told_at_once(folder: Path) -> None:
    path = written(folder, "name: 3\nlabels: [a, b]\ndata: [no.csv]\nseed: x\n")
    with pytest.raises(TaskError) as caught:
        load_task(path)
    told = [line.split(": ")[0] for line in str(caught.value).splitlines()]
    assert told == [f"{path}:{line}" for line in (1, 3, 4)]


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "task.yaml"
    path.write_bytes(b"name: a\nlabels: [\xff]\n")
    with pytest.raises(TaskError, match=r"task\.yaml:2: the text is not UTF-8"):
        load_task(path)
    with pytest.raises(TaskError, match=r"cannot be read \(No such file"):
        load_task(tmp_path / "none.yaml")


def test_a_task_can_be_made_in_python(folder: Path) -> None:
    task = make_task({"name": "t", "labels": ["a", "b"], "data": ["rows.csv"]}, folder)
    assert task.data[0].path == folder / "rows.csv"
    with pytest.raises(TaskError, match="did you mean 'labels'"):
        make_task({"name": "t", "label": ["a", "b"], "data": ["rows.csv"]}, folder)
    # The examples of all labels are enough to learn from.
    make_task({"name": "t", "labels": {n: {"examples": ["x"]} for n in "ab"}})


def test_a_data_file_in_place_of_a_task_is_told(tmp_path: Path) -> None:
    path = tmp_path / "corrections.jsonl"
    path.write_text('{"text": "hello", "label": "a"}\n')
    with pytest.raises(TaskError, match=r"corrections\.jsonl:1: this is a data file.*--update"):
        load_task(path)
