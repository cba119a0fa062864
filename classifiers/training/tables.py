"""Data files as a stream of records, whatever their format, encoding and delimiter.

A record is a mapping of column to value with the line it begins in; a line that is no record is a
:class:`Bad`. Nothing is kept of what has been read, so files may be larger than memory.
"""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import json
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from classifiers.training.task_data import Format, Texts

MAX_FIELD = 1_000_000
"""Characters of one cell, and of one line. A longer one is no text but a quote that was never
closed."""
SAMPLE = 200
"""Records by which columns are recognised."""
DELIMITERS = (",", "\t", ";", "|")
_BLOCK = 1 << 16
INSTALL = "pip install 'doorman[train]'"


class DataError(ValueError):
    """A data file cannot be used. Each line of the message reads ``file:line: fault; fix``."""


HeaderTest = Callable[[Sequence[str], Sequence[Sequence[str]]], bool]
"""Whether the cells of a first line name columns; the rows after it tell as well."""


@dataclass(frozen=True, slots=True)
class Record:
    """One row of a file; ``line`` counts from 1 (in Parquet files it is the row)."""

    line: int
    values: Mapping[str, Any] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Bad:
    """Lines that are no record, and why."""

    line: int
    reason: str
    lines: int = 1


@dataclass(frozen=True, slots=True)
class Table:
    """A file that has been looked at.

    Attributes:
        path: the file.
        encoding: of its text; empty for Parquet.
        delimiter: between cells; empty where there are none.
        header: whether the first line names the columns; else columns are "1", "2" and so on.
        columns: names of the columns, those of the first records for JSON.
        first_line: the line of the first record.
        sample: the first records.
    """

    path: Path
    format: Format
    encoding: str
    delimiter: str
    quoted: bool
    header: bool
    columns: tuple[str, ...]
    first_line: int
    sample: tuple[Record, ...] = field(default=(), repr=False)

    def records(self) -> Iterator[Record | Bad]:
        """All records from the first one on.

        Raises:
            DataError: the file cannot be read to its end.
        """
        if self.format == "parquet":
            yield from _parquet(self.path)
        elif self.format in ("csv", "tsv"):
            lines = _rows(self.path, self.encoding, self.delimiter, self.quoted)
            for line, row in lines:
                if isinstance(row, Bad):
                    yield row
                elif line < self.first_line or not any(cell.strip() for cell in row):
                    continue
                elif len(row) != len(self.columns):
                    yield Bad(line, f"{len(row)} cells, {len(self.columns)} columns")
                else:
                    yield _checked(line, dict(zip(self.columns, row, strict=True)), row)
        elif self.format == "txt":
            for line, text in _lines(self.path, self.encoding):
                if text.strip():
                    yield _checked(line, {"1": text.strip("\r\n")}, [text])
        else:
            yield from _json_lines(self.path, self.encoding)


def open_table(texts: Texts, is_header: HeaderTest) -> Table:
    """Find out how a file is to be read.

    Args:
        texts: the file, and what its owner says of it.
        is_header: tells whether there is a line with the names of columns.

    Raises:
        DataError: it is empty, cannot be read, or is of another format.
    """
    path = texts.path
    if texts.format == "parquet":
        columns = _parquet_columns(path)
        table = Table(path, "parquet", "", "", False, True, columns, 1)
        return _with_sample(table)
    encoding = texts.encoding or detect_encoding(path)
    if codecs.lookup(encoding).name == "utf-8":
        encoding = "utf-8-sig"  # the same, less a byte-order mark
    with _opened(path) as file:
        if not file.read(4096).strip(b"\xef\xbb\xbf\xff\xfe \t\r\n\0"):
            raise DataError(f"{path}:1: the file is empty; add rows or leave it out")
    if texts.format in ("csv", "tsv"):
        table = _delimited(path, texts, encoding, is_header)
    elif texts.format == "txt":
        table = Table(path, "txt", encoding, "", False, False, ("1",), 1)
    else:
        _no_json_array(path, encoding)
        table = Table(path, "jsonl", encoding, "", False, True, (), 1)
    return _with_sample(table)


