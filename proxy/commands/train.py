"""Train a classifier from a task file, or correct one: doorman train TASK.yaml -o PACK."""

from __future__ import annotations

import argparse
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from proxy.commands.output import CommandError, emit, json_option, one_blas_thread

if TYPE_CHECKING:
    from rich.console import Console

    from classifiers.training.evaluation import Slice
    from classifiers.training.gather import Helpers
    from classifiers.training.synthesize import Progress
    from classifiers.training.train import Report
    from classifiers.training.update import Update

WORSE = 1
CASES = 10
"""Cases of a slice that failed, so many are listed on a terminal."""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "task", type=Path, metavar="TASK", help="task file; with --update the file of corrections"
    )
    parser.add_argument(
        "-o", "--output", type=Path, metavar="PACK", help="folder of the pack (default: its name)"
    )
    parser.add_argument(
        "--update",
        type=Path,
        metavar="PACK",
        help="correct this pack by {text, label} lines of TASK, without its training texts",
    )
    parser.add_argument(
        "--force", action="store_true", help="with --update: also if a slice gets worse"
    )
    parser.add_argument(
        "--name",
        help="with --update: what the corrected pack is called (default: as before), to load it beside "
        "the other",
    )
    parser.add_argument(
        "--encoder", type=Path, metavar="FOLDER", help="another encoder pack than the shipped one"
    )
    parser.add_argument(
        "--base",
        metavar="MODEL",
        help="for finetune: the sentence encoder to tune, folder or hub id",
    )
    parser.add_argument("--cache", type=Path, metavar="FOLDER", help="of the features of texts")
    parser.add_argument("--threads", type=int, default=2, metavar="N", help="cores (default: 2)")
    parser.add_argument("--no-report", action="store_true", help="do not draw report.html")
    parser.add_argument(
        "--show-texts",
        action="store_true",
        help="show the texts of the worst mistakes in the report, not their places alone",
    )
    json_option(parser)


def run(options: argparse.Namespace) -> int:
    """Train or correct. Exit status 1: a correction was refused since it would make a slice worse."""
    if options.threads < 1:
        raise CommandError(f"--threads is {options.threads}; give 1 or more")
    if options.force and not options.update:
        raise CommandError("--force goes with --update; leave it out")
    if options.name is not None and not options.update:
        raise CommandError("--name goes with --update; write name: in the task")
    one_blas_thread()  # labels are fitted side by side
    with training_faults(), _stoppable():
        return _update(options) if options.update else _train(options)


@contextmanager
def _stoppable() -> Iterator[None]:
    """Have SIGTERM end the work as Ctrl-C does, so that nothing half-written is left."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def training_faults() -> Iterator[None]:
    """Turn what the owner of a task can mend into :class:`CommandError`.

    Raises:
        CommandError: also where the packages of the trainer are missing.
    """
    try:
        from classifiers.packs import PackError
        from classifiers.training.spend import SpendError
        from classifiers.training.tables import DataError
        from classifiers.training.task import TaskError
        from proxy.yaml_source import ConfigError
    except ImportError as error:
        raise CommandError(_missing(error)) from None
    try:
        yield
    except ImportError as error:
        raise CommandError(_missing(error)) from None
    except (ConfigError, DataError, PackError, SpendError, TaskError, FileExistsError) as error:
        raise CommandError(str(error)) from None
    except ValueError as error:
        raise CommandError(str(error)) from None
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        raise CommandError(f"{where}{error.strerror or error}") from None


def _missing(error: ImportError) -> str:
    return (
        f"the trainer needs a package that is not installed ({error.name or error}); "
        "pip install 'doorman[train]'"
    )


def _train(options: argparse.Namespace) -> int:
    from classifiers.training.features import CACHE
    from classifiers.training.task import load_task
    from classifiers.training.train import Options, train

    task = load_task(options.task)
    with _progress() as say:
        report = train(
            task,
            options.output or Path(task.name),
            Options(
                encoder=encoder_folder(options),
                cache=options.cache or CACHE,
                base=options.base,
                threads=options.threads,
                report=not options.no_report,
                with_texts=options.show_texts,
                helpers=_helpers(say),
                say=say,
            ),
        )
    emit(options, report.to_json(), lambda console: _render(console, report))
    return 0


def _update(options: argparse.Namespace) -> int:
    from classifiers.encoder import Encoder
    from classifiers.training.corrections import read_corrections
    from classifiers.training.features import CACHE, FeatureCache
    from classifiers.training.update import GotWorse, update

    pack = _pack_to_correct(options)
    rows = read_corrections(options.task, pack)
    encoder = Encoder(encoder_folder(options), threads=options.threads)
    try:
        with FeatureCache(encoder, options.cache or CACHE) as cache:
            done = update(
                pack, rows, encoder, cache, options.output,
                force=options.force, name=options.name,
            )  # fmt: skip
    except GotWorse as error:
        print(f"doorman: {error}", file=sys.stderr)
        return WORSE
    where = options.output or pack
    result = {"pack": str(where), **done.to_json()}
    emit(options, result, lambda console: _render_update(console, done, where))
    return 0


def _pack_to_correct(options: argparse.Namespace) -> Path:
    """The folder of the pack that ``--update`` names; shipped ones go by their names too.

    Raises:
        CommandError: a shipped pack would be overwritten.
    """
    from classifiers.packs import MANIFEST, SHIPPED

    pack: Path = options.update
    if not (pack / MANIFEST).is_file() and (SHIPPED / pack / MANIFEST).is_file():
        pack = SHIPPED / pack
    if pack.parent.resolve() == SHIPPED and options.output is None:
        raise CommandError(
            f"{pack.name} is a shipped pack, which an update of Doorman would replace; name a folder "
            f"for the corrected one with -o, and a name of its own with --name"
        )
    return pack


def encoder_folder(options: argparse.Namespace) -> Path:
    """The encoder pack that ``--encoder`` names, or the shipped one."""
    from classifiers.packs import SHIPPED

    return options.encoder or SHIPPED / "encoder"


@contextmanager
def _progress() -> Iterator[Callable[[str], None]]:
    """What is being done, on a terminal in one line that is overwritten, else nothing."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console
    from rich.markup import escape

    with Console(stderr=True).status("starting") as status:
        yield lambda line: status.update(escape(line))


