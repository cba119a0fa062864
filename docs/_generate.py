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

from classifiers.packs import SHIPPED
from classifiers.training.recipes import RECIPES
from classifiers.training.recipes.descriptions import LABELS
from classifiers.training.task import Case, Label, Synthesize, Task, Teacher
from classifiers.training.task_data import Data
from policies.decision import Cause, Decision, RuleError
from proxy import ledger
from proxy.cli import COMMANDS
from proxy.commands import pii_labels
from proxy.config import SHIPPED_POLICY, Config
from proxy.errors import (
    ANSWERS,
    CODES,
    ERRORS,
    UPSTREAM_FAULTS,
    InvalidRequest,
    NotFound,
    UpstreamError,
    UpstreamFault,
)
from proxy.ledger import Record
from proxy.ledgers.savings import HOW
from proxy.metrics import METRICS, PROCESS
from proxy.telemetry_names import ATTRIBUTES, INSTRUMENTS

os.environ["COLUMNS"] = "96"  # argparse wraps its help at the terminal's width

PAGES = tuple(RECIPES)
"""The packs that have a page in ``docs/packs``, in the order of the README."""
OVERALL = {
    "rows": "rows",
    "spans": "spans",
    "accuracy": "accuracy",
    "macro_f1": "macro F1",
    "f1": "F1",
}
"""Figures of a whole pack, and what they are called."""
WEAK = 0.6
NESTED: dict[str, tuple[type[BaseModel], str]] = {
    "labels": (Label, "labels.LABEL."),
    "data": (Data, "data[]."),
    "slices": (Case, "slices.NAME[]."),
    "synthesize": (Synthesize, "synthesize."),
    "teacher": (Teacher, "teacher."),
}
"""Keys of a task that hold further keys."""
KEYS = {
    "name": "What the pack is called; policies name it so.",
    "description": "What is classified and why, in a sentence or two; for the card and for chat models.",
    "labels": "The labels in their order: a list of names, or names with what they mean. A single "
    "string stands for `description`.",
    "labels.LABEL.description": "What belongs to the label, in a sentence or two.",
    "data": "Labelled files: a name such as `messages.csv`, or the keys below. Paths are relative to "
    "the task file.",
    "data[].path": "CSV, TSV, JSONL or Parquet; `.gz` may follow.",
    "data[].delimiter": "One character, or `tab`; found where it is left out.",
    "data[].encoding": "Such as `cp1252`; found where it is left out.",
    "languages": "Codes of the languages of the texts, such as `[en, de]`.",
    "slices.NAME[].text": "The text.",
    "slices.NAME[].labels": "All labels that hold. `label:` takes a single one, or `null` for none of "
    "them. Of `label`, `labels` and `not` a case has one.",
    "benign": "Files of ordinary texts that must not match; as `data`, without labels. For any_of "
    "tasks.",
    "max_false_positive_rate": "What the thresholds promise: of texts without the label, at most this "
    "share is matched.",
    "min_recall": "A recall that is to be proven at the same thresholds; the pack says whether it is.",
    "method": "`auto`, `head`, `examples`, `finetune` or `spans`.",
    "max_rows": "Rows that are used at most.",
    "seed": "Of everything that is drawn; the same seed gives the same pack.",
    "synthesize": "Has a chat model write rows from the descriptions of the labels; see the tutorial.",
    "teacher": "Has an expensive judge label texts, for the pack to learn; see the tutorial.",
    "synthesize.model": "The chat model, as litellm names it, such as `openai/gpt-4o-mini`.",
    "synthesize.per_label": "Texts of each label. Half as many near misses come on top, and "
    "as many texts of no label where a text may have none.",
    "synthesize.personas": "Who writes; left out, a list of everyday people.",
    "synthesize.max_cost": "US dollars for the whole task, earlier runs included; left out, no limit.",
    "synthesize.temperature": "Of the writing; the check has none.",
    "teacher.prompt": "Your own instructions for the judge; they stand before the labels.",
    "teacher.texts": "Files of texts without labels; left out, the texts of `data`.",
    "teacher.max_cost": "US dollars for the whole task, earlier runs included; left out, no limit.",
    "teacher.endpoint_format": "`chat`, or `moderations` for an endpoint of the moderation interface.",
}
"""What keys of a task mean, where their model does not say it in words for users."""
DEFAULTS = {
    "kind": "by the labels",
    "pooling": "by the kind",
    "data[].format": "by the name",
}
"""Defaults that depend on something else."""


