"""The command line: ``doorman COMMAND``. One module per command in ``proxy/commands``."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from proxy.commands.output import CommandError

USAGE_ERROR = 2
INTERRUPTED = 130


@dataclass(frozen=True, slots=True)
class Command:
    """One command: ``module`` has ``arguments(parser)`` and ``run(options) -> exit status``.

    Modules are imported when their command is used, and import what is heavy within ``run``.
    """

    module: str
    help: str


COMMANDS: dict[str, Command] = {
    "serve": Command("proxy.commands.serve", "run the gateway"),
    "demo": Command(
        "proxy.commands.demo", "send real conversations through the gateway, show what was decided"
    ),
    "check": Command(
        "proxy.commands.check", "show what is found in a text, and what would be done"
    ),
    "policy": Command("proxy.commands.policy", "lint policy files, or run their tests"),
    "keys": Command("proxy.commands.keys", "make, list, revoke and rotate client keys"),
    "ledger": Command("proxy.commands.ledger", "show, check and export the recorded decisions"),
    "savings": Command("proxy.commands.savings", "calls avoided and dollars saved, with mistakes"),
    "packs": Command("proxy.commands.packs", "list the shipped classifiers, or show one"),
    "feedback": Command(
        "proxy.commands.feedback", "what people said of decisions, and corrected classifiers"
    ),
    "train": Command("proxy.commands.train", "train a classifier from a task file, or correct one"),
    "evaluate": Command("proxy.commands.evaluate", "measure a classifier on labelled rows"),
    "compare": Command("proxy.commands.compare", "two classifiers on the same rows"),
    "backtest": Command(
        "proxy.commands.backtest", "what another policy would have done to recorded requests"
    ),
    "encoder": Command("proxy.commands.encoder", "make an encoder pack of a sentence encoder"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command. Returns the exit status: 0, 1 for a negative finding, 2 for an error."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    parser = _parser()
    name = arguments[0] if arguments else ""
    if name not in COMMANDS:
        # Help, or an error that argparse words.
        parser.parse_args(arguments or ["--help"])
        return USAGE_ERROR
    command = COMMANDS[name]
    module = importlib.import_module(command.module)
    own = argparse.ArgumentParser(prog=f"doorman {name}", description=module.__doc__)
    module.arguments(own)
    options = own.parse_args(arguments[1:])
    try:
        return int(module.run(options))
    except CommandError as error:
        for line in str(error).splitlines():
            print(f"doorman: {line}", file=sys.stderr)
        return USAGE_ERROR
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read the output has seen enough.
        sys.stderr.close()
        return 0


def _parser() -> argparse.ArgumentParser:
    lines = [f"  {name:<8} {command.help}" for name, command in COMMANDS.items()]
    parser = argparse.ArgumentParser(
        prog="doorman",
        usage="doorman COMMAND [options]",
        description="A gateway in front of LLM APIs that blocks, answers, redacts or routes requests.",
        epilog="commands:\n" + "\n".join(lines) + "\n\n`doorman COMMAND --help` tells more.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"doorman {_version()}")
    parser.add_argument("command", choices=list(COMMANDS), metavar="COMMAND", help="what to do")
    return parser


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("doorman")
    except PackageNotFoundError:
        return "unknown (not installed)"


if __name__ == "__main__":
    sys.exit(main())
