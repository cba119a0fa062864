"""Bodies of ``/v1/decisions`` that are not well formed: each fault names its field."""

from __future__ import annotations

from typing import Any

import pytest

from proxy.decisions_request import MAX_QUESTIONS, Option, read
from proxy.errors import InvalidRequest

PREDICATE = {"type": "predicate", "instructions": "It rains."}
CHOICE = {"type": "choice", "choices": [{"value": "a"}, {"value": "b"}]}


def body(*questions: Any, **more: Any) -> dict[str, Any]:
    return {"model": "m", "input": "x", "questions": list(questions) or [PREDICATE], **more}


def choices(*items: Any) -> dict[str, Any]:
    return body({"type": "choice", "choices": list(items)})


def levels(*items: Any) -> dict[str, Any]:
    return body({"type": "score", "levels": list(items)})


def named(count: int, key: str) -> list[dict[str, str]]:
    return [{key: str(i)} for i in range(count)]


IMAGE = {"type": "input_image", "image_url": "data:image/png;base64,AAAA"}
BAD: list[tuple[str, dict[str, Any], str]] = [
    ("no model", {"input": "x", "questions": [PREDICATE]}, "model"),
    ("an empty model", body(model=""), "model"),
    ("no input", {"model": "m", "questions": [PREDICATE]}, "input"),
    ("an input of numbers", body(input=[1, 2]), "input[0]"),
    ("an empty input", body(input=[]), "input"),
    ("another role", body(input=[{"role": "system", "content": "x"}]), "input[0]"),
    ("no content", body(input=[{"role": "user"}]), "input[0].content"),
    ("an image", body(input=[{"role": "user", "content": [IMAGE]}]), "input[0].content[0]"),
    ("a part of no kind", body(input=[{"role": "user", "content": ["x"]}]), "input[0].content[0]"),
    ("no questions", {"model": "m", "input": "x"}, "questions"),
    ("questions by name", body() | {"questions": {"a": PREDICATE}}, "questions"),
    ("none", body() | {"questions": []}, "questions"),
    ("too many", body(*[PREDICATE] * (MAX_QUESTIONS + 1)), "questions"),
    ("too many choices in all", body(*[{"type": "choice", "choices": named(255, "value")}] * 33),
     "questions"),
    ("a question that is a string", body("x"), "questions[0].type"),
    ("an unknown type", body(PREDICATE, {"type": "box"}), "questions[1].type"),
    ("no instructions", body({"type": "predicate"}), "questions[0].instructions"),
    ("blank ones", body({**PREDICATE, "instructions": "  "}), "questions[0].instructions"),
    ("a name that is none", body({**PREDICATE, "name": 7}), "questions[0].name"),
    ("a field nobody knows", body({**CHOICE, "levels": []}), "questions[0]"),
    ("no choices", body({"type": "choice"}), "questions[0].choices"),
    ("one choice", choices({"value": "a"}), "questions[0].choices"),
    ("256 choices", choices(*named(256, "value")), "questions[0].choices"),
    ("a choice that is a string", choices("a", "b"), "questions[0].choices[0].value"),
    ("a choice without a word", choices({"value": "a"}, {"value": " "}),
     "questions[0].choices[1].value"),
    ("a number", choices({"value": "a"}, {"value": 1}), "questions[0].choices[1].value"),
    ("twice the same", choices({"value": "a"}, {"value": "a"}), "questions[0].choices"),
    ("a description that is none", choices({"value": "a", "description": 1}, {"value": "b"}),
     "questions[0].choices[0].description"),
    ("a field of a choice", choices({"value": "a", "label": "b"}, {"value": "b"}),
     "questions[0].choices[0]"),
    ("one level", levels({"label": "a"}), "questions[0].levels"),
    ("11 levels", levels(*named(11, "label")), "questions[0].levels"),
    ("a level that is true", levels({"label": True}, {"label": "b"}), "questions[0].levels[0].label"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "given", "param"), BAD, ids=[row[0] for row in BAD])
def test_faults(name: str, given: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        read(given)
    assert caught.value.param == param
    assert "rains" not in caught.value.message


def test_the_most_that_is_taken() -> None:
    most = [
        {"type": "choice", "choices": named(255, "value")},
        {"type": "score", "levels": named(10, "label")},
        *[PREDICATE] * (MAX_QUESTIONS - 2),
    ]
    found = read(body(*most, safety_identifier="u-1"))
    assert [len(question.options) for question in found.questions[:3]] == [255, 10, 0]


def test_true_and_its_name_are_two_choices() -> None:
    given = choices({"value": True}, {"value": "true", "description": "d"}, {"value": False})
    [question] = read(given).questions
    assert question.options == (Option(True), Option("true", "d"), Option(False))
    assert [option.words for option in question.options] == ["yes", "true", "no"]


def test_messages_are_one_text() -> None:
    parts = [{"type": "input_text", "text": "b"}, {"type": "text", "text": "c"}]
    given = [{"role": "user", "content": "a"}, {"role": "user", "content": parts}]
    assert read(body(input=given)).text == "a\nb\nc"
