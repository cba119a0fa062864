"""Data files to raw rows: streamed, with the place of every row and a report of what was left out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from classifiers.faults import did_you_mean
from classifiers.training.columns import (
    NO,
    SPLIT_WORDS,
    YES,
    Columns,
    LabelReader,
    Spans,
    UnknownLabelCell,
    UnusableCell,
    as_text,
    find_columns,
    header_test,
    read_spans,
)
from classifiers.training.data import Split
from classifiers.training.tables import Bad, DataError, Record, Table, open_table
from classifiers.training.task import MAX_ROWS, Task, label_key
from classifiers.training.task_data import Data, Texts

MOST_BAD = 1_000
"""Rows of one file that may be skipped."""
MOST_BAD_SHARE = 0.2
PLACES = 10
"""Reasons for skipped rows that a report names, each with the place of the first row."""


@dataclass(frozen=True, slots=True)
class RawRow:
    """A row as its file has it.

    Attributes:
        text: the text, as it is written.
        labels: labels of the task that hold.
        source: name of the data set.
        split: what the file says, None where it says nothing.
        group: rows of one group never stand on both sides of the split; empty for none.
        spans: (start, end, label) of each stretch that is labelled, in characters.
        place: ``file:line``.
    """

    text: str = field(repr=False)
    labels: frozenset[str] = frozenset()
    source: str = ""
    split: Split | None = None
    group: str = ""
    spans: Spans = ()
    place: str = ""


@dataclass(slots=True)
class FileReport:
    """What was read of one file; :meth:`as_json` for records.

    Attributes:
        rows: that the file has.
        used: that were read from it.
        skipped: rows that cannot be read, by reason.
        places: the first row for each of the first reasons, ``file:line: reason``; not for unknown
            labels.
        left_out: rows whose label is mapped to none in a one_of task.
        respelled: rows whose labels differ from the task's in case or spaces.
        unknown: labels that the task does not have, and rows with them.
        first: ``file:line`` of the first row with each of them.
        cut: texts were read up to the limit, and no further.
    """

    path: str
    format: str = ""
    encoding: str = ""
    delimiter: str = ""
    columns: dict[str, Any] = field(default_factory=dict)
    rows: int = 0
    used: int = 0
    skipped: Counter[str] = field(default_factory=Counter)
    places: list[str] = field(default_factory=list)
    left_out: int = 0
    respelled: int = 0
    unknown: Counter[str] = field(default_factory=Counter)
    first: dict[str, str] = field(default_factory=dict)
    cut: bool = False

    def as_json(self) -> dict[str, Any]:
        """The report as plain data."""
        return {**asdict(self), "skipped": dict(self.skipped), "unknown": dict(self.unknown)}


@dataclass(slots=True)
class ReadReport:
    """What was read for a task.

    Attributes:
        files: one report each.
        rows: that can be used.
        capped: rows over ``max_rows``, by label (``""`` for none): the first ones were kept.
    """

    files: list[FileReport] = field(default_factory=list)
    rows: int = 0
    capped: Counter[str] = field(default_factory=Counter)

    def as_json(self) -> dict[str, Any]:
        """The report as plain data."""
        files = [file.as_json() for file in self.files]
        return {"files": files, "rows": self.rows, "capped": dict(self.capped)}

    def warnings(self) -> list[str]:
        """What the owner of the data should know, a line each."""
        found = [line for file in self.files for line in _file_warnings(file)]
        if self.capped:
            total = sum(self.capped.values())
            worst = ", ".join(f"{k or 'none'} {n:,}" for k, n in self.capped.most_common(5))
            found.append(
                f"{total:,} rows over max_rows were left out, the last ones of the labels with the "
                f"most ({worst}); raise max_rows: to use them"
            )
        return found


def read_task(task: Task, *, command: bool = False) -> tuple[list[RawRow], ReadReport]:
    """All rows of a task's data files, in their order.

    Of more than ``task.max_rows`` rows the first ones of each label are kept: as many as go into the
    limit if it is shared out evenly, so that labels with few rows keep all of theirs.

    Args:
        command: see :class:`LabelReader`.

    Raises:
        DataError: a file cannot be used.
    """
    report = ReadReport()
    kept = _Kept(task.max_rows)
    for data in task.data:
        for row in read_data(data, task, report.files, command=command):
            kept.add(row)
    rows = kept.rows()
    report.rows, report.capped = len(rows), kept.dropped
    return rows, report


def read_data(
    data: Data, task: Task, reports: list[FileReport], *, command: bool = False
) -> Iterator[RawRow]:
    """Rows of one file, one by one.

    Args:
        data: the file.
        task: whose labels its labels are.
        reports: the file's report is appended; it is complete when the last row has been read.
        command: see :class:`LabelReader`.

    Raises:
        DataError: the file cannot be used, or too many of its rows cannot.
    """
    reader = LabelReader(task.label_names, task.kind, task.none_label, data.label_map, command)
    table = open_table(data, header_test(data, reader))
    columns = find_columns(table, data, reader, task.kind)
    flags = {column: next(n for n in reader.labels if label_key(n) == label_key(column))
             for column in columns.flags}  # fmt: skip
    report = _reported(table, columns)
    reports.append(report)

    def read(record: Record, place: str) -> RawRow | None:
        values = record.values
        text = as_text(values.get(columns.text))
        spans: Spans = ()
        if columns.spans:
            spans = read_spans(values.get(columns.spans), text, reader)
            labels: frozenset[str] | None = frozenset(label for *_, label in spans)
        elif flags:
            labels = frozenset(n for c, n in flags.items() if _flag(values.get(c), c))
            if task.kind == "one_of" and len(labels) != 1:
                raise UnusableCell(reader.not_one(len(labels)))
        else:
            cell = values.get(columns.label)
            labels = reader(cell)
            report.respelled += reader.changed(cell)
        if labels is None:
            if not reader.words(values.get(columns.label)):
                raise UnusableCell(reader.not_one(0))
            report.left_out += 1
            return None
        return RawRow(
            text, labels, _source(data, columns, record), _split(data, columns, record),
            as_text(values.get(columns.group)) if columns.group else "", spans, place,
        )  # fmt: skip

    yield from _read(table, report, read, reader)


def read_texts(texts: Texts, reports: list[FileReport], most: int = MAX_ROWS) -> Iterator[RawRow]:
    """The first rows of one file without labels, one by one; as :func:`read_data`."""
    table = open_table(texts, header_test(texts, None))
    columns = find_columns(table, texts, None)
    report = _reported(table, columns)
    reports.append(report)

    def read(record: Record, place: str) -> RawRow:
        text = as_text(record.values.get(columns.text))
        return RawRow(text, source=_source(texts, columns, record), place=place)

    for row in _read(table, report, read, None):
        yield row
        if report.used == most:
            report.cut = True
            return


def _read(
    table: Table,
    report: FileReport,
    read: Callable[[Record, str], RawRow | None],
    reader: LabelReader | None,
) -> Iterator[RawRow]:
    for record in table.records():
        report.rows += record.lines if isinstance(record, Bad) else 1
        place = f"{table.path}:{record.line}"
        if isinstance(record, Bad):
            _skip(report, UnusableCell(record.reason), place, reader, record.lines)
            continue
        try:
            row = read(record, place)
        except UnusableCell as error:
            _skip(report, error, place, reader)
            continue
        if row is not None:
            report.used += 1
            yield row
    if sum(report.skipped.values()) > MOST_BAD_SHARE * report.rows:
        raise _too_many(report, reader)


def _skip(
    report: FileReport, error: UnusableCell, place: str, reader: LabelReader | None, lines: int = 1
) -> None:
    reason = str(error)
    if isinstance(error, UnknownLabelCell):
        report.unknown[error.label] += lines
        report.first.setdefault(error.label, place)
    elif reason not in report.skipped and len(report.places) < PLACES:
        report.places.append(f"{place}: {reason}")
    report.skipped[reason] += lines
    if sum(report.skipped.values()) > MOST_BAD:
        raise _too_many(report, reader)


def _too_many(report: FileReport, reader: LabelReader | None) -> DataError:
    count = sum(report.skipped.values())
    lines = [f"{report.path}:1: {count:,} of {report.rows:,} rows cannot be used; mend the file"]
    if reader is not None:
        lines += _unknown(report, reader)
    return DataError("\n".join(lines + report.places))


def _unknown(report: FileReport, reader: LabelReader) -> list[str]:
    found = []
    other = "take these rows out" if reader.command else "add a label_map:"
    for label, count in report.unknown.most_common(PLACES):
        rows = f"{count:,} row{'s' if count > 1 else ''}"
        hint = did_you_mean(label, reader.labels, "labels")
        found.append(
            f"{report.first[label]}: unknown label {label!r} in {rows}; {hint} (or {other})"
        )
    return found


def _file_warnings(file: FileReport) -> list[str]:
    found = []
    if count := sum(file.skipped.values()):
        unknown = [
            f"{file.first[label]}: unknown label {label!r} in {rows:,} row{'s' if rows > 1 else ''}"
            for label, rows in file.unknown.most_common(PLACES)
        ]
        told = "; ".join([*unknown, *file.places])
        found.append(f"{file.path}: {count:,} of {file.rows:,} rows skipped: {told}")
    if file.cut:
        found.append(f"{file.path}: the first {file.used:,} texts were read; they are enough")
    if file.left_out:
        found.append(f"{file.path}: {file.left_out:,} rows left out, whose label maps to none")
    return found


def _reported(table: Table, columns: Columns) -> FileReport:
    used = {key: value for key, value in asdict(columns).items() if value}
    return FileReport(str(table.path), table.format, table.encoding, table.delimiter, used)


def _source(texts: Texts, columns: Columns, record: Record) -> str:
    if columns.source:
        return as_text(record.values.get(columns.source))
    return texts.source or Path(texts.path.name.removesuffix(".gz")).stem


def _split(data: Data, columns: Columns, record: Record) -> Split | None:
    word = as_text(record.values.get(columns.split)) if columns.split else data.split or ""
    word = word.strip().casefold()
    if not word:
        return None
    if word not in SPLIT_WORDS:
        raise UnusableCell(f"the split {word[:40]!r} is none of train, dev and test")
    return SPLIT_WORDS[word]


def _flag(value: Any, column: str) -> bool:
    word = as_text(value).strip().casefold()
    if word not in YES | NO:
        raise UnusableCell(f"{word[:40]!r} in the column {column!r} is neither 0 nor 1")
    return word in YES


class _Kept:
    """Rows up to a limit, the first of each label."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._count = 0
        self._number = 0
        self._rows: dict[str, list[tuple[int, RawRow]]] = {}
        self._full: set[str] = set()
        self.dropped: Counter[str] = Counter()

    def add(self, row: RawRow) -> None:
        """Keep a row, or the row of another label that has more."""
        self._number += 1
        # Of several labels that with the fewest rows decides.
        key = min(sorted(row.labels) or [""], key=lambda label: len(self._rows.get(label, ())))
        if key in self._full:
            self.dropped[key] += 1
            return
        self._rows.setdefault(key, []).append((self._number, row))
        self._count += 1
        if self._count > self._most:
            biggest = max(self._rows, key=lambda label: len(self._rows[label]))
            self._rows[biggest].pop()
            self._full.add(biggest)
            self.dropped[biggest] += 1
            self._count -= 1

    def rows(self) -> list[RawRow]:
        """What was kept, in the order it was added in."""
        found = sorted((pair for own in self._rows.values() for pair in own), key=lambda p: p[0])
        return [row for _, row in found]
