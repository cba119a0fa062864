"""``POST /v1/decisions``: typed questions about a text, answered by classifiers.

A trained head answers where one fits the question, else the sentence encoder compares the text with
the statements of the question (zero-shot). Each answer says which.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from classifiers import zero_shot
from classifiers.types import Classification, Classifier
from classifiers.zero_shot import ANCHORS, MAX_TEXTS, Array, EncoderFailed, ZeroShot
from proxy.asgi import Ask
from proxy.decisions_fit import AUTO, Head, fit, pinned
from proxy.decisions_request import DecisionRequest, Option, Question, read
from proxy.errors import TooLarge, Unavailable
from proxy.gateway import Gateway
from proxy.prices import estimate_tokens

Answer = dict[str, Any]


async def decisions(gateway: Gateway, ask: Ask) -> dict[str, Any]:
    """Answer ``POST /v1/decisions``.

    Raises:
        InvalidRequest: the body is not well formed, or the named classifier does not fit a question.
        NotFound: the model names no classifier.
        TooLarge: more text than ``limits.max_text_chars``, or too many statements.
        Unavailable: a question fits no loaded head and there is no encoder, or a head failed.
    """
    asked, known = read(ask.body), gateway.engine.classifiers
    only = pinned(asked.model, known)
    heads = [fit(question, known, only) for question in asked.questions]
    open_questions = [q for q, head in zip(asked.questions, heads, strict=True) if head is None]
    phrases = list(dict.fromkeys(p for q in open_questions for p in _phrases(q)))
    chars = len(asked.text) + sum(map(len, phrases))
    _check_size(gateway, chars, len(phrases))
    answers: list[Answer]
    if asked.text.strip():
        found = await _classified(gateway, asked.text, heads)
        vectors: Mapping[str, Array] = {}
        if phrases and _readable(asked.text):
            vectors = await _vectors(gateway, [asked.text, *phrases, *ANCHORS])
        # Thousands of choices are to be compared: beside the event loop.
        answers = await asyncio.to_thread(_answered, gateway, asked, heads, found, known, vectors)
    else:
        answers = [_refusal(question) for question in asked.questions]
    tokens = estimate_tokens(chars)
    return {
        "model": asked.model if only else AUTO,
        "answers": answers,
        "usage": {
            "input_tokens": tokens,
            "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
            "output_tokens": 0,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": tokens,
        },
    }


def _answered(
    gateway: Gateway,
    asked: DecisionRequest,
    heads: Sequence[Head | None],
    found: Classification | None,
    known: Mapping[str, Classifier],
    vectors: Mapping[str, Array],
) -> list[Answer]:
    near = _Near(asked.text, vectors)
    return [
        _by_head(question, head, found, known)
        if head is not None
        else _by_encoder(question, near, gateway.zero_shot)
        for question, head in zip(asked.questions, heads, strict=True)
    ]


class _Near:
    """How near the text is to what questions say; equal options are compared once.

    Args:
        text: that is decided on.
        vectors: of the text and of all phrases; empty where nothing can be compared.
    """

    def __init__(self, text: str, vectors: Mapping[str, Array]) -> None:
        self.vectors = vectors
        self._text = text
        self._options: dict[tuple[str, ...], float] = {}

    def agrees(self, statement: str) -> float:
        """How much a statement says of the text, in 0..1."""
        vectors = self.vectors
        anchors = zero_shot.stacked([vectors[anchor] for anchor in ANCHORS])
        return zero_shot.agreement(vectors[self._text], vectors[statement], anchors)

    def to(self, phrases: Sequence[str]) -> float:
        """The cosine of the text and what stands for an option."""
        key = tuple(phrases)
        if key not in self._options:
            option = zero_shot.stacked([self.vectors[phrase] for phrase in phrases])
            self._options[key] = zero_shot.nearness(self.vectors[self._text], option)
        return self._options[key]


def _check_size(gateway: Gateway, chars: int, phrases: int) -> None:
    most = gateway.config.limits.max_text_chars
    if chars > most:
        raise TooLarge(
            f"The request is too long: {chars} characters of text are to be compared, "
            f"limits.max_text_chars is {most}. Send less, or raise the limit."
        )
    if phrases > MAX_TEXTS:
        raise TooLarge(
            f"{phrases} different choices and descriptions are to be compared with the text, at most "
            f"{MAX_TEXTS} are; ask less at once.",
            "questions",
        )


async def _classified(
    gateway: Gateway, text: str, heads: Sequence[Head | None]
) -> Classification | None:
    names = list(dict.fromkeys(head.classifier for head in heads if head is not None))
    if not names:
        return None
    [found] = await gateway.classify([text], names)
    if found.errors:
        raise Unavailable("A classifier failed; nothing was decided. Retry.")
    return found


async def _vectors(gateway: Gateway, texts: Sequence[str]) -> Mapping[str, Array]:
    if gateway.zero_shot is None:
        raise Unavailable(
            "No trained classifier fits a question, and none that is loaded brings the shared "
            "encoder to answer it without training; load a shipped one such as `topic`.",
            "no_encoder",
        )
    seconds = gateway.config.limits.classify_seconds
    distinct = list(dict.fromkeys(texts))
    try:
        async with asyncio.timeout(seconds):
            found = await gateway.zero_shot.vectors(distinct)
    except TimeoutError:
        raise Unavailable(
            f"The encoder took longer than {seconds:g} s (limits.classify_seconds); ask less at once.",
            "classify_timeout",
        ) from None
    except EncoderFailed:
        raise Unavailable("The encoder failed; nothing was decided. Retry.") from None
    return dict(zip(distinct, found, strict=True))


def _phrases(question: Question) -> list[str]:
    """What the text is compared with."""
    if question.kind == "predicate" or _yes_or_no(question):
        return [question.instructions]
    return [phrase for option in question.options for phrase in _option_phrases(option)]


def _option_phrases(option: Option) -> list[str]:
    """An option's name says what it means, but for true and false that have a description."""
    if isinstance(option.value, bool) and option.description:
        return [option.description]
    return zero_shot.statements(option.words, option.description)


