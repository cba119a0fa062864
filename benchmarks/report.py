"""What a benchmark hands over: tables, targets met or not, and notes; as Markdown and as JSON."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

PACKAGES = (
    "doorman", "onnxruntime", "numpy", "tokenizers", "aiohttp", "fastapi", "uvicorn", "uvloop",
    "httptools", "orjson", "pydantic",
)  # fmt: skip
"""Packages whose versions bear on the figures."""


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of figures, formatted; ``note`` stands below the table."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""

    def markdown(self) -> str:
        lines = [f"### {self.title}", "", "| " + " | ".join(self.columns) + " |"]
        lines.append(
            "|" + "|".join("---" if i == 0 else "---:" for i in range(len(self.columns))) + "|"
        )
        lines += ["| " + " | ".join(row) + " |" for row in self.rows]
        return "\n".join([*lines, *(("", self.note) if self.note else ()), ""])


@dataclass(frozen=True, slots=True)
class Check:
    """One promised figure: what was measured, what was promised, whether it holds."""

    what: str
    measured: str
    promised: str
    holds: bool


@dataclass(frozen=True, slots=True)
class Result:
    """All that one benchmark found.

    Attributes:
        name: the module's name.
        checks: figures that were promised.
        tables: all figures.
        notes: what was left out, and why.
        versions: of programs outside of this environment.
    """

    name: str
    tables: tuple[Table, ...]
    checks: tuple[Check, ...] = ()
    notes: tuple[str, ...] = ()
    versions: tuple[tuple[str, str], ...] = ()

    def markdown(self) -> str:
        notes = [f"- {note}" for note in self.notes]
        return "\n".join([*(table.markdown() for table in self.tables), *notes, ""])

    def write(self, path: Path | None) -> None:
        """Print the tables, and keep them as JSON if there is a path."""
        if self.checks:
            print(checks_table(self.checks).markdown())
        print(self.markdown())
        if path is not None:
            path.write_text(json.dumps(asdict(self), indent=1) + "\n", "utf-8")

    @classmethod
    def read(cls, path: Path) -> Result:
        value: dict[str, Any] = json.loads(path.read_text("utf-8"))
        tables = tuple(
            Table(t["title"], tuple(t["columns"]), tuple(map(tuple, t["rows"])), t["note"])
            for t in value["tables"]
        )
        return cls(
            value["name"],
            tables,
            tuple(Check(**check) for check in value["checks"]),
            tuple(value["notes"]),
            tuple((name, version) for name, version in value["versions"]),
        )


def checks_table(checks: Iterable[Check]) -> Table:
    """The promised figures, one row each."""
    rows = tuple((c.what, c.measured, c.promised, "yes" if c.holds else "**no**") for c in checks)
    return Table("Promised figures", ("figure", "measured", "promised", "holds"), rows)


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which ``share`` percent lie; NaN for no values."""
    return float(np.percentile(values, share)) if len(values) else float("nan")


def median(values: Sequence[float]) -> float:
    return percentile(values, 50)


def number(value: float, digits: int = 2) -> str:
    """A figure for a table; a dash where there is none."""
    return "-" if value != value else f"{value:.{digits}f}"


def percent(part: float, whole: float, digits: int = 2) -> str:
    return "-" if not whole else f"{100 * part / whole:.{digits}f} %"


def processor() -> str:
    """The processor's model name."""
    try:
        for line in Path("/proc/cpuinfo").read_text("utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def cores() -> list[int]:
    """The cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def versions() -> list[tuple[str, str]]:
    """Python and the packages that bear on the figures."""
    found = [("python", platform.python_version())]
    for name in PACKAGES:
        try:
            found.append((name, importlib.metadata.version(name)))
        except importlib.metadata.PackageNotFoundError:
            found.append((name, "not installed"))
    return found
