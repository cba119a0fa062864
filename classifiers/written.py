"""Pieces shared by everything that people write: strict keys, checked names, shares."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Any

from pydantic import BeforeValidator, model_validator

from classifiers.faults import did_you_mean, fault, show
from classifiers.types import StrictModel

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_./-]{0,63}")


class Written(StrictModel):
    """A mapping of a file that someone wrote. An unknown key is refused with the key that was meant."""

    @model_validator(mode="before")
    @classmethod
    def _known_keys(cls, value: Any) -> Any:
        if isinstance(value, Mapping):
            known = [field.alias or name for name, field in cls.model_fields.items()]
            for key in value:
                if key not in known:
                    raise fault(f"unknown key {show(key)}; {did_you_mean(key, known, 'keys')}", key)
        return value


Check = Callable[[Any], Any]
"""Returns the value as it is kept, or raises :func:`classifiers.faults.fault`."""


def one_of(options: Iterable[str], what: str) -> Check:
    """A check for one of a few words; ``what`` is their name in the plural."""
    known = tuple(options)

    def check(value: Any) -> Any:
        if value not in known:
            raise fault(f"{show(value)} is none of the {what}; {did_you_mean(value, known, what)}")
        return value

    return check


def list_of(check_one: Check, what: str, *, required: bool = False) -> Check:
    """A check for one value or a list of them without repetitions; the result is a tuple.

    ``required`` is for messages: the key cannot be left out."""

    def check(value: Any) -> tuple[Any, ...]:
        items = tuple(value) if isinstance(value, (list, tuple)) else (value,)
        if not items:
            raise fault(f"the list of {what} is empty; name at least one{_or_none(required)}")
        checked = tuple(check_one(item) for item in items)
        for index, item in enumerate(checked):
            if item in checked[:index]:
                raise fault(f"{show(item)} stands twice in the list of {what}; remove one")
        return checked

    return check


def items_of(what: str, *, required: bool = False) -> Check:
    """A check for a list that holds something; the items are checked by their own type.

    ``required`` is for messages: the key cannot be left out."""

    def check(value: Any) -> tuple[Any, ...]:
        if not isinstance(value, (list, tuple)):
            raise fault(f"{what} must be a list, not {show(value)}; begin each item with '- '")
        if not value:
            raise fault(f"the list of {what} is empty; write at least one{_or_none(required)}")
        return tuple(value)

    return check


def _or_none(required: bool) -> str:
    return "" if required else " or leave the key out"


def text_of(what: str) -> Callable[[Any], str]:
    """A check for text that is neither empty nor of another YAML type."""

    def check(value: Any) -> str:
        if not isinstance(value, str):
            raise fault(f"{what} must be text, not {show(value)}; put it in quotes")
        if not value.strip():
            raise fault(f"{what} is empty; write some text")
        return value

    return check


def name_of(what: str) -> Callable[[Any], str]:
    """A check for names that stand in headers, metrics and records."""

    def check(value: Any) -> str:
        text = text_of(what)(value)
        if not _NAME.fullmatch(text):
            raise fault(
                f"{what} is {show(text)}; use up to 64 letters, digits, '-', '_', '.' and '/', "
                "beginning with a letter or digit"
            )
        return text

    return check


def _share(value: Any) -> float:
    number = value
    if isinstance(value, str):
        digits = value.strip().removesuffix("%").strip()
        try:
            number = float(digits) / (100 if value.strip().endswith("%") else 1)
        except ValueError:
            number = None
    if isinstance(number, bool) or not isinstance(number, (int, float)):
        raise fault(
            f"{show(value)} is no share; write a percentage such as 0.5% or a fraction 0.005"
        )
    if not math.isfinite(number) or not 0 < number <= 1:
        raise fault(
            f"{show(value)} is not over 0 and up to 1; write a percentage such as 5% "
            "or a fraction such as 0.05"
        )
    return float(number)


Share = Annotated[float, BeforeValidator(_share)]
"""A part of the whole, over 0 and up to 1, written as ``0.5%`` or ``0.005``."""
