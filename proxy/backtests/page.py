"""The result of a backtest as one page that needs nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2

from proxy.backtests.result import certain, lines

TEMPLATES = Path(__file__).parent / "templates"


def page(found: Mapping[str, Any]) -> str:
    """The page of :func:`proxy.backtests.result.figures`: no script, everything escaped."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES), autoescape=True, undefined=jinja2.StrictUndefined
    )
    template = environment.get_template("backtest.html")
    return template.render(found=found, lines=lines(found), certain=certain)