def _with_sample(table: Table) -> Table:
    sample: list[Record] = []
    bad: Bad | None = None
    for record in table.records():
        if isinstance(record, Record):
            sample.append(record)
        bad = record if bad is None and isinstance(record, Bad) else bad
        if len(sample) == SAMPLE:
            break
    if not sample:
        why = f"{bad.line}: {bad.reason}, and no row can be read" if bad else "1: there are no rows"
        raise DataError(f"{table.path}:{why}; check the format of the file")
    columns = table.columns or tuple(dict.fromkeys(key for r in sample for key in r.values))
    return Table(
        table.path, table.format, table.encoding, table.delimiter, table.quoted, table.header,
        columns, table.first_line, tuple(sample),
    )  # fmt: skip


# Bytes to text


@contextmanager
def _opened(path: Path) -> Iterator[IO[bytes]]:
    """The bytes of a file, unpacked where it is packed."""
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            yield file  # type: ignore[misc]
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise DataError(f"{path}:1: damaged gzip file ({error}); pack it again") from None
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise DataError(f"{path}:1: the file cannot be read ({reason}); check its path") from None


def detect_encoding(path: Path) -> str:
    """The encoding of a text file, from all of its bytes.

    A byte-order mark decides; then UTF-8, if some of it is no plain ASCII and valid, even where
    single lines are not (they are bad rows); else what charset-normalizer says, or cp1252 without it.
    """
    with _opened(path) as file:
        start = file.read(_BLOCK)
        if start.startswith(codecs.BOM_UTF8):
            return "utf-8-sig"
        if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            return "utf-16"
        even, odd = start[::2].count(0), start[1::2].count(0)
        if max(even, odd) > len(start) / 5 and min(even, odd) < max(even, odd) / 10:
            return "utf-16-be" if even > odd else "utf-16-le"
        block, valid, foreign = start, False, b""
        while block:
            block += file.readline(4 * MAX_FIELD)  # no character is cut at the end of a line
            if not block.isascii():
                good, bad = _judged(block)
                valid, foreign = valid or good, (foreign + bad)[:_BLOCK]
            block = file.read(_BLOCK)
    return "utf-8" if valid or not foreign else _legacy(foreign)


def _judged(block: bytes) -> tuple[bool, bytes]:
    """Whether lines of a block are UTF-8 beyond ASCII, and those that are none."""
    try:
        block.decode("utf-8")
    except UnicodeDecodeError:
        good, bad = False, []
        for line in block.splitlines(keepends=True):
            try:
                line.decode("utf-8")
                good = good or not line.isascii()
            except UnicodeDecodeError:
                bad.append(line)
        return good, b"".join(bad)
    return True, b""


def _legacy(sample: bytes) -> str:
    try:
        from charset_normalizer import from_bytes
    except ImportError:
        return "cp1252"
    best = from_bytes(sample).best()
    return best.encoding if best is not None else "cp1252"


def _lines(path: Path, encoding: str) -> Iterator[tuple[int, str]]:
    """Numbered lines. What cannot be decoded becomes half a pair of surrogates."""
    errors = "replace" if encoding.startswith("utf-16") else "surrogateescape"
    with _opened(path) as file, io.TextIOWrapper(
        file, encoding=encoding, errors=errors, newline=""
    ) as text:  # fmt: skip
        number = 0
        while line := text.readline(MAX_FIELD):
            number += 1
            if len(line) == MAX_FIELD:
                raise DataError(
                    f"{path}:{number}: a line of over {MAX_FIELD:,} characters; split it, or check "
                    "that this is a text file"
                )
            yield number, line


def _wrong(text: str) -> str:
    """Why a text cannot be used as it was read; empty if it can."""
    if text.isascii():
        return "a NUL character stands in it" if "\0" in text else ""
    if "\0" in text:
        return "a NUL character stands in it"
    if any("\udc80" <= c <= "\udcff" for c in text):
        return "not in the encoding of the rest of the file"
    if any("\ud800" <= c <= "\udfff" for c in text):
        return "half a pair of surrogates stands in it, which is no character"
    return ""


def _checked(line: int, values: Mapping[str, Any], texts: Sequence[str]) -> Record | Bad:
    if why := _wrong("".join(texts)):
        return Bad(line, why)
    return Record(line, values)


# Delimited text


def _rows(
    path: Path, encoding: str, delimiter: str, quoted: bool
) -> Iterator[tuple[int, list[str] | Bad]]:
    """Cells of each row, with the line the row begins in."""
    csv.field_size_limit(MAX_FIELD)
    lines = (line for _, line in _lines(path, encoding))
    reader = csv.reader(
        lines,
        delimiter=delimiter,
        quoting=csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE,
        strict=True,
    )
    while True:
        line = reader.line_num + 1
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error:
            # Whatever a quote has swallowed is lost, line by line.
            why = 'the quotes are not balanced (write "" for a quote within quotes)'
            yield line, Bad(line, why, max(1, reader.line_num - line + 1))
        else:
            yield line, row


