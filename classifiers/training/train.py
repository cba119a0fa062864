"""The straight line of training: a task -> rows -> a method -> promises -> figures -> a pack."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from classifiers.encoder import Encoder
from classifiers.loading import load_packs
from classifiers.packs import SHIPPED, file_sha256
from classifiers.training import study
from classifiers.training.card import write_card
from classifiers.training.clean import Cleanup
from classifiers.training.data import FOLDS, Row
from classifiers.training.evaluation import Evaluation
from classifiers.training.features import CACHE, FeatureCache
from classifiers.training.fit import truth_table
from classifiers.training.gather import Gathered, Helpers, gather
from classifiers.training.methods import AUTO, METHODS, choose
from classifiers.training.methods.base import Context, silent
from classifiers.training.pack import (
    CARD,
    Promise,
    Subject,
    check_target,
    finish,
    manifest_of,
    replace_folder,
    write_pack,
)
from classifiers.training.report import write_report
from classifiers.training.slices import Point, write_slices
from classifiers.training.split import folds as folds_of
from classifiers.training.task import Case, Task, load_task, make_task
from classifiers.training.teacher import TeacherReport
from classifiers.training.workplace import one_thread, scratch_beside


@dataclass(frozen=True, slots=True)
class Report:
    """What training did.

    Attributes:
        folder: the pack.
        name, method, reason: what was trained, how, and why so.
        rows: by split.
        evaluation: figures on the rows of the test split, or, where they are too few, on held-out
            training rows.
        cleanup, warnings, bills: see :class:`classifiers.training.gather.Gathered`.
        teacher: agreement with the teacher, its price, the break-even point; None without one.
        seconds: wall clock.
    """

    folder: Path
    name: str
    method: str
    reason: str
    rows: Mapping[str, int]
    evaluation: Evaluation | None
    cleanup: Cleanup
    warnings: tuple[str, ...]
    bills: Mapping[str, Any]
    teacher: TeacherReport | None
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """As plain values; the figures stand in the pack's report.json."""
        figures = {} if self.evaluation is None else self.evaluation.to_json()
        return {
            "pack": str(self.folder),
            "name": self.name,
            "method": self.method,
            "reason": self.reason,
            "rows": dict(self.rows),
            "overall": figures.get("overall"),
            "slices": figures.get("slices", []),
            "cleanup": self.cleanup.as_json(),
            "warnings": list(self.warnings),
            "bills": dict(self.bills),
            "teacher": None if self.teacher is None else self.teacher.to_json(),
            "seconds": round(self.seconds, 2),
        }


@dataclass(frozen=True, slots=True)
class Options:
    """How to train.

    Attributes:
        encoder: folder of the shared encoder.
        cache: folder of the feature cache.
        base: for ``finetune``: a sentence encoder, a folder or a hub identifier.
        threads: cores to use.
        report: draw the report; without it the pack has figures in its manifest alone.
        with_texts: show the texts of the hardest mistakes in the report, not their places alone.
        helpers: chat models and judges.
        say: told what is being done.
    """

    encoder: Path = SHIPPED / "encoder"
    cache: Path = CACHE
    base: str | None = None
    threads: int = 2
    report: bool = True
    with_texts: bool = False
    helpers: Helpers = field(default_factory=Helpers)
    say: Callable[[str], None] = silent


def train(
    task: Task | Path | str | Mapping[str, Any],
    target: Path | str,
    options: Options | None = None,
) -> Report:
    """Train a pack.

    The pack is made in a folder of its own and put in place when it is complete: a run that fails or
    is stopped leaves what was there before.

    Args:
        task: a task file, what stands in one, or a task.
        target: folder of the pack; an older pack there is replaced.
        options: see there.

    Raises:
        TaskError: the task cannot be used.
        DataError: its data cannot.
        PackError: the encoder cannot.
        SpendError: a chat model or a teacher failed; what is paid for is saved.
        FileExistsError: the target is a file, or a folder with other files.
        ValueError: the rows do not suffice for the method.
        ImportError: the method needs a package that is not installed.
    """
    with one_thread():
        return _trained(task, target, options or Options())


