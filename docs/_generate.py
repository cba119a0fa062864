"""The generated parts of the docs, for cog. Each function returns Markdown."""

from __future__ import annotations

import argparse
import importlib
import inspect
import json
import os
import re
from collections.abc import Iterator
from dataclasses import fields
from typing import Any, get_args, get_origin

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from classifiers.packs import SHIPPED, SHIPPED_HEADS
from policies.decision import Cause, Decision, RuleError
from proxy import ledger
from proxy.cli import COMMANDS
from proxy.commands import pii_labels
from proxy.config import SHIPPED_POLICY, Config
from proxy.errors import (
    CODES,
    ERRORS,
    UPSTREAM_FAULTS,
    InvalidRequest,
    NotFound,
    UpstreamError,
    UpstreamFault,
)
from proxy.ledger import Record
from proxy.metrics import METRICS

os.environ["COLUMNS"] = "96"  # argparse wraps its help at the terminal's width


def cli() -> str:
    """The help of every command."""
    parts = []
    for name, command in COMMANDS.items():
        module = importlib.import_module(command.module)
        parser = argparse.ArgumentParser(prog=f"doorman {name}", description=module.__doc__)
        module.arguments(parser)
        parts.append(f"```\n{parser.format_help().strip()}\n```\n")
    return "\n".join(parts)


def settings() -> str:
    """Every key of the configuration with its default."""
    lines = ["| key | default | what |", "|---|---|---|"]
    lines += [f"| `{key}` | {default} | {what} |" for key, default, what in _fields(Config)]
    return "\n".join(lines) + "\n"


def metrics() -> str:
    """Every Prometheus metric."""
    lines = ["| metric | kind | labels | what |", "|---|---|---|---|"]
    for name, metric in METRICS.items():
        lines.append(f"| `{name}` | {metric.kind} | {', '.join(metric.labels)} | {metric.help} |")
    return "\n".join(lines) + "\n"


def record() -> str:
    """Every field of a decision record."""
    return _described("field", Record, [field.name for field in fields(Record)])


def stage() -> str:
    """Every field of a stage's decision in a record."""
    return _described("field", Decision, list(ledger.stage(Decision("input"))))


def cause() -> str:
    """Every field of a rule that fired."""
    return _described("field", Cause, [field.name for field in fields(Cause)])


def rule_error() -> str:
    """Every field of a rule that could not be decided."""
    return _described("field", RuleError, [field.name for field in fields(RuleError)])


def errors() -> str:
    """Every code with its status, type and meaning."""
    lines = ["| status | code | type | what |", "|---|---|---|---|"]
    precise = {kind for kind, _ in CODES.values() if kind is NotFound}
    for kind, shape in ERRORS.items():
        rows = [] if kind in precise else [(shape.status, shape.code, _meaning(kind))]
        rows += [(shape.status, code, what) for code, (of, what) in CODES.items() if of is kind]
        if kind is UpstreamError:
            rows = [(*UPSTREAM_FAULTS[fault], what) for fault, what in UPSTREAM_MEANINGS.items()]
        for status, code, what in rows:
            shown = f"`{code}`" if code else "`null`"
            lines.append(f"| {status} | {shown} | `{shape.type}` | {what} |")
    return "\n".join(lines) + "\n"


UPSTREAM_MEANINGS: dict[UpstreamFault, str] = {
    "connect": "The model's server cannot be reached.",
    "timeout": "The model's server did not answer in time, see `timeouts`.",
    "protocol": "The model's server broke off, or what it sent cannot be read.",
    "too_large": "The model's server sent more than `limits.max_reply_bytes`.",
}


def _meaning(kind: type[Exception]) -> str:
    if kind is Exception:
        return "Anything else: a fault of the gateway's own. The log names it with the request id."
    if kind is InvalidRequest:
        return "The request cannot be understood; the message says why."
    return " ".join((kind.__doc__ or "").split("\n\n")[0].split())


def packs() -> str:
    """What ships, with the figures of each pack's manifest."""
    lines = ["| classifier | labels | figures on held-out rows |", "|---|---|---|"]
    for name in SHIPPED_HEADS:
        manifest = json.loads((SHIPPED / name / "manifest.json").read_text("utf-8"))
        labels, figures = manifest["labels"], manifest["metrics"]["overall"]
        shown = ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in figures.items())
        lines.append(
            f"| [{name}](classifiers/packs/{name}/README.md) | {', '.join(labels)} | {shown} |"
        )
    return "\n".join(lines) + "\n"


LEFT_OUT = {
    "redactions_left_out": f"how many further redactions there were, after the first "
    f"{ledger.MOST_ENTRIES}.",
}
"""What only the record has, because it has room for so much and no more."""


def _described(head: str, kind: type, names: list[str]) -> str:
    """A table of fields with what the docstring of their class says; all of them must be there."""
    said = _attributes(kind) | LEFT_OUT
    lines = [f"| {head} | what |", "|---|---|"]
    lines += [f"| `{name}` | {said[name]} |" for name in names]
    return "\n".join(lines) + "\n"


def _attributes(kind: type) -> dict[str, str]:
    """The section ``Attributes:`` of a docstring."""
    section = (
        inspect.cleandoc(kind.__doc__ or "").partition("Attributes:\n")[2].partition("\n\n")[0]
    )
    entries = re.findall(r"^ {4}(\w+): (.*(?:\n {8}.*)*)", section, re.MULTILINE)
    return {name: _as_json(" ".join(what.split())).replace("|", "\\|") for name, what in entries}


def _as_json(what: str) -> str:
    """Python's words for values as they stand in a record."""
    for python, json_word in (("None", "null"), ("False", "false"), ("True", "true")):
        what = re.sub(rf"\b{python}\b", json_word, what)
    return what


def pii() -> str:
    """The labels of ``pii``, and what its scores mean."""
    lines = ["| label | finds |", "|---|---|"]
    lines += [f"| `{label}` | {what} |" for label, what in pii_labels.described()]
    return "\n".join(lines) + "\n"


def grades() -> str:
    """What the scores of ``pii`` mean."""
    return "\n".join(pii_labels.grades()) + "\n"


def _fields(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, str, str]]:
    for name, field in model.model_fields.items():
        key = f"{prefix}{name}"
        inner, many = _model_of(field.annotation)
        if inner is not None and field.annotation is not None:
            yield from _fields(inner, f"{key}[]." if many else f"{key}.")
            continue
        default: Any = field.get_default(call_default_factory=True)
        shown = "required" if default is PydanticUndefined else f"`{_plain(default)}`"
        if default == (SHIPPED_POLICY,):
            shown = f"the shipped `{SHIPPED_POLICY.name}`"
        yield key, shown, " ".join((field.description or "").split()).replace("|", "\\|")


def _model_of(annotation: Any) -> tuple[type[BaseModel] | None, bool]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation, False
    if get_origin(annotation) in (tuple, list):
        for argument in get_args(annotation):
            if isinstance(argument, type) and issubclass(argument, BaseModel):
                return argument, True
    return None, False


def _plain(value: Any) -> str:
    if isinstance(value, tuple):
        return json.dumps([getattr(item, "name", str(item)) for item in value])
    return json.dumps(value, default=str)
