"""A FAQ that a rule answers from, bound to its classifier and to those that fill its slots."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from classifiers.faults import did_you_mean
from classifiers.types import ClassifierInfo, OperatingPoint, Text
from policies.bound import BoundLeaf
from policies.faq import Entry, Faq
from policies.faults import PolicyError
from policies.signals import Signals

OpenFaq = Callable[[Path], tuple[Faq, ClassifierInfo]]
"""Reads a FAQ file and makes its classifier, whose labels are the ids of the entries. Raises PolicyError."""

MOST_VALUE = 80
_VALUE = re.compile(r"[^\W_](?:[^\W_]|[ .,:;'’&/()+@%€$£#-])*")
"""What may be put into an answer: names, dates, numbers and addresses, but no markup and no line."""


@dataclass(frozen=True, slots=True)
class BoundFaq:
    """A FAQ with its thresholds.

    Attributes:
        leaf: the condition that some entry is asked for.
        entries: by id.
        slots: what finds the value of each slot, by what stands in the braces.
        info: the classifier; held, for it lives as long as the policy.
    """

    leaf: BoundLeaf
    entries: Mapping[str, Entry]
    slots: Mapping[str, BoundLeaf]
    info: ClassifierInfo = field(compare=False)

    def classifiers(self) -> Iterator[str]:
        """The classifiers that it needs, as ``name@version``; the FAQ's own has its version in its name."""
        yield self.leaf.id
        yield from (leaf.id for leaf in self.slots.values())

    def same(self, other: BoundFaq) -> bool:
        """Whether both are of the same content, and filled by the same classifiers. Thresholds are left
        out: the same promise may come to another one in the last digits on another machine."""
        return (self.leaf.id, self.slots) == (other.leaf.id, other.slots)

    def asked(self, signals: Signals, texts: Sequence[int]) -> str | None:
        """The id of the entry that all these texts ask for; None where they ask for several."""
        found = set()
        for index in texts:
            scores = signals.scores(index, self.leaf.classifier) or {}
            found.add(max(scores, key=lambda label: scores[label], default=None))
        return found.pop() if len(found) == 1 else None

    def failed(self, entry: str, signals: Signals, texts: Sequence[int]) -> tuple[int, str] | None:
        """A text, and a classifier that failed on it and would be needed for the entry's slots."""
        for slot in self.entries[entry].slots:
            for index in texts:
                if signals.scores(index, self.slots[slot].classifier) is None:
                    return index, self.slots[slot].classifier
        return None

    def answer(
        self, entry: str, signals: Signals, texts: Sequence[Text], indexes: Sequence[int]
    ) -> str | None:
        """The entry's answer with its slots filled; None where a value is missing, or not the only one."""
        values: dict[str, str] = {}
        for slot in self.entries[entry].slots:
            found = set(self._found(self.slots[slot], signals, texts, indexes))
            if len(found) != 1:
                return None
            value = found.pop()
            if len(value) > MOST_VALUE or not _VALUE.fullmatch(value):
                return None
            values[slot] = value
        return self.entries[entry].filled(values)

    @staticmethod
    def _found(
        leaf: BoundLeaf, signals: Signals, texts: Sequence[Text], indexes: Sequence[int]
    ) -> Iterator[str]:
        for index in indexes:
            for hit in leaf.hits(signals, index):
                if span := hit.prediction.span:
                    yield texts[index].content[span.start : span.end].strip()


def bind_faq(
    faq: Faq,
    info: ClassifierInfo,
    point: OperatingPoint,
    classifiers: Mapping[str, ClassifierInfo],
) -> BoundFaq:
    """Look up the thresholds of a FAQ and what fills its slots.

    Raises:
        UnknownLabel: the promise cannot be made.
        PolicyError: slots that nothing can fill, each with its place in the FAQ.
    """
    thresholds = info.thresholds(info.labels, point)
    leaf = BoundLeaf(
        info.name, info.name, tuple((label, thresholds[label]) for label in info.labels), False
    )
    slots: dict[str, BoundLeaf] = {}
    problems: list[str] = []
    for index, entry in enumerate(faq.questions):
        for slot in entry.slots:
            try:
                slots[slot] = _slot(slot, classifiers)
            except PolicyError as error:
                problems.append(f"{faq.at('questions', index, 'answer')}: {error}")
    if problems:
        raise PolicyError("\n".join(dict.fromkeys(problems)))
    return BoundFaq(leaf, faq.entries(), slots, info)


def _slot(slot: str, classifiers: Mapping[str, ClassifierInfo]) -> BoundLeaf:
    """``LABEL``, or ``classifier.LABEL`` where several classifiers find one of that name."""
    finders = {name: info for name, info in classifiers.items() if info.kind == "spans"}
    named, dot, label = slot.partition(".")
    if not (dot and named in finders):
        having = [name for name, info in finders.items() if slot in info.labels]
        if len(having) > 1:
            raise PolicyError(
                f"the slot {{{slot}}} is found by {' and '.join(having)}; write {{{having[0]}.{slot}}}"
            )
        if not having:
            known = [each for info in finders.values() for each in info.labels]
            hint = did_you_mean(slot, dict.fromkeys(known), "labels that are found in texts")
            raise PolicyError(f"nothing finds the slot {{{slot}}}; {hint}")
        named, label = having[0], slot
    info = finders[named]
    if label not in info.labels:
        hint = did_you_mean(label, info.labels, f"labels of {named}")
        raise PolicyError(f"classifier {named!r} finds no {label!r}; {hint}")
    threshold = info.thresholds([label], OperatingPoint())[label]
    return BoundLeaf(named, f"{named}@{info.version}", ((label, float(threshold)),), True)
