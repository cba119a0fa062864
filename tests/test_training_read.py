"""Data files of every kind, whole and broken."""

from __future__ import annotations

import csv
import gzip
import io
import json
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from classifiers.training.read import (
    FileReport,
    RawRow,
    ReadReport,
    read_data,
    read_task,
    read_texts,
)
from classifiers.training.tables import DataError, detect_encoding
from classifiers.training.task import Task, make_task

LABELS = ["refund", "shipping"]
ROWS = [("my money back", "refund"), ("where is it", "shipping"), ("pay me", "refund")]


def task(folder: Path, name: str, **changes: Any) -> Task:
    """A task with one data file; keys of the file are given as data_key."""
    data = {key.removeprefix("data_"): changes.pop(key) for key in list(changes)
            if key.startswith("data_")}  # fmt: skip
    values = {"name": "t", "labels": LABELS, "data": [{"path": name, **data}], **changes}
    return make_task(values, folder)


def read(
    folder: Path, content: str | bytes, name: str = "a.csv", **changes: Any
) -> tuple[list[RawRow], FileReport]:
    raw = content if isinstance(content, bytes) else content.encode()
    (folder / name).write_bytes(raw)
    made = task(folder, name, **changes)
    reports: list[FileReport] = []
    return list(read_data(made.data[0], made, reports)), reports[0]


def pairs(rows: list[RawRow]) -> list[tuple[str, str]]:
    return [(row.text, ",".join(sorted(row.labels))) for row in rows]


def made_csv(rows: list[tuple[str, ...]], delimiter: str = ",") -> str:
    file = io.StringIO()
    csv.writer(file, delimiter=delimiter).writerows(rows)
    return file.getvalue()


def jsonl(*rows: Any) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def write_parquet(path: Path, columns: dict[str, list[Any]]) -> None:
    pyarrow = pytest.importorskip("pyarrow", reason="pyarrow is not installed (extra `train`)")
    parquet = pytest.importorskip("pyarrow.parquet")
    parquet.write_table(pyarrow.table(columns), path)


SHAPES = [
    ("a.csv", made_csv([("text", "label"), *ROWS])),
    ("a.csv", made_csv([("label", "text"), *[(b, a) for a, b in ROWS]])),
    ("a.csv", made_csv([("Intent ", "Customer message"), *[(b, a) for a, b in ROWS]])),
    ("a.csv", made_csv([("kind", "words"), *[(b, a) for a, b in ROWS]])),
    ("a.csv", made_csv(ROWS)),
    ("a.csv", made_csv([("id", "text", "lang", "label")]
                       + [(str(i), a, "en", b) for i, (a, b) in enumerate(ROWS)])),
    ("a.csv", made_csv([("text", "label"), *ROWS], ";")),
    ("a.csv", made_csv([("text", "label"), *ROWS], "|")),
    ("a.csv", made_csv([("text", "label"), *ROWS], "\t")),
    ("a.tsv", made_csv([("text", "label"), *ROWS], "\t")),
    ("a.csv", made_csv([("text", "label"), *[(a, f" {b.upper()} ") for a, b in ROWS]])),
    ("a.csv", made_csv([("text", "label"), *ROWS]).replace("\r\n", "\r")),
    ("a.csv", made_csv([("text", "label"), *ROWS]).replace("\r\n", "\n\n")),
    ("a.jsonl", jsonl(*[{"text": a, "label": b} for a, b in ROWS])),
    ("a.jsonl", jsonl(*[{"id": 7, "utterance": a, "intent": [b]} for a, b in ROWS])),
    ("a.json", "\n" + jsonl(*[{"text": a, "label": b} for a, b in ROWS])),
]  # fmt: skip


@pytest.mark.parametrize(("name", "content"), SHAPES)
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_the_same_rows_are_read_from_every_shape(
    tmp_path: Path, name: str, content: str, packed: bool, encoding: str
) -> None:
    raw = content.encode(encoding)
    rows, report = read(tmp_path, gzip.compress(raw) if packed else raw, name + ".gz" * packed)
    assert pairs(rows) == ROWS
    assert (report.rows, report.used, report.skipped) == (3, 3, {})
    assert {row.source for row in rows} == {"a"}


