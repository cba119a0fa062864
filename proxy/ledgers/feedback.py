"""Feedback in the database: given, judged and read. Each judgement stands in the audit with it."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import orjson
from sqlalchemy import Select, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from classifiers.types import Stage
from proxy.ledgers.connections import Connections
from proxy.ledgers.keys import enter
from proxy.ledgers.tables_feedback import feedback

Verdict = Literal["correct", "wrong"]
State = Literal["reported", "accepted", "noted", "rejected"]
Judgement = Literal["accepted", "rejected"]
_STAMP = 8
"""Hexadecimal digits."""
STATES: tuple[State, ...] = ("reported", "accepted", "noted", "rejected")


@dataclass(frozen=True, slots=True)
class Said:
    """What somebody says of a decision.

    Attributes:
        reporter: name of the key, or of who uses the dashboard; empty where there are no keys.
        stage: where the text stood.
        policy, rule: of the decision; empty where no rule decided.
        classifier: that was wrong; empty if that is not said.
        labels: that are right, none of them if empty; None if that is not said.
        text: that the decision was about.
    """

    decision_id: str
    reporter: str
    verdict: Verdict
    stage: Stage = "input"
    policy: str = ""
    rule: str = ""
    classifier: str = ""
    labels: tuple[str, ...] | None = None
    text: str | None = field(default=None, repr=False)
    comment: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Feedback(Said):
    """A piece of feedback as it is kept; see ``tables_feedback`` for its states."""

    id: int = 0
    time: float = 0.0
    state: State = "reported"
    judge: str | None = None
    judged: float | None = None

    @property
    def stamp(self) -> str:
        """Another one as soon as anything of it changes. Whoever reports cannot choose it, since the time
        is part of it."""
        whole = orjson.dumps(
            [getattr(self, name) for name in (*Said.__slots__, *Feedback.__slots__)]
        )
        return hashlib.sha256(whole).hexdigest()[:_STAMP]


class Changed(Exception):
    """A report is not what it was when somebody looked at it."""


class FeedbackTable(Connections):
    """The table of feedback; see :class:`Connections` for what its methods raise."""

    async def give(self, said: Said, state: State, now: float) -> tuple[Feedback, bool]:
        """Enter what somebody says; what the same person said of the same decision before is replaced,
        unless it has been judged by somebody else.

        Args:
            state: ``accepted`` is entered into the audit.

        Returns:
            What stands there now, and whether it is the first of this person on this decision.
        """
        values = {**_values(said), "state": state, "time": now}
        judged = {"judge": said.reporter, "judged": now} if state == "accepted" else {}
        mine = (
            feedback.c.decision_id == said.decision_id,
            feedback.c.reporter == said.reporter,
        )
        async with self.writing() as connection:
            before = await _one(connection, select(feedback).where(*mine))
            if before is not None and before.judge not in (None, said.reporter):
                return before, False
            if before is None:
                made = insert(feedback).values(**values, **judged).returning(feedback.c.id)
                id = int((await connection.execute(made)).scalar_one())
            else:
                id = before.id
                await connection.execute(
                    update(feedback)
                    .where(feedback.c.id == id)
                    .values(**{"judge": None, "judged": None, **values, **judged})
                )
            if state == "accepted":
                await self._enter(connection, id, "accept", said.reporter, now)
            found = await _one(connection, select(feedback).where(feedback.c.id == id))
            assert found is not None
            return found, before is None

    async def judge(
        self,
        id: int,
        state: Judgement,
        judge: str,
        now: float,
        stamp: str | None = None,
        **changes: Any,
    ) -> Feedback | None:
        """Accept or reject a report; None if there is none of this id. The text and the comment of
        what is rejected are forgotten.

        Args:
            stamp: of the report as the judge has seen it; None where ``changes`` say all that counts.
            changes: of ``classifier``, ``labels`` and ``text``, as fields of :class:`Said`.

        Raises:
            Changed: it has another stamp by now.
        """
        if "labels" in changes:
            changes["labels"] = _listed(changes["labels"])
        if state == "rejected":
            changes |= {"text": None, "comment": None}
        values = {**changes, "state": state, "judge": judge, "judged": now}
        async with self.writing() as connection:
            if stamp is not None:
                query = select(feedback).where(feedback.c.id == id).with_for_update()
                now_there = await _one(connection, query)
                if now_there is not None and now_there.stamp != stamp:
                    raise Changed
            changed = update(feedback).where(feedback.c.id == id).values(**values)
            if (await connection.execute(changed)).rowcount == 0:
                return None
            word = "accept" if state == "accepted" else "reject"
            await self._enter(connection, id, word, judge, now)
            return await _one(connection, select(feedback).where(feedback.c.id == id))

    async def one(self, id: int) -> Feedback | None:
        """A piece of feedback by its id."""
        async with self.reading() as connection:
            return await _one(connection, select(feedback).where(feedback.c.id == id))

    async def of(self, decision_ids: Collection[str]) -> list[Feedback]:
        """What was said of some decisions, the oldest first."""
        query = select(feedback).where(feedback.c.decision_id.in_(decision_ids))
        async with self.reading() as connection:
            return await _all(connection, query.order_by(feedback.c.id))

    async def page(self, limit: int, **filters: Any) -> list[Feedback]:
        """The newest feedback first; filters are column -> value."""
        query = select(feedback).where(
            *(feedback.c[name] == value for name, value in filters.items())
        )
        newest = (feedback.c.time.desc(), feedback.c.id.desc())
        async with self.reading() as connection:
            return await _all(connection, query.order_by(*newest).limit(limit))

    async def corrections(self, classifier: str) -> list[Feedback]:
        """The corrections of a classifier that count, the oldest first; of a text the latest one."""
        mine = (feedback.c.classifier == classifier, feedback.c.state == "accepted")
        query = select(feedback).where(*mine, feedback.c.verdict == "wrong")
        async with self.reading() as connection:
            found = await _all(connection, query.order_by(feedback.c.judged, feedback.c.id))
        latest = {one.text: one for one in found if one.text is not None and one.labels is not None}
        return sorted(latest.values(), key=lambda one: one.id)

    async def counts(self) -> dict[tuple[str, str], int]:
        """How many there are: classifier and state -> number, without what is accepted and trains nothing."""
        by = (feedback.c.classifier, feedback.c.state)
        counted = (feedback.c.state != "accepted") | feedback.c.labels.is_not(None)
        async with self.reading() as connection:
            query = select(*by, func.count()).where(counted).group_by(*by)
            found = await connection.execute(query)
            return {(classifier, state): int(count) for classifier, state, count in found}

    @staticmethod
    async def _enter(
        connection: AsyncConnection, id: int, action: str, actor: str, now: float
    ) -> None:
        await enter(connection, actor, action, f"feedback {id}", "", now, {})


def _values(said: Said) -> dict[str, Any]:
    names: Sequence[str] = Said.__slots__
    return {**{name: getattr(said, name) for name in names}, "labels": _listed(said.labels)}


def _listed(labels: Sequence[str] | None) -> str | None:
    return None if labels is None else orjson.dumps(list(labels)).decode()


async def _one(connection: AsyncConnection, query: Select[Any]) -> Feedback | None:
    found = await _all(connection, query)
    return found[0] if found else None


async def _all(connection: AsyncConnection, query: Select[Any]) -> list[Feedback]:
    return [_read(row) for row in (await connection.execute(query)).mappings()]


def _read(row: Mapping[Any, Any]) -> Feedback:
    labels = row["labels"]
    return Feedback(**{**row, "labels": None if labels is None else tuple(orjson.loads(labels))})
