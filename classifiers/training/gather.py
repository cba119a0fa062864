"""All rows of a task, wherever they come from, ready to be trained on: cleaned, grouped and split."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from classifiers.encoder import Encoder
from classifiers.training.clean import Cleanup, clean, without_near_duplicates
from classifiers.training.data import Row, Split
from classifiers.training.features import FeatureCache
from classifiers.training.read import FileReport, RawRow, ReadReport, read_task, read_texts
from classifiers.training.spend import ChatModel
from classifiers.training.split import split_rows
from classifiers.training.synth_judge import Judge
from classifiers.training.synthesis_prompts import Labels, LabelSpec
from classifiers.training.synthesize import Progress, SynthesisPlan, synthesize
from classifiers.training.task import Task
from classifiers.training.teacher import TeacherPlan, TeacherResult, teach

EXAMPLES = "examples of the task"
BENIGN = "benign"
PROMISES = {"max_false_positive_rate", "min_recall"}
ALIKE = "most rows are much alike, so that rows like those it learnt from judge it"
SYNTHETIC, TAUGHT = "synthetic", "taught"
"""Folders beside the pack: what a chat model wrote, and what a teacher labelled."""


@dataclass(frozen=True, slots=True)
class Helpers:
    """What the trainer cannot reach itself, since it touches no network.

    Attributes:
        chat: opens the chat model that ``synthesize:`` names; it is closed when the rows are written.
        judge: likewise the judge that ``teacher:`` names.
        progress: told how far writing and labelling are.
    """

    chat: Callable[[str], AbstractContextManager[ChatModel]] | None = None
    judge: Callable[[Task, Labels], AbstractContextManager[Judge]] | None = None
    progress: Callable[[Progress], None] | None = None


@dataclass(frozen=True, slots=True)
class Gathered:
    """Rows, and what was done to get them.

    Attributes:
        rows: of all splits.
        cleanup: what was taken out.
        warnings: what the owner should know, a line each.
        bills: what chat models cost, by what they were asked for.
        taught: the teacher's labels, if there is one.
        doubt: why held-out rows prove no rate; empty where they do.
    """

    rows: tuple[Row, ...]
    cleanup: Cleanup
    warnings: tuple[str, ...]
    bills: Mapping[str, Any] = field(default_factory=dict)
    taught: TeacherResult | None = None
    doubt: str = ""


def gather(
    task: Task, encoder: Encoder, cache: FeatureCache, folder: Path, helpers: Helpers
) -> Gathered:
    """Read, write, label, clean and split.

    Args:
        folder: where written and taught rows are kept for review and for a rerun.

    Raises:
        DataError: a file cannot be used, or a label has too few rows.
        SpendError: the chat model or the teacher failed; what is paid for is saved.
        ValueError: the task asks for a model and none is configured.
    """
    if task.kind == "spans" and (task.synthesize or task.teacher):
        key = "synthesize" if task.synthesize else "teacher"
        raise ValueError(
            f"{task.at(key)}: a chat model labels texts, not stretches of them; give rows with spans "
            "as data:"
        )
    raw, report = read_task(task)
    warnings = report.warnings()
    if task.kind == "spans" and PROMISES & task.model_fields_set:
        warnings.append(
            "max_false_positive_rate: and min_recall: are not used, since the thresholds of a spans task "
            "are those with the best F1; write them in the rules of the policy"
        )
    normalised = sum(file.respelled for file in report.files)
    known = _examples(task, warnings) + _benign(task, warnings)
    bills: dict[str, Any] = {}

    def embed(texts: Sequence[str]) -> npt.NDArray[np.float32]:
        return text_features(texts, encoder, cache)

    if task.synthesize is not None:
        raw += _synthesized(task, embed, folder / SYNTHETIC, helpers, bills)
    taught = None
    if task.teacher is not None:
        taught = _taught(task, raw, embed, folder / TAUGHT, helpers, warnings)
        bills["teacher"] = taught.bill
        raw = _relabelled(task, raw, taught)
    cleaned, cleanup = clean([*raw, *known], task.label_names, normalised=normalised)
    if not cleaned:
        cleanup.check()
    kept, groups, cleanup = without_near_duplicates(
        cleaned, embed([row.text for row in cleaned]), task.label_names, cleanup
    )
    cleanup.check()
    if task.kind == "spans":  # the same labels at other places are no contradiction
        differ = [one for one in cleanup.near_conflicts if len(set(one.labels)) > 1]
        cleanup = replace(cleanup, near_conflicts=tuple(differ))
    rows = [cleaned[index] for index in kept]
    doubt = ""
    if cleanup.largest_group > len(rows) / 2:  # few rows of one mould: there would be no split
        groups = [f"given {row.group}" if row.group else str(at) for at, row in enumerate(rows)]
        doubt = ALIKE
        warnings.append(
            f"{cleanup.largest_group} of {len(rows)} rows are much alike, so that rows like those it "
            "learnt from judge it: the figures flatter; add rows in other words"
        )
    parts, said = split_rows(rows, groups, task.label_names, seed=task.seed)
    warnings += [*cleanup.warnings(), *said]
    finished = tuple(
        _row(row, group, part, task)
        for row, group, part in zip(rows, groups, parts, strict=True)
        if part is not None
    )
    return Gathered(finished, cleanup, tuple(warnings), bills, taught, doubt)


def text_features(
    texts: Sequence[str], encoder: Encoder, cache: FeatureCache
) -> npt.NDArray[np.float32]:
    """``[texts, features]``: of each text the mean of its windows that are no sentences."""
    found = np.zeros((len(texts), encoder.features), dtype=np.float32)
    stretches: list[list[int]] = [[] for _ in texts]
    places = [0] * len(texts)
    for window in encoder.windows(texts):
        if not window.sentence:
            stretches[window.text].append(places[window.text])
        places[window.text] += 1
    for index, (own, features) in enumerate(zip(stretches, cache.get(texts), strict=True)):
        found[index] = features[own].mean(axis=0)
    return found


def labels_of(task: Task) -> Labels:
    """The labels as prompts need them."""
    return Labels(
        task.name,
        task.description,
        tuple(
            LabelSpec(name, label.description, label.examples, label.near_misses)
            for name, label in task.labels.items()
        ),
        one_of=task.kind == "one_of",
        none=task.kind == "any_of",
    )


def _row(row: RawRow, group: str, part: Split, task: Task) -> Row:
    return Row(
        row.text,
        row.labels,
        source=row.source,
        split=part,
        benign=not row.labels and row.source != f"{EXAMPLES}, near misses",
        group=group,
        spans=row.spans,
        place=row.place,
    )


def _relabelled(task: Task, raw: Sequence[RawRow], taught: TeacherResult) -> list[RawRow]:
    """Rows with the teacher's labels. Where it judged the data themselves, they stand in the place of
    the data's own, and rows that it did not judge are left out."""
    assert task.teacher is not None
    before = {} if task.teacher.texts else {row.text: row for row in raw}
    rows = [
        replace(before.get(text, RawRow(text, source="teacher")), labels=labels)
        for text, labels in zip(taught.texts, taught.labels, strict=True)
        if labels or task.kind == "any_of"
    ]
    return [*raw, *rows] if task.teacher.texts else rows