def test_parquet_is_read(tmp_path: Path) -> None:
    write_parquet(
        tmp_path / "a.parquet", {"text": [a for a, _ in ROWS], "label": [b for _, b in ROWS]}
    )
    rows, _ = read_task(task(tmp_path, "a.parquet"))
    assert pairs(rows) == ROWS
    assert [row.place for row in rows] == [f"{tmp_path / 'a.parquet'}:{n}" for n in (1, 2, 3)]
    write_parquet(
        tmp_path / "b.parquet", {"text": ["a", None], "label": [["refund"], ["shipping"]]}
    )
    assert pairs(read_task(task(tmp_path, "b.parquet"))[0]) == [("a", "refund"), ("", "shipping")]
    (tmp_path / "c.parquet").write_bytes(b"text,label")
    with pytest.raises(DataError, match=r"c\.parquet:1: no Parquet file"):
        read_task(task(tmp_path, "c.parquet"))


def test_columns_that_are_named_are_taken(tmp_path: Path) -> None:
    content = made_csv([
        ("text", "said", "label", "team", "where", "part", "thread"),
        ("no", "my money", "shipping", "refund", "forum", "validation", "7"),
        ("no", "my parcel", "refund", "shipping", "mail", "", "8"),
    ])  # fmt: skip
    rows, report = read(
        tmp_path, content, data_text="said", data_label="team", data_source="where",
        data_split="part", data_group="thread",
    )  # fmt: skip
    assert pairs(rows) == [("my money", "refund"), ("my parcel", "shipping")]
    assert [(r.source, r.split, r.group) for r in rows] == [
        ("forum", "dev", "7"), ("mail", None, "8"),
    ]  # fmt: skip
    assert report.columns["label"] == "team"
    rows, _ = read(tmp_path, made_csv(ROWS), data_text="1", data_label="2", data_split="test",
                   data_source="forum")  # fmt: skip
    assert pairs(rows) == ROWS
    assert {(row.split, row.source) for row in rows} == {("test", "forum")}


def test_split_and_source_are_recognised(tmp_path: Path) -> None:
    content = "text,label,split,source\na,refund,Train,forum\nb,shipping,val,\nc,refund,,mail\n"
    rows, _ = read(tmp_path, content)
    assert [(row.split, row.source) for row in rows] == [
        ("train", "forum"), ("dev", ""), (None, "mail"),
    ]  # fmt: skip
    rows, _ = read(tmp_path, content.replace("val", "second half"))
    assert {row.split for row in rows} == {None}
    many = "".join(f"{n},refund,https://site.test/{n}\n" for n in range(30))
    rows, _ = read(tmp_path, "text,label,source\n" + many)
    assert {row.source for row in rows} == {"a"}


CELLS = [
    # (kind, labels, cell, what it means)
    ("any_of", LABELS, "refund|shipping", {"refund", "shipping"}),
    ("any_of", LABELS, "refund; shipping", {"refund", "shipping"}),
    ("any_of", LABELS, '["refund", "shipping"]', {"refund", "shipping"}),
    ("any_of", LABELS, "['refund', 'shipping']", {"refund", "shipping"}),
    ("any_of", LABELS, "[]", set()),
    ("any_of", LABELS, "", set()),
    ("any_of", LABELS, "None", set()),
    ("any_of", LABELS, " SHIPPING", {"shipping"}),
    ("any_of", ["spam"], "1", {"spam"}),
    ("any_of", ["spam"], "0", set()),
    ("any_of", ["spam"], "False", set()),
    ("any_of", ["spam"], "spam", {"spam"}),
    ("any_of", ["spam"], "ham", set()),
    ("any_of", ["none", "a"], "none", {"none"}),
    ("one_of", ["a;b", "c"], "a;b", {"a;b"}),
    ("one_of", ["none", "a"], "none", {"none"}),
    ("one_of", ["money", "b"], "Refunds", {"money"}),
]


@pytest.mark.parametrize(("kind", "labels", "cell", "meaning"), CELLS)
def test_a_cell_means_labels(
    tmp_path: Path, kind: str, labels: list[str], cell: str, meaning: set[str]
) -> None:
    rows, _ = read(
        tmp_path, made_csv([("text", "label"), ("x", cell)]), labels=labels, kind=kind,
        none_label=["none", "ham"], data_label_map={"refunds": "money"} if "money" in labels else {},
    )  # fmt: skip
    assert rows[0].labels == meaning


