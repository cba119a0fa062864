"""What an operator writes: Policy, Rule, Attach, Case."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, PrivateAttr, model_validator

from classifiers.faults import did_you_mean, fault, show
from classifiers.types import Stage, Text
from classifiers.written import Written, items_of, list_of, name_of, one_of, text_of
from classifiers.yaml_source import Document
from policies.actions import ACTIONS, Action, AnswerFrom, Route, Turns
from policies.conditions import Always, Condition
from policies.seen import Kind

ROLES: dict[str, frozenset[str]] = {
    "system": frozenset({"system"}),
    "developer": frozenset({"developer", "system"}),
    "user": frozenset({"user"}),
    "assistant": frozenset({"assistant"}),
    "tool": frozenset({"tool"}),
    "function": frozenset({"function", "tool"}),
}
"""Role of a text -> names in ``roles:`` that cover it."""

UNKNOWN_ROLE = frozenset({"user", "tool"})
"""Names that cover a text of any other role: what nobody vouches for counts as the user's."""

StreamCheck = Literal["hold", "after", "off"]
STREAM_CHECKS: tuple[StreamCheck, ...] = ("hold", "after", "off")
"""When the output rules of a policy look at a stream, from the strictest: before a text leaves, while
it goes, never."""

EXPECTATIONS = ("forward", "flag", "redact", "route", "answer", "block")
_VERSION = re.compile(r"[!-~]{1,64}")


def _version(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, (int, str)):
        raise fault(f"version {show(value)} is neither a whole number nor text; put it in quotes")
    text = str(value)
    if not _VERSION.fullmatch(text) or "@" in text:
        raise fault(f"version {show(value)} must be 1 to 64 visible characters without spaces or @")
    return text


def _stream_check(value: Any) -> Any:
    # YAML reads a bare off as no.
    return one_of(STREAM_CHECKS, "values of stream_check")("off" if value is False else value)


_Globs = Annotated[tuple[str, ...], BeforeValidator(list_of(text_of("a pattern"), "patterns"))]


class Attach(Written):
    """Which requests the policy is for: patterns (``*``, ``?``, ``[ab]``) of names, case counts."""

    models: _Globs = ("*",)
    keys: _Globs = ("*",)