def cli(*names: str) -> str:
    """The help of these commands, or of every one."""
    parts = []
    for name in names or COMMANDS:
        module = importlib.import_module(COMMANDS[name].module)
        parser = argparse.ArgumentParser(prog=f"doorman {name}", description=module.__doc__)
        module.arguments(parser)
        parts.append(f"```\n{parser.format_help().strip()}\n```\n")
    return "\n".join(parts)


def actions(name: str) -> str:
    """The help of each action of a command that has some."""
    command = importlib.import_module(COMMANDS[name].module)
    parser = argparse.ArgumentParser(prog=f"doorman {name}")
    command.arguments(parser)
    found = [a for a in parser._actions if isinstance(a, argparse._SubParsersAction)]
    parts = [own.format_help().strip() for own in found[0].choices.values()]
    return "".join(f"```\n{part}\n```\n\n" for part in parts)


def settings() -> str:
    """Every key of the configuration with its default."""
    lines = ["| key | default | what |", "|---|---|---|"]
    lines += [f"| `{key}` | {default} | {what} |" for key, default, what in _fields(Config)]
    return "\n".join(lines) + "\n"


def metrics() -> str:
    """Every Prometheus metric."""
    lines = ["| metric | kind | labels | what |", "|---|---|---|---|"]
    for name, metric in {**METRICS, **PROCESS}.items():
        lines.append(f"| `{name}` | {metric.kind} | {', '.join(metric.labels)} | {metric.help} |")
    return "\n".join(lines) + "\n"


def savings() -> str:
    """How each figure of the savings is computed."""
    lines = ["| figure | how it is computed |", "|---|---|"]
    return "\n".join([*lines, *(f"| {name} | {told} |" for name, told in HOW.items())]) + "\n"


def attributes() -> str:
    """Every attribute of an OpenTelemetry span."""
    lines = ["| attribute | what |", "|---|---|"]
    return "\n".join([*lines, *(f"| `{n}` | {what} |" for n, what in ATTRIBUTES.items())]) + "\n"


