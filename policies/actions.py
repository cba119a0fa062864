"""What a rule does when it fires. Each action applies itself to the decision.

A new action is one class, one entry in :data:`Action` and one in :data:`ACTIONS`.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Discriminator, Field, Tag, model_validator
from pydantic_core import PydanticCustomError

from classifiers.faults import did_you_mean, fault, show
from classifiers.types import OperatingPoint, Stage
from classifiers.written import Check, Share, Written, name_of, one_of, text_of
from policies.decision import RANK, Outcome, Reply
from policies.draft import Draft, Fired
from policies.redaction import check_template

Turns = Literal["all", "last"]

WRONG_ANSWERS = 0.01
"""The part of the texts that may get a wrong answer from a FAQ, unless a rule says otherwise."""


class BaseAction(Written):
    """Subclasses say what they are in class variables; the engine asks for nothing else."""

    name: ClassVar[str]
    """The word in the policy file."""
    outcome: ClassVar[Outcome]
    """What becomes of the request if this action wins."""
    stages: ClassVar[tuple[Stage, ...]] = ("input", "output")
    """Where it can act."""
    turns: ClassVar[Turns] = "all"
    """Which turns its rule looks at unless the rule says so itself."""
    every_text: ClassVar[bool] = False
    """Fires only if every text of the user's newest turn matches, instead of any text in scope."""
    across_turns: ClassVar[bool] = False
    """Its rule also looks at the last messages of a speaker joined to one text."""
    guards: ClassVar[bool] = False
    """Keeps something from passing, so that what cannot be read may not pass either."""
    needs_spans: ClassVar[bool] = False
    """Works on the stretches that were found; undecided where any of its classifiers failed."""
    short: ClassVar[str | None] = None
    """Field that a bare value stands for."""
    bare: ClassVar[bool] = False
    """``do: word`` alone is enough."""
    recorded: ClassVar[str | None] = None
    """The word in records, the name unless given."""
    asks: ClassVar[bool] = False
    """Looks for something by itself, so that its rule needs no ``when``."""

    @classmethod
    def rank(cls) -> int:
        """How restrictive it is, see :data:`policies.decision.RANK`."""
        return RANK[cls.outcome]

    @model_validator(mode="before")
    @classmethod
    def _unwrap(cls, value: Any) -> Any:
        if not (isinstance(value, Mapping) and tuple(value) == (cls.name,)):
            return value
        written = value[cls.name]
        if written is None and cls.bare:
            return {}
        return cls.from_written(written)

    @classmethod
    def from_written(cls, written: Any) -> Any:
        """The fields, from what stands behind the action's word."""
        if isinstance(written, Mapping):
            return written
        if cls.short is None:
            raise fault(f"{cls.name} takes no value, not {show(written)}; write do: {cls.name}")
        return {cls.short: written}

    @property
    def word(self) -> str:
        """What records call it."""
        return self.recorded or self.name

    @property
    def refusal(self) -> str | None:
        """The words with which the action refuses, as a chatbot keeps them in its history."""
        return None

    @abstractmethod
    def apply(self, draft: Draft, fired: Fired) -> None:
        """Do to the decision what the action is for."""

    def check_labels(self, labels: Iterable[str]) -> None:
        """Refuse labels that the action has no use for.

        Args:
            labels: those whose matching can make the rule fire.
        """


class Allow(BaseAction):
    """Forward. It never overrides another rule; it leaves a record that the rule fired."""

    name = "allow"
    outcome = "forward"
    bare = True

    def apply(self, draft: Draft, fired: Fired) -> None:
        draft.take(self.outcome, fired.cause)


class Flag(BaseAction):
    """Forward with a tag in the record, the rule's name unless given."""

    name = "flag"
    outcome = "forward"
    short = "tag"
    bare = True

    tag: Annotated[str, BeforeValidator(name_of("a tag"))] | None = None

    def apply(self, draft: Draft, fired: Fired) -> None:
        draft.tags.setdefault(self.tag or fired.cause.rule)


class Redact(BaseAction):
    """Replace what was found by placeholders, and put it back in the reply if wanted."""

    name = "redact"
    outcome = "redact"
    guards = True
    needs_spans = True
    short = "as"
    bare = True

    template: Annotated[str, BeforeValidator(text_of("the placeholder")), Field(alias="as")] = (
        "<{label}_{n}>"
    )
    restore: bool = False

    @model_validator(mode="after")
    def _usable(self) -> Redact:
        check_template(self.template, self.restore)
        return self

    def apply(self, draft: Draft, fired: Fired) -> None:
        for text, hit in fired.hits:
            if not (hit.matched and hit.leaf.spans):
                continue
            span = hit.prediction.span
            # A find that does not say where it is could be anywhere in the text.
            start, end = (span.start, span.end) if span else (0, len(draft.texts[text].content))
            if draft.replaceable(text, fired.cause) and draft.redact(
                text,
                start,
                end,
                template=self.template,
                label=hit.prediction.label,
                restore=self.restore,
            ):
                draft.take(self.outcome, fired.cause)


class Route(BaseAction):
    """Send the request to another model of the gateway's ``model_list``."""

    name = "route"
    outcome = "route"
    stages = ("input",)
    turns = "last"
    short = "model"

    model: Annotated[str, BeforeValidator(text_of("the model alias"))]

    def apply(self, draft: Draft, fired: Fired) -> None:
        draft.take(self.outcome, fired.cause, route=self.model)