def _yes_or_no(question: Question) -> bool:
    """Whether a choice of true and false asks whether its instructions hold."""
    values = [option.value for option in question.options]
    return (
        len(values) == 2
        and all(isinstance(value, bool) for value in values)
        and not any(option.description for option in question.options)
        and bool(question.instructions.strip())
    )


def _readable(text: str) -> bool:
    """Whether there is a word or a number in it: the encoder knows no signs."""
    return any(character.isalnum() for character in text)


def _by_head(
    question: Question,
    head: Head,
    found: Classification | None,
    known: Mapping[str, Classifier],
) -> Answer:
    assert found is not None
    scores: dict[str, float] = dict.fromkeys(head.labels, 0.0)
    for prediction in found.predictions[head.classifier]:
        if prediction.label in scores:  # a classifier that points may find a label several times
            scores[prediction.label] = max(scores[prediction.label], prediction.score)
    by = {
        "classifier": head.classifier,
        "version": known[head.classifier].version,
        "calibrated": head.calibrated,
    }
    if question.kind == "predicate":
        return _answer(question, by, {"probability": scores[head.labels[0]]})
    total = sum(scores.values())
    if total <= 0.0:
        return _refusal(question)
    return _distribution(question, by, [scores[label] / total for label in head.labels])


def _by_encoder(question: Question, near: _Near, encoder: ZeroShot | None) -> Answer:
    if not near.vectors or encoder is None:
        return _refusal(question)
    by = {"zero_shot": encoder.name, "version": encoder.version, "calibrated": False}
    if question.kind == "predicate" or _yes_or_no(question):
        true = near.agrees(question.instructions)
        if question.kind == "predicate":
            return _answer(question, by, {"probability": true})
        return _distribution(
            question, by, [true if option.value else 1.0 - true for option in question.options]
        )
    cosines = [near.to(_option_phrases(option)) for option in question.options]
    return _distribution(question, by, zero_shot.shares(cosines))


def _distribution(question: Question, by: Answer, shares: Sequence[float]) -> Answer:
    best = max(range(len(shares)), key=shares.__getitem__)
    values = [option.value for option in question.options]
    if question.kind == "choice":
        rows = [{"value": v, "probability": p} for v, p in zip(values, shares, strict=True)]
        told: Answer = {"choice": values[best], "probabilities": rows}
    else:
        rows = [
            {"label": label, "value": level, "probability": p}
            for level, (label, p) in enumerate(zip(values, shares, strict=True))
        ]
        mean = sum(level * p for level, p in enumerate(shares))
        told = {"score": mean, "probabilities": rows}
    return _answer(question, by, told | {"confidence": shares[best]})


def _answer(question: Question, by: Answer, told: Answer) -> Answer:
    return {"type": question.kind, "name": question.name, **told, "answered_by": by}


def _refusal(question: Question) -> Answer:
    return {
        "type": "refusal",
        "name": question.name,
        "reason": "The input holds nothing that could be decided on.",
    }
