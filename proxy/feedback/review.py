"""Which decisions a person should look at: reported by users, uncertain, and a steady share of all."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

import orjson

from policies.schema import BoundPolicy
from proxy.feedback.give import trained
from proxy.feedback.recorded import Recorded, Told
from proxy.ledgers.feedback import Feedback
from proxy.ledgers.rows import Row

if TYPE_CHECKING:
    from proxy.gateway import Gateway

Why = Literal["reported", "uncertain", "sampled"]
MOST = 30
"""Decisions that are shown at once."""
_REPORTS_READ, _OF_ONE = 300, 5
"""Open reports that are looked through, and those of one reporter that are shown at once."""
_LOOKED_UP = 200
"""Decisions of which it is asked whether somebody has looked at them already."""
Cuts = Mapping[str, Mapping[str, tuple[float, ...]]]
"""Classifier@version -> label -> thresholds of the rules in force."""


@dataclass(frozen=True, slots=True)
class Near:
    """The score that came nearest to a threshold of a rule."""

    classifier: str
    label: str
    score: float
    threshold: float

    @property
    def margin(self) -> float:
        """How near, in probability."""
        return abs(self.score - self.threshold)


@dataclass(frozen=True, slots=True)
class Item:
    """A decision to look at.

    Attributes:
        why: it is here.
        row: of the ledger; None where the ledger has forgotten it.
        near: what was uncertain, or what decided.
        text: as far as the record holds it, or as it was reported.
        told: what the record holds of the text.
        classifier: whose label is asked for first; empty if that is open.
        report: of a user.
    """

    why: Why
    decision_id: str
    time: float
    action: str
    policy: str
    rule: str
    near: Near | None
    text: str | None = field(repr=False)
    told: Told
    classifier: str
    report: Feedback | None = None


async def queue(gateway: Gateway, most: int = MOST) -> list[Item]:
    """What is to be looked at, the most urgent first. Raises Away and Unavailable."""
    loop, config = gateway.feedback, gateway.config.feedback
    reports: list[Item] = []
    told: Counter[str] = Counter()
    for report in await loop.table.page(_REPORTS_READ, state="reported"):
        told[report.reporter] += 1
        if (
            told[report.reporter] <= _OF_ONE and len(reports) < most
        ):  # one cannot crowd out the others
            reports.append(_reported(report, await loop.reader.one(report.decision_id)))
    rows = await loop.reader.page(limit=config.look_back)
    cuts = thresholds(gateway.policies.current, _teachable(gateway))
    found = await asyncio.to_thread(lambda: list(_chosen(rows, cuts, config.near, config.sample)))
    found = found[:_LOOKED_UP]
    # That a client is content with what became of its own request is no look of a person at it: who
    # attacks would be.
    keys = {row["decision_id"]: row["key"] for row in rows}
    said = await loop.table.of([item.decision_id for item in found])
    seen = {
        one.decision_id
        for one in said
        if one.state != "noted"
        or one.reporter != keys[one.decision_id]
        or _is_admin(gateway, one.reporter)
    }
    others = [item for item in found if item.decision_id not in seen]
    half = max(most // 2, most - len(others))
    return [*reports[:half], *others][:most]


def thresholds(policies: Sequence[BoundPolicy], names: Sequence[str]) -> Cuts:
    """Where the rules in force cut, of these classifiers."""
    cuts: dict[str, dict[str, set[float]]] = {}
    for policy in policies:
        for bound in policy.rules:
            for leaf, _ in bound.condition.leaves():
                if leaf.classifier in names:
                    for label, threshold in leaf.thresholds:
                        cuts.setdefault(leaf.id, {}).setdefault(label, set()).add(threshold)
    return {id: {n: tuple(sorted(c)) for n, c in own.items()} for id, own in cuts.items()}


def nearest(record: Mapping[str, Any], cuts: Cuts) -> Near | None:
    """The score of a record that came nearest to a threshold; None where no rule in force looked."""
    best: Near | None = None
    for stage in record["stages"].values():
        for seen in stage.get("seen", ()):
            for id, scores in seen["scores"].items():
                for label, points in cuts.get(id, {}).items():
                    # Scores under 0.01 are not recorded, and 0 is near enough to them.
                    score = 0.0 if scores is None else scores.get(label, 0.0)
                    for point in points if scores is not None else ():
                        one = Near(id.partition("@")[0], label, score, point)
                        if best is None or one.margin < best.margin:
                            best = one
    return best


def sampled(decision_id: str, share: float) -> bool:
    """Whether a decision belongs to the steady share: its id is random, so the id says it."""
    return int(decision_id[-8:], 16) < share * 16**8


def _chosen(rows: Sequence[Row], cuts: Cuts, near: float, share: float) -> Iterator[Item]:
    uncertain: list[tuple[float, Item]] = []
    others: list[Item] = []
    for row in rows:
        if row["action"] in ("error", "none"):
            continue
        record = orjson.loads(row["record"])
        found = nearest(record, cuts)
        if found is not None and found.margin <= near:
            uncertain.append((found.margin, _item("uncertain", row, found)))
        elif sampled(row["decision_id"], share):
            others.append(_item("sampled", row, found))
    yield from (item for _, item in sorted(uncertain, key=lambda pair: pair[0]))
    yield from others


def _item(why: Why, row: Row, near: Near | None, report: Feedback | None = None) -> Item:
    recorded = Recorded.of(row)
    classifier = recorded.classifier or ("" if near is None else near.classifier)
    if recorded.cause and why != "uncertain":
        cause = recorded.cause
        near = Near(recorded.classifier, cause["label"], cause["score"], cause["threshold"])
    return Item(
        why, row["decision_id"], row["time"], row["action"], recorded.policy, recorded.rule, near,
        recorded.text, recorded.told, classifier, report,
    )  # fmt: skip


def _reported(report: Feedback, row: Row | None) -> Item:
    if row is None:
        return Item(
            "reported", report.decision_id, report.time, "", report.policy, report.rule, None,
            report.text, "nothing", report.classifier, report,
        )  # fmt: skip
    item = _item("reported", row, None, report)
    classifier = report.classifier or item.classifier
    return replace(item, text=report.text or item.text, classifier=classifier)


def _is_admin(gateway: Gateway, name: str) -> bool:
    caller = gateway.keys.named(name)
    return caller is not None and caller.grant.admin


def _teachable(gateway: Gateway) -> list[str]:
    return [name for name, one in gateway.engine.classifiers.items() if trained(one)]
