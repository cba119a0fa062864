"""Training rows of the pack `safety`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from classifiers.training.data import Row, bucket, without_duplicates
from classifiers.training.recipes.common import (
    DOCUMENTS,
    NONE,
    benign_rows,
    beside_innocent,
    everyday_rows,
    messages,
    ours,
    public,
    row_of,
)
from classifiers.training.recipes.jailbreak import PLAIN
from classifiers.types import MODERATION


def safety_rows(data: Path) -> list[Row]:
    """The categories of the public moderation interface, as far as the data reaches."""
    rows: list[Row] = []
    for name in ("ailuminate_demo_en", "ailuminate_demo_fr", "forbidden_questions", "catqa"):
        source = f"safety/{name}"
        rows += public(data, source, lambda r, s=source: _harmful(r, s))  # type: ignore[misc]
    for name in ("advbench", "gptfuzz_questions", "harmful_questions_redinstruct"):
        source = f"safety/{name}"
        rows += public(data, source, lambda r, s=source: _harmful(r, s))  # type: ignore[misc]
    for name, weight, share in (
        ("davidson", 0.3, 0.4),
        ("edos_sexism", 0.2, 1.0),
        ("hatexplain_part", 0.4, 1.0),
        ("toxic_spans", 0.4, 0.6),
    ):
        source = f"safety/{name}"
        rows += public(data, source, lambda r, s=source, w=weight, p=share: _post(r, s, w, p))  # type: ignore[misc]
    source = "injection/sap200"
    rows += public(
        data,
        source,
        lambda r: (
            row_of(r, frozenset(r["labels"]), source, known=frozenset(r["known"]), weight=0.2)
            if r["labels"]
            else None
        ),
    )
    rows += [
        row_of(r, frozenset(r["labels"]), "ours", weight=2.0, benign=r["kind"] == "everyday")
        for r in ours("safety")
    ]
    harmful = [row for row in rows if row.labels and row.source != "injection/sap200"]
    benign = benign_rows(data)
    rows += beside_innocent(harmful, [row for row in benign if row.source != DOCUMENTS], 1500)
    rows += benign + everyday_rows(data) + messages(data)
    rows += [
        row_of(r, NONE, "ours", weight=2.0 if r["kind"] in PLAIN else 1.0, benign=True)
        for r in ours("jailbreak")
        if r["label"] == "benign"
    ]
    return without_duplicates(rows)


def _post(item: dict[str, Any], source: str, weight: float, share: float) -> Row | None:
    """A post of a social network. Those without any label are many; a share of them is kept."""
    known = frozenset(item["known"])
    if not known or (not item["labels"] and bucket(item["id"], 100) >= share * 100):
        return None
    return row_of(item, frozenset(item["labels"]), source, known=known, weight=weight)


_REQUEST_KINDS = ("dangerousqa", "adversarialqa")
_AKIN = {
    "illicit": {"harassment", "violence", "illicit/violent", "violence/graphic", "hate"},
    "illicit/violent": {
        "violence",
        "violence/graphic",
        "harassment/threatening",
        "hate/threatening",
    },
    "hate": {"harassment", "harassment/threatening", "hate/threatening", "violence"},
    "harassment": {"hate", "harassment/threatening", "violence"},
    "self-harm": {"self-harm/intent", "self-harm/instructions", "violence", "illicit"},
    "sexual": {"sexual/minors", "harassment", "illicit"},
    "sexual/minors": {"illicit", "harassment", "violence"},
}


def _harmful(item: dict[str, Any], source: str) -> Row | None:
    """A harmful request. Its own categories hold, akin ones are unknown, the rest does not hold.

    Requests that a source calls harmful without a category we have (privacy, defamation, copyright,
    cruelty) count as ``illicit``, at half weight.
    """
    if item["label"] != "harmful_request":
        return None
    kind = str(item.get("orig_label") or "")
    if source.endswith("redinstruct") and kind not in _REQUEST_KINDS:
        return None
    labels = frozenset(item.get("labels") or ())
    weight = 1.0
    if not labels:
        labels, weight = frozenset({"illicit"}), 0.5
    unknown = set().union(*(_AKIN.get(label, set()) for label in labels)) - labels
    return row_of(item, labels, source, known=frozenset(MODERATION) - unknown, weight=weight)
