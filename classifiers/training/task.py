"""What the owner of a policy writes to have a classifier trained: one YAML file, checked strictly.

    name: refunds
    labels: [refund, shipping, other]
    data: [messages.csv]

Everything else has a default.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import (
    BeforeValidator,
    Field,
    PrivateAttr,
    ValidationError,
    model_validator,
)

from classifiers.faults import describe, did_you_mean, fault, show
from classifiers.training.task_data import FORMATS, Data, Texts
from classifiers.types import Kind
from classifiers.written import Share, Written, items_of, list_of, name_of, one_of, text_of
from classifiers.yaml_source import Document, SourceError, parse, read_text

Method = Literal["auto", "head", "examples", "finetune", "spans"]
Pooling = Literal["mean", "max"]
EndpointFormat = Literal["chat", "moderations"]
Whole = Annotated[int, Field(ge=1, strict=True)]
Money = Annotated[float, Field(gt=0, strict=True)]

MAX_ROWS = 200_000
_LANGUAGE = re.compile(r"[a-z]{2,3}(-[A-Za-z0-9]{2,8})*")
_TEXTS = BeforeValidator(list_of(text_of("a text"), "texts"))
_WORDS = BeforeValidator(list_of(text_of("an entry"), "entries"))


class TaskError(ValueError):
    """A task cannot be used. Each line of the message reads ``file:line: fault; fix``."""


def label_name(value: Any) -> str:
    """A label as policies will name it: up to 64 characters on one line."""
    if isinstance(value, (bool, int, float)):
        raise fault(f"the label {show(value)} is no text; put it in quotes")
    text = text_of("a label")(value)
    if text != text.strip() or len(text) > 64 or not text.isprintable():
        raise fault(
            f"the label {show(text)} cannot be used; write up to 64 characters on one line, "
            "without spaces around them"
        )
    return text


def _language(value: Any) -> str:
    if not isinstance(value, str) or not _LANGUAGE.fullmatch(value):
        raise fault(f"{show(value)} is no language code; write codes such as en, de or pt-BR")
    return value


class Label(Written):
    """What a label means, for people, for the chat model that writes rows and for the method
    `examples`."""

    description: str = ""
    examples: Annotated[tuple[str, ...], _TEXTS] = ()
    """Texts that carry the label."""
    near_misses: Annotated[tuple[str, ...], _TEXTS] = ()
    """Texts that look like it and do not."""

    @model_validator(mode="before")
    @classmethod
    def _short(cls, value: Any) -> Any:
        if value is None:
            return {}
        return {"description": value} if isinstance(value, str) else value


def _labels(value: Any) -> Any:
    """Labels in the order of the file, whichever of the forms they are written in."""
    if isinstance(value, Mapping):
        found = dict(value)
    elif isinstance(value, (list, tuple)):
        found = {}
        for index, item in enumerate(value):
            name, meaning = item, None
            if isinstance(item, Mapping) and len(item) == 1:
                name, meaning = next(iter(item.items()))
            if name in found if isinstance(name, str) else False:
                raise fault(f"the label {name!r} stands twice; remove one", index)
            found[label_name(name)] = meaning
    else:
        raise fault(f"labels is {show(value)}; write a list of names, or names and what they mean")
    if not found:
        raise fault("there are no labels; write at least one")
    seen: dict[str, str] = {}
    for name in found:
        other = seen.setdefault(label_key(label_name(name)), name)
        if other != name:
            raise fault(
                f"the labels {other!r} and {name!r} differ in case or spaces alone; rename one",
                *([name] if isinstance(value, Mapping) else []),
            )
    return found


def label_key(label: str) -> str:
    """Labels with one key are the same: case, and which spaces are written, do not count."""
    return " ".join(label.casefold().split())


class Case(Written):
    """A point of a slice: a text, and the labels that it must have or must not have."""

    text: Annotated[str, BeforeValidator(text_of("the text of a case"))]
    labels: tuple[str, ...] | None = None
    """All labels that hold, empty for none of them; None where only ``absent`` is asked for."""
    absent: tuple[str, ...] = Field((), alias="not")
    """Labels that must not be found."""

    @model_validator(mode="before")
    @classmethod
    def _one_form(cls, value: Any) -> Any:
        if not isinstance(value, Mapping):
            return value
        forms = [key for key in ("label", "labels", "not") if key in value]
        if len(forms) != 1:
            raise fault(
                f"a case says one of label, labels and not, here: {', '.join(forms) or 'none'}; "
                "write label: null for a text with none of the labels",
                *forms[1:2],
            )
        rest = {key: item for key, item in value.items() if key not in forms}
        names = value[forms[0]]
        listed = names if isinstance(names, (list, tuple)) else [] if names is None else [names]
        for name in listed:
            label_name(name)
        return {**rest, "not" if forms[0] == "not" else "labels": tuple(listed)}


class Synthesize(Written):
    """Rows that a chat model writes from the descriptions of the labels."""

    model: Annotated[str, BeforeValidator(text_of("the model"))]
    per_label: Whole = 150
    batch: Whole = 10
    """Rows that are asked for at a time."""
    languages: Annotated[tuple[str, ...], BeforeValidator(list_of(_language, "languages"))] = ()
    """Empty: those of the task."""
    personas: Annotated[tuple[str, ...], _WORDS] = ()
    max_cost: Money | None = None
    """US dollars; None: no limit."""
    temperature: Annotated[float, Field(ge=0, le=2, strict=True)] = 1.0


class Teacher(Written):
    """An expensive judge whose labels the small classifier learns."""

    model: Annotated[str, BeforeValidator(text_of("the model"))] | None = None
    """As litellm names it; at an endpoint, as the endpoint names it."""
    endpoint: str | None = None
    """A server of OpenAI's kind in place of a provider's own: the base address for chat models, the
    whole one for moderations. Its key stands in DOORMAN_LLM_API_KEY."""
    prompt: Annotated[str, BeforeValidator(text_of("the prompt"))] | None = None
    sample: Whole = 500
    """Texts that are judged."""
    texts: Annotated[tuple[Texts, ...], BeforeValidator(items_of("texts"))] = ()
    max_cost: Money | None = None
    """US dollars; None: no limit."""
    endpoint_format: Annotated[
        EndpointFormat, BeforeValidator(one_of(get_args(EndpointFormat), "endpoint formats"))
    ] = "chat"

    @model_validator(mode="after")
    def _one_judge(self) -> Teacher:
        if self.model is None and self.endpoint is None:
            raise fault("a teacher is a model or an endpoint; write one of the two")
        if self.endpoint is not None and self.model is None and self.endpoint_format == "chat":
            raise fault(
                "an endpoint of chat models serves several; write which one with model:", "endpoint"
            )
        if self.endpoint is not None and not re.match(r"https?://[^\s/]", self.endpoint):
            raise fault(
                f"the endpoint {show(self.endpoint)} is no address; begin it with https://",
                "endpoint",
            )
        return self


class Task(Written):
    """A task file. ``at(...)`` tells where in the file something stands."""

    name: Annotated[str, BeforeValidator(name_of("the name of a task"))]
    description: str = ""
    kind: Annotated[Kind, BeforeValidator(one_of(get_args(Kind), "kinds"))] = "one_of"
    """One of the labels, any number of them, or stretches of the text. Left out: one_of, and any_of
    where there is a single label."""
    labels: Annotated[dict[str, Label], BeforeValidator(_labels)]
    none_label: Annotated[
        tuple[str, ...], BeforeValidator(list_of(label_name, "words for none of the labels"))
    ] = ("none",)
    """What data files write where none of the labels holds, beside leaving the label empty. It has
    no meaning in one_of tasks."""
    data: Annotated[tuple[Data, ...], BeforeValidator(items_of("data files"))] = ()
    languages: Annotated[tuple[str, ...], BeforeValidator(list_of(_language, "languages"))] = ()
    slices: dict[str, Annotated[tuple[Case, ...], BeforeValidator(items_of("cases"))]] = Field(
        default_factory=dict
    )
    """Cases that must hold, by the name of what they show."""
    benign: Annotated[tuple[Texts, ...], BeforeValidator(items_of("benign data files"))] = ()
    """Ordinary texts that must not match."""
    max_false_positive_rate: Share = 0.01
    min_recall: Share | None = None
    method: Annotated[Method, BeforeValidator(one_of(get_args(Method), "methods"))] = "auto"
    pooling: Annotated[Pooling, BeforeValidator(one_of(get_args(Pooling), "poolings"))] = "mean"
    """How the parts of a long text are joined. Left out: max for any_of, else mean."""
    synthesize: Synthesize | None = None
    teacher: Teacher | None = None
    max_rows: Whole = MAX_ROWS
    """Rows that are used at most; see :func:`classifiers.training.read.read_task`."""
    seed: Annotated[int, Field(ge=0, strict=True)] = 0

    _document: Document = PrivateAttr(default_factory=lambda: Document("task", None, {}))

    @property
    def label_names(self) -> tuple[str, ...]:
        """The labels in the order of the file."""
        return tuple(self.labels)

    @property
    def source(self) -> str:
        """The file it was read from."""
        return self._document.source

    def at(self, *path: str | int) -> str:
        """``file:line`` of a value, by the keys that lead to it."""
        return self._document.at(path)

    @model_validator(mode="before")
    @classmethod
    def _defaults(cls, value: Any) -> Any:
        if not isinstance(value, Mapping):
            raise fault(f"{show(value)} is no task; begin with name:, labels: and data:")
        filled = dict(value)
        labels = filled.get("labels")
        single = isinstance(labels, (list, tuple, Mapping)) and len(labels) == 1
        filled.setdefault("kind", "any_of" if single else "one_of")
        filled.setdefault("pooling", "max" if filled["kind"] == "any_of" else "mean")
        return filled

    @model_validator(mode="after")
    def _fits_together(self) -> Task:
        if self.kind == "one_of" and len(self.labels) == 1:
            raise fault("one_of chooses among labels and there is one; write kind: any_of", "kind")
        if (self.kind == "spans") != (self.method == "spans") and self.method != "auto":
            raise fault(f"method {self.method} does not fit kind {self.kind}; write auto", "method")
        if self.max_false_positive_rate == 1:
            raise fault(
                "a max_false_positive_rate of 100% would allow every text to match; write the part "
                "of ordinary texts that may match by mistake, such as 1%",
                "max_false_positive_rate",
            )
        examples = all(label.examples for label in self.labels.values())
        if not (self.data or examples or self.synthesize or self.teacher):
            raise fault(
                "there is nothing to learn from; add data:, examples under every label, "
                "synthesize: or teacher:"
            )
        if self.teacher and not (self.teacher.texts or self.data or self.synthesize):
            raise fault("the teacher has no texts to judge; add texts:", "teacher")
        self._known_labels()
        return self

    def _known_labels(self) -> None:
        for name, cases in self.slices.items():
            for index, case in enumerate(cases):
                for label in (*(case.labels or ()), *case.absent):
                    self._known(label, "slices", name, index)
                if self.kind == "one_of" and len(case.labels or ()) > 1:
                    raise fault(
                        "a text of a one_of task has one label; keep one", "slices", name, index
                    )
        for index, data in enumerate(self.data):
            for word, target in data.label_map.items():
                if target is not None:
                    self._known(target, "data", index, "label_map", word)

    def _known(self, label: str, *path: str | int) -> None:
        if label not in self.labels:
            hint = did_you_mean(label, self.labels, "labels")
            raise fault(f"unknown label {show(label)}; {hint}", *path)


def load_task(path: Path) -> Task:
    """Read a task file. Paths in it are relative to the folder it lies in.

    Raises:
        TaskError: every line of the message is one mistake, ``file:line: fault; fix``.
    """
    path = Path(path)
    if path.is_file() and path.suffix.casefold() in FORMATS.keys() - {".json", ".txt"}:
        raise TaskError(
            f"{path}:1: this is a data file, no task; name it under data: in a task file or, if it "
            "holds corrections, name their pack with --update"
        )
    try:
        document = parse(read_text(path), str(path), what="task", needs="labels")
    except SourceError as error:
        raise TaskError(f"{path}:{error.line}: {error}") from None
    return _task(document, path.parent)


def make_task(values: Mapping[str, Any], folder: Path = Path()) -> Task:
    """A task from what would stand in its file.

    Args:
        values: the keys of the file.
        folder: what paths are relative to.

    Raises:
        TaskError: every line of the message is one mistake.
    """
    return _task(Document("task", values, {}), folder)


def _task(document: Document, folder: Path) -> Task:
    try:
        task = Task.model_validate(document.data, context={"folder": folder})
    except ValidationError as error:
        raise TaskError(describe(error, document, "task")) from None
    task._document = document
    return task


__all__ = ["Case", "Data", "Label", "Synthesize", "Task", "TaskError", "Teacher", "Texts",
           "label_key", "load_task", "make_task"]  # fmt: skip
