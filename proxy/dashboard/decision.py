"""One decision: what happened, why, and what today's policies would do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from classifiers.types import Text
from policies.schema import BoundPolicy
from proxy.backtests.cases import of_record
from proxy.dashboard.kit import Answer, Visit
from proxy.dashboard.look import Looked, Marked, Wanted, look, marked, wanted_by
from proxy.errors import InvalidRequest, NotFound, Unavailable
from proxy.feedback.recorded import Recorded
from proxy.ledgers.rows import Row

MOST_EXPLAINED = 3
"""Texts of a request that are explained at once."""

_NOT_STEPS = ("total", "overhead")


@dataclass(frozen=True, slots=True)
class Fault:
    """What was wrong with what was said of a decision, to be mended in its place.

    Attributes:
        id: of the decision.
        text: as it was typed.
    """

    id: str
    message: str
    text: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class Explained:
    """A text and why each label that mattered has its score on it."""

    text: Text
    labels: Sequence[Marked]


@dataclass(frozen=True, slots=True)
class Step:
    """A step of a request: when it began, if they followed each other, and how long it took, ms."""

    name: str
    start: float
    milliseconds: float


@dataclass(frozen=True, slots=True)
class Difference:
    """The decision on the request as it was recorded, and what it would be today.

    Attributes:
        then, now: action and the rule that decided.
        gone, new: ``policy rule`` of rules that fired then and do not today, and the other way round.
        versions: classifiers that are of another version today: name, then, now.
    """

    then: tuple[str, str]
    now: tuple[str, str]
    gone: Sequence[str] = ()
    new: Sequence[str] = ()
    versions: Sequence[tuple[str, str, str]] = field(default_factory=tuple)

    @property
    def same(self) -> bool:
        """Whether nothing would change."""
        return self.then == self.now and not self.gone and not self.new


async def decision(visit: Visit, fault: Fault | None = None) -> Answer:
    """Answer ``/dashboard/decisions/ID``.

    Args:
        fault: of what was said of it just now.
    """
    row = await _row(visit)
    record = orjson.loads(row["record"])
    about = Recorded.of(row)
    return visit.template(
        "decision.html",
        200 if fault is None else 400,
        row=row,
        record=record,
        about=about,
        fault=fault,
        stages=[(name, stage) for name, stage in record["stages"].items()],
        texts=[entry for entry in record["content"] if "address" in entry],
        left_out=sum(entry.get("left_out", 0) for entry in record["content"]),
        readable=of_record(record).request is not None,
        mode=visit.gateway.config.record.content,
        steps=steps(record["milliseconds"]),
    )


async def why(visit: Visit) -> Answer:
    """Answer ``.../why``: highlights, neighbours, and the request judged again. A fragment.

    A POST brings the text, where the record does not hold it.
    """
    row = await _row(visit)
    record = orjson.loads(row["record"])
    about, typed, is_it = Recorded.of(row), "", None
    if visit.method == "POST":
        typed = visit.form.get("text", "")
        if not typed.strip():
            raise InvalidRequest("Paste the text of the request.", "text")
        is_it = about.holds(typed, visit.gateway.accounts.hash_of)
        texts: Sequence[Text] = [_pasted(about, typed)]
    else:
        texts = of_record(record).request or ()
        if not texts:
            raise NotFound("The record does not hold the texts of this request.")
    looked = await look(visit.gateway, texts, policies_for(visit, row))
    return visit.template(
        "decision_why.html",
        row=row,
        typed=typed,
        is_it=is_it,
        explained=await _explained(visit, looked, about),
        difference=difference(record, looked),
        looked=looked,
    )


def policies_for(visit: Visit, row: Row) -> Sequence[BoundPolicy]:
    """The policies of today for a request of this model and key."""
    gateway, name = visit.gateway, row["key"] or ""
    caller = gateway.keys.named(name)
    also = () if caller is None else caller.grant.policies
    try:
        return gateway.policies.attached(row["model"], name, also).policies
    except Unavailable:  # one that the key names is not loaded
        return gateway.policies.attached(row["model"], name).policies


def steps(milliseconds: Mapping[str, float]) -> list[Step]:
    """The steps of a request, in the order of its way."""
    found, at = [], 0.0
    for name, took in milliseconds.items():
        if name not in _NOT_STEPS:
            found.append(Step(name.replace("_", " "), at, took))
            at += took
    return found


def difference(record: Mapping[str, Any], looked: Looked) -> Difference:
    """What would change on input; the reply is not judged again, for nobody has kept it."""
    then = record["stages"].get("input") or {}
    now = looked.decision
    before = [*then.get("fired", ()), *then.get("shadow", ())]
    after = [*now.fired, *now.shadow]
    fired_then = {f"{_name(cause['policy'])}: {cause['rule']}" for cause in before}
    fired_now = {f"{_name(cause.policy)}: {cause.rule}" for cause in after}
    cause = then.get("cause") or {}
    used = {_split(c["classifier"]) for c in before}
    today = {_split(c.classifier) for c in after}
    known = dict(today)
    return Difference(
        (then.get("outcome", "none"), cause.get("rule", "")),
        (now.outcome, now.cause.rule if now.cause else ""),
        sorted(fired_then - fired_now),
        sorted(fired_now - fired_then),
        sorted(
            (name, version, known[name])
            for name, version in used
            if name in known and known[name] != version
        ),
    )


async def _row(visit: Visit) -> Row:
    row = await visit.reader.one(visit.params["id"].replace("\x00", ""))
    if row is None:
        raise NotFound("There is no decision of this id; the ledger may have let it go by its age.")
    return row


def _pasted(about: Recorded, typed: str) -> Text:
    entry = about.about
    if entry is None:
        return Text(typed, "user", ("messages", 0, "content"), "input", 0)
    return Text(typed, entry["role"], tuple(entry["address"]), "input", 0)


async def _explained(visit: Visit, looked: Looked, about: Recorded) -> list[Explained]:
    """The texts that made rules fire, then or today; the newest where none did."""
    causes = [*looked.decision.fired, *looked.decision.shadow]
    found: list[Explained] = []
    for index, text in enumerate(looked.texts):
        wanted: dict[Wanted, float | None] = dict(wanted_by(causes, index))
        if about.cause and list(text.address) == about.cause["address"]:
            name, label = about.classifier, about.cause["label"]
            wanted.setdefault((name, label), about.cause["threshold"])
        if wanted and len(found) < MOST_EXPLAINED:
            found.append(Explained(text, await marked(visit.gateway, looked, index, wanted)))
    return found


def _name(policy: str) -> str:
    return policy.rpartition("@")[0]


def _split(classifier: str) -> tuple[str, str]:
    name, _, version = classifier.partition("@")
    return name, version
