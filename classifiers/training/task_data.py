"""The data files that a task names: where they lie and how they are to be read."""

from __future__ import annotations

import codecs
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import BeforeValidator, Field, ValidationInfo, field_validator, model_validator

from classifiers.faults import did_you_mean, fault, show
from classifiers.written import Written, list_of, one_of, text_of

Format = Literal["csv", "tsv", "jsonl", "parquet", "txt"]
FORMATS: dict[str, Format] = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".tab": "tsv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".parquet": "parquet",
    ".txt": "txt",
}
"""What a file is, by the end of its name; ``.gz`` may follow."""

SPLITS = ("train", "dev", "test")

_column = text_of("the name of a column")
Column = Annotated[str, BeforeValidator(_column)]


def _encoding(value: Any) -> str:
    text = text_of("the encoding")(value)
    try:
        if "escape" in codecs.lookup(text).name:
            raise LookupError
        "".encode(text)  # not every codec is one of text
    except (LookupError, UnicodeError):
        raise fault(
            f"{show(text)} is no encoding; write utf-8, utf-16, cp1252 or the like, or leave it out"
        ) from None
    return text


def _delimiter(value: Any) -> str:
    text = {"tab": "\t", "\\t": "\t"}.get(value, value) if isinstance(value, str) else value
    if not isinstance(text, str) or len(text) != 1 or text in '"\r\n':
        raise fault(f"the delimiter is {show(value)}; write one character, such as ';', or tab")
    return text


class Texts(Written):
    """A file of texts: ``messages.txt``, or a mapping that says how it is read."""

    path: Path
    format: Annotated[Format, BeforeValidator(one_of(get_args(Format), "formats"))] = "csv"
    """Left out: by the end of the name."""
    text: Column | None = None
    """The column of the texts; found by name and content where it is left out."""
    source: Column | None = None
    """A column with the names of the data sets that rows come from, or one name for all rows. Left
    out: a column ``source`` if there is one with few values, else the name of the file."""
    delimiter: Annotated[str, BeforeValidator(_delimiter)] | None = None
    encoding: Annotated[str, BeforeValidator(_encoding)] | None = None

    @model_validator(mode="before")
    @classmethod
    def _short(cls, value: Any) -> Any:
        if isinstance(value, (str, Path)):
            value = {"path": value}
        if isinstance(value, Mapping) and "format" not in value and "path" in value:
            name = str(value["path"]).casefold().removesuffix(".gz")
            found = FORMATS.get(Path(name).suffix)
            if found is None:
                raise fault(
                    f"the name of {show(str(value['path']))} does not tell its format; save it as "
                    ".csv, .jsonl or .parquet, or add format:",
                    "path",
                )
            value = {**value, "format": found}
        return value

    @field_validator("path", mode="before")
    @classmethod
    def _exists(cls, value: Any, info: ValidationInfo) -> Path:
        if isinstance(value, Path):
            value = str(value)
        path = Path(
            (info.context or {}).get("folder", ""), text_of("the path of a data file")(value)
        )
        if path.is_dir():
            raise fault(f"{show(str(path))} is a folder; name the files in it")
        if not path.is_file():
            around = path.parent
            names = sorted(p.name for p in around.iterdir()) if around.is_dir() else []
            files = [name for name in names if FORMATS.get(Path(name.removesuffix(".gz")).suffix)]
            hint = did_you_mean(path.name, files[:20], f"data files in {str(around)!r}")
            raise fault(f"there is no file {show(str(path))}; {hint}")
        return path


class Data(Texts):
    """A file of labelled texts."""

    label: Column | None = None
    """The column of the labels; found by name and content where it is left out. A cell holds one
    label, or several as a JSON list or with ``|`` or ``;`` between them."""
    labels: Annotated[tuple[str, ...], BeforeValidator(list_of(_column, "columns of labels"))] = ()
    """The same, or one column of 0 and 1 for each label, named as the labels are."""
    spans: Column | None = None
    """The column with the labelled stretches, ``[[start, end, label], ...]`` in characters."""
    split: Column | None = None
    """A column with train, dev or test; or one of these words for the whole file. Left out: a column
    ``split`` if there is one with such words."""
    group: Column | None = None
    """A column; rows with one value in it never stand on both sides of the split."""
    label_map: dict[str, str | None] = Field(default_factory=dict)
    """Labels of the file to labels of the task. Null: none of the labels; in one_of tasks such rows
    are left out."""

    @model_validator(mode="after")
    def _one_form(self) -> Data:
        if self.label is not None and self.labels:
            raise fault("a data file has either label or labels; write one of the two", "label")
        return self
