"""Ways to train a pack, one file each; :data:`METHODS` is the table."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from classifiers.training.data import Row, middle_count
from classifiers.training.methods.base import Method

FEW = 5
"""Examples a label up to which the nearest example judges better than a fitted head."""
AUTO = "auto"


def _head() -> Method:
    from classifiers.training.methods.head import HeadMethod

    return HeadMethod()


def _examples() -> Method:
    from classifiers.training.methods.examples import ExamplesMethod

    return ExamplesMethod()


def _finetune() -> Method:
    from classifiers.training.methods.finetune import FinetuneMethod

    return FinetuneMethod()


METHODS: dict[str, Callable[[], Method]] = {
    "head": _head,
    "examples": _examples,
    "finetune": _finetune,
}
"""Token heads (kind `spans`) are trained by :mod:`classifiers.training.methods.spans`: their scores are
of stretches, not of texts."""


def choose(rows: Sequence[Row], labels: Sequence[str]) -> tuple[str, str]:
    """What ``method: auto`` means for these rows.

    Returns:
        The method, and the reason in a sentence.
    """
    middle = middle_count(rows, labels)
    if middle <= FEW:
        return "examples", (
            f"half of the labels have {middle} rows or fewer, and up to {FEW} the nearest example "
            "judges better than a fitted head"
        )
    return "head", (
        f"there are {len(rows):,} rows; `finetune` takes minutes instead of seconds and gained at most "
        "0.7 points where it was tried"
    )
