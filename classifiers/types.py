"""The values that cross the layers: texts in, predictions out.

``policies`` imports this module and the one about files that people write (``written``, ``faults``,
``yaml_source``) and nothing else from ``classifiers``, so everything a policy needs to know about a
classifier (its labels, its thresholds) is expressed here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, TypeVar, runtime_checkable

from pydantic import BaseModel, ConfigDict

MODERATION = (
    "harassment",
    "harassment/threatening",
    "hate",
    "hate/threatening",
    "illicit",
    "illicit/violent",
    "self-harm",
    "self-harm/intent",
    "self-harm/instructions",
    "sexual",
    "sexual/minors",
    "violence",
    "violence/graphic",
)
"""The categories of OpenAI's moderation interface, in its order; the labels of the pack `safety`."""

Stage = Literal["input", "output"]
Kind = Literal["one_of", "any_of", "spans"]
T = TypeVar("T")


class StrictModel(BaseModel):
    """What users write: unknown keys are errors, values never change after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class ClassifierError(Exception):
    """A classifier could not give a verdict. It is never to be read as "nothing found"."""


class UnknownLabel(ValueError):
    """A label or an operating point that the classifier does not offer."""


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of the original text, in characters: ``text[start:end]``."""

    start: int
    end: int

    def __post_init__(self) -> None:
        if not 0 <= self.start <= self.end:
            raise ValueError(f"span must satisfy 0 <= start <= end, got {self.start}..{self.end}")


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of a derived text, and where it comes from.

    ``content[start:end]`` of the derived text stands at ``[at:until]`` of the text with the address.
    Where the two differ in length, that one is JSON source and this one what it means.
    """

    start: int
    end: int
    address: tuple[str | int, ...]
    at: int
    until: int


@dataclass(frozen=True, slots=True)
class Text:
    """One piece of text of a request or a reply.

    Attributes:
        content: the string itself; kept out of ``repr`` because it is the user's.
        role: ``system``, ``developer``, ``user``, ``assistant``, ``tool``, ``function`` or ``unknown``.
        address: the keys that lead to the string in the parsed body, e.g. ``("messages", 0, "content")``.
        stage: ``input`` (on its way to the model) or ``output`` (on its way to the user).
        turn: index of the message the text belongs to, -1 where the body has no messages.
        last_turn: True when the text belongs to the newest turn of the conversation.
        derived: made of other texts of the body (joined, decoded), or the name of a field: it is
            checked as any text is, but nothing can be put in its place at its address.
        pieces: what a derived text is made of, in its order; nothing for the name of a field.
        across: made of several turns of the conversation, the newest among them: only rules that
            refuse look at it.
    """

    content: str = field(repr=False)
    role: str = "user"
    address: tuple[str | int, ...] = ()
    stage: Stage = "input"
    turn: int = -1
    last_turn: bool = True
    derived: bool = False
    pieces: tuple[Piece, ...] = ()
    across: bool = False


@dataclass(frozen=True, slots=True)
class Prediction:
    """One label's verdict on one text.

    Attributes:
        classifier: name of the classifier, e.g. ``safety``.
        label: one of its labels.
        score: calibrated probability in 0..1.
        span: where in the original text, for classifiers that point (personal data, patterns).
    """

    classifier: str
    label: str
    score: float
    span: Span | None = None


PointKind = Literal[
    "default", "at", "max_false_positive_rate", "min_recall", "max_wrong_answer_rate"
]


@dataclass(frozen=True, slots=True)
class OperatingPoint:
    """Where on the score axis a rule cuts. ``value`` is a fraction in 0..1, None for the default."""

    kind: PointKind = "default"
    value: float | None = None


@dataclass(frozen=True, slots=True)
class Floors:
    """The lowest scores of a text that make any difference, and so what must be found out about it.

    Attributes:
        lowest: by ``name@version`` and label; who is not named need not be asked.
        key: the same floors have the same.
    """

    lowest: Mapping[str, Mapping[str, float]]
    key: bytes = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        told = sorted((id, sorted(labels.items())) for id, labels in self.lowest.items())
        own = hashlib.blake2b(repr(told).encode(), digest_size=16).digest()
        object.__setattr__(self, "key", own)


@dataclass(frozen=True, slots=True)
class Joined:
    """What matters of a text that was made of others.

    Attributes:
        floors: the lowest scores that make a difference.
        members: which texts of the same call it was made of; none where not all of them are there.
    """

    floors: Floors
    members: tuple[int, ...] = ()


@runtime_checkable
class ClassifierInfo(Protocol):
    """What a policy may ask of a classifier when it is loaded."""

    @property
    def name(self) -> str: ...

    @property
    def labels(self) -> tuple[str, ...]: ...

    @property
    def kind(self) -> Kind:
        """One label, any of the labels, or finds with a place each."""
        ...

    @property
    def version(self) -> str:
        """Short content hash of the pack or of the pattern table: ``classifier@version`` in records."""
        ...

    def thresholds(self, labels: Sequence[str], point: OperatingPoint) -> Mapping[str, float]:
        """The lowest score that counts as a match, by label.

        For ``max_false_positive_rate`` the promise holds for the labels together.

        Raises:
            UnknownLabel: the classifier has no such label, or cannot promise such a point; the
                message says what it has, or how many more benign texts are needed.
        """
        ...


class Batch:
    """Texts that are classified together, with the work that several classifiers share.

    ``shared`` is what makes N policies cost one encoder pass: the first classifier that asks for a
    result computes it, the others are handed the same object.
    """

    __slots__ = ("_shared", "texts")

    def __init__(self, texts: Sequence[str]) -> None:
        self.texts: tuple[str, ...] = tuple(texts)
        self._shared: dict[Hashable, Any] = {}

    def shared(self, key: Hashable, compute: Callable[[Batch], T]) -> T:
        """Return ``compute(self)``, computed once per batch and key."""
        if key not in self._shared:
            self._shared[key] = compute(self)
        value: T = self._shared[key]
        return value


class Classifier(ClassifierInfo, Protocol):
    """The seam of the layer: everything that classifies has this one method."""

    def predict(self, batch: Batch) -> list[tuple[Prediction, ...]]:
        """Classify every text of the batch.

        Returns:
            One tuple per text, in order. Classifiers of kind ``one_of`` and ``any_of`` return every
            label with its score; classifiers of kind ``spans`` return one prediction per find,
            and an empty tuple where nothing was found.

        Raises:
            ClassifierError: no verdict could be given.
        """
        ...


@dataclass(frozen=True, slots=True)
class Classification:
    """What the engine found in one text.

    Attributes:
        predictions: by classifier name.
        errors: classifiers that failed on this text, name -> one-line reason. A classifier is in
            exactly one of the two mappings.
        cached: the predictions were remembered from an earlier request.
        beside: what candidates found that are tried beside the classifiers of these names. No
            decision reads it.
    """

    predictions: Mapping[str, tuple[Prediction, ...]]
    errors: Mapping[str, str] = field(default_factory=dict)
    cached: bool = False
    beside: Mapping[str, tuple[Prediction, ...]] = field(default_factory=dict)
