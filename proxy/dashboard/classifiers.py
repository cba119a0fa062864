"""The classifiers page: what each is, how it does, and whether the texts have changed."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from classifiers.candidates import Pointer
from classifiers.heads import HeadClassifier
from classifiers.types import Classifier, OperatingPoint, UnknownLabel
from proxy.dashboard.kit import HOME, Answer, Visit
from proxy.errors import NotFound
from proxy.feedback.drift import EDGES, Drift, drift

CLASSIFIERS = f"{HOME}/classifiers"
CARD = "README.md"


@dataclass(frozen=True, slots=True)
class Shown:
    """A classifier on the page.

    Attributes:
        pointer: which pack is served; None for those that cannot be corrected.
        counts: feedback by state.
        drift: of the label that moved most; None for those without recorded scores.
    """

    name: str
    version: str
    kind: str
    labels: tuple[str, ...]
    pointer: Pointer | None
    counts: Mapping[str, int]
    drift: Drift | None


async def classifiers(visit: Visit) -> Answer:
    """Answer ``/dashboard/classifiers``."""
    gateway, loop = visit.gateway, visit.gateway.feedback
    counts = await loop.table.counts()
    rows = await visit.reader.page(limit=gateway.config.feedback.look_back)

    def found() -> list[Shown]:
        records = [orjson.loads(row["record"]) for row in rows]
        bases = loop.served.bases()
        return [
            Shown(
                name,
                one.version,
                one.kind,
                one.labels,
                loop.shelf.pointer(name) if name in bases else None,
                {state: n for (of, state), n in counts.items() if of == name},
                drift(one, records) if isinstance(one, HeadClassifier) else None,
            )
            for name, one in gateway.engine.classifiers.items()
        ]

    shown = await asyncio.to_thread(found)
    for one in shown:
        if one.drift is not None and one.drift.since_earlier is not None:
            gateway.metrics.set("doorman_drift", one.drift.since_earlier, classifier=one.name)
    return visit.template("classifiers.html", shown=shown, looked_at=len(rows))


async def classifier(visit: Visit) -> Answer:
    """Answer ``/dashboard/classifiers/of/{name}``."""
    gateway, name = visit.gateway, visit.params["name"]
    one = gateway.engine.classifiers.get(name)
    if one is None:
        raise NotFound("No such classifier is loaded.")
    rows = await visit.reader.page(limit=gateway.config.feedback.look_back)

    def found() -> dict[str, Any]:
        moved = None
        if isinstance(one, HeadClassifier):
            moved = drift(one, [orjson.loads(row["record"]) for row in rows])
        served = gateway.feedback.served
        folder = served.base(name) if name in served.bases() else None
        if folder is not None:
            folder = gateway.feedback.shelf.live(name) or folder
        return {
            "drift": moved,
            "bars": None if moved is None else bars(moved),
            "card": card(folder),
            "correctable": folder is not None,
        }

    more = await asyncio.to_thread(found)
    manifest = getattr(one, "manifest", {})
    return visit.template(
        "classifier.html",
        one=one,
        thresholds=thresholds(one),
        by_label=manifest.get("metrics", {}).get("by_label", {}),
        looked_at=len(rows),
        **more,
    )


def thresholds(one: Classifier) -> dict[str, float | None]:
    """The default threshold of each label."""
    found: dict[str, float | None] = {}
    for label in one.labels:
        try:
            found[label] = one.thresholds([label], OperatingPoint())[label]
        except UnknownLabel:
            found[label] = None
    return found


def bars(moved: Drift) -> list[tuple[str, float, float, float]]:
    """Rows of the histogram: bin, recent share, earlier share, that of the calibration texts."""
    edges = [0.0, *EDGES, 1.0]
    names = [f"{low:g} to {high:g}" for low, high in itertools.pairwise(edges)]
    return list(zip(names, moved.recent, moved.earlier, moved.calibrated, strict=True))


def card(folder: Path | None) -> str:
    """The text of a pack's card; empty if there is none."""
    path = None if folder is None else folder / CARD
    return path.read_text("utf-8") if path is not None and path.is_file() else ""
