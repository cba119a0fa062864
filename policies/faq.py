"""A FAQ as an operator writes it: questions in several wordings, and their answers.

YAML (``questions:`` with ``ask`` and ``answer``) or CSV (columns ``question`` and ``answer``; rows
with the same answer are one entry).
"""

from __future__ import annotations

import csv
import hashlib
import io
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, PrivateAttr, ValidationError, model_validator

from classifiers.faults import describe, did_you_mean, fault, show
from classifiers.written import Written, items_of, list_of, name_of, text_of
from classifiers.yaml_source import Document, SourceError, parse, read_text
from policies.faults import PolicyError

MOST_QUESTIONS = 2000
"""Wordings of one FAQ: all of them are read by the encoder when it is loaded."""
COLUMNS = ("question", "answer", "id")
_SLOT = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_./-]{0,127}")
_MOST_ID = 40


def _answer(value: Any) -> str:
    text = text_of("an answer")(value)
    for match in _SLOT.finditer(text):
        if match[0] in ("{{", "}}"):
            continue
        if match[1] is None:
            raise fault(f"a single {match[0]!r} stands in the answer; write {match[0] * 2}")
        if not _NAME.fullmatch(match[1]):
            raise fault(
                f"{show(match[0])} is no slot; write a label such as {{DATE}}, or {{{{ for a brace"
            )
    return text


class Entry(Written):
    """One answer, and the ways in which it may be asked for."""

    id: Annotated[str, BeforeValidator(name_of("the id of a question"))] | None = None
    ask: Annotated[
        tuple[str, ...], BeforeValidator(list_of(text_of("a question"), "wordings", required=True))
    ]
    answer: Annotated[str, BeforeValidator(_answer)]

    @property
    def slots(self) -> tuple[str, ...]:
        """The labels that its answer holds in braces, without repetitions."""
        found = (match[1] for match in _SLOT.finditer(self.answer))
        return tuple(dict.fromkeys(name for name in found if name))

    def filled(self, values: Mapping[str, str]) -> str:
        """The answer with its slots filled, by what stands in the braces."""
        return _SLOT.sub(lambda m: values[m[1]] if m[1] else m[0][:1], self.answer)


