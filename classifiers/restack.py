"""Put a pack in the place of one that is loaded, or beside it.

Heads that share an encoder share one product: it is stacked anew with the pack among them, so that a
candidate costs its own columns and no second pass of the encoder.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from classifiers.heads import Head, HeadClassifier, stacked
from classifiers.packs import PackError
from classifiers.stack import HeadStack
from classifiers.types import Classifier


@dataclass(frozen=True, slots=True)
class Restacked:
    """Classifiers by name, and the pack that was read for one of these names."""

    current: Mapping[str, Classifier]
    pack: HeadClassifier


def replaced(known: Mapping[str, Classifier], name: str, folder: Path) -> Restacked:
    """The classifiers with a pack in the place of one of them. Blocking.

    Args:
        known: by name; they stay as they are.
        name: of the classifier.
        folder: another pack of its name.

    Raises:
        PackError: the pack is damaged, was made for another encoder or has another name, or the
            classifier is no head.
    """
    old, head = _read(known, name, folder)
    made = _stacked(known, old, {name: head})
    return Restacked({**known, **made}, made[name])


def beside(known: Mapping[str, Classifier], name: str, folder: Path) -> Restacked:
    """The classifiers as they are, and a pack that may take the place of one. Blocking.

    Raises:
        PackError: see :func:`replaced`.
    """
    old, head = _read(known, name, folder)
    made = _stacked(known, old, {"": head})
    return Restacked({**known, **{n: c for n, c in made.items() if n}}, made[""])


def alone(classifier: Classifier) -> Classifier:
    """A classifier that is about to go: off the stack of those that stay, which may then change."""
    if not isinstance(classifier, HeadClassifier):
        return classifier
    stack = HeadStack(classifier.reader, [classifier.head])
    return HeadClassifier(classifier.head, stack, stack.columns[0])


def _read(known: Mapping[str, Classifier], name: str, folder: Path) -> tuple[HeadClassifier, Head]:
    old = known.get(name)
    if not isinstance(old, HeadClassifier):
        what = "is not loaded" if old is None else "is no head"
        raise PackError(f"{folder}: {name} {what}, so no pack can take its place while it runs")
    head = Head(folder, old.encoder)
    if head.name != name:
        raise PackError(f"{folder}: is a pack of {head.name}, one of {name} is needed")
    return old, head


def _stacked(
    known: Mapping[str, Classifier], old: HeadClassifier, changes: Mapping[str, Head]
) -> dict[str, HeadClassifier]:
    """All heads that share the reader of one, with these changes."""
    heads = {
        name: mate.head
        for name, mate in known.items()
        if isinstance(mate, HeadClassifier) and mate.reader is old.reader
    }
    heads.update(changes)
    return dict(zip(heads, stacked(old.reader, [*heads.values()]), strict=True))
