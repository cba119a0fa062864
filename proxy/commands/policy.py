"""Lint policy files (load, look up classifiers and thresholds), or run their tests as well.

With a config file, routes are checked against its model_list, and its classifiers are used."""

from __future__ import annotations

import argparse
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from proxy.commands.output import config_option, emit, faults, json_option, read_config

if TYPE_CHECKING:
    from rich.console import Console

    from classifiers.engine import ClassifierEngine
    from policies.answers import OpenFaq


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "what", choices=["test", "lint"], help="lint only, or run the tests as well"
    )
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="policy files")
    config_option(parser)
    json_option(parser)


def run(options: argparse.Namespace) -> int:
    """Exit status 0 if all files are good, 1 if one has faults or failing tests."""
    from classifiers.engine import ClassifierEngine
    from proxy.faqs import FaqShelf
    from proxy.loading import load_classifiers

    config = read_config(options.config, secrets=False)
    # Without a config it is not known which models there will be.
    aliases = [entry.model_name for entry in config.model_list] if options.config else None
    with faults():
        engine = ClassifierEngine(load_classifiers(config.classifiers))
    try:
        test = options.what == "test"
        shelf = FaqShelf(engine, config.classifiers)
        with faults():
            results = [_examine(path, engine, shelf, aliases, test=test) for path in options.files]
    finally:
        engine.close()
    good = not any(result["faults"] or result["failures"] for result in results)
    emit(options, {"ok": good, "files": results}, lambda console: _render(console, results))
    return 0 if good else 1


def _examine(
    path: Path,
    engine: ClassifierEngine,
    open_faq: OpenFaq,
    aliases: Collection[str] | None,
    *,
    test: bool,
) -> dict[str, Any]:
    from policies import schema, testing
    from proxy.policy_store import unknown_routes

    result: dict[str, Any] = {
        "file": str(path),
        "policy": None,
        "rules": 0,
        "tests": 0,
        "tested": False,
        "faults": [],
        "failures": [],
    }
    try:
        bound = schema.bind(schema.load(path), engine.classifiers, open_faq)
    except schema.PolicyError as error:
        result["faults"] = str(error).splitlines()
        return result
    result |= {
        "policy": bound.id,
        "rules": len(bound.policy.rules),
        "tests": len(bound.policy.tests),
        "tested": test,
        "faults": [] if aliases is None else unknown_routes(bound, aliases),
    }
    if test:
        result["failures"] = [str(f) for f in testing.run_tests(bound, engine.classify_blocking)]
    return result


def _render(console: Console, results: list[dict[str, Any]]) -> None:
    from rich.text import Text

    for result in results:
        bad = [*result["faults"], *result["failures"]]
        style, word = ("red", "FAILED") if bad else ("green", "ok")
        head = Text(f"{word:<7}", style=style)
        passed = result["tests"] - len(result["failures"])
        head.append(f"{result['file']}", style="bold")
        if result["policy"]:
            head.append(f"  {result['policy']}, {result['rules']} rules", style="default")
        if result["tested"]:
            head.append(f", {passed} of {result['tests']} tests passed", style="default")
        elif result["tests"]:
            head.append(f", {result['tests']} tests not run", style="default")
        console.print(head)
        for line in bad:
            console.print(Text(f"  {line}"))
