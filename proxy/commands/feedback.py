"""What people said of decisions, and the corrected packs that come of it; a running gateway follows."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from proxy.commands.keys import actor
from proxy.commands.output import (
    CommandError,
    config_option,
    emit,
    faults,
    json_option,
    one_blas_thread,
    read_config,
)

if TYPE_CHECKING:
    from rich.console import Console

    from proxy.config import Config
    from proxy.feedback.loop import FeedbackLoop
    from proxy.gateway import Gateway
    from proxy.ledgers.feedback import Feedback, FeedbackTable, Judgement

T = TypeVar("T")
NEGATIVE = 1
"""Exit status where nothing was changed: no such feedback, no candidate, a test that fails."""
SHOWN: tuple[str, ...] = (
    "id",
    "stamp",
    "state",
    "verdict",
    "classifier",
    "labels",
    "decision_id",
    "reporter",
    "judge",
)


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    listed = actions.add_parser("list", help="what was said of decisions, the newest first")
    listed.add_argument("--state", choices=("reported", "accepted", "noted", "rejected"))
    listed.add_argument("--classifier", metavar="NAME")
    listed.add_argument("--limit", type=int, default=50, help="how many (50)")
    listed.add_argument("--texts", action="store_true", help="show the texts, too")
    for action, told in (
        ("accept", "make a report with label and text a correction, or count it as wrong"),
        ("reject", "say no to a report, or take a correction back"),
    ):
        one = actions.add_parser(action, help=told)
        one.add_argument(
            "id",
            type=_stamped,
            help="ID@STAMP, as `list` shows it" + ("" if action == "accept" else "; ID will do"),
        )
        if action == "accept":
            one.add_argument(
                "--nothing-to-train", action="store_true",
                help="it counts as called wrong, and no classifier learns from it; for answers of FAQs, "
                "finds of patterns and the like, or where there is no text",
            )  # fmt: skip
        _shared(one)
    export = actions.add_parser("export", help="write corrections to a file")
    export.add_argument("classifier", metavar="CLASSIFIER")
    export.add_argument(
        "--as", dest="form", choices=("rows", "tests"), default="rows",
        help="rows of `doorman train --update` as JSON lines, or tests of policies as YAML",
    )  # fmt: skip
    export.add_argument("-o", "--output", type=Path, metavar="FILE", help="(standard output)")
    for action, told in (
        ("candidates", "the corrected packs of a classifier, the newest first"),
        ("retrain", "make a candidate of all its corrections, and test it"),
        ("undo", "serve what was served before the last promotion"),
    ):
        one = actions.add_parser(action, help=told)
        one.add_argument("classifier", metavar="CLASSIFIER")
        _shared(one)
    promote = actions.add_parser("promote", help="serve a candidate from now on")
    promote.add_argument("classifier", metavar="CLASSIFIER")
    promote.add_argument("pack", help="the beginning of its hash, as `candidates` shows it")
    promote.add_argument(
        "--losing", action="store_true", help="although it loses more cases than it may"
    )
    for one in (listed, export, promote):
        _shared(one)


def _stamped(given: str) -> tuple[int, str | None]:
    """Of ``12@1f3a9c07`` both, of ``12`` the number alone."""
    id, at, stamp = given.partition("@")
    if not id.isascii() or not id.isdigit() or (at and not stamp):
        raise argparse.ArgumentTypeError(f"{given!r} is no ID@STAMP, such as 12@1f3a9c07")
    return int(id), stamp or None


def _shared(parser: argparse.ArgumentParser) -> None:
    config_option(parser)
    json_option(parser)


def run(options: argparse.Namespace) -> int:
    """Do one action. Returns 1 where nothing was changed, or nothing is to be shown."""
    one_blas_thread()
    return ACTIONS[options.action](options)


def _list(options: argparse.Namespace) -> int:
    filters = {n: getattr(options, n) for n in ("state", "classifier") if getattr(options, n)}
    found = _on_table(options, lambda table: table.page(options.limit, **filters))
    rows = [_plain(one, options.texts) for one in found]
    columns: tuple[str, ...] = (*SHOWN, "text") if options.texts else SHOWN
    # As it is typed again, in one word.
    shown = [{**row, "id": f"{row['id']}@{row['stamp']}"} for row in rows]
    columns = tuple(name for name in columns if name != "stamp")
    emit(options, rows, lambda console: _table(console, shown, columns))
    return 0


def _judge(options: argparse.Namespace) -> int:
    from proxy.ledgers.feedback import Changed

    state: Judgement = "accepted" if options.action == "accept" else "rejected"
    id, stamp = options.id
    untrained = state == "accepted" and options.nothing_to_train
    changes = {"labels": None, "text": None} if untrained else {}

    async def judged(table: FeedbackTable) -> Feedback | None:
        known = await table.one(id)
        if known is None:
            return None
        lacking = known.labels is None or known.text is None
        if state == "accepted" and not untrained and lacking:
            raise CommandError(
                f"feedback {id} lacks the text or the right label; give them on the review page, or add "
                "--nothing-to-train: then it counts as called wrong, and nothing is learnt from it"
            )
        if state == "accepted" and stamp is None:
            # Whoever has reported it could have changed it since somebody looked at it.
            raise CommandError(
                f"feedback {id} is accepted by ID@STAMP, as `doorman feedback list --texts` shows it, "
                "so that it is what you have read"
            )
        try:
            return await table.judge(id, state, actor(), time.time(), stamp, **changes)
        except Changed:
            raise CommandError(
                f"feedback {id} has changed since it was {id}@{stamp}; read it again with "
                "`doorman feedback list --texts`"
            ) from None

    found = _on_table(options, judged)
    if found is None:
        print(
            f"doorman: there is no feedback {id}; see `doorman feedback list`",
            file=sys.stderr,
        )
        return NEGATIVE
    emit(options, _plain(found, False), lambda c: c.print(f"feedback {found.id}: {found.state}"))
    return 0


def _export(options: argparse.Namespace) -> int:
    found = _on_table(options, lambda table: table.corrections(options.classifier))
    if options.form == "rows":
        lines = [
            json.dumps({"text": c.text, "label": list(c.labels or ())}, ensure_ascii=False)
            for c in found
        ]
        text = "".join(f"{line}\n" for line in lines)
    else:
        text = _with_gateway(options, lambda gateway: _tests(gateway, found))
    with nullcontext(sys.stdout) if options.output is None else _opened(options.output) as out:
        out.write(text)
    return 0


async def _tests(gateway: Gateway, found: list[Feedback]) -> str:
    import yaml

    from proxy.feedback.cases import as_tests, outcomes

    ran = await asyncio.to_thread(
        outcomes,
        gateway.policies.current,
        found,
        gateway.engine.classifiers,
        gateway.engine.classify_blocking,
    )
    by_policy: dict[str, list[Any]] = {}
    for case in as_tests(ran, found):
        by_policy.setdefault(case["policy"], []).append(case["test"])
    return "".join(
        f"# for the policy {name}\n"
        + yaml.safe_dump({"tests": tests}, sort_keys=False, allow_unicode=True)
        for name, tests in by_policy.items()
    )


def _opened(path: Path) -> Any:
    try:
        return path.open("w", encoding="utf-8")
    except OSError as error:
        raise CommandError(f"{path}: cannot be written ({error.strerror})") from None


def _candidates(options: argparse.Namespace) -> int:
    from classifiers.candidates import Shelf
    from classifiers.packs import PackError

    config = _config(options)
    shelf = Shelf(config.classifiers.corrected)
    try:
        live = shelf.pointer(options.classifier).live
    except PackError as error:
        raise CommandError(str(error)) from None
    rows = [
        {
            "pack": one.short,
            "served": one.short == live,
            "corrections": len(one.corrections),
            "worse": [line.name for line in one.worse],
            "made_by": one.by,
            "seconds": one.seconds,
        }
        for one in shelf.candidates(options.classifier)
    ]
    emit(
        options, rows, lambda console: _table(console, rows, tuple(rows[0]) if rows else ("pack",))
    )
    return 0 if rows else NEGATIVE


def _retrain(options: argparse.Namespace) -> int:
    async def work(loop: FeedbackLoop) -> dict[str, Any]:
        await loop.retrain(options.classifier, actor())
        job = await loop.finished()
        assert job is not None
        made = None if job.fault else loop.shelf.candidate(options.classifier, job.hash)
        table = [] if made is None else [
            {"cases": n.name, "all": n.cases, "before": n.live, "after": n.after, "worse": n.worse}
            for n in made.table
        ]  # fmt: skip
        return {
            "pack": job.hash, "fault": job.fault, "faults": list(job.faults),
            "seconds": round(job.seconds, 2), "table": table,
        }  # fmt: skip

    found = _changed(options, work)

    def render(console: Console) -> None:
        if found["fault"]:
            console.print(f"no candidate: {found['fault']}", markup=False)
            return
        _table(console, found["table"], ("cases", "all", "before", "after", "worse"))
        console.print(f"candidate {found['pack']}, {found['seconds']} s")
        for fault in found["faults"]:
            console.print(f"could not be promoted: {fault}", markup=False)

    emit(options, found, render)
    return NEGATIVE if found["fault"] or found["faults"] else 0


def _promote(options: argparse.Namespace) -> int:
    name, pack = options.classifier, options.pack
    return _pointed(options, lambda loop: loop.promote(name, pack, actor(), losing=options.losing))


def _undo(options: argparse.Namespace) -> int:
    return _pointed(options, lambda loop: loop.undo(options.classifier, actor()))


def _pointed(options: argparse.Namespace, work: Callable[[FeedbackLoop], Awaitable[Any]]) -> int:
    from proxy.errors import NotPromoted

    try:
        live = _changed(options, work).live
    except NotPromoted as error:
        for line in error.message.splitlines():
            print(f"doorman: {line}", file=sys.stderr)
        return NEGATIVE
    told = live or "the configured pack"
    value = {"classifier": options.classifier, "pack": live}
    emit(options, value, lambda console: console.print(f"{options.classifier}: {told} is served"))
    return 0


ACTIONS: dict[str, Callable[[argparse.Namespace], int]] = {
    "list": _list,
    "accept": _judge,
    "reject": _judge,
    "export": _export,
    "candidates": _candidates,
    "retrain": _retrain,
    "promote": _promote,
    "undo": _undo,
}


def _config(options: argparse.Namespace) -> Config:
    from proxy.config_ledger import NONE

    config = read_config(options.config, secrets="ledger")
    if config.ledger.url == NONE:
        raise CommandError("feedback is kept in the ledger's database; give `ledger.url` one")
    return config


def _on_table(options: argparse.Namespace, work: Callable[[FeedbackTable], Awaitable[T]]) -> T:
    from proxy.commands.ledger import done
    from proxy.keystore import place_of
    from proxy.ledgers.database import migrate
    from proxy.ledgers.feedback import FeedbackTable

    with faults():
        place = place_of(_config(options).ledger)
        migrate(place)

    async def on_table() -> T:
        table = FeedbackTable(place)
        try:
            return await work(table)
        finally:
            await table.close()

    return done(place, on_table())


def _changed(options: argparse.Namespace, work: Callable[[FeedbackLoop], Awaitable[T]]) -> T:
    return _with_gateway(options, lambda gateway: work(gateway.feedback))


def _with_gateway(options: argparse.Namespace, work: Callable[[Gateway], Awaitable[T]]) -> T:
    """Do some work with all classifiers and policies of the config, as a gateway has them."""
    from proxy.errors import InvalidRequest, NotPromoted, Unavailable
    from proxy.gateway import Gateway
    from proxy.ledgers.database import Away

    async def loaded() -> T:
        gateway = Gateway(config)
        await asyncio.to_thread(gateway.load)
        try:
            return await work(gateway)
        except NotPromoted:
            raise
        except (InvalidRequest, Unavailable) as error:
            raise CommandError(error.message) from None
        except Away as error:
            raise CommandError(f"the database cannot be used: {error}; try again") from None
        finally:
            await gateway.feedback.stop()
            await asyncio.to_thread(gateway.engine.close)

    config = _config(options)
    with faults():
        return asyncio.run(loaded())


def _plain(one: Feedback, texts: bool) -> dict[str, Any]:
    found: dict[str, Any] = {name: getattr(one, name) for name in SHOWN}
    found["labels"] = None if one.labels is None else list(one.labels)
    found.update(policy=one.policy, rule=one.rule, time=one.time)
    return {**found, "text": one.text, "comment": one.comment} if texts else found


def _table(console: Console, rows: list[dict[str, Any]], columns: tuple[str, ...]) -> None:
    from rich.markup import escape
    from rich.table import Table

    table = Table(*columns)
    for row in rows:
        table.add_row(*(escape(_cell(row[column])) for column in columns))
    console.print(table)


def _cell(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none of them"
    return "" if value is None else str(value)