def _delimited(path: Path, texts: Texts, encoding: str, is_header: HeaderTest) -> Table:
    options = [texts.delimiter] if texts.delimiter else list(DELIMITERS)
    if texts.format == "tsv" and not texts.delimiter:
        options = ["\t"]
    # Tab-separated files often hold quotes that mean nothing.
    ways = [(option, True) for option in options] + [(o, False) for o in options if o == "\t"]
    sampled = {way: _sampled(path, encoding, *way) for way in ways}
    delimiter, quoted = max(ways, key=lambda way: _evenness(sampled[way]))
    rows = [(line, row) for line, row in sampled[delimiter, quoted] if not isinstance(row, Bad)]
    rows = [(line, row) for line, row in rows if any(cell.strip() for cell in row)]
    if not rows:
        return Table(path, texts.format, encoding, delimiter, quoted, False, ("1",), 1)
    line, first = rows[0]
    cells = tuple(cell.strip() for cell in first)
    header = is_header(cells, [row for _, row in rows[1:]])
    if header and (twice := [c for c in cells if c and cells.count(c) > 1]):
        raise DataError(f"{path}:{line}: two columns are named {twice[0]!r}; rename one")
    names = tuple(cell or str(index) for index, cell in enumerate(cells, 1))
    columns = names if header else tuple(str(n) for n in range(1, len(cells) + 1))
    start = line + 1 if header else line
    return Table(path, texts.format, encoding, delimiter, quoted, header, columns, start)


def _sampled(
    path: Path, encoding: str, delimiter: str, quoted: bool
) -> list[tuple[int, list[str] | Bad]]:
    found = []
    for item in _rows(path, encoding, delimiter, quoted):
        found.append(item)
        if len(found) == SAMPLE:
            break
    return found


def _evenness(rows: Sequence[tuple[int, list[str] | Bad]]) -> float:
    """The share of lines that have as many cells as the first one; 0 for a single column."""
    widths = [len(row) for _, row in rows if not isinstance(row, Bad)]
    if not widths or widths[0] < 2:
        return 0.0
    lines = sum(row.lines if isinstance(row, Bad) else 1 for _, row in rows)
    return sum(width == widths[0] for width in widths) / lines


# JSON lines and Parquet


def _json_lines(path: Path, encoding: str) -> Iterator[Record | Bad]:
    for number, line in _lines(path, encoding):
        if not line.strip():
            continue
        if why := _wrong(line):
            yield Bad(number, why)
            continue
        try:
            values = json.loads(line)
        except (ValueError, RecursionError) as error:
            yield Bad(number, f"not JSON ({getattr(error, 'msg', type(error).__name__)})")
            continue
        if not isinstance(values, dict):
            yield Bad(number, f"no JSON object but {type(values).__name__}")
        elif why := _wrong("".join(v for v in values.values() if isinstance(v, str))):
            yield Bad(number, why)
        else:
            yield Record(number, values)


def _no_json_array(path: Path, encoding: str) -> None:
    for number, line in _lines(path, encoding):
        if line.strip():
            if line.strip()[0] == "[":
                raise DataError(
                    f"{path}:{number}: one JSON array; write one object on each line, as "
                    "`jq -c '.[]'` does"
                )
            return


def _parquet_file(path: Path) -> Any:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise DataError(
            f"{path}:1: Parquet files are read with pyarrow, which is not installed; {INSTALL}, or "
            "save the file as .csv or .jsonl"
        ) from None
    try:
        return pyarrow.parquet.ParquetFile(path)
    except (OSError, pyarrow.ArrowException) as error:
        reason = str(error).splitlines()[0][:100]
        raise DataError(f"{path}:1: no Parquet file ({reason}); save it again") from None


def _parquet_columns(path: Path) -> tuple[str, ...]:
    file = _parquet_file(path)
    with file:
        if not file.metadata.num_rows:
            raise DataError(f"{path}:1: the file is empty; add rows or leave it out")
        return tuple(file.schema_arrow.names)


def _parquet(path: Path) -> Iterator[Record | Bad]:
    number = 0
    with _parquet_file(path) as file:
        for batch in file.iter_batches(batch_size=1024):
            for values in batch.to_pylist():
                number += 1
                yield _checked(number, values, [v for v in values.values() if isinstance(v, str)])
