"""Rows from a plain description, where there is no data: a chat model writes, a second prompt checks.

Round by round, each label is written for until it has enough texts or new ones stop being different.
Everything that was paid for lies in a journal, so that a run that was stopped in any way goes on
where it was and pays for the rest alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

from classifiers.training.data import normal_key
from classifiers.training.spend import (
    Bill,
    CallFailed,
    ChatModel,
    CostLimit,
    Estimate,
    SpendError,
    dollars,
    prompt_tokens_of,
)
from classifiers.training.synth_caller import CONCURRENCY, Ask, Caller, GivenUp
from classifiers.training.synth_cells import Candidate, Cell, Item, Rejected, batches_of, cells_of
from classifiers.training.synth_diversity import Embed
from classifiers.training.synth_journal import Journal, digest
from classifiers.training.synth_judge import PromptedJudge, judged
from classifiers.training.synth_plan import Progress, SynthesisPlan, SynthesisResult, Written
from classifiers.training.synth_store import JOURNAL, Store
from classifiers.training.synthesis_prompts import (
    PERSONAS,
    Labels,
    LabelSpec,
    example_tokens,
    slots,
    write_prompt,
    write_tokens,
)

__all__ = [
    "LabelSpec", "Labels", "Progress", "SynthesisPlan", "SynthesisResult", "Written",
    "estimate_synthesis", "synthesize",
]  # fmt: skip

FRUITLESS = 6
"""Questions in a row without a usable reply that end the run."""


def synthesize(
    plan: SynthesisPlan,
    model: ChatModel,
    embed: Embed,
    folder: Path,
    *,
    progress: Callable[[Progress], None] | None = None,
    pause: float = 1.0,
    wait: Callable[[float], object] | None = None,
) -> SynthesisResult:
    """Have a chat model write rows for a task.

    Args:
        plan: what is wanted.
        model: writes and checks.
        embed: features of texts; tells near-duplicates and strays.
        folder: gets ``rows.jsonl`` for review, ``rejected.jsonl`` with reasons, and ``journal.jsonl``.
        progress: called after every reply, in the caller's thread.
        pause, wait: see :class:`Caller`.

    Raises:
        CostLimit: the estimate is above ``max_cost``, or the bill would be.
        SpendError: the model fails for good, or the rows were edited too early; what is paid for
            is saved.
        KeyboardInterrupt: likewise, once the replies that are out have come.
    """
    with Journal(folder / JOURNAL) as journal:
        caller = Caller(journal, Bill(plan.max_cost), pause=pause, wait=wait)
        spec = digest("plan", model.name, asdict(plan))
        store = Store(folder, journal, spec, plan.labels.names)
        work = _Work(plan, model, embed, store, caller, progress)
        if (rows := store.reviewed()) is not None:
            return work.result(rows, reviewed=True)
        estimate = estimate_synthesis(plan, model)
        estimate.check(plan.max_cost, caller.bill.paid)
        work.tell("begin", 0, estimate.calls, estimate.line())
        try:
            return work.run()
        except (CallFailed, SpendError) as error:
            kind = CostLimit if isinstance(error, CostLimit) else SpendError
            raise kind(f"{error}; {work.saved()}") from None


def estimate_synthesis(plan: SynthesisPlan, model: ChatModel) -> Estimate:
    """What the work will take, if three of four texts can be kept."""
    calls = up = down = texts = 0
    wanted = slots(plan.batch, plan.personas or PERSONAS, "estimate")
    for cell in cells_of(plan):
        messages = write_prompt(plan.labels, cell.label, cell.kind, plan.languages[0], wanted, ())
        batches = batches_of(cell.wanted, plan)
        calls += batches
        up += batches * (prompt_tokens_of(messages) + 160)
        down += batches * write_tokens(wanted)
        texts += batches * plan.batch
    check = PromptedJudge(model, plan.labels).estimate(texts, example_tokens())
    up, down = up + check.prompt_tokens, down + check.completion_tokens
    return Estimate(model.name, calls + check.calls, up, down, model.price(up, down))


class _Work:
    """One run."""

    def __init__(
        self,
        plan: SynthesisPlan,
        model: ChatModel,
        embed: Embed,
        store: Store,
        caller: Caller,
        progress: Callable[[Progress], None] | None,
    ) -> None:
        self._plan = plan
        self._model = model
        self._embed = embed
        self._store = store
        self._caller = caller
        self._progress = progress
        self._judge = PromptedJudge(model, plan.labels)
        self._cells = cells_of(plan)
        self._rejected = Rejected()
        self._seen = {normal_key(text) for label in plan.labels.labels for text in label.examples}
        self._fruitless: list[GivenUp] = []

    def run(self) -> SynthesisResult:
        """Round by round, until every cell has enough or gives nothing new."""
        while cells := [cell for cell in self._cells if not cell.stopped]:
            paid = self._caller.bill.calls
            self._check(self._write(cells))
            for cell in cells:
                cell.decide()
            # A round that was paid for earlier brings no more than what the file has already.
            if self._caller.bill.calls > paid:
                self._store.save(self._rows(), self._rejected.rows, done=False)
        if not self._rows():
            counts = self._rejected.counts()
            most = f"; most were dropped: {next(iter(counts))}" if counts else ""
            raise self._no_use(f"no text could be kept{most}")
        for cell in self._cells:
            cell.drop_strays(self._rejected)
        self._forget()
        self._store.save(self._rows(), self._rejected.rows, done=True)
        self.tell("end", 1, 1, self._caller.bill.line())
        return self.result(self._rows())

    def _write(self, cells: Sequence[Cell]) -> list[tuple[Cell, list[Candidate]]]:
        """The next batches of each cell; several of one where there are few cells."""
        asked: list[tuple[Cell, int, Ask[list[Item]]]] = []
        for cell in cells:
            missing = -(-(cell.wanted - len(cell.rows)) // self._plan.batch)
            for _ in range(min(missing, max(1, CONCURRENCY // len(cells)))):
                asked.append((cell, cell.batches, cell.question(self._model, cell.batches)))
                cell.batches += 1
        answers = self._caller.all(
            [ask for *_, ask in asked], lambda done, total: self.tell("write", done, total)
        )
        self._end_if_fruitless(answers)
        batches = []
        for (cell, number, _), answer in zip(asked, answers, strict=True):
            if isinstance(answer, GivenUp):
                self._rejected.lost(cell.name, cell.kind, f"no usable reply: {answer.fault}")
                answer = []
            taken = cell.take(number, answer, self._seen, self._embed, self._rejected)
            batches.append((cell, taken))
        return batches

    def _check(self, batches: Sequence[tuple[Cell, list[Candidate]]]) -> None:
        """Keep what a second prompt, which sees the texts alone, gives the label they claim."""
        texts = [candidate.row.text for _, batch in batches for candidate in batch]
        # In the order of their hashes, so that neighbours tell nothing about a text's label.
        found = judged(
            self._judge,
            sorted(texts, key=digest),
            self._caller,
            lambda done, total: self.tell("check", done, total),
        )
        self._end_if_fruitless(found.given_up, fruitful=bool(found.labels))
        for cell, batch in batches:
            kept = 0
            for candidate in batch:
                fault = cell.keep(candidate, found.labels.get(candidate.row.text))
                if fault:
                    self._rejected.add(candidate.row, fault)
                kept += not fault
            cell.keeps.append(kept / self._plan.batch)

    def _end_if_fruitless(self, answers: Sequence[object], *, fruitful: bool = False) -> None:
        """Go on without the questions that were given up, unless no other is answered either.

        They are noted down only once another one was answered: after a failure of the server they
        are to be asked again.
        """
        for answer in answers:
            if not isinstance(answer, GivenUp):
                fruitful = True
            elif not answer.before:
                self._fruitless.append(answer)
        if fruitful:
            self._forget()
        elif len(self._fruitless) >= FRUITLESS:
            raise self._no_use(f"{len(self._fruitless)} questions in a row had no usable reply")

    def _forget(self) -> None:
        for answer in self._fruitless:
            self._caller.journal.give_up(answer.key)
        self._fruitless.clear()

    def _no_use(self, what: str) -> SpendError:
        last = f", the last time: {self._fruitless[-1].fault}" if self._fruitless else ""
        return SpendError(
            f"{self._model.name}: {what}{last}; try another model, or describe the labels in other words"
        )

    # -- reports ----------------------------------------------------------------------------------

    def _rows(self) -> tuple[Written, ...]:
        return tuple(row for cell in self._cells for row in cell.rows)

    def _wanted(self) -> int:
        return sum(cell.wanted for cell in self._cells)

    def saved(self) -> str:
        """What there is, and how to go on."""
        rows = len(self._rows())
        there = f"{rows} of {self._wanted()} rows are in {self._store.rows_path}"
        return (
            f"{there if rows else 'no rows yet'}, {dollars(self._caller.bill.paid)} is paid; "
            "run it again to pay for the rest alone"
        )

    def tell(self, step: str, done: int, total: int, note: str = "") -> None:
        """Report progress."""
        if self._progress is not None:
            rows, wanted = len(self._rows()), self._wanted()
            paid = self._caller.bill.paid
            self._progress(Progress(step, done, total, rows, wanted, paid, note))

    def result(self, rows: tuple[Written, ...], *, reviewed: bool = False) -> SynthesisResult:
        """What came of it."""
        return SynthesisResult(
            rows=rows,
            rows_path=self._store.rows_path,
            rejected_path=self._store.rejected_path,
            rejected={} if reviewed else self._rejected.counts(),
            cells=() if reviewed else tuple(cell.report() for cell in self._cells),
            bill=self._caller.bill.to_json(),
            bill_line=self._caller.bill.line(),
            reviewed=reviewed,
        )
