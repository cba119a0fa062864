"""Which columns of a data file hold the texts and the labels, and what their cells mean."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from classifiers.faults import did_you_mean, show
from classifiers.training.data import Split
from classifiers.training.tables import DataError, HeaderTest, Record, Table
from classifiers.training.task import label_key
from classifiers.training.task_data import SPLITS, Data, Texts
from classifiers.types import Kind

TEXT_NAMES = (
    "text", "message", "sentence", "utterance", "content", "comment_text", "comment", "body",
    "prompt", "query", "question", "input", "document", "review", "tweet", "sms", "description",
)  # fmt: skip
"""Usual names of the column of texts, the likeliest first."""
LABEL_NAMES = (
    "label", "labels", "class", "category", "categories", "intent", "target", "tag", "tags", "topic",
    "label_text", "label_name", "classification", "y",
)  # fmt: skip
SPAN_NAMES = ("spans", "entities", "annotations", "label", "labels")
OTHER_NAMES = ("id", "split", "source", "group", "lang", "language", "date", "index", "user")
SPLIT_WORDS: dict[str, Split] = {
    "train": "train", "training": "train",
    "dev": "dev", "val": "dev", "valid": "dev", "validation": "dev",
    "test": "test", "testing": "test",
}  # fmt: skip
MOST_SOURCES = 20
"""A column named ``source`` with more values in its first rows names no data sets."""
YES = frozenset({"1", "true", "yes", "y", "1.0"})
NO = frozenset({"0", "false", "no", "n", "0.0", ""})
_FOUND = 0.5
"""A column is taken for that of the labels if so many of its cells are labels of the task."""
_BETWEEN = re.compile(r"[|;]")

Spans = tuple[tuple[int, int, str], ...]


class UnusableCell(ValueError):
    """A cell that cannot be understood; the message says why."""


class UnknownLabelCell(UnusableCell):
    """A cell with a label that the task does not have."""

    def __init__(self, label: str) -> None:
        super().__init__(f"unknown label {show(label)}")
        self.label = label


def as_text(value: Any) -> str:
    """A cell as text: whole numbers without a point, nothing for null."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return value if isinstance(value, str) else str(value)


@dataclass(frozen=True, slots=True)
class LabelReader:
    """Cells to labels of the task.

    Attributes:
        labels: those of the task.
        kind: its kind.
        none: words for none of the labels.
        label_map: labels of the file to those of the task, None for none of them.
        command: the columns are named by options of a command, not by keys of a task file, and
            messages say so.
    """

    labels: tuple[str, ...]
    kind: Kind
    none: tuple[str, ...] = ("none",)
    label_map: Mapping[str, str | None] = field(default_factory=dict)
    command: bool = False
    _known: dict[str, str | None] = field(init=False, repr=False, default_factory=dict)

    def __post_init__(self) -> None:
        if self.kind != "one_of":
            self._known.update({label_key(word): None for word in ("", *self.none)})
            if len(self.labels) == 1:
                self._known.update(dict.fromkeys(NO))
                self._known.update(dict.fromkeys(YES, self.labels[0]))
        self._known.update({label_key(label): label for label in self.labels})
        self._known.update({label_key(word): label for word, label in self.label_map.items()})

    def __call__(self, value: Any) -> frozenset[str] | None:
        """Labels in a cell; None where the row is to be left out.

        Raises:
            UnusableCell: an unknown label, or no label or several in a one_of task.
        """
        words = self.words(value)
        found = {self._one(word) for word in words or [""]}
        labels = frozenset(label for label in found if label is not None)
        if self.kind == "one_of":
            if not labels:
                return None
            if len(labels) > 1:
                raise UnusableCell(self.not_one(len(labels)))
        return labels

    def not_one(self, count: int) -> str:
        """What is wrong with a cell of so many labels where a text has one."""
        how = "a text of this pack has one" if self.command else "kind: any_of allows that"
        return f"{count or 'no'} label{'s' if count > 1 else ''} ({how})"

    def key(self, name: str) -> str:
        """How a user names a column: ``label:`` in a task, ``--label`` for a command."""
        return f"--{name}" if self.command else f"{name}:"

    def words(self, value: Any) -> list[str]:
        """The parts of a cell, as they are written."""
        if isinstance(value, (list, tuple)):
            return [as_text(item).strip() for item in value]
        text = as_text(value).strip()
        if not text or label_key(text) in self._known:
            return [text] if text else []
        if text[0] == "[" and text[-1] == "]":
            return self._listed(text)
        return [part.strip() for part in _BETWEEN.split(text) if part.strip()]

    def knows(self, value: Any) -> bool:
        """Whether a cell holds labels, or a word for none of them, and nothing else."""
        words = self.words(value)
        return bool(words) and all(label_key(word) in self._known for word in words)

    def changed(self, value: Any) -> bool:
        """Whether a cell spells a label in another way than the task does."""
        return any(
            word not in self.labels and self._known.get(label_key(word)) is not None
            and label_key(word) == label_key(self._known[label_key(word)] or "")
            for word in self.words(value)
        )  # fmt: skip

    def _listed(self, text: str) -> list[str]:
        try:
            found = json.loads(text)
        except (ValueError, RecursionError):  # ['a', 'b'], as Python writes lists
            found = [part.strip(" '\"") for part in text[1:-1].split(",")]
        return [as_text(part).strip() for part in found]

    def _one(self, word: str) -> str | None:
        key = label_key(word)
        if key not in self._known:
            if not key:
                raise UnusableCell("no label")
            raise UnknownLabelCell(word)
        return self._known[key]