class Faq(Written):
    """A FAQ file. ``at(...)`` tells where in the file something stands."""

    questions: Annotated[tuple[Entry, ...], BeforeValidator(items_of("questions", required=True))]
    elsewhere: Annotated[
        tuple[str, ...],
        BeforeValidator(list_of(text_of("a text that has no answer here"), "texts")),
    ] = ()

    _document: Document = PrivateAttr(default_factory=lambda: Document("FAQ", None, {}))
    _path: Path = PrivateAttr(default_factory=lambda: Path("faq"))

    @property
    def name(self) -> str:
        """The file's name without its ending."""
        return self._path.stem

    @property
    def version(self) -> str:
        """A short hash of all that is written in it."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()[:12]

    def at(self, *path: str | int) -> str:
        """``file:line`` of a value, by the keys that lead to it."""
        return self._document.at(path)

    def entries(self) -> dict[str, Entry]:
        """Every entry by its id; those without one are called by their first wording."""
        found: dict[str, Entry] = {}
        given = {entry.id for entry in self.questions}
        for entry in self.questions:
            stem = entry.id or _slug(entry.ask[0])
            name, further = stem, 2
            while entry.id is None and (name in found or name in given):
                name, further = f"{stem}-{further}", further + 1
            found[name] = entry
        return found

    @model_validator(mode="before")
    @classmethod
    def _mapping(cls, value: Any) -> Any:
        if not isinstance(value, Mapping):
            raise fault(f"{show(value)} is no FAQ; begin with questions:")
        return value

    @model_validator(mode="after")
    def _distinct(self) -> Faq:
        ids: set[str] = set()
        asked: dict[str, int] = {}
        for index, entry in enumerate(self.questions):
            if entry.id in ids:
                raise fault(
                    f"two questions have the id {entry.id!r}; rename one", "questions", index
                )
            ids |= {entry.id} if entry.id else set()
            for wording in entry.ask:
                other = asked.setdefault(" ".join(wording.lower().split()), index)
                if other != index:
                    raise fault(
                        f"{show(wording)} is asked in question {other + 1} already; keep it in one",
                        "questions", index,
                    )  # fmt: skip
        for index, text in enumerate(self.elsewhere):
            if " ".join(text.lower().split()) in asked:
                raise fault(
                    f"{show(text)} is asked in a question; remove it from one of the two",
                    "elsewhere", index,
                )  # fmt: skip
        if sum(len(entry.ask) for entry in self.questions) + len(self.elsewhere) > MOST_QUESTIONS:
            raise fault(f"over {MOST_QUESTIONS} wordings; split the FAQ", "questions")
        return self


def read(path: Path) -> Faq:
    """Read a FAQ file: CSV if its name ends so, else YAML.

    Raises:
        PolicyError: every line of the message is one mistake, ``file:line: fault; fix``.
    """
    try:
        text = read_text(path)
        table = path.suffix.lower() == ".csv"
        document = _table(text, str(path)) if table else _yaml(text, str(path))
        faq = Faq.model_validate(document.data)
    except SourceError as error:
        raise PolicyError(f"{path}:{error.line}: {error}") from None
    except ValidationError as error:
        raise PolicyError(describe(error, document, "FAQ")) from None
    faq._document, faq._path = document, path
    return faq


def _yaml(text: str, source: str) -> Document:
    if not text.strip():
        raise SourceError("the file is empty; a FAQ needs at least 'questions'")
    return parse(text, source, what="FAQ", needs="questions")


def _table(text: str, source: str) -> Document:
    """The same document from a CSV file, with the line of every row."""
    head = text.split("\n", 1)[0]
    delimiter = max(",;\t", key=head.count)
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    questions: list[dict[str, Any]] = []
    lines: dict[tuple[str | int, ...], int] = {("questions",): 1}
    places: dict[tuple[str, str], int] = {}
    try:
        columns = [name.strip().lower() for name in next(rows, [])]
        _check_columns(columns)
        before = rows.line_num
        for row in rows:
            line, before = before + 1, rows.line_num
            if not any(cell.strip() for cell in row):
                continue
            if len(row) != len(columns):
                raise SourceError(
                    f"this row has {len(row)} cells, {len(columns)} are needed; put texts with "
                    f"{delimiter!r} in double quotes",
                    line,
                )
            cells = dict(zip(columns, (cell.strip() for cell in row), strict=True))
            name = cells.get("id", "")
            index = places.setdefault((name, cells["answer"]), len(questions))
            if index == len(questions):
                questions.append(
                    {"ask": [], "answer": cells["answer"], **({"id": name} if name else {})}
                )
                lines |= {("questions", index, *key): line for key in ((), ("answer",), ("id",))}
            lines["questions", index, "ask", len(questions[index]["ask"])] = line
            questions[index]["ask"].append(cells["question"])
    except csv.Error as error:
        raise SourceError(
            f"this is not valid CSV ({error}); check the quotes", rows.line_num
        ) from None
    return Document(source, {"questions": questions}, lines)


def _check_columns(columns: Sequence[str]) -> None:
    for name in columns:
        if name not in COLUMNS:
            raise SourceError(
                f"unknown column {show(name)}; {did_you_mean(name, COLUMNS, 'columns')}"
            )
    for name in COLUMNS[:2]:
        if columns.count(name) != 1:
            raise SourceError(f"the first line must name one column {name!r}; add it")


def _slug(question: str) -> str:
    words = re.sub(r"[^a-z0-9]+", "-", question.lower()).strip("-")
    return words[:_MOST_ID].rstrip("-") or "question"
