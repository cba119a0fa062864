"""How commands speak: tables on a terminal, JSON in a pipe, one line for an error."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from rich.console import Console

    from proxy.config import Config


def one_blas_thread() -> None:
    """Keep numpy's linear algebra on one thread. To be called before numpy is imported.

    The heads' products are small: waking other threads for them was measured to take up to 68 ms
    where the product itself takes 0.07 ms (100 heads, 512 tokens, both cores busy).
    """
    for name in ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(name, "1")


class CommandError(Exception):
    """The command cannot do its work; each line is a fault with its fix."""


def json_option(
    parser: argparse.ArgumentParser, help: str = "print JSON on a terminal too, not in a pipe only"
) -> None:
    """Add ``--json``."""
    parser.add_argument("--json", action="store_true", help=help)


def config_option(parser: argparse.ArgumentParser) -> None:
    """Add ``-c/--config``."""
    parser.add_argument(
        "-c", "--config", type=Path, metavar="FILE", help="config file (default: built-in defaults)"
    )


def emit(options: argparse.Namespace, value: Any, render: Callable[[Console], None]) -> None:
    """Print a result: JSON if asked for or if piped, else what ``render`` draws."""
    if options.json or not sys.stdout.isatty():
        print(json.dumps(value, ensure_ascii=False, indent=2))
        return
    from rich.console import Console

    render(Console(highlight=False))


def read_config(path: Path | None, *, secrets: bool | Literal["ledger"] = True) -> Config:
    """The config file, or the built-in defaults; see :func:`proxy.config.loads` for ``secrets``."""
    from proxy import config

    with faults():
        return config.defaults() if path is None else config.load(path, secrets=secrets)


@contextlib.contextmanager
def faults() -> Iterator[None]:
    """Turn what users can mend into :class:`CommandError`."""
    from policies.schema import PolicyError
    from proxy.yaml_source import ConfigError

    try:
        yield
    except (ConfigError, PolicyError) as error:
        raise CommandError(str(error)) from None
