"""Labels by an expensive judge, for a small classifier to learn: a prompted chat model, or an endpoint.

The judge labels a sample of texts once; a head that is trained on them then answers in its place.
What was paid for lies in a journal, as for :mod:`synthesize`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np

from classifiers.training.data import normal_key
from classifiers.training.spend import (
    Bill,
    CallFailed,
    ChatModel,
    CostLimit,
    Estimate,
    SpendError,
    dollars,
    tokens_of,
)
from classifiers.training.synth_agreement import Agreement, agreement
from classifiers.training.synth_caller import Caller
from classifiers.training.synth_diversity import Embed, farthest_sample, unit
from classifiers.training.synth_endpoint import EndpointJudge, Moderation
from classifiers.training.synth_journal import Journal, jsonl, write_whole
from classifiers.training.synth_judge import Judge, Judged, PromptedJudge, judged
from classifiers.training.synth_plan import Progress
from classifiers.training.synthesis_prompts import Labels

__all__ = [
    "Agreement", "EndpointJudge", "Judge", "Moderation", "TeacherPlan", "TeacherReport",
    "TeacherResult", "agreement", "estimate_teacher", "prompted_teacher", "teach", "teacher_report",
]  # fmt: skip

LABELLED, JOURNAL = "labelled.jsonl", "journal.jsonl"
POOL = 10
"""Texts that are embedded for each one that is sampled."""


@dataclass(frozen=True, slots=True)
class TeacherPlan:
    """What is to be labelled.

    Attributes:
        sample: texts; all of them where there are no more.
        repeat: texts of the sample that are asked after twice, to see whether the judge
            contradicts itself.
        max_chars: longer texts are left out.
        max_cost: dollars for the task in all, earlier runs included; None for no limit.
        seed: draws the sample.
    """

    labels: Labels
    sample: int = 500
    repeat: int = 40
    max_chars: int = 8000
    max_cost: float | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.sample < 1 or self.repeat < 0:
            raise ValueError("teacher: sample must be at least 1 and repeat at least 0")


@dataclass(frozen=True, slots=True)
class Consistency:
    """How often the judge says the same twice.

    Attributes:
        texts: that were asked after twice and had an answer both times.
        contradicted: of which the two answers differ.
    """

    texts: int
    contradicted: int

    @property
    def share(self) -> float | None:
        """Of contradictions; None without texts."""
        return self.contradicted / self.texts if self.texts else None


@dataclass(frozen=True, slots=True)
class TeacherResult:
    """The judge's labels.

    Attributes:
        texts, labels: of those that it labelled, in one order.
        unlabelled: texts of the sample without a usable answer.
        too_long: texts that were left out for their length.
        questions: texts that were asked after, the repeated ones included.
        bill: of this and all earlier runs; see :meth:`Bill.to_json`.
    """

    teacher: str
    texts: tuple[str, ...] = field(repr=False)
    labels: tuple[frozenset[str], ...] = field(repr=False)
    unlabelled: int
    too_long: int
    questions: int
    consistency: Consistency
    bill: dict[str, Any]
    bill_line: str
    path: Path


@dataclass(frozen=True, slots=True)
class TeacherReport:
    """What the head gains over its teacher, and what it loses.

    Attributes:
        agreement: of head and teacher, on texts that the head was not trained on.
        self_contradiction: share of texts that the teacher labels differently when asked again;
            no head can agree with it more often than it does with itself.
        bill_dollars: for all labelling and ``also_dollars``; None where the price is not known.
        teacher_dollars_per_1000: per 1,000 texts, from the bill.
        head_dollars_per_1000: 0; the head calls no API.
        head_cpu_ms: measured milliseconds of one CPU core per text.
        break_even_texts: texts after which the bill is earned back.
    """

    teacher: str
    labelled: int
    unlabelled: int
    agreement: Agreement
    self_contradiction: float | None
    repeated: int
    bill_dollars: float | None
    teacher_dollars_per_1000: float | None
    head_dollars_per_1000: float
    head_cpu_ms: float | None
    break_even_texts: int | None

    def to_json(self) -> dict[str, Any]:
        """The report as JSON."""
        return asdict(self)


def prompted_teacher(model: ChatModel, labels: Labels, prompt: str = "") -> Judge:
    """A chat model as the judge.

    Args:
        model: is asked.
        labels: with their descriptions; the names must be those that the head will have.
        prompt: the user's own instructions; they stand before the labels.
    """
    return PromptedJudge(model, labels, own=prompt, source=model.source)


def estimate_teacher(plan: TeacherPlan, judge: Judge, texts: Sequence[str]) -> Estimate:
    """What the labelling will take, from the mean length of the texts."""
    count = min(plan.sample, len(texts))
    some = [text for text in texts[:: max(1, len(texts) // 500)] if len(text) <= plan.max_chars]
    mean = -(-sum(map(tokens_of, some)) // max(1, len(some)))
    return judge.estimate(count + min(plan.repeat, count), mean)


def teach(
    plan: TeacherPlan,
    judge: Judge,
    texts: Iterable[str],
    folder: Path,
    *,
    embed: Embed | None = None,
    progress: Callable[[Progress], None] | None = None,
    pause: float = 1.0,
    wait: Callable[[float], object] | None = None,
) -> TeacherResult:
    """Have texts labelled.

    Args:
        plan: how many.
        judge: labels; see :func:`prompted_teacher` and :class:`EndpointJudge`.
        texts: to draw from; repeated ones count once.
        folder: gets ``labelled.jsonl`` and ``journal.jsonl``.
        embed: features of texts, for a sample that covers them; None for a plain random one.
        progress: called after every reply.
        pause, wait: see :class:`Caller`.

    Raises:
        CostLimit: the estimate is above ``max_cost``, or the bill would be.
        SpendError: there are no texts, or the judge fails for good; what is paid for is saved.
        KeyboardInterrupt: likewise.
    """
    distinct = {normal_key(text) or text: text for text in texts if text.strip()}.values()
    short = [text for text in distinct if len(text) <= plan.max_chars]
    too_long = len(distinct) - len(short)
    if not short:
        raise SpendError("the teacher has no texts to label; give some with texts:")
    with Journal(folder / JOURNAL) as journal:
        caller = Caller(journal, Bill(plan.max_cost), pause=pause, wait=wait)
        estimate = estimate_teacher(plan, judge, short)
        estimate.check(plan.max_cost, caller.bill.paid)
        sample = draw(short, plan.sample, plan.seed, embed)
        wanted = len(sample)

        def tell(step: str, done: int, total: int, note: str = "") -> None:
            if progress is not None:
                progress(Progress(step, done, total, done, wanted, caller.bill.paid, note))

        tell("begin", 0, wanted, estimate.line())
        try:
            first = judged(judge, sample, caller, lambda done, total: tell("label", done, total))
            if not first.labels:
                fault = first.given_up[-1].fault if first.given_up else "no label could be used"
                raise SpendError(f"{judge.name} labelled none of the texts; the last time: {fault}")
            again, repeated = _again(plan, judge, sample, first, caller, tell)
        except (CallFailed, SpendError) as error:
            kind = CostLimit if isinstance(error, CostLimit) else SpendError
            raise kind(
                f"{error}; {dollars(caller.bill.paid)} is paid and the labels are kept in "
                f"{journal.path}; run it again to pay for the rest alone"
            ) from None
        labelled = [text for text in sample if text in first.labels]
        result = TeacherResult(
            teacher=judge.name,
            texts=tuple(labelled),
            labels=tuple(first.labels[text] for text in labelled),
            unlabelled=len(sample) - len(labelled),
            too_long=too_long,
            questions=len(sample) + repeated,
            consistency=again,
            bill=caller.bill.to_json(),
            bill_line=caller.bill.line(),
            path=folder / LABELLED,
        )
        rows = [
            {"text": text, "labels": sorted(labels)}
            for text, labels in zip(result.texts, result.labels, strict=True)
        ]
        write_whole(result.path, jsonl(rows))
        tell("end", wanted, wanted, result.bill_line)
        return result


def _again(
    plan: TeacherPlan,
    judge: Judge,
    sample: Sequence[str],
    first: Judged,
    caller: Caller,
    tell: Callable[[str, int, int], None],
) -> tuple[Consistency, int]:
    """Ask after some texts once more, among other neighbours."""
    rng = np.random.default_rng(plan.seed + 1)
    texts = [text for text in sample if text in first.labels]
    some = [texts[i] for i in rng.permutation(len(texts))[: plan.repeat]]
    second = judged(judge.anew(), some, caller, lambda done, total: tell("repeat", done, total))
    both = [text for text in some if text in second.labels]
    differ = sum(first.labels[text] != second.labels[text] for text in both)
    return Consistency(len(both), differ), len(some)


def draw(texts: Sequence[str], count: int, seed: int, embed: Embed | None) -> list[str]:
    """A sample: a plain random one, or one that covers the texts where their features are known.

    Of many texts, POOL for each one that is drawn are embedded.
    """
    rng = np.random.default_rng(seed)
    if count >= len(texts):
        return list(texts)
    most = count if embed is None else min(len(texts), POOL * count)
    pool = [texts[i] for i in sorted(rng.choice(len(texts), most, replace=False))]
    if embed is None:
        return pool
    return [pool[i] for i in farthest_sample(unit(embed(pool)), count, seed)]


def teacher_report(
    result: TeacherResult,
    head: Sequence[frozenset[str]],
    teacher: Sequence[frozenset[str]],
    labels: Labels,
    *,
    head_cpu_ms: float | None = None,
    also_dollars: float | None = 0.0,
) -> TeacherReport:
    """Compare a head with its teacher.

    Args:
        result: of the labelling.
        head: the head's labels of texts that it was not trained on.
        teacher: the teacher's labels of the same texts.
        labels: of the task.
        head_cpu_ms: measured milliseconds per text.
        also_dollars: paid for the head besides, such as for rows that were written; None where that
            is not known, and then the whole bill is not.
    """
    bill = result.bill["dollars"]
    per_text = None if bill is None else bill / max(1, result.questions)
    whole = None if bill is None or also_dollars is None else bill + also_dollars
    return TeacherReport(
        teacher=result.teacher,
        labelled=len(result.texts),
        unlabelled=result.unlabelled,
        agreement=agreement(head, teacher, labels.names),
        self_contradiction=result.consistency.share,
        repeated=result.consistency.texts,
        bill_dollars=None if whole is None else round(whole, 6),
        teacher_dollars_per_1000=None if per_text is None else round(1000 * per_text, 6),
        head_dollars_per_1000=0.0,
        head_cpu_ms=head_cpu_ms,
        # The saving per text is the teacher's price of one: the head calls no API.
        break_even_texts=ceil(whole / per_text - 1e-6) if whole and per_text else None,
    )
