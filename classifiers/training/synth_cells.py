"""Writing for one label in one direction: the question, and which texts of the reply can be kept."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from classifiers.training.data import normal_key
from classifiers.training.spend import ChatModel, Message, Reply, most_tokens_of, prompt_tokens_of
from classifiers.training.synth_caller import Ask, Call
from classifiers.training.synth_diversity import Array, Embed, Gathered, outliers, unit
from classifiers.training.synth_journal import digest
from classifiers.training.synth_judge import ROOM, corrected
from classifiers.training.synth_plan import CellReport, SynthesisPlan, Written
from classifiers.training.synth_replies import (
    Example,
    Examples,
    NearMiss,
    NearMisses,
    items_of,
    schema_of,
)
from classifiers.training.synthesis_prompts import (
    NONE,
    PERSONAS,
    Kind,
    LabelSpec,
    Slot,
    slots,
    write_prompt,
    write_tokens,
)

USED = 0.75
"""Share of written texts that is expected to be kept, for estimates and bounds."""
_REFUSAL = re.compile(
    r"\W*(?:i['’]?m sorry|i am sorry|sorry)?\W*(?:but )?(?:i (?:can['’]?t|cannot|can not) "
    r"(?:help|assist|write|create|provide|generate|fulfil)"
    r"|i['’]?m (?:unable|not able) to (?:help|assist|write|create|provide|generate)|as an ai\b)",
    re.IGNORECASE,
)

Item = Example | NearMiss


@dataclass(frozen=True, slots=True)
class Candidate:
    """A text that may become a row; ``claimed`` are the labels that it was written to have."""

    row: Written
    claimed: frozenset[str]
    vector: Array


class Rejected:
    """Texts that were dropped, with the reasons."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []

    def add(self, row: Written, reason: str) -> None:
        """Drop a text."""
        self.rows.append({**row.to_json(), "reason": reason})

    def lost(self, label: str, kind: Kind, reason: str) -> None:
        """A whole reply that could not be used."""
        self.rows.append({"text": "", "label": label, "kind": kind, "reason": reason})

    def counts(self) -> dict[str, int]:
        """How many by reason, details left out."""
        found: dict[str, int] = {}
        for row in self.rows:
            reason = str(row["reason"]).partition(":")[0].partition(", not ")[0]
            reason = "the check says otherwise" if reason.startswith("the check says") else reason
            found[reason] = found.get(reason, 0) + 1
        return dict(sorted(found.items(), key=lambda pair: (-pair[1], pair[0])))