class Answer(BaseAction):
    """Answer here, without calling a model: one text, or one for each label."""

    name = "answer"
    outcome = "answer"
    stages = ("input",)
    turns = "last"
    every_text = True

    message: str | None = None
    by_label: Mapping[str, str] | None = None

    @classmethod
    def from_written(cls, written: Any) -> Any:
        check: Check = text_of("an answer")
        if not isinstance(written, Mapping):
            return {"message": check(written)}
        if not written:
            raise fault("answer has no text; write answer: text, or a text for each label")
        for label, text in written.items():
            try:
                check(text)
            except PydanticCustomError as error:
                raise fault(error.message(), label) from None
        return {"by_label": dict(written)}

    def apply(self, draft: Draft, fired: Fired) -> None:
        content = self.message or (self.by_label or {})[fired.cause.label]
        draft.take(self.outcome, fired.cause, reply=Reply(content, "stop"))

    def check_labels(self, labels: Iterable[str]) -> None:
        if self.by_label is None:
            return
        known = list(dict.fromkeys(labels))
        for label in self.by_label:
            if label not in known:
                hint = did_you_mean(label, known, "labels of this condition")
                raise fault(f"the answer for {label!r} is never given; {hint}", "do")
        if missing := [label for label in known if label not in self.by_label]:
            raise fault(
                f"there is no answer for {', '.join(missing)}; add one for each label", "do"
            )
        if not known:
            raise fault("no label makes this rule fire; write answer: text", "do")


class AnswerFrom(BaseAction):
    """Answer here from a FAQ, where it has an entry for all that the user asks."""

    name = "answer_from"
    recorded = "answer"
    outcome = "answer"
    stages = ("input",)
    turns = "last"
    every_text = True
    asks = True
    short = "faq"

    faq: Annotated[str, BeforeValidator(text_of("the file of the FAQ"))]
    at: Share | None = None
    max_wrong_answer_rate: Share | None = None

    @property
    def point(self) -> OperatingPoint:
        """The operating point as classifiers take it."""
        if self.at is not None:
            return OperatingPoint("at", self.at)
        return OperatingPoint("max_wrong_answer_rate", self.max_wrong_answer_rate or WRONG_ANSWERS)

    @model_validator(mode="after")
    def _one_point(self) -> AnswerFrom:
        if self.at is not None and self.max_wrong_answer_rate is not None:
            raise fault(
                "answer_from has at and max_wrong_answer_rate; keep one", "answer_from", "at"
            )
        if self.max_wrong_answer_rate == 1:
            raise fault(
                "a max_wrong_answer_rate of 100% would answer everything; write the part of the texts "
                "that may get a wrong answer, such as 1%",
                "answer_from", "max_wrong_answer_rate",
            )  # fmt: skip
        return self

    def apply(self, draft: Draft, fired: Fired) -> None:
        assert fired.answer is not None
        draft.take(self.outcome, fired.cause, reply=Reply(fired.answer, "stop"))


class Block(BaseAction):
    """Refuse: with an ordinary reply that holds the message, or with an HTTP error."""

    name = "block"
    outcome = "block"
    across_turns = True
    guards = True
    short = "message"

    message: Annotated[str, BeforeValidator(text_of("the message of a block"))]
    form: Annotated[
        Literal["message", "error"],
        BeforeValidator(one_of(("message", "error"), "forms of a block")),
        Field(alias="as"),
    ] = "message"

    @property
    def refusal(self) -> str | None:
        return self.message if self.form == "message" else None

    def apply(self, draft: Draft, fired: Fired) -> None:
        texts = {text for text, _ in fired.hits}
        refused = {text for text in texts if draft.refused(text)}
        if self.form == "message" and all(
            text in refused or draft.across(text, refused) for text in texts
        ):
            # The chatbot keeps the refused message in its history. Blocking it again would end
            # the conversation for good; taken out, it never reaches the model either.
            for text in refused:
                draft.remove(text, fired.cause)
            return
        reply = Reply(self.message, "content_filter", self.form)
        draft.take(self.outcome, fired.cause, reply=reply)


ACTIONS: dict[str, type[BaseAction]] = {
    action.name: action for action in (Allow, Flag, Redact, Route, Answer, AnswerFrom, Block)
}
"""Every action by its word, from the least to the most restrictive."""


def _one_action(value: Any) -> Any:
    """``flag`` or ``{flag: ...}`` to ``{flag: ...}``; anything else is refused."""
    if isinstance(value, BaseAction):
        return value
    if isinstance(value, str):
        value = {value: None}
    if not isinstance(value, Mapping) or not value:
        raise fault(f"{show(value)} is no action; write one such as block: text")
    for word in value:
        if word not in ACTIONS:
            hint = did_you_mean(word, ACTIONS, "actions")
            raise fault(f"unknown action {show(word)}; {hint}", word)
    if len(value) > 1:
        raise fault(
            f"a rule has one action, here: {', '.join(value)}; write one rule for each",
            list(value)[-1],
        )
    word, written = next(iter(value.items()))
    if written is None and not ACTIONS[word].bare:
        raise fault(f"{word} says nothing; write what to {word} with, such as {word}: text", word)
    return value


def _word(value: Any) -> str:
    return value.name if isinstance(value, BaseAction) else str(next(iter(value)))


Action = Annotated[
    Annotated[Allow, Tag("allow")]
    | Annotated[Flag, Tag("flag")]
    | Annotated[Redact, Tag("redact")]
    | Annotated[Route, Tag("route")]
    | Annotated[Answer, Tag("answer")]
    | Annotated[AnswerFrom, Tag("answer_from")]
    | Annotated[Block, Tag("block")],
    Discriminator(_word),
    BeforeValidator(_one_action),
]
"""What stands under ``do``."""