def test_one_column_for_each_label(tmp_path: Path) -> None:
    content = "text,Refund,shipping\na,1,0\nb,1,1\nc,0,0\n"
    rows, _ = read(tmp_path, content, kind="any_of")
    assert pairs(rows) == [("a", "refund"), ("b", "refund,shipping"), ("c", "")]
    rows, _ = read(tmp_path, content, kind="any_of", data_labels=["shipping", "Refund"])
    assert pairs(rows)[1] == ("b", "refund,shipping")
    with pytest.raises(DataError, match=r"2 labels \(kind: any_of allows that\)"):
        read(tmp_path, content)
    with pytest.raises(DataError, match=r"'maybe' in the column 'Refund' is neither 0 nor 1"):
        read(tmp_path, content.replace("a,1", "a,maybe"), kind="any_of",
             data_labels=["Refund", "shipping"])  # fmt: skip


def test_rows_of_a_label_that_maps_to_none_are_left_out_of_a_choice(tmp_path: Path) -> None:
    content = made_csv([("text", "label"), *ROWS, ("hi", "chat")])
    rows, report = read(tmp_path, content, data_label_map={"chat": None})
    assert (pairs(rows), report.left_out) == (ROWS, 1)
    rows, _ = read(tmp_path, content, data_label_map={"chat": None}, kind="any_of")
    assert pairs(rows)[-1] == ("hi", "")


def test_spans_are_read(tmp_path: Path) -> None:
    content = jsonl(
        {"text": "send money to Ann", "spans": [[5, 10, "refund"], [14, 17, "shipping"]]},
        {"text": "nothing", "spans": []},
        {"text": "cash", "spans": [{"start": 0, "end": 4, "label": "Refund"}]},
        *[{"text": "cash", "spans": [[0, 4, "refund"]]}] * 12,
        {"text": "cash", "spans": [[0, 5, "refund"]]},
        {"text": "cash", "spans": [[0, 4]]},
        {"text": "cash", "spans": "[["},
    )
    rows, report = read(tmp_path, content, "a.jsonl", kind="spans")
    assert rows[0].spans == ((5, 10, "refund"), (14, 17, "shipping"))
    assert rows[0].labels == {"refund", "shipping"}
    assert (rows[1].spans, rows[2].spans) == ((), ((0, 4, "refund"),))
    assert [place.split(": ")[1] for place in report.places] == [
        "the span [0, 5, 'refund'] lies outside of the text", "a span is no [start, end, label]",
        "the spans are no JSON",
    ]  # fmt: skip


GOOD = made_csv([("text", "label"), *ROWS * 10]).encode()
SKIPPED = [
    # (a broken line after good ones, why it is skipped)
    (b"one,two,refund\n", "3 cells, 2 columns"),
    (b"lonely\n", "1 cells, 2 columns"),
    (b"nul\0nul,refund\n", "a NUL character stands in it"),
    (b"caf\xe9,refund\n", "not in the encoding of the rest of the file"),
    (b'"a "word" b",refund\n', "the quotes are not balanced"),
    (b'"never closed,refund\nx,refund\n', "the quotes are not balanced"),
    (b"hello,\n", "no label"),
    (b"hello,refund|shipping\n", "2 labels (kind: any_of allows that)"),
    (b"hello,refnd\n", "unknown label 'refnd'"),
]


@pytest.mark.parametrize(("line", "reason"), SKIPPED)
def test_a_broken_row_is_skipped_and_named(tmp_path: Path, line: bytes, reason: str) -> None:
    rows, report = read(tmp_path, GOOD + "naïve,refund\r\n".encode() + line)
    assert len(rows) == 31
    (warning,) = ReadReport([report]).warnings()
    assert f"{tmp_path / 'a.csv'}:33: {reason}" in warning
    assert len([*report.places, *report.first]) == 1
    assert report.skipped.total() == line.count(b"\n")
    json.dumps(report.as_json())