@dataclass(frozen=True, slots=True)
class Scope:
    """Which texts a rule looks at: those of some roles on input, all of the model's on output."""

    roles: frozenset[str]
    last_turn_only: bool
    across_turns: bool = False
    _hash: int = field(default=0, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(
            self, "_hash", hash((self.roles, self.last_turn_only, self.across_turns))
        )

    def __hash__(self) -> int:
        return self._hash  # looked up for every rule of every request

    def covers(self, text: Text | Kind, stage: Stage) -> bool:
        if stage == "output":
            return True
        if self.last_turn_only and not text.last_turn:
            return False
        if text.across and not self.across_turns:
            return False
        return not self.roles.isdisjoint(ROLES.get(text.role, UNKNOWN_ROLE))


class Rule(Written):
    """When this, do that."""

    name: Annotated[str, BeforeValidator(name_of("the name of a rule"))]
    description: str | None = None
    mode: Annotated[
        Literal["enforce", "shadow"], BeforeValidator(one_of(("enforce", "shadow"), "modes"))
    ] = "enforce"
    when: Condition
    check: Annotated[
        tuple[Stage, ...], BeforeValidator(list_of(one_of(("input", "output"), "stages"), "stages"))
    ] = ("input",)
    roles: (
        Annotated[tuple[str, ...], BeforeValidator(list_of(one_of(ROLES, "roles"), "roles"))] | None
    ) = None
    turns: Annotated[Turns, BeforeValidator(one_of(("all", "last"), "turns"))] | None = None
    do: Action

    @model_validator(mode="before")
    @classmethod
    def _asking(cls, value: Any) -> Any:
        """An action that looks for something by itself needs no condition."""
        if isinstance(value, Mapping) and "when" not in value:
            word = value.get("do")
            word = next(iter(word), None) if isinstance(word, Mapping) else word
            if isinstance(word, str) and word in ACTIONS and ACTIONS[word].asks:
                return {**value, "when": Always()}
        return value

    @property
    def enforced(self) -> bool:
        return self.mode == "enforce"

    @property
    def scope(self) -> Scope:
        """The texts it looks at."""
        roles = frozenset(self.roles or ("user", "tool"))
        last = (self.turns or self.do.turns) == "last"
        return Scope(roles, last_turn_only=last, across_turns=self.do.across_turns)

    def covers(self, text: Text, stage: Stage) -> bool:
        """Whether the rule looks at a text that is checked on this stage."""
        return self.scope.covers(text, stage)

    @model_validator(mode="after")
    def _sensible(self) -> Rule:
        action = self.do.name
        for stage in self.check:
            if stage not in self.do.stages:
                raise fault(
                    f"rule {self.name!r} cannot {action} on {stage}, the reply is there already; "
                    f"check {' and '.join(self.do.stages)} only, or block",
                    "check",
                )
        if self.roles and "input" not in self.check and self.roles != ("assistant",):
            raise fault(
                f"rule {self.name!r} has roles, but output is always the assistant's; "
                "leave roles out or check input",
                "roles",
            )
        if self.do.every_text and self.turns == "all":
            raise fault(
                f"rule {self.name!r} cannot {action} for old turns; leave turns out", "turns"
            )
        if self.do.every_text and "user" not in self.scope.roles:
            raise fault(
                f"rule {self.name!r} can only {action} the user; add user to roles", "roles"
            )
        self.do.check_labels(label for leaf in self.when.positive() for label in leaf.labels)
        return self


def _contents(value: Any) -> tuple[str, ...]:
    parts = value if isinstance(value, (list, tuple)) else (value,)
    for part in parts:
        if not isinstance(part, str):
            raise fault(f"{show(part)} is no text; put it in quotes")
    if not parts:
        raise fault("content is empty; write a text or a list of texts")
    return tuple(parts)


class Message(Written):
    """A message of a test conversation; several parts are classified one by one."""

    role: Annotated[str, BeforeValidator(one_of(ROLES, "roles"))]
    content: Annotated[tuple[str, ...], BeforeValidator(_contents)]


class Case(Written):
    """One conversation of ``tests:`` and what must become of it.

    ``system``, ``user`` and ``tool`` (in this order) or ``messages`` are the request, ``assistant``
    is the model's reply.
    """

    system: str | None = None
    user: str | None = None
    tool: str | None = None
    assistant: str | None = None
    messages: Annotated[tuple[Message, ...], BeforeValidator(items_of("messages"))] | None = None
    expect: Annotated[
        tuple[str, ...],
        BeforeValidator(
            list_of(one_of(EXPECTATIONS, "expectations"), "expectations", required=True)
        ),
    ]
    rule: Annotated[tuple[str, ...], BeforeValidator(list_of(text_of("a rule"), "rules"))] = ()

    @model_validator(mode="after")
    def _one_form(self) -> Case:
        single = (self.system, self.user, self.tool)
        if self.messages is not None and any(part is not None for part in single):
            raise fault("a test has either messages or single texts; use one form", "messages")
        if self.messages is None and all(part is None for part in (*single, self.assistant)):
            raise fault("a test has no text; add user, tool, system, assistant or messages")
        return self


class Policy(Written):
    """A policy file. ``at(...)`` tells where in the file something stands."""

    name: Annotated[str, BeforeValidator(name_of("the name of a policy"))]
    version: Annotated[str, BeforeValidator(_version)] = "1"
    description: str | None = None
    attach: Attach = Attach()
    on_error: Annotated[
        Literal["block", "allow"], BeforeValidator(one_of(("block", "allow"), "values of on_error"))
    ] = "block"
    on_unscannable: Annotated[
        Literal["block", "allow"],
        BeforeValidator(one_of(("block", "allow"), "values of on_unscannable")),
    ] = "block"
    stream_check: Annotated[StreamCheck, BeforeValidator(_stream_check)] = "hold"
    rules: Annotated[tuple[Rule, ...], BeforeValidator(items_of("rules", required=True))]
    tests: Annotated[tuple[Case, ...], BeforeValidator(items_of("tests"))] = ()

    _document: Document = PrivateAttr(default_factory=lambda: Document("policy", None, {}))

    @property
    def id(self) -> str:
        """``name@version``."""
        return f"{self.name}@{self.version}"

    @property
    def source(self) -> str:
        """The file it was read from."""
        return self._document.source

    def at(self, *path: str | int) -> str:
        """``file:line`` of a value, by the keys that lead to it."""
        return self._document.at(path)

    def routes(self) -> tuple[str, ...]:
        """Aliases of the models that its rules route to, shadow rules too, without repetitions."""
        found = (rule.do.model for rule in self.rules if isinstance(rule.do, Route))
        return tuple(dict.fromkeys(found))

    def faqs(self) -> tuple[Path, ...]:
        """The FAQ files that its rules answer from; relative paths begin where the policy stands."""
        home = Path(self.source).parent
        found = (home / rule.do.faq for rule in self.rules if isinstance(rule.do, AnswerFrom))
        return tuple(dict.fromkeys(found))

    @model_validator(mode="before")
    @classmethod
    def _mapping(cls, value: Any) -> Any:
        if not isinstance(value, (Mapping, Policy)):
            raise fault(f"{show(value)} is no policy; begin with name: and rules:")
        return value

    @model_validator(mode="after")
    def _held_to_redact(self) -> Policy:
        if self.stream_check == "hold":
            return self
        for index, rule in enumerate(self.rules):
            if rule.do.needs_spans and "output" in rule.check:
                raise fault(
                    f"rule {rule.name!r} cannot {rule.do.name} output with stream_check: "
                    f"{self.stream_check}, a stream that is not held back has left already; "
                    "write stream_check: hold, or check: input",
                    "rules",
                    index,
                )
        return self

    @model_validator(mode="after")
    def _names(self) -> Policy:
        known: list[str] = []
        for index, rule in enumerate(self.rules):
            if rule.name in known:
                raise fault(f"two rules are named {rule.name!r}; rename one", "rules", index)
            known.append(rule.name)
        for index, case in enumerate(self.tests):
            for name in case.rule:
                if name not in known:
                    hint = did_you_mean(name, known, "rules")
                    raise fault(f"a test names the unknown rule {name!r}; {hint}", "tests", index)
        return self


__all__ = ["ROLES", "Attach", "Case", "Message", "Policy", "Rule"]
