"""Which decisions a person should look at: reported by users, uncertain, and a steady share of all.

Of decisions on one text there is one card: the record holds a keyed hash of it, or the text.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

import orjson

from classifiers.types import Stage
from proxy.feedback.give import trained
from proxy.feedback.near import Cuts, Near, nearest, thresholds
from proxy.feedback.recorded import Recorded, Told
from proxy.ledgers.feedback import Feedback
from proxy.ledgers.rows import Row

if TYPE_CHECKING:
    from proxy.gateway import Gateway

Why = Literal["reported", "uncertain", "sampled"]
MOST = 30
"""Cards that are shown at once."""
_REPORTS_READ, _OF_ONE = 300, 5
"""Open reports that are looked through, and those of one reporter that are shown at once."""
_AT_ONCE = 1000
"""Decisions of which it is asked at once whether somebody has looked at them already."""


@dataclass(frozen=True, slots=True)
class Item:
    """A decision to look at, and those that are like it.

    Attributes:
        why: it is here.
        row: of the ledger; None where the ledger has forgotten it.
        near: what was uncertain, or what decided.
        text: as far as the record holds it, or as it was reported.
        told: what the record holds of the text.
        classifier: whose label is asked for first; empty if that is open.
        stage, chosen: where the text stood, see :class:`Recorded`.
        digest: of the text, see :class:`Recorded`.
        alike: ids of all decisions of this action on the same text, this one's among them.
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
    stage: Stage | None = None
    chosen: int | None = None
    digest: str | None = None
    alike: tuple[str, ...] = ()
    report: Feedback | None = None

    @property
    def key(self) -> tuple[str, ...]:
        """The same for what one judgement settles."""
        if self.digest is None:
            return (self.decision_id,)
        return (self.digest, self.classifier, self.action)


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
            reports.append(
                _reported(
                    report, await loop.reader.one(report.decision_id), gateway.accounts.hash_of
                )
            )
    rows = await loop.reader.page(limit=config.look_back)
    cuts = thresholds(gateway.policies.current, _teachable(gateway))
    found = await asyncio.to_thread(
        lambda: _together(_chosen(rows, cuts, config.near, config.sample))
    )
    seen = await _looked_at(gateway, rows, [id for item in found for id in item.alike])
    others = [item for item in found if seen.isdisjoint(item.alike)]
    half = max(most // 2, most - len(others))
    return _with_alike(reports[:half], others)[:most]


async def _looked_at(gateway: Gateway, rows: Sequence[Row], ids: Sequence[str]) -> set[str]:
    """The decisions that a person has judged. That a client is content with what became of its own
    request is no look of a person at it: who attacks would be. Neither is a report that waits."""
    keys = {row["decision_id"]: row["key"] for row in rows}
    seen: set[str] = set()
    for at in range(0, len(ids), _AT_ONCE):
        for one in await gateway.feedback.table.of(ids[at : at + _AT_ONCE]):
            by_other = one.reporter != keys[one.decision_id] or _is_admin(gateway, one.reporter)
            if one.state != "reported" and (one.state != "noted" or by_other):
                seen.add(one.decision_id)
    return seen


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
        if found is not None and found.known and found.margin <= near:
            uncertain.append((found.margin, _uncertain(row, found)))
        elif sampled(row["decision_id"], share):
            others.append(_item("sampled", row, found))
    yield from (item for _, item in sorted(uncertain, key=lambda pair: pair[0]))
    yield from others


def _together(items: Iterable[Item]) -> list[Item]:
    """One card for decisions on one text, in the place of the first, about the newest."""
    found: dict[tuple[str, ...], Item] = {}
    for item in items:
        known = found.get(item.key, item)
        newest = item if item.time > known.time and item.why == known.why else known
        found[item.key] = replace(newest, alike=tuple(dict.fromkeys((*known.alike, *item.alike))))
    return list(found.values())


def _with_alike(reports: Sequence[Item], others: Sequence[Item]) -> list[Item]:
    """The cards of reports take in what was decided alike on their texts, and, where neither the report nor
    a rule says whose label it is, the classifier that was unsure."""
    left = list(others)
    cards: list[Item] = []
    for item in reports:
        for like in [other for other in left if _are_alike(item, other)]:
            left.remove(like)
            alike = tuple(dict.fromkeys((*item.alike, *like.alike)))
            item = replace(item, classifier=item.classifier or like.classifier, alike=alike)
        cards.append(item)
    shown = {item.decision_id for item in reports}
    return [*cards, *(item for item in left if shown.isdisjoint(item.alike))]


def _are_alike(one: Item, other: Item) -> bool:
    mine = (one.digest, one.action)
    return one.digest is not None and mine == (other.digest, other.action)


def _uncertain(row: Row, near: Near) -> Item:
    """About the score that was uncertain, whoever decided."""
    recorded = Recorded.of(row, near.stage).of_score(near)
    return replace(
        _item("uncertain", row, near),
        text=recorded.text,
        told=recorded.told,
        classifier=near.classifier,
        stage=recorded.stage,
        chosen=recorded.chosen,
        digest=recorded.digest,
    )


def _item(why: Why, row: Row, near: Near | None, report: Feedback | None = None) -> Item:
    recorded = Recorded.of(row)
    classifier = recorded.classifier
    if near is not None and not classifier and near.stage == recorded.stage:
        classifier = near.classifier
    if recorded.cause:
        cause = recorded.cause
        decided = Near(recorded.classifier, cause["label"], cause["score"], cause["threshold"])
        near = near if why == "uncertain" else decided
    return Item(
        why, row["decision_id"], row["time"], row["action"], recorded.policy, recorded.rule, near,
        recorded.text, recorded.told, classifier, digest=recorded.digest,
        alike=(row["decision_id"],), report=report,
    )  # fmt: skip


def _reported(report: Feedback, row: Row | None, hash_of: Callable[[str], str]) -> Item:
    if row is None:
        return Item(
            "reported", report.decision_id, report.time, "", report.policy, report.rule, None,
            report.text, "nothing", report.classifier, alike=(report.decision_id,), report=report,
        )  # fmt: skip
    item = _item("reported", row, None, report)
    classifier = report.classifier or item.classifier
    # What is reported may be another text of the request than the one that such cards are told by.
    own = report.text is None or report.text == item.text or hash_of(report.text) == item.digest
    return replace(
        item,
        text=report.text or item.text,
        classifier=classifier,
        digest=item.digest if own else None,
    )


def _is_admin(gateway: Gateway, name: str) -> bool:
    caller = gateway.keys.named(name)
    return caller is not None and caller.grant.admin


def _teachable(gateway: Gateway) -> list[str]:
    return [name for name, one in gateway.engine.classifiers.items() if trained(one)]