REFUSED = [
    # (name, content, words of the message)
    ("a.csv", b"", ["a.csv:1: the file is empty"]),
    ("a.csv", b"\xef\xbb\xbf\r\n \n", ["a.csv:1: the file is empty"]),
    ("a.csv", b"text,label\n", ["a.csv:1: there are no rows"]),
    ("a.csv", b"text,text,label\na,b,refund\n", ["two columns are named 'text'; rename one"]),
    ("a.csv", b"text,team\nhi,red\nyo,blue\n", ["a.csv:1: no column holds the labels (refund",
     "name it with label:. Columns are: text, team"]),
    ("a.csv", b"text\nhello\n", ["no column holds the labels"]),
    ("a.csv", b"label,n\nrefund,\nshipping,\n", ["no column holds the text; name it with text:"]),
    ("a.csv", b"text,label\nhi,refnd\nyo,refnd\nho,refund\n",
     ["a.csv:1: 2 of 3 rows cannot be used", "a.csv:2: unknown label 'refnd' in 2 rows; did you "
      "mean 'refund'? Labels are: refund, shipping"]),
    ("a.csv", GOOD + b'"never closed,refund\n' + b"x,refund\n" * 20,
     ["a.csv:1: 21 of 51 rows cannot be used", "a.csv:32: the quotes are not balanced"]),
    ("a.csv", GOOD + b'"never closed,refund\n' + b"x,refund\n" * 200_000,
     ["rows cannot be used", "a.csv:32: the quotes are not balanced"]),
    ("a.csv", GOOD + b"x" * 1_000_001 + b",refund\n", ["a.csv:32: a line of over 1,000,000"]),
    ("a.csv.gz", b"text,label\nhi,refund", ["damaged gzip file", "pack it again"]),
    ("a.csv.gz", gzip.compress(GOOD * 100)[:-40], ["damaged gzip file"]),
    ("a.jsonl", b"[\n", ["a.jsonl:1: one JSON array; write one object on each line"]),
    ("a.jsonl", b"{'text': 3}\n", ["a.jsonl:1: not JSON", "no row can be read"]),
    ("a.jsonl", b'"text"\n[]\n', ["a.jsonl:1: no JSON object but str"]),
    ("a.jsonl", b'{"text": "\\ud800", "label": "refund"}\n', ["half a pair of surrogates"]),
    ("a.jsonl", b"[" * 100_000 + b"\n", ["one JSON array"]),
    ("a.jsonl", b'{"a":' * 100_000 + b"\n", ["not JSON (RecursionError)"]),
]  # fmt: skip


@pytest.mark.parametrize(("name", "content", "words"), REFUSED)
def test_a_file_that_cannot_be_used_is_refused(
    tmp_path: Path, name: str, content: bytes, words: list[str]
) -> None:
    with pytest.raises(DataError) as caught:
        read(tmp_path, content, name)
    for word in words:
        assert word in str(caught.value)


def test_an_unknown_label_is_found_where_it_first_stands(tmp_path: Path) -> None:
    lines = [f"text {n},odd {n}\n" for n in range(15)] + ["one,refnd\n", "two,refnd\n"]
    with pytest.raises(DataError) as caught:
        read(tmp_path, GOOD + "".join(lines).encode())
    assert f"a.csv:{32 + 15}: unknown label 'refnd' in 2 rows; did you mean" in str(caught.value)


def test_a_column_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no column 'lable' \(label:\); did you mean 'label'\?"):
        read(tmp_path, GOOD, data_label="lable")
    with pytest.raises(DataError, match="names no columns, write their numbers"):
        read(tmp_path, made_csv(ROWS), data_text="said")
    with pytest.raises(DataError, match="the column 'text' is no label"):
        read(tmp_path, GOOD, data_labels=["text", "label"])


def test_more_than_a_thousand_broken_rows_are_too_many(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="1,001 of 1,001 rows cannot be used; mend the file"):
        read(tmp_path, b"text,label\n" + b"a,refund,\n" * 1_001 + b"a,refund\n" * 9_000,
             data_delimiter=",")  # fmt: skip