def _trained(
    task: Task | Path | str | Mapping[str, Any], target: Path | str, options: Options
) -> Report:
    started = time.perf_counter()
    if isinstance(task, str | Path):
        task = load_task(Path(task))
    elif not isinstance(task, Task):
        task = make_task(task)
    target = Path(target)
    check_target(target)
    encoder = Encoder(options.encoder, threads=options.threads)
    options.say("reading the data")
    place = target.resolve()
    beside = place.with_name(f"{place.name}.rows")
    with FeatureCache(encoder, options.cache) as cache:
        gathered = gather(task, encoder, cache, beside, options.helpers)
        with scratch_beside(place) as scratch:
            made = scratch / "pack"
            line = _Line(task, gathered, encoder, cache, scratch, options)
            report = line.spans(made) if task.kind == "spans" else line.texts(made)
            replace_folder(made, place)
    return replace(report, folder=target, seconds=time.perf_counter() - started)


class _Line:
    """What the steps of one training share."""

    def __init__(
        self,
        task: Task,
        gathered: Gathered,
        encoder: Encoder,
        cache: FeatureCache,
        scratch: Path,
        options: Options,
    ) -> None:
        self.task = task
        self.gathered = gathered
        self.encoder = encoder
        self.cache = cache
        self.scratch = scratch
        self.options = options
        self.train = [row for row in gathered.rows if row.split != "test"]
        self.test = [row for row in gathered.rows if row.split == "test"]
        self.labels = task.label_names

    def texts(self, made: Path) -> Report:
        """One label a text, or any number of them."""
        task, options = self.task, self.options
        name, reason = str(task.method), "the task says so"
        if name == AUTO:
            name, reason = choose(self.train, self.labels)
        method = METHODS[name]()
        truth = truth_table(self.train, self.labels)
        self._check(truth)
        groups = [row.group or str(index) for index, row in enumerate(self.train)]
        count = min(FOLDS, len(set(groups)))
        if count < 2:
            raise ValueError(
                f"all {len(self.train)} rows belong to one group, so that none can be held out; add "
                "rows of other groups"
            )
        folds = folds_of(groups, truth, count, seed=task.seed)
        scratch = self.scratch / "work"
        scratch.mkdir()
        context = Context(
            self.encoder,
            self.cache,
            task.pooling,
            folds,
            scratch,
            options.base,
            options.threads,
            task.seed,
            options.say,
            {name: label.description or "" for name, label in task.labels.items()},
        )
        trained = method.train(self.train, self.labels, task.kind, context)
        options.say("choosing the thresholds")
        doubt = trained.doubt or self.gathered.doubt
        promise = Promise(task.max_false_positive_rate, task.min_recall, doubt=doubt)
        own = trained.encoder
        home = self.encoder if own is None else Encoder(own, threads=options.threads)
        outside = study.out_of_scope(task.kind, trained.held_out, trained.honest, self.labels)
        subject = self._subject(name, reason)
        if outside is not None:
            subject = replace(subject, more={**subject.more, "out_of_scope": outside})
        manifest = write_pack(made, subject, trained, self.train, home, promise)
        write_slices(made, self._slices())
        finish(made, manifest)
        classifier = load_packs([made], self.encoder)[0]
        options.say("measuring")
        study_of = study.Study(
            self.train,
            self.test,
            self.labels,
            task.kind,
            trained,
            classifier,
            self._cases(),
            context,
        )
        judged = study_of.judged()
        teacher = study.agreement_with(self.gathered, task, study_of, judged)
        evaluation = study_of.evaluation(
            judged, self._sizes(), with_texts=options.with_texts, method=name, full=options.report
        )
        manifest["metrics"] = evaluation.metrics()
        return self._finished(made, manifest, evaluation, (name, reason), teacher)

    def spans(self, made: Path) -> Report:
        """Stretches of the text."""
        from classifiers.training.methods.spans import span_metrics, train_spans, write_span_pack

        self.options.say(f"fitting on {len(self.train):,} texts")
        trained = train_spans(self.train, self.labels, self.encoder)
        subject = self._subject("spans", "it is of kind spans")
        more = {
            "description": subject.description,
            "decision": "spans",
            "pooling": "max",
            "encoder_name": self.encoder.name,
            "licence": subject.licence,
            "sources": subject.sources,
            **subject.more,
        }
        write_span_pack(made, trained, name=self.task.name, encoder=self.encoder, more=more)
        write_slices(made, self._slices())
        manifest = manifest_of(made, "spans")
        classifier = load_packs([made], self.encoder)[0]
        self.options.say("measuring")
        evaluation = study.of_spans(
            classifier,
            (self.train, trained.held_out),
            self.test,
            self._cases(),
            self._sizes(),
            self.options.with_texts,
        )
        if len(self.test) >= study.FEWEST_TEST:
            manifest["metrics"] |= span_metrics(classifier, self.test)
        else:
            held = manifest["metrics"]["held_out"]
            manifest["metrics"] |= {"by_label": held["by_label"], "overall": held["overall"]}
        return self._finished(made, manifest, evaluation, ("spans", "it is of kind spans"), None)

    # -- inside -----------------------------------------------------------------------------------

    def _check(self, truth: npt.NDArray[np.int8]) -> None:
        for column, label in enumerate(self.labels):
            if not (truth[:, column] == 0).any():
                raise ValueError(
                    f"every row has the label {label!r}, so that nothing can be learnt; add rows "
                    "without it, as data or under benign:"
                )

    def _finished(
        self,
        made: Path,
        manifest: dict[str, Any],
        evaluation: Evaluation,
        method: tuple[str, str],
        teacher: TeacherReport | None,
    ) -> Report:
        gathered = self.gathered
        if teacher is not None:
            manifest["teacher"] = teacher.to_json()
        counts = Counter(label for row in self.train for label in row.labels)
        manifest["train_rows"] = {label: counts[label] for label in self.labels}
        manifest["judged_on"] = evaluation.judged_on
        write_card(made / CARD, manifest)
        if self.options.report:
            self.options.say("drawing the report")
            write_report(made, manifest, evaluation)
        finish(made, manifest)
        return Report(
            folder=made,
            name=self.task.name,
            method=method[0],
            reason=method[1],
            rows=self._sizes(),
            evaluation=evaluation,
            cleanup=gathered.cleanup,
            warnings=(*gathered.warnings, *study.doubts(manifest)),
            bills=gathered.bills,
            teacher=teacher,
            seconds=0.0,
        )

    def _subject(self, method: str, reason: str) -> Subject:
        task = self.task
        sources = Counter(row.source or "data" for row in self.train)
        more: dict[str, Any] = {
            "method": method,
            "method_reason": reason,
            "languages": list(task.languages),
            "label_descriptions": {n: label.description for n, label in task.labels.items()},
            "cleanup": {
                k: v
                for k, v in self.gathered.cleanup.as_json().items()
                if k not in ("conflicts", "near_conflicts")
            },
            "seed": task.seed,
        }
        if task.source and Path(task.source).is_file():
            more["task_sha256"] = file_sha256(Path(task.source))
        return Subject(
            name=task.name,
            description=task.description or f"Tells {', '.join(self.labels)}.",
            labels=self.labels,
            decision=task.kind,
            pooling=task.pooling,
            sources={
                name: {"rows": count, "licence": "not stated"} for name, count in sources.items()
            },
            more=more,
            licence="not stated",
        )

    def _slices(self) -> dict[str, list[Point]]:
        return {
            name: [self._point(case) for case in cases] for name, cases in self.task.slices.items()
        }

    def _point(self, case: Case) -> Point:
        if case.labels is None:
            return Point(case.text, (), case.absent)
        others = tuple(label for label in self.labels if label not in case.labels)
        return Point(case.text, case.labels, others)

    def _cases(self) -> dict[str, list[Row]]:
        """The slices as rows: what is not said of a case is not known."""
        found: dict[str, list[Row]] = {}
        for name, cases in self.task.slices.items():
            found[name] = [
                Row(
                    case.text,
                    frozenset(case.labels or ()),
                    known=frozenset(case.absent) if case.labels is None else None,
                    source=name,
                    place=self.task.at("slices", name, index),
                )
                for index, case in enumerate(cases)
            ]
        return found

    def _sizes(self) -> dict[str, int]:
        counts = Counter(row.split for row in self.gathered.rows)
        return {split: counts[split] for split in ("train", "dev", "test") if counts[split]}
