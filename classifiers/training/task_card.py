"""The card of a pack that was trained from a task; see :mod:`classifiers.training.card`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from classifiers.training.card import write_card


def write_task_card(path: Path, manifest: Mapping[str, Any], judged_on: str) -> None:
    """Write the card of a manifest that does not yet say which texts its figures are of."""
    write_card(path, {**manifest, "judged_on": judged_on})