def read_spans(value: Any, text: str, labels: LabelReader) -> Spans:
    """Labelled stretches in a cell: lists ``[start, end, label]`` or objects with these keys.

    Raises:
        UnusableCell: another shape, a place outside the text, or an unknown label.
    """
    if isinstance(value, str):
        try:
            value = json.loads(value) if value.strip() else []
        except (ValueError, RecursionError):
            raise UnusableCell("the spans are no JSON") from None
    found = []
    for item in value or ():
        if isinstance(item, Mapping):
            item = [item.get("start"), item.get("end"), item.get("label")]
        if not isinstance(item, (list, tuple)) or len(item) != 3:
            raise UnusableCell("a span is no [start, end, label]")
        start, end, name = item
        if type(start) is not int or type(end) is not int or not 0 <= start < end <= len(text):
            raise UnusableCell(f"the span {show(item)} lies outside of the text")
        found += [(start, end, label) for label in labels(name) or ()]
    return tuple(sorted(found))


@dataclass(frozen=True, slots=True)
class Columns:
    """The columns of a file that are used; empty where there is none.

    ``flags`` are columns of 0 and 1, one for each label.
    """

    text: str
    label: str = ""
    flags: tuple[str, ...] = ()
    spans: str = ""
    source: str = ""
    split: str = ""
    group: str = ""


def header_test(texts: Texts, reader: LabelReader | None) -> HeaderTest:
    """What tells whether the cells of a first line name columns, from them and the next rows."""
    usual = {*TEXT_NAMES, *LABEL_NAMES, *SPAN_NAMES, *OTHER_NAMES}
    named = {texts.text, texts.source}
    labels: set[str] = set()
    if isinstance(texts, Data):
        named |= {texts.label, texts.spans, texts.split, texts.group, *texts.labels}
    if reader is not None:
        labels = {label_key(label) for label in reader.labels}

    def is_header(cells: Sequence[str], rows: Sequence[Sequence[str]]) -> bool:
        if named.intersection(cells) or {_plain(cell) for cell in cells} & usual:
            return True
        if reader is None or (len(labels) > 1 and labels <= {label_key(cell) for cell in cells}):
            return reader is not None
        # Below a name, and never beside one, stand labels.
        for index, cell in enumerate(cells):
            below = [row[index] for row in rows if len(row) == len(cells) and row[index].strip()]
            if below and sum(map(reader.knows, below)) >= _FOUND * len(below):
                return not reader.knows(cell)
        return False

    return is_header


