"""How far two judges agree."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class LabelAgreement:
    """Agreement on one label, has it or has it not.

    Attributes:
        teacher, head: texts that each of them gives the label.
        both: texts that both give it.
        accuracy: share of texts on which they say the same.
        kappa: Cohen's kappa; None where chance alone would make them agree always.
    """

    label: str
    teacher: int
    head: int
    both: int
    accuracy: float
    kappa: float | None


@dataclass(frozen=True, slots=True)
class Agreement:
    """Agreement of a head with its teacher.

    Attributes:
        texts: that both labelled.
        accuracy: share of texts with the very same labels.
        kappa: Cohen's kappa: of the labels for one_of (no label is one, too), of the label sets
            otherwise; None where chance alone would make them agree always.
    """

    texts: int
    accuracy: float | None
    kappa: float | None
    labels: tuple[LabelAgreement, ...]


def agreement(
    head: Sequence[frozenset[str]],
    teacher: Sequence[frozenset[str]],
    names: Sequence[str],
) -> Agreement:
    """Compare labels of the same texts.

    Args:
        head, teacher: of each text.
        names: the labels of the task.

    Raises:
        ValueError: not as many of the one as of the other.
    """
    if len(head) != len(teacher):
        raise ValueError(f"{len(head)} texts of the head, {len(teacher)} of the teacher")
    if not head:
        return Agreement(0, None, None, ())
    labels = []
    for name in names:
        ours, theirs = [name in one for one in head], [name in one for one in teacher]
        both = sum(a and b for a, b in zip(ours, theirs, strict=True))
        labels.append(
            LabelAgreement(
                name, sum(theirs), sum(ours), both, share(ours, theirs), kappa(ours, theirs)
            )
        )
    return Agreement(len(head), share(head, teacher), kappa(head, teacher), tuple(labels))


def share(one: Sequence[Hashable], other: Sequence[Hashable]) -> float:
    """Share of places where two sequences are equal."""
    return sum(a == b for a, b in zip(one, other, strict=True)) / len(one)


def kappa(one: Sequence[Hashable], other: Sequence[Hashable]) -> float | None:
    """Cohen's kappa (1960): agreement beyond chance, 1 for full and 0 for none.

    None where both always give the same one value, so that chance explains everything.
    """
    first, second = Counter(one), Counter(other)
    chance = sum(first[value] * second[value] for value in first) / len(one) ** 2
    return None if chance >= 1 else (share(one, other) - chance) / (1 - chance)