def _helpers(say: Callable[[str], None]) -> Helpers:
    from classifiers.training.gather import Helpers
    from proxy.llm import chat_model, teacher_judge

    def progress(at: Progress) -> None:
        done = f"{at.step} {at.done} of {at.total}: {at.rows} of {at.wanted} texts"
        say(f"{done}, {at.dollars:.4f} dollars. {at.note}")

    return Helpers(chat=chat_model, judge=teacher_judge, progress=progress)


def _render(console: Console, report: Report) -> None:
    from rich.markup import escape
    from rich.table import Table

    sizes = ", ".join(f"{count:,} {split}" for split, count in report.rows.items())
    say = plain(console)
    say(f"{report.name} in {report.folder} ({report.seconds:.1f} s)")
    say(f"Method: {report.method}, since {report.reason}.\nRows: {sizes}.")
    if report.evaluation is not None:
        say(f"Figures on {report.evaluation.judged_on}:")
        table = Table()
        for name in ("label", "rows", "threshold", "precision", "recall", "F1"):
            table.add_column(name, justify="left" if name == "label" else "right")
        for one in report.evaluation.labels:
            values = (one.precision.value, one.recall.value, one.f1)
            cells = ["-" if value is None else f"{value:.3f}" for value in values]
            table.add_row(escape(one.label), str(one.positives), f"{one.threshold:.3f}", *cells)
        console.print(table)
        for part in report.evaluation.slices:
            for line in _slice(part):
                say(line)
    for line in report.warnings:
        say(f"note: {line}")
    for what, bill in report.bills.items():
        say(f"{what}: {_bill(bill)}")
    page = report.folder / "report.html"
    if page.is_file():
        say(f"Report: {page}")
    say(
        f"To use it, add the folder to `classifiers.packs` of the config and a rule on "
        f"`{report.name}` to a policy."
    )


def _slice(part: Slice) -> Iterator[str]:
    """How many cases pass, and which do not."""
    yield f"slice {part.name}: {part.passed} of {part.passed + part.failed} pass"
    for one in part.failures[:CASES]:
        expected = ", ".join(one.expected) or f"not {one.label}"
        yield f"  {one.place}: expected {expected}, said {', '.join(one.said) or 'no label'}"
    if part.failed > CASES:
        yield f"  and {part.failed - CASES} more; --json lists them all"


def plain(console: Console) -> Callable[[str], None]:
    """Print text as it is: labels and paths may hold what rich takes for markup."""
    return lambda line: console.print(line, markup=False, soft_wrap=True)


def _bill(bill: Mapping[str, Any]) -> str:
    paid = bill["dollars"]
    price = "at an unknown price" if paid is None else f"{paid:.4f} dollars"
    if bill.get("replayed"):  # the price is of earlier runs, too
        return f"{bill['calls']:,} new calls, {price}{'' if paid is None else ' in all'}"
    return f"{bill['calls']:,} calls, {price}"


def _render_update(console: Console, done: Update, where: Path) -> None:
    from rich.markup import escape
    from rich.table import Table

    table = Table(title=f"{done.corrections} corrections")
    for name in ("slice", "cases", "before", "after"):
        table.add_column(name, justify="left" if name == "slice" else "right")
    for change in done.slices:
        mark = " worse" if change.worse else ""
        cells: list[Any] = [change.cases, change.before, f"{change.after}{mark}"]
        table.add_row(escape(change.name), *map(str, cells))
    console.print(table)
    say, first = plain(console), done.slices[0]
    if first.after < first.cases:
        say(
            f"note: {first.cases - first.after} of the corrections are not met even so; add more texts "
            "like them, or train the pack anew with them among its data"
        )
    say(f"Written to {where}, version {done.hashes[0][:12]} -> {done.hashes[1][:12]}.")