def find_columns(
    table: Table, texts: Texts, reader: LabelReader | None, kind: Kind | None = None
) -> Columns:
    """The columns of a file: those that its owner names, else by name and content.

    Args:
        table: the file, opened.
        texts: what its owner says of it.
        reader: of its labels; None where only texts are needed.
        kind: of the task.

    Raises:
        DataError: a column that is named does not exist, or none can be recognised.
    """
    if not isinstance(texts, Data) or reader is None:
        text = _named(table, texts.text, "text:") or _text_column(table, (), "text:")
        return Columns(text, source=_source_column(table, texts))
    label = _named(table, texts.label, reader.key("label"))
    spans = _named(table, texts.spans, reader.key("spans"))
    flags = tuple(_named(table, column, "labels:") for column in texts.labels)
    if len(flags) == 1:
        label, flags = flags[0], ()
    for column in flags:
        if label_key(column) not in map(label_key, reader.labels):
            hint = did_you_mean(column, reader.labels, "labels")
            raise DataError(f"{table.path}:1: the column {column!r} is no label; {hint}")
    text = _named(table, texts.text, reader.key("text"))
    if kind == "spans":
        spans = spans or _by_name(table, SPAN_NAMES, {text})
        spans = spans or _no_column(table, "spans", reader.key("spans"))
        label = ""
    elif not label and not flags:
        label, flags = _label_column(table, reader, text)
    text = text or _text_column(table, {label, spans, *flags}, reader.key("text"))
    return Columns(
        text, label, flags, spans, _source_column(table, texts), _split_column(table, texts),
        _named(table, texts.group, "group:"),
    )  # fmt: skip


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", name.casefold()).strip("_")


def _named(table: Table, column: str | None, key: str) -> str:
    if column is None or column in table.columns:
        return column or ""
    hint = did_you_mean(column, table.columns, "columns")
    if not table.header:
        hint = "the first line names no columns, write their numbers, '1' for the first"
    raise DataError(f"{table.path}:1: no column {column!r} ({key}); {hint}")


def _source_column(table: Table, texts: Texts) -> str:
    if texts.source is not None:
        return texts.source if texts.source in table.columns else ""
    values = {as_text(record.values.get("source")) for record in table.sample}
    return "source" if "source" in table.columns and len(values) <= MOST_SOURCES else ""


def _split_column(table: Table, data: Data) -> str:
    if data.split is not None:
        return "" if data.split in SPLITS else _named(table, data.split, "split:")
    words = {as_text(record.values.get("split")).strip().casefold() for record in table.sample}
    return "split" if words - {""} and words <= {"", *SPLIT_WORDS} else ""


def _by_name(table: Table, names: Sequence[str], without: Collection[str]) -> str:
    found = {_plain(column): column for column in table.columns if column not in without}
    return next((found[name] for name in names if name in found), "")


def _text_column(table: Table, without: Collection[str], key: str) -> str:
    if found := _by_name(table, TEXT_NAMES, without):
        return found
    lengths = {
        column: sum(
            len(v) for r in table.sample if isinstance(v := r.values.get(column), str)
        )
        for column in table.columns
        if column not in without
    }  # fmt: skip
    best = max(lengths, key=lambda column: lengths[column], default="")
    return best if best and lengths[best] else _no_column(table, "text", key)


def _label_column(table: Table, reader: LabelReader, text: str) -> tuple[str, tuple[str, ...]]:
    """The column whose cells are labels, or the columns of 0 and 1 that are named as labels."""
    by_key = {label_key(column): column for column in table.columns}
    flags = tuple(by_key[label_key(n)] for n in reader.labels if label_key(n) in by_key)
    if len(flags) == len(reader.labels) and all(_is_flag(table.sample, f) for f in flags):
        return "", flags
    others = [column for column in table.columns if column != text]
    shares = {column: _known_share(table.sample, column, reader) for column in others}
    usual = _by_name(table, LABEL_NAMES, {text})
    best = max(others, key=lambda c: (shares[c] >= _FOUND, c == usual, shares[c]), default="")
    if best and (shares[best] >= _FOUND or best == usual):
        return best, ()
    names = ", ".join(reader.labels[:10])
    columns = ", ".join(table.columns)
    raise DataError(
        f"{table.path}:1: no column holds the labels ({names}); name it with {reader.key('label')}. "
        f"Columns are: {columns}"
    )


def _is_flag(sample: Sequence[Record], column: str) -> bool:
    return all(as_text(r.values.get(column)).strip().casefold() in YES | NO for r in sample)


def _known_share(sample: Sequence[Record], column: str, reader: LabelReader) -> float:
    cells = [value for r in sample if reader.words(value := r.values.get(column))]
    return sum(map(reader.knows, cells)) / len(cells) if cells else 0.0


def _no_column(table: Table, what: str, key: str) -> str:
    columns = ", ".join(table.columns)
    raise DataError(
        f"{table.path}:1: no column holds the {what}; name it with {key}. Columns are: {columns}"
    )
