"""What a rule looks for: ``classifier: label`` and ``all``, ``any``, ``not`` around it.

A condition is about ONE text. These are the conditions as they are written; ``policies.bound``
holds them with their thresholds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any, ClassVar

from pydantic import BeforeValidator, Discriminator, Field, Tag, model_validator
from pydantic_core import PydanticCustomError

from classifiers.faults import fault, show
from classifiers.types import OperatingPoint, PointKind
from classifiers.written import Share, Written, items_of, list_of, text_of
from policies.bound import Bound, BoundAll, BoundAny, BoundLeaf, BoundNot

POINTS: tuple[PointKind, ...] = ("at", "max_false_positive_rate", "min_recall")
FORMS = ("all", "any", "not")
RESERVED = frozenset({*FORMS, *POINTS})
"""Words that no classifier may have for a name."""

Path = tuple[str | int, ...]
Bind = Callable[["Leaf", Path], BoundLeaf]

_labels = list_of(text_of("a label"), "labels", required=True)
_conditions = BeforeValidator(items_of("conditions", required=True))


class Leaf(Written):
    """``{classifier: label or [labels]}`` with at most one operating point."""

    form: ClassVar[str] = "<leaf>"

    classifier: str
    labels: tuple[str, ...]
    at: Share | None = None
    max_false_positive_rate: Share | None = None
    min_recall: Share | None = None

    @model_validator(mode="before")
    @classmethod
    def _short(cls, value: Any) -> Any:
        if isinstance(value, cls):
            return value
        if not isinstance(value, Mapping):
            raise fault(f"{show(value)} is no condition; write classifier: label, all, any or not")
        names = [key for key in value if key not in POINTS]
        points = [key for key in value if key in POINTS]
        if len(names) != 1:
            raise fault(
                f"a condition names exactly one classifier, here: {', '.join(names) or 'none'}; "
                f"combine several with all or any (operating points are {', '.join(POINTS)})",
                *names[-1:],
            )
        if len(points) > 1:
            raise fault(
                f"a condition has at most one operating point, here: {', '.join(points)}; keep one",
                points[-1],
            )
        name = names[0]
        try:
            labels = _labels(value[name])
        except PydanticCustomError as error:
            raise fault(error.message(), name) from None
        return {"classifier": name, "labels": labels, **{key: value[key] for key in points}}

    @model_validator(mode="after")
    def _budget(self) -> Leaf:
        if self.max_false_positive_rate == 1:
            raise fault(
                "a max_false_positive_rate of 100% would allow every text to match; write the part "
                "of benign texts that may match by mistake, such as 0.5%",
                "max_false_positive_rate",
            )
        return self

    @property
    def point(self) -> OperatingPoint:
        """The operating point as classifiers take it."""
        for kind in POINTS:
            value = getattr(self, kind)
            if value is not None:
                return OperatingPoint(kind, value)
        return OperatingPoint()

    def bind(self, bind: Bind, path: Path) -> Bound:
        return bind(self, path)

    def positive(self, want: bool = True) -> Iterator[Leaf]:
        """The leaves whose matching can make the condition ``want``."""
        if want:
            yield self


class All(Written):
    """``{all: [conditions]}``: true where every part is."""

    form: ClassVar[str] = "all"

    parts: Annotated[tuple[Condition, ...], _conditions, Field(alias="all")]

    def bind(self, bind: Bind, path: Path) -> Bound:
        return BoundAll(_bind_parts(self.parts, bind, (*path, "all")))

    def positive(self, want: bool = True) -> Iterator[Leaf]:
        for part in self.parts:
            yield from part.positive(want)


class AnyOf(Written):
    """``{any: [conditions]}``: true where at least one part is."""

    form: ClassVar[str] = "any"

    parts: Annotated[tuple[Condition, ...], _conditions, Field(alias="any")]

    def bind(self, bind: Bind, path: Path) -> Bound:
        return BoundAny(_bind_parts(self.parts, bind, (*path, "any")))

    def positive(self, want: bool = True) -> Iterator[Leaf]:
        for part in self.parts:
            yield from part.positive(want)


class Always(Written):
    """True for every text: for actions that look for something by themselves. It is never written."""

    form: ClassVar[str] = "<always>"

    def bind(self, bind: Bind, path: Path) -> Bound:
        return BoundAll(())

    def positive(self, want: bool = True) -> Iterator[Leaf]:
        yield from ()


class Not(Written):
    """``{not: condition}``: true where the condition is false, unknown where it is unknown."""

    form: ClassVar[str] = "not"

    part: Annotated[Condition, Field(alias="not")]

    def bind(self, bind: Bind, path: Path) -> Bound:
        return BoundNot(self.part.bind(bind, (*path, "not")))

    def positive(self, want: bool = True) -> Iterator[Leaf]:
        yield from self.part.positive(not want)


def _form(value: Any) -> str:
    if isinstance(value, Mapping):
        return next((word for word in FORMS if word in value), Leaf.form)
    return value.form if isinstance(value, (Leaf, All, AnyOf, Not, Always)) else Leaf.form


Condition = Annotated[
    Annotated[Leaf, Tag("<leaf>")]
    | Annotated[All, Tag("all")]
    | Annotated[AnyOf, Tag("any")]
    | Annotated[Not, Tag("not")]
    | Annotated[Always, Tag("<always>")],
    Discriminator(_form),
]
"""What stands under ``when``."""


def _bind_parts(parts: tuple[Condition, ...], bind: Bind, path: Path) -> tuple[Bound, ...]:
    return tuple(part.bind(bind, (*path, i)) for i, part in enumerate(parts))


All.model_rebuild()
AnyOf.model_rebuild()
Not.model_rebuild()
