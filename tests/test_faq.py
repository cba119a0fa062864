"""FAQs: the file, what of a message is asked, the scores, and what they promise."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from train_kit import TINY

from classifiers import calibration
from classifiers.encoder import Encoder
from classifiers.faq import MOST_CHARS, FaqClassifier, Memory, _shipped
from classifiers.faq_clauses import clauses
from classifiers.packs import SHIPPED
from classifiers.types import Batch, OperatingPoint, UnknownLabel
from classifiers.views import Reader
from policies import faq
from policies.faults import PolicyError

ENTRIES = {
    "password": ["How do I reset my password?", "I forgot my password", "change password"],
    "hours": ["When are you open?", "What are your opening hours?", "When do you close?"],
    "pay": ["How can I pay?", "Can I pay by card?", "Which payment methods are there?"],
}
ELSEWHERE = ["How do I reset the password of my router?"]


def classifier(encoder: Path = TINY, elsewhere: list[str] = ELSEWHERE) -> FaqClassifier:
    return FaqClassifier("faq/x@1", "1", ENTRIES, elsewhere, Reader(Encoder(encoder)), Memory())


@pytest.fixture(scope="module")
def tiny() -> FaqClassifier:
    return classifier()


@pytest.fixture(scope="module")
def shipped() -> FaqClassifier:
    return classifier(SHIPPED / "encoder")


def best(own: FaqClassifier, text: str) -> tuple[str, float]:
    found = own.predict(Batch([text]))[0]
    assert [p.label for p in found] == list(ENTRIES)
    top = max(found, key=lambda p: p.score)
    return top.label, top.score


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("How do I log in?", ["How do I log in?"]),
        ("Hi there! How do I log in? Thanks a lot.", ["How do I log in?"]),
        ("How do I log in, and who won the cup?", ["How do I log in", "who won the cup?"]),
        ("how do i log in and what is the time", ["how do i log in", "what is the time"]),
        ("Where are you? I need a poem.", ["Where are you?", "I need a poem."]),
        ("I lost my card, how do I get one?", ["I lost my card, how do I get one?"]),
        ("Hello, when do you open?", ["when do you open?"]),
        ("One\nTwo words", ["One\nTwo words".split("\n")[1]]),
        ("It costs 3.50 at example.com today", ["It costs 3.50 at example.com today"]),
        ("Hi! Thanks!", ["Hi! Thanks!"]),
        ("你好。什么时候开门？", ["你好。", "什么时候开门？"]),
    ],
)
def test_what_is_asked_clause_by_clause(text: str, expected: list[str]) -> None:
    assert clauses(text) == expected


def test_cutting_is_linear() -> None:
    for unit in ("and how ", "!?", "? ", "please, ", "\n", "hi hi "):
        assert clauses(unit * 20_000) is not None


def test_a_known_wording_is_found_and_a_second_question_keeps_it_quiet(tiny: FaqClassifier) -> None:
    for label, wordings in ENTRIES.items():
        for wording in wordings:
            name, score = best(tiny, wording)
            assert name == label
            assert score > 0.8
            assert best(tiny, f"{wording} And who painted the church of Rome?")[1] < score - 0.01


@pytest.mark.parametrize(
    "text",
    [
        "h0w d0 1 r3s3t my p4ssw0rd",
        "How do I r e s e t my p a s s w o r d ?",
        "How do I re\u200bset my pass\u200bword?",
        "SG93IGRvIEkgcmVzZXQgbXkgcGFzc3dvcmQ/",
        "How do I reset my password? " * (MOST_CHARS // 28 + 1),
        "How do I reset my password?\n" * 7,
        "",
    ],
)
def test_disguised_and_endless_texts_are_no_questions(tiny: FaqClassifier, text: str) -> None:
    assert best(tiny, text)[1] == 0


def test_paraphrases_with_the_shipped_encoder(shipped: FaqClassifier) -> None:
    cut = shipped.thresholds(["pay"], OperatingPoint("max_wrong_answer_rate", 0.02))["pay"]
    for text, label in (
        ("how can I reset my password", "password"),
        ("hey, what are the opening hours?", "hours"),
        ("Which ways to pay are there? Thanks!", "pay"),
    ):
        assert best(shipped, text)[0] == label
        assert best(shipped, text)[1] >= cut, text
    for text in (
        "How do I reset my password. I need a poem about dogs.",
        "How do I reset my password and who won the world cup?",
        "Why do hot air balloons fly?",
    ):
        assert best(shipped, text)[1] < cut, text


def test_the_promise_counts_what_is_wrong(tiny: FaqClassifier) -> None:
    texts = sum(map(len, ENTRIES.values())) + len(ELSEWHERE) + len(_shipped())
    alone, apart = tiny._rows
    assert len(alone) == texts
    assert len(apart) == texts - len(ELSEWHERE)
    for rate in (0.01, 0.05, 0.2):
        cut = tiny.thresholds(["pay"], OperatingPoint("max_wrong_answer_rate", rate))["pay"]
        wrong = [int((rows >= cut).sum()) for rows in (alone, apart)]
        allowed = [calibration.allowed(rate, len(rows)) for rows in (alone, apart)]
        assert all(n <= most for n, most in zip(wrong, allowed, strict=True))
        # One step lower, and one of the two would be broken.
        lower = np.nextafter(np.float32(cut), np.float32(0))
        assert any(
            int((rows >= lower).sum()) > most
            for rows, most in zip((alone, apart), allowed, strict=True)
        )


def test_scores_of_everyday_texts_are_those_that_were_promised(tiny: FaqClassifier) -> None:
    served = [best(tiny, text)[1] for text in _shipped()[:40]]
    assert served == pytest.approx(tiny._rows[0][-len(_shipped()) :][:40], abs=0.02)


def test_too_few_texts_for_a_promise(tiny: FaqClassifier) -> None:
    with pytest.raises(UnknownLabel, match=r"from \d+ texts; \d+ more are needed .*or state at:"):
        tiny.thresholds(["pay"], OperatingPoint("max_wrong_answer_rate", 0.001))
    assert tiny.thresholds(["pay"], OperatingPoint("at", 0.7)) == {"pay": 0.7}
    with pytest.raises(UnknownLabel, match="a FAQ has no min_recall"):
        tiny.thresholds(["pay"], OperatingPoint("min_recall", 0.7))


def test_features_are_remembered() -> None:
    reader, memory = Reader(Encoder(TINY)), Memory()
    FaqClassifier("a", "1", ENTRIES, ELSEWHERE, reader, memory)
    read: list[str] = []
    encode = reader.encoder.encode
    reader.encoder.encode = lambda texts, *rest: read.extend(texts) or encode(texts, *rest)  # type: ignore[method-assign, func-returns-value]
    more = {**ENTRIES, "new": ["Is there a car park?"]}
    FaqClassifier("a", "2", more, ELSEWHERE, reader, memory)
    assert read == ["Is there a car park?"]


def test_a_faq_file(tmp_path: Path) -> None:
    path = tmp_path / "shop.yaml"
    path.write_text(
        "questions:\n"
        "- {ask: 'How far is it?', answer: 'To {LOCATION}: {{far}}, {LOCATION}.'}\n"
        "- {id: hours, ask: ['When?', 'Until when?'], answer: Always.}\n"
        "- {ask: [How far is it!], answer: Far.}\n"
    )
    read = faq.read(path)
    assert list(read.entries()) == ["how-far-is-it", "hours", "how-far-is-it-2"]
    entry = read.questions[0]
    assert entry.slots == ("LOCATION",)
    assert entry.filled({"LOCATION": "Rome"}) == "To Rome: {far}, Rome."
    assert read.name == "shop"
    path.write_text(path.read_text().replace("Always", "Never"))
    assert faq.read(path).version != read.version


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_a_table(tmp_path: Path, delimiter: str) -> None:
    path = tmp_path / "faq.csv"
    rows = [
        ("Question", "Answer"),
        ("When?", '"On\nMonday."'),
        ("Until when?", '"On\nMonday."'),
        ("Where?", "Here."),
    ]
    path.write_text("\n".join(delimiter.join(row) for row in rows) + "\n\n")
    read = faq.read(path)
    assert [(e.ask, e.answer) for e in read.questions] == [
        (("When?", "Until when?"), "On\nMonday."),
        (("Where?",), "Here."),
    ]
    assert read.at("questions", 1, "ask", 0) == f"{path}:6"


MISTAKES = [
    ("x.yaml", "", 1, "a FAQ needs at least 'questions'"),
    ("x.yaml", "- a", 1, "is no FAQ; begin with questions:"),
    ("x.yaml", "questions: []", 1, "the list of questions is empty"),
    (
        "x.yaml",
        "questions:\n- ask: a\n  anser: b",
        3,
        "unknown key 'anser'; did you mean 'answer'?",
    ),
    ("x.yaml", "questions:\n- ask: a", 2, "has no 'answer'; add it"),
    ("x.yaml", "questions:\n- {ask: [], answer: b}", 2, "the list of wordings is empty"),
    (
        "x.yaml",
        "questions:\n- {ask: a, answer: 'x {y'}",
        2,
        "a single '{' stands in the answer; write {{",
    ),
    ("x.yaml", "questions:\n- {ask: a, answer: 'x {y z}'}", 2, "'{y z}' is no slot"),
    ("x.yaml", "questions:\n- {id: a b, ask: a, answer: x}", 2, "the id of a question is 'a b'"),
    (
        "x.yaml",
        "questions:\n- {ask: a, answer: x}\n- {ask: ' A', answer: y}",
        3,
        "' A' is asked in question 1 already; keep it in one",
    ),
    (
        "x.yaml",
        "questions:\n- {ask: a, answer: x}\nelsewhere:\n- b\n- a",
        5,
        "'a' is asked in a question; remove it from one of the two",
    ),
    (
        "x.yaml",
        "questions:\n- {id: i, ask: a, answer: x}\n- {id: i, ask: b, answer: y}",
        3,
        "two questions have the id 'i'; rename one",
    ),
    ("x.csv", "question,anser\na,b\n", 1, "unknown column 'anser'; did you mean 'answer'?"),
    ("x.csv", "question\na\n", 1, "must name one column 'answer'"),
    ("x.csv", "question,answer\na,b\na,b,c\n", 3, "this row has 3 cells, 2 are needed"),
    ("x.csv", 'question,answer\na,"b\n', 2, "this is not valid CSV"),
    ("x.csv", "question,answer\na,b\n,c\n", 3, "a question is empty"),
    ("x.csv", "question,answer\na,b\na,c\n", 3, "'a' is asked in question 1 already"),
]


@pytest.mark.parametrize(("name", "text", "line", "message"), MISTAKES)
def test_mistakes_name_their_line(
    tmp_path: Path, name: str, text: str, line: int, message: str
) -> None:
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(PolicyError) as error:
        faq.read(path)
    first = str(error.value).splitlines()[0]
    assert message in first
    assert first.startswith(f"{path}:{line}: ")


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match="cannot be read"):
        faq.read(tmp_path / "none.yaml")
