"""Two classifiers on the same labelled rows: doorman compare PACK_A PACK_B DATA."""

from __future__ import annotations

import argparse

from proxy.commands.evaluate import data_arguments, load_one, read_rows
from proxy.commands.output import emit, one_blas_thread
from proxy.commands.train import plain, training_faults


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("a", metavar="PACK_A", help="a shipped classifier, or a pack's folder")
    parser.add_argument("b", metavar="PACK_B", help="the other one")
    data_arguments(parser)


def run(options: argparse.Namespace) -> int:
    """Compare."""
    one_blas_thread()
    with training_faults():
        from classifiers.training.compare import compare

        a, b = load_one(options.a, options), load_one(options.b, options)
        found = compare(a, b, read_rows(options, a), with_texts=options.show_texts)
    emit(options, found.to_json(), lambda console: plain(console)(found.verdict))
    return 0
