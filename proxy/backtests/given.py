"""Requests from a file: JSON lines, CSV, TSV or Parquet, one request a row."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from pydantic import ValidationError

from classifiers.faults import show
from classifiers.training.columns import TEXT_NAMES, UnusableCell, as_text, header_test
from classifiers.training.tables import Bad, DataError, Record, Table, open_table
from classifiers.training.task_data import Texts
from classifiers.types import Stage, Text
from policies.decision import Outcome
from policies.policy import EXPECTATIONS
from proxy.backtests.cases import CHAT, Case, Past
from proxy.endpoints import ENDPOINTS
from proxy.errors import InvalidRequest, NotFound

BODIES = {"messages": CHAT, "input": "/v1/responses", "prompt": "/v1/completions"}
"""The field that makes a row a whole request, and the API it is of."""
REPLIES = ("reply", "assistant", "response", "completion")
STOPS = ("block",)
HARMLESS = frozenset(
    {"", "0", "benign", "false", "fine", "harmless", "no", "none", "null", "ok", "safe"}
)
"""Labels of texts that ought to pass; every other one is of a text that ought to be stopped."""
_REPLY = ("choices", 0, "message", "content")


@dataclass(frozen=True, slots=True)
class Unusable:
    """A row that cannot be judged."""

    place: str
    reason: str


def read(path: Path, model: str, text: str | None = None) -> Iterator[Case | Unusable]:
    """The rows of a file, in its order.

    Args:
        model: the alias that rows without one ask for.
        text: the column of the texts; found by its name if it is left out.

    Raises:
        DataError: the file cannot be read.
    """
    table = _table(path, text)
    column = text or _column(table)
    for record in table.records():
        place = f"{path.name}:{record.line}"
        if isinstance(record, Bad):
            yield Unusable(place, record.reason)
            continue
        try:
            yield _case(place, record, column, model)
        except UnusableCell as error:
            yield Unusable(place, str(error))


def _table(path: Path, text: str | None) -> Table:
    try:
        texts = Texts.model_validate({"path": str(path), **({"text": text} if text else {})})
    except ValidationError as error:
        raise DataError(f"{path}: {error.errors()[0]['msg']}") from None
    return open_table(texts, header_test(texts, None))


def _column(table: Table) -> str:
    """The column of texts of a table, empty where rows are requests."""
    known = {name.casefold(): name for name in table.columns}
    found = next((known[name] for name in TEXT_NAMES if name in known), None)
    if found is not None:
        return found
    if not {"body", *BODIES, *REPLIES}.isdisjoint(table.columns):
        return ""
    if len(table.columns) == 1:
        return table.columns[0]
    raise DataError(
        f"{table.path}:1: no column of texts among {', '.join(table.columns[:8])}; name one with --text"
    )


def _case(place: str, record: Record, column: str, model: str) -> Case:
    values = record.values
    request, asked = _request(values, column)
    said = next((values[name] for name in REPLIES if isinstance(values.get(name), str)), None)
    reply = None if said is None else (Text(said, "assistant", _REPLY, "output"),)
    if not request and reply is None:
        raise UnusableCell("no text")
    stages: dict[Stage, Past] = {}
    for name in ("decision", "action"):
        if values.get(name) is not None:
            stages["input"] = Past(_outcome(values[name], name), seen=None)
    key = values.get("key")
    return Case(
        id=place,
        model=asked or model,
        key=key if isinstance(key, str) else None,
        stages=stages,
        request=request,
        reply=reply,
        texts=sum(not text.derived for text in request),
        expected=_expected(values),
    )


def _request(values: Mapping[str, Any], column: str) -> tuple[tuple[Text, ...], str]:
    """The texts of a row's request, and the model it asks for, if any."""
    body = values.get("body", values)
    if isinstance(body, str) and "body" in values and column != "body":
        try:
            body = json.loads(body)
        except ValueError:
            raise UnusableCell("body is no JSON") from None
    if not isinstance(body, Mapping):
        raise UnusableCell("body is no JSON object")
    named = body.get("model")
    asked = named if isinstance(named, str) else ""
    field = next((f for f in BODIES if isinstance(body.get(f), list)), None)
    if field is None and "body" in values and column != "body":
        field = next((f for f in BODIES if f in body), None)
    if field is None:
        content = as_text(values.get(column)) if column else ""
        if not content.strip():
            return (), asked
        return (Text(content, "user", ("messages", 0, "content"), "input", 0, True),), asked
    endpoint = ENDPOINTS[BODIES[field]]
    try:
        whole = {**body, "model": asked or "default"}
        endpoint.validate(whole)
        return tuple(endpoint.texts(whole)), asked
    except (InvalidRequest, NotFound) as error:
        raise UnusableCell(str(error)) from None


def _expected(values: Mapping[str, Any]) -> bool | None:
    """Whether a row ought to be stopped; None where it does not say."""
    for name in ("expected", "expect"):
        if name in values and values[name] is not None:
            return _outcome(values[name], name) in STOPS
    if "label" not in values:
        return None
    label = values["label"]
    if isinstance(label, list):
        return bool(label)
    if label is True or label is False:
        return bool(label)
    return as_text(label).strip().casefold() not in HARMLESS


def _outcome(value: Any, name: str) -> Outcome:
    word = value if isinstance(value, str) else ""
    word = {"allow": "forward", "flag": "forward", "cache": "forward"}.get(word, word)
    if word not in get_args(Outcome):
        raise UnusableCell(f"{name} {show(value)} is none of {', '.join(EXPECTATIONS)}")
    return word  # type: ignore[return-value]