@pytest.mark.parametrize(
    ("raw", "encoding"),
    [
        (b"plain", "utf-8"),
        ("naïve".encode(), "utf-8"),
        ("naïve".encode("utf-8-sig"), "utf-8-sig"),
        ("naïve".encode("utf-16"), "utf-16"),
        ("text,label\nnaïve,b\n".encode("utf-16-le"), "utf-16-le"),
        ("text,label\nnaïve,b\n".encode("utf-16-be"), "utf-16-be"),
        ("é\n".encode() + b"\xe9\n", "utf-8"),
        (("日" * 400_000).encode() + b"\n", "utf-8"),
    ],
)  # fmt: skip
def test_the_encoding_is_recognised(tmp_path: Path, raw: bytes, encoding: str) -> None:
    (tmp_path / "a").write_bytes(raw)
    assert detect_encoding(tmp_path / "a") == encoding


def test_a_file_of_an_old_encoding_is_read(tmp_path: Path) -> None:
    said = "Où est mon colis ? J'ai été débité deux fois, c'est très gênant."
    content = made_csv([("text", "label"), *[(f"{n} {said}", "refund") for n in range(20)]])
    rows, report = read(tmp_path, content.encode("cp1252"))
    assert rows[3].text == f"3 {said}"
    assert report.encoding not in ("utf-8", "utf-8-sig")
    rows, _ = read(tmp_path, content.encode("cp1252"), data_encoding="latin-1")
    assert rows[3].text == f"3 {said}"


def test_tabs_and_quotes_that_mean_nothing(tmp_path: Path) -> None:
    content = 'text\tlabel\n"oh, he said\trefund\nit is 5" long\tshipping\n'
    rows, _ = read(tmp_path, content, "a.tsv")
    assert pairs(rows) == [('"oh, he said', "refund"), ('it is 5" long', "shipping")]


def test_rows_over_several_lines_keep_their_place(tmp_path: Path) -> None:
    content = made_csv([("text", "label"), ("one\ntwo\nthree", "refund"), ("four", "shipping")])
    rows, _ = read(tmp_path, content)
    assert rows[0].text == "one\ntwo\nthree"
    assert [row.place.rpartition(":")[2] for row in rows] == ["2", "5"]


def test_texts_without_labels(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one, two\n\nthree\n")
    (tmp_path / "a.csv").write_text("id,message\n1,hello\n")
    made = make_task({"name": "t", "labels": {"a": {"examples": ["x"]}},
                      "benign": ["a.txt", "a.csv"]}, tmp_path)  # fmt: skip
    texts = [[(r.text, r.place.rpartition(":")[2]) for r in read_texts(file, [])]
             for file in made.benign]  # fmt: skip
    assert texts == [[("one, two", "1"), ("three", "3")], [("hello", "2")]]
    reports: list[FileReport] = []
    assert [row.text for row in read_texts(made.benign[0], reports, most=1)] == ["one, two"]
    assert reports[0].cut


def test_the_first_rows_of_each_label_are_kept(tmp_path: Path) -> None:
    rows = [(f"t{n}", "refund" if n % 10 else "shipping") for n in range(1000)]
    (tmp_path / "a.csv").write_text(made_csv([("text", "label"), *rows]))
    kept, report = read_task(task(tmp_path, "a.csv", max_rows=300))
    refunds = [row.text for row in kept if "refund" in row.labels]
    # All 100 of the rare label, and the first 200 of the other, in the order of the file.
    assert refunds == [text for text, label in rows if label == "refund"][:200]
    assert [row.text for row in kept if "shipping" in row.labels] == [
        text for text, label in rows if label == "shipping"
    ]
    assert [int(row.text[1:]) for row in kept] == sorted(int(row.text[1:]) for row in kept)
    assert report.capped == {"refund": 700}
    assert "700 rows over max_rows were left out" in report.warnings()[0]


def test_a_large_file_is_read_in_bounded_memory(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    line = "where is my parcel, it has been a week " * 20
    with path.open("w") as file:
        file.write("text,label\n")
        for number in range(76_000):
            file.write(f'"{number} {line}",{LABELS[number % 2]}\n')
    assert path.stat().st_size > 60e6
    made = task(tmp_path, "a.csv", max_rows=1_000)
    tracemalloc.start()
    try:
        rows, report = read_task(made)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert (len(rows), report.files[0].rows) == (1_000, 76_000)
    assert peak < 8e6
