"""The generated parts of the docs, for cog. Each function returns Markdown."""

from __future__ import annotations

import argparse
import importlib
import json
import os
from collections.abc import Iterator
from typing import Any, get_args, get_origin

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from classifiers.packs import SHIPPED, SHIPPED_HEADS
from proxy.cli import COMMANDS
from proxy.config import Config
from proxy.errors import ERRORS
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


def errors() -> str:
    """Every error with its status, type and code."""
    lines = ["| fault | status | type | code |", "|---|---|---|---|"]
    for kind, shape in ERRORS.items():
        what = " ".join((kind.__doc__ or "").split("\n\n")[0].split())
        lines.append(f"| {what} | {shape.status} | `{shape.type}` | {_code(shape.code)} |")
    return "\n".join(lines) + "\n"


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


def _code(code: str | None) -> str:
    return f"`{code}`" if code else ""


def _fields(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, str, str]]:
    for name, field in model.model_fields.items():
        key = f"{prefix}{name}"
        inner, many = _model_of(field.annotation)
        if inner is not None and field.annotation is not None:
            yield from _fields(inner, f"{key}[]." if many else f"{key}.")
            continue
        default: Any = field.get_default(call_default_factory=True)
        shown = "required" if default is PydanticUndefined else f"`{_plain(default)}`"
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