def _examples(task: Task, warnings: list[str]) -> list[RawRow]:
    """What stands under the labels. Near misses teach where a text may have no label at all."""
    found: list[RawRow] = []
    if task.kind == "spans":
        if any(label.examples or label.near_misses for label in task.labels.values()):
            warnings.append(
                "examples: and near_misses: are not used, since they do not say which stretch of the "
                "text carries the label; give them as data, with spans"
            )
        return found
    for name, label in task.labels.items():
        place = task.at("labels", name)
        held = frozenset({name})
        found += [RawRow(text, held, EXAMPLES, "train", place=place) for text in label.examples]
        if task.kind == "any_of":
            source = f"{EXAMPLES}, near misses"
            found += [
                RawRow(text, frozenset(), source, "train", place=place)
                for text in label.near_misses
            ]
    return found


def _benign(task: Task, warnings: list[str]) -> list[RawRow]:
    reports: list[FileReport] = []
    rows = [row for texts in task.benign for row in read_texts(texts, reports)]
    warnings += ReadReport(reports).warnings()
    if task.kind == "one_of" and rows:
        warnings.append(
            "benign: is not used, since every text of a one_of task has a label; add a label for "
            "other texts and give them as data"
        )
        return []
    return [RawRow(row.text, source=row.source or BENIGN, place=row.place) for row in rows]


def _synthesized(
    task: Task,
    embed: Callable[[Sequence[str]], npt.NDArray[np.float32]],
    folder: Path,
    helpers: Helpers,
    bills: dict[str, Any],
) -> list[RawRow]:
    wanted = task.synthesize
    assert wanted is not None
    if helpers.chat is None:
        raise ValueError(
            f"{task.at('synthesize')}: there is no chat model here to write rows; use `doorman train`, "
            "or give rows with data: or examples:"
        )
    plan = SynthesisPlan(
        labels=labels_of(task),
        languages=wanted.languages or task.languages or ("en",),
        per_label=wanted.per_label,
        batch=wanted.batch,
        personas=wanted.personas,
        max_cost=wanted.max_cost,
        temperature=wanted.temperature,
        seed=task.seed,
    )
    with helpers.chat(wanted.model) as model:
        made = synthesize(plan, model, embed, folder, progress=helpers.progress)
    bills["synthesize"] = made.to_json()["bill"]
    return [
        RawRow(row.text, frozenset(row.labels), "synthesized", group=row.group)
        for row in made.rows
        if row.labels or task.kind == "any_of"
    ]


def _taught(
    task: Task,
    raw: Sequence[RawRow],
    embed: Callable[[Sequence[str]], npt.NDArray[np.float32]],
    folder: Path,
    helpers: Helpers,
    warnings: list[str],
) -> TeacherResult:
    wanted = task.teacher
    assert wanted is not None
    if helpers.judge is None:
        raise ValueError(
            f"{task.at('teacher')}: there is no judge here to label texts; use `doorman train`, or give "
            "rows with data: or examples:"
        )
    reports: list[FileReport] = []
    texts = [row.text for source in wanted.texts for row in read_texts(source, reports)]
    warnings += ReadReport(reports).warnings()
    labels = labels_of(task)
    plan = TeacherPlan(labels, wanted.sample, max_cost=wanted.max_cost, seed=task.seed)
    pool = texts or [row.text for row in raw]
    with helpers.judge(task, labels) as judge:
        return teach(plan, judge, pool, folder, embed=embed, progress=helpers.progress)