@dataclass(slots=True)
class Cell:
    """What is written for one label in one direction, and how it goes.

    Attributes:
        wanted: texts.
        yields: share of each batch that was new.
        keeps: the same of what was kept in the end.
        replies: batches that had a usable reply.
        written: texts in them.
        batches: that were asked for.
        stopped: why it does not go on; empty while it does.
    """

    plan: SynthesisPlan
    label: LabelSpec | None
    kind: Kind
    wanted: int
    gathered: Gathered
    rows: list[Written] = field(default_factory=list)
    vectors: list[Array] = field(default_factory=list)
    yields: list[float] = field(default_factory=list)
    keeps: list[float] = field(default_factory=list)
    replies: int = 0
    written: int = 0
    batches: int = 0
    stopped: str = ""

    @property
    def name(self) -> str:
        return "" if self.label is None else self.label.name

    def question(self, model: ChatModel, number: int) -> Ask[list[Item]]:
        """The question after a batch."""
        wanted = self._slots(number)
        messages = self._prompt(number, wanted, [row.text for row in self.rows])
        near = self.kind == "near_miss"
        shape: type[Examples] | type[NearMisses] = NearMisses if near else Examples
        item: type[Example] | type[NearMiss] = NearMiss if near else Example
        most = 2 * self.plan.batch

        def room(call: Call) -> int:
            return ROOM * write_tokens(wanted) * call.room + 400

        def send(call: Call) -> Reply:
            return model.complete(
                corrected(messages, call),
                temperature=self.plan.temperature,
                max_tokens=room(call),
                json_schema=schema_of(shape),
            )

        return Ask(
            # Without the texts that are there: they depend on how far an earlier run came.
            key=digest("write", model.name, self._prompt(number, wanted, ()), number),
            send=send,
            parse=lambda reply: list(items_of(reply, shape, "examples", item, most)[0]),
            worst=lambda call: model.price(most_tokens_of(messages), room(call)),
            price=model.price,
            prompt=prompt_tokens_of(messages),
        )

    def take(
        self, number: int, items: Sequence[Item], seen: set[str], embed: Embed, rejected: Rejected
    ) -> list[Candidate]:
        """The texts of a reply that are well-formed and like none that is kept.

        Args:
            number: of the batch.
            items: the reply; empty if there was none.
            seen: keys of texts that must not come again; new ones are added.
            embed: features of texts.
            rejected: gets the others.
        """
        formed: list[tuple[Written, frozenset[str]]] = []
        for item in items:
            row = self._row(number, item)
            claimed = self._claimed(item)
            fault = self._fault(row.text, seen)
            if fault or claimed is None:
                rejected.add(row, fault or "claims to belong to no label that it could have")
            else:
                seen.add(normal_key(row.text))
                formed.append((row, claimed))
        fresh: list[Candidate] = []
        if formed:
            vectors = unit(embed([row.text for row, _ in formed]))
            news = self.gathered.fresh(vectors)
            for (row, claimed), vector, new in zip(formed, vectors, news, strict=True):
                if new:
                    fresh.append(Candidate(row, claimed, vector))
                else:
                    rejected.add(row, "near-duplicate")
        self.replies += bool(items)
        self.written += len(items)
        self.yields.append(len(fresh) / max(1, len(items)))
        return fresh

    def keep(self, candidate: Candidate, labels: frozenset[str] | None) -> str:
        """Keep a text that was checked, or say why not.

        Args:
            candidate: the text.
            labels: what the check says; None if it says nothing.
        """
        if labels is None:
            return "the check gave no label"
        if not self._agrees(candidate.claimed, labels):
            said = ", ".join(sorted(labels)) or NONE
            return f"the check says {said}, not {', '.join(candidate.claimed) or NONE}"
        vector = candidate.vector[None, :]
        if not self.gathered.fresh(vector)[0]:
            return "near-duplicate"  # of a text of another batch of the round
        row = candidate.row.with_labels(tuple(sorted(labels)))
        self.rows.append(row)
        self.vectors.append(vector)
        self.gathered.keep(vector)
        return ""

    def decide(self) -> None:
        """Whether the writing goes on."""
        plan = self.plan
        last = slice(-plan.patience, None)
        if len(self.rows) >= self.wanted:
            self.stopped = "enough"
        elif len(self.yields) < plan.patience:
            return
        elif sum(self.yields[last]) < plan.min_yield * plan.patience:
            self.stopped = "no longer diverse" if self.replies else "no usable replies"
        elif sum(self.keeps[last]) < plan.min_yield * plan.patience / 3:
            self.stopped = "the check drops nearly all"
        elif self.batches >= 3 * batches_of(self.wanted, plan) + plan.patience:
            self.stopped = "too many batches"

    def drop_strays(self, rejected: Rejected) -> None:
        """Drop texts that lie far from all others of the label; ordinary ones may be anything."""
        if self.kind == "ordinary" or not self.rows:
            return
        strays = set(outliers(np.concatenate(self.vectors)))
        for index in sorted(strays):
            rejected.add(self.rows[index], "far from all other texts of its label")
        self.rows = [row for index, row in enumerate(self.rows) if index not in strays]

    def report(self) -> CellReport:
        """How it went."""
        return CellReport(
            self.name, self.kind, self.wanted, len(self.rows), self.written,
            tuple(round(share, 3) for share in self.yields), self.gathered.mean_nearest(), self.stopped,
        )  # fmt: skip

    # -- inside -----------------------------------------------------------------------------------

    def _slots(self, number: int) -> list[Slot]:
        seed = f"{self.plan.seed}/{self.name}/{self.kind}/{number}"
        return slots(self.plan.batch, self.plan.personas or PERSONAS, seed)

    def _language(self, number: int) -> str:
        return self.plan.languages[number % len(self.plan.languages)]

    def _prompt(self, number: int, wanted: Sequence[Slot], there: Sequence[str]) -> list[Message]:
        language = self._language(number)
        return write_prompt(self.plan.labels, self.label, self.kind, language, wanted, there)

    def _row(self, number: int, item: Item) -> Written:
        wanted = self._slots(number)
        # A number that was not asked for: the text may be fine, what it was asked to be is unknown.
        slot = wanted[item.n - 1] if 1 <= item.n <= len(wanted) else Slot("", "", "", "", 0)
        return Written(
            item.text.strip(), self.name, (), self.kind, self._language(number), slot.persona,
            slot.register, slot.length, slot.typing, f"{self.name}/{self.kind}/{number}",
        )  # fmt: skip

    def _claimed(self, item: Item) -> frozenset[str] | None:
        """The labels that a text was written to have; None if the claim makes no sense."""
        if not isinstance(item, NearMiss):
            return frozenset({self.name}) if self.name else frozenset()
        name = item.belongs_to.strip()
        if name == NONE and self.plan.labels.none:
            return frozenset()
        allowed = name in self.plan.labels.names and name != self.name
        return frozenset({name}) if allowed else None

    def _fault(self, text: str, seen: set[str]) -> str:
        key = normal_key(text)
        if not key:
            return "no words"
        if len(text) > self.plan.max_chars:
            return f"longer than {self.plan.max_chars} characters"
        if key in seen:
            return "duplicate"
        return "a refusal" if _REFUSAL.match(text) else ""

    def _agrees(self, claimed: frozenset[str], labels: frozenset[str]) -> bool:
        if self.plan.labels.one_of or not claimed:
            return labels == claimed
        return claimed <= labels and not (self.kind == "near_miss" and self.name in labels)


def batches_of(wanted: int, plan: SynthesisPlan) -> int:
    """Batches to expect for so many texts."""
    return -int(-wanted // (plan.batch * USED))


def cells_of(plan: SynthesisPlan) -> list[Cell]:
    """What is to be written for a task."""
    near = round(plan.per_label * plan.near_miss_share)
    ordinary = plan.ordinary
    if ordinary is None:
        ordinary = plan.per_label if plan.labels.none else 0
    wanted: list[tuple[LabelSpec | None, Kind, int]] = []
    for label in plan.labels.labels:
        wanted += [(label, "positive", plan.per_label), (label, "near_miss", near)]
    wanted.append((None, "ordinary", ordinary))
    return [
        Cell(plan, label, kind, count, Gathered(plan.near_duplicate))
        for label, kind, count in wanted
        if count
    ]