def instruments() -> str:
    """Every OpenTelemetry metric."""
    lines = ["| metric | unit | what |", "|---|---|---|"]
    rows = (f"| `{name}` | {i.unit} | {i.help} |" for name, i in INSTRUMENTS.items())
    return "\n".join([*lines, *rows]) + "\n"


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
    for code, (status, what) in ANSWERS.items():
        lines.append(f"| {status} | `{code}` | `invalid_request_error` | {what} |")
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
    "unavailable": "The model's server has failed repeatedly and is left alone, see `breaker`.",
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
    for name in PAGES:
        if (manifest := _manifest(name)) is None:
            continue
        overall = manifest["metrics"]["overall"]
        shown = ", ".join(
            f"{told} {overall[key]}" for key, told in OVERALL.items() if key in overall
        )
        labels = ", ".join(manifest["labels"])
        lines.append(f"| [{name}](docs/packs/{name}.md) | {labels} | {shown} |")
    lines.append(
        f"| [pii](docs/packs/pii.md) | {', '.join(pii_labels.LABELS)} | patterns, no model |"
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


def task() -> str:
    """Every key of a task file with its default."""
    lines = ["| key | default | what |", "|---|---|---|"]
    lines += [f"| `{key}` | {default} | {what} |" for key, default, what in _task_keys(Task, "")]
    return "\n".join(lines) + "\n"


def _task_keys(model: type[BaseModel], prefix: str) -> Iterator[tuple[str, str, str]]:
    for name, field in model.model_fields.items():
        key = prefix + (field.alias or name)
        default: Any = field.get_default(call_default_factory=True)
        shown = "required" if default is PydanticUndefined else f"`{_plain(default)}`"
        if isinstance(default, dict):
            shown = "`{}`"
        said = KEYS.get(key) or " ".join((field.description or "").split())
        yield key, DEFAULTS.get(key, shown), said.replace("``", "`").replace("|", "\\|")
        if not prefix and name in NESTED:
            yield from _task_keys(*NESTED[name])


def pack(name: str) -> str:
    """The generated part of the page of a pack: labels, figures, sources."""
    manifest = _manifest(name)
    if manifest is None:
        return "The pack is not built.\n"
    parts = (_labels_of(name), _figures(manifest), _mistakes(manifest), _made_of(manifest))
    return "\n".join(line for part in parts for line in part)


def _manifest(name: str) -> dict[str, Any] | None:
    path = SHIPPED / name / "manifest.json"
    found: dict[str, Any] | None = json.loads(path.read_text("utf-8")) if path.is_file() else None
    return found


def _labels_of(name: str) -> list[str]:
    lines = ["## Labels", "", "| label | what belongs to it |", "|---|---|"]
    return [*lines, *(f"| `{label}` | {what} |" for label, what in LABELS[name].items()), ""]


def _figures(manifest: dict[str, Any]) -> list[str]:
    spans = manifest["kind"] == "spans"
    unit = "spans" if spans else "rows"
    lines = ["## Figures", "", f"On {unit} that it was not trained on, at the default thresholds."]
    if spans:
        lines.append("A find is right if its start, its end and its label are.")
    lines += ["", f"| label | {unit} | precision | recall | F1 | threshold | at most by mistake |"]
    lines.append("|---|---|---|---|---|---|---|")
    known, weak = manifest["metrics"]["by_label"], []
    for label in manifest["labels"]:
        point, own = manifest["operating_points"][label], known.get(label)
        rate = point.get("max_false_positive_rate")
        told = "-" if rate is None else f"{rate:.1%}"
        shown = ["0", "-", "-", "-"]
        if own:
            shown = [str(own.get("spans", own["rows"]))]
            shown += [f"{own[key]:.2f}" for key in ("precision", "recall", "f1")]
        if own is None or own["f1"] < WEAK:
            weak.append(f"`{label}`")
        lines.append(f"| `{label}` | {' | '.join(shown)} | {point['threshold']:.2f} | {told} |")
    overall = manifest["metrics"]["overall"]
    said = ", ".join(f"{told} {overall[key]}" for key, told in OVERALL.items() if key in overall)
    lines += ["", f"Overall: {said}."]
    if weak:
        lines += [
            "",
            f"Weak (F1 under {WEAK}): {', '.join(weak)}. Watch them in shadow mode first.",
        ]
    return [*lines, ""]


def _mistakes(manifest: dict[str, Any]) -> list[str]:
    found = manifest["metrics"].get("false_positives")
    if not found:
        return []
    lines = [
        "## False positives",
        "",
        "Held-out texts that have none of the labels, by source:",
        "",
    ]
    lines += ["| source | flagged by any label |", "|---|---|"]
    return [*lines, *(f"| {source} | {count} |" for source, count in found.items()), ""]


def _made_of(manifest: dict[str, Any]) -> list[str]:
    lines = ["## Made of", "", "| source | rows | licence |", "|---|---|---|"]
    for source, of in sorted(manifest["sources"].items()):
        lines.append(f"| {source} | {of['rows']} | {of['licence']} |")
    return [*lines, "", f"Licence of the weights: {manifest['licence']}.", ""]
