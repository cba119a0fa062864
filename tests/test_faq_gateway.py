"""Answers from a FAQ, end to end: the real client, the real gateway, a real encoder."""

from __future__ import annotations

import base64
import gc
import re
from pathlib import Path
from typing import Any

import pytest
from gateway_kit import Door, StartGateway, WordClassifier, make_config, word_classifiers
from train_kit import TINY

from policies import schema
from policies.faults import PolicyError
from proxy.gateway import Gateway

FAQ = """
questions:
- {id: hours, ask: ["When are you open?", "What are your opening hours?"], answer: "From {{9}} to 18."}
- {id: password, ask: ["How do I reset my password?"], answer: "Click on it."}
- {id: attack, ask: ["Where can I report an attack on my account?"], answer: "At the desk."}
- {id: cheap, ask: ["Is there a cheap parking lot?"], answer: "Behind the house."}
- id: brochure
  ask: ["Please send the brochure to me@example.com", "Please send the brochure to my wife"]
  answer: "The brochure goes to {EMAIL} today."
elsewhere: ["When are you open to talk about my salary?"]
"""
TINY_CONFIG = f"classifiers: {{encoder: '{TINY}'}}"
RULES = """
on_unscannable: allow
rules:
- {name: faq, do: {answer_from: {faq: faq.yaml, at: 0.86}}}
- {name: no-attacks, when: {guard: attack}, do: {block: "No."}}
- {name: cheap, when: {topic: cheap}, do: {route: small}}
"""
HOURS, PASSWORD = "When are you open?", "How do I reset my password?"


def start(gateway: StartGateway, folder: Path, rules: str = RULES, **options: Any) -> Door:
    (folder / "faq.yaml").write_text(options.pop("faq", FAQ))
    return gateway(rules, options.pop("more", TINY_CONFIG), **options)


def ask(door: Door, content: Any, **more: Any) -> Any:
    messages = more.pop("messages", [{"role": "user", "content": content}])
    return door.client().chat.completions.with_raw_response.create(
        model="default", messages=messages, **more
    )


def test_a_covered_question_is_answered_here(
    gateway: StartGateway, tmp_path: Path, upstream: Any
) -> None:
    door = start(gateway, tmp_path)
    raw = ask(door, "Hello! " + HOURS)
    choice = raw.parse().choices[0]
    assert (choice.message.content, choice.finish_reason) == ("From {9} to 18.", "stop")
    assert raw.headers["x-doorman-action"] == "answer"
    assert float(raw.headers["x-doorman-saved-usd"]) > 0
    assert not upstream.seen
    record = door.records.next()
    assert record.action == "answer"
    assert record.saved_usd is not None
    cause = record.stages["input"]["cause"]
    assert (cause["rule"], cause["action"], cause["label"]) == ("faq", "answer", "hours")
    assert re.fullmatch(r"faq/faq@[0-9a-f]{12}", cause["classifier"])
    assert cause["score"] >= cause["threshold"] == 0.86
    assert HOURS not in str(record)


def test_a_stream_is_answered_too(gateway: StartGateway, tmp_path: Path, upstream: Any) -> None:
    chunks = ask(start(gateway, tmp_path), PASSWORD, stream=True).parse()
    said = "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)
    assert said == "Click on it."
    assert not upstream.seen


PART = {"type": "image_url", "image_url": {"url": "https://example.com/door.png"}}
CALL = [
    {"role": "user", "content": HOURS},
    {
        "role": "assistant",
        "content": None,
        "tool_calls": [
            {"id": "c", "type": "function", "function": {"name": "look", "arguments": "{}"}}
        ],
    },
    {"role": "tool", "tool_call_id": "c", "content": HOURS},
]


def parts(*texts: str) -> list[dict[str, Any]]:
    return [{"type": "text", "text": text} for text in texts]


@pytest.mark.parametrize(
    ("action", "messages"),
    [
        ("answer", HOURS),
        ("answer", parts(HOURS, "What are your opening hours?")),
        (
            "answer",
            [{"role": "system", "content": "Be brief."}, {"role": "user", "content": HOURS}],
        ),
        ("answer", "Is there a cheap parking lot?"),  # goes before the route
        ("block", "Where can I report an attack on my account?"),  # which goes before it
        ("forward", f"{HOURS} And why is the sky of the north blue?"),
        ("forward", f"{HOURS} {PASSWORD}"),
        ("forward", parts(HOURS, PASSWORD)),
        ("forward", parts(HOURS, "Why is the sky of the north blue?")),
        ("forward", [*parts(HOURS), PART]),
        ("forward", CALL),
        ("forward", [{"role": "user", "content": HOURS}, {"role": "assistant", "content": "At"}]),
        ("forward", "Wh3n 4r3 y0u 0p3n?"),
        ("forward", base64.b64encode(HOURS.encode()).decode()),
        ("forward", "When are you open to talk about my salary?"),
    ],
)
def test_when_it_speaks_and_when_it_keeps_quiet(doors: Door, action: str, messages: Any) -> None:
    if not isinstance(messages, list) or "role" not in messages[0]:
        messages = [{"role": "user", "content": messages}]
    assert ask(doors, "", messages=messages).headers["x-doorman-action"] == action


@pytest.fixture(scope="module")
def doors(shared_gateway: StartGateway, tmp_path_factory: pytest.TempPathFactory) -> Door:
    path = tmp_path_factory.mktemp("faq") / "faq.yaml"
    path.write_text(FAQ)
    return shared_gateway(RULES.replace("faq.yaml", str(path)), TINY_CONFIG)


@pytest.mark.parametrize(
    ("content", "answer"),
    [
        (
            "Please send the brochure to me@example.com",
            "The brochure goes to me@example.com today.",
        ),
        ("Please send the brochure to my wife", None),
        (
            "Please send the brochure to me@example.com me@example.com",
            "The brochure goes to me@example.com today.",
        ),
        ("Please send the brochure to me@example.com ann@example.com", None),
    ],
)
def test_slots_are_filled_with_what_was_found(
    doors: Door, content: str, answer: str | None
) -> None:
    raw = ask(doors, content)
    assert raw.headers["x-doorman-action"] == ("answer" if answer else "forward")
    if answer:
        assert raw.parse().choices[0].message.content == answer


MARKUP = WordClassifier("pii", {"EMAIL": r"\S+@.*"}, kind="spans", breaks=False)
BREAKS = WordClassifier("pii", {"EMAIL": r"\S+@\S+"}, kind="spans")


@pytest.mark.parametrize(
    ("pii", "on_error", "content", "action"),
    [
        (MARKUP, "block", "Please send the brochure to me@example.com", "answer"),
        (MARKUP, "block", "Please send the brochure to me@<b>x</b>", "forward"),
        (MARKUP, "block", "Please send the brochure to me@[x](http://a.example)", "forward"),
        (MARKUP, "block", "Please send the brochure to me@" + "x" * 80, "forward"),
        (BREAKS, "block", "Please send the brochure to crash@example.com", "error"),
        (BREAKS, "allow", "Please send the brochure to crash@example.com", "forward"),
    ],
)
def test_values_with_markup_and_values_that_cannot_be_told(
    gateway: StartGateway,
    tmp_path: Path,
    pii: WordClassifier,
    on_error: str,
    content: str,
    action: str,
) -> None:
    rules = f"on_error: {on_error}\nrules:\n- {{name: faq, do: {{answer_from: {{faq: faq.yaml, at: 5%}}}}}}"
    others = [one for one in word_classifiers() if one.name == "topic"]
    door = start(gateway, tmp_path, rules, classifiers=[pii, *others])
    if action == "error":
        with pytest.raises(Exception, match="policy_unavailable"):
            ask(door, content)
        record = door.records.next()
        assert record.stages["input"]["errors"][0]["classifier"] == "pii"
    else:
        assert ask(door, content).headers["x-doorman-action"] == action


def test_a_condition_may_stand_beside_it(gateway: StartGateway, tmp_path: Path) -> None:
    rules = """
rules:
- {name: faq, when: {not: {intent: greeting}}, do: {answer_from: {faq: faq.yaml, at: 0.86}}}
- {name: watch, mode: shadow, do: {answer_from: {faq: faq.yaml, at: 0.86}}}
"""
    door = start(gateway, tmp_path, rules)
    assert ask(door, HOURS).headers["x-doorman-action"] == "answer"
    assert door.records.next().stages["input"]["cause"]["label"] == "hours"
    assert ask(door, "Hello! " + HOURS).headers["x-doorman-action"] == "forward"
    assert [cause["rule"] for cause in door.records.next().stages["input"]["shadow"]] == ["watch"]


async def test_a_faq_is_reloaded_with_its_policy_or_not_at_all(
    gateway: StartGateway, tmp_path: Path
) -> None:
    door = start(gateway, tmp_path)
    own: Gateway = door.app.state.gateway
    first = own.policies.current[0].rules[0].faq
    assert first is not None
    name = first.info.name
    (tmp_path / "faq.yaml").write_text("questions:\n- {ask: a, anser: b}")
    assert not await own.policies.reload()
    assert ask(door, PASSWORD).parse().choices[0].message.content == "Click on it."
    (tmp_path / "faq.yaml").write_text(FAQ.replace("Click on it", "Press the button"))
    assert await own.policies.reload()
    assert ask(door, PASSWORD).parse().choices[0].message.content == "Press the button."
    # A request that began before the reload could still ask the old one; nobody holds it now.
    assert own.engine.lent(name) is first.info
    del first
    gc.collect()
    assert own.engine.lent(name) is None
    assert name not in own.engine.classifiers


def test_the_file_of_a_faq_is_watched(gateway: StartGateway, tmp_path: Path) -> None:
    home = tmp_path / "texts"
    home.mkdir()
    (home / "faq.yaml").write_text(FAQ)
    rules = RULES.replace("faq.yaml", "texts/faq.yaml")
    door = gateway(rules, TINY_CONFIG + "\nwatch_policies: true")
    assert ask(door, PASSWORD).headers["x-doorman-action"] == "answer"
    fresh = home / "new.yaml"
    fresh.write_text(FAQ.replace("Click on it", "Press the button"))
    fresh.replace(home / "faq.yaml")
    for _ in range(600):
        said = ask(door, PASSWORD).parse().choices[0].message.content
        if said == "Press the button.":
            return
        door.loop.run(_moment())
    pytest.fail("the new FAQ never came into force")


async def _moment() -> None:
    import asyncio

    await asyncio.sleep(0.1)


RATE = "max_wrong_answer_rate"
MISTAKES = [
    ("{answer_from: none.yaml}", FAQ, "none.yaml:1: the file cannot be read"),
    (f"{{answer_from: {{faq: faq.yaml, at: 0.9, {RATE}: 1%}}}}", FAQ, "keep one"),
    (f"{{answer_from: {{faq: faq.yaml, {RATE}: 100%}}}}", FAQ, "would answer everything"),
    (f"{{answer_from: {{faq: faq.yaml, {RATE[:-1]}: 1%}}}}", FAQ, f"did you mean '{RATE}'?"),
    (
        f"{{answer_from: {{faq: faq.yaml, {RATE}: 0.1%}}}}", FAQ,
        f"policy.yaml:5: {RATE} 0.1000% cannot be promised from 337 texts; 2658 more are needed",
    ),
    (
        "{answer_from: faq.yaml}", FAQ.replace("{EMAIL}", "{EMIAL}"),
        "faq.yaml:9: nothing finds the slot {EMIAL}; did you mean 'EMAIL'?",
    ),
    (
        "{answer_from: faq.yaml}", FAQ.replace("{EMAIL}", "{pii.MAIL}"),
        "faq.yaml:9: classifier 'pii' finds no 'MAIL'",
    ),
    ("{answer_from: faq.yaml}\n  check: output", FAQ, "cannot answer_from on output"),
    ("{answer_from: faq.yaml}\n  turns: all", FAQ, "cannot answer_from for old turns"),
    ("{answer: hello}", FAQ, "has no 'when'; add it"),
]  # fmt: skip


@pytest.mark.parametrize(("do", "faq", "message"), MISTAKES)
def test_mistakes_are_told_with_their_place(
    tmp_path: Path, do: str, faq: str, message: str
) -> None:
    with pytest.raises(PolicyError) as error:
        load(tmp_path, f"rules:\n- name: faq\n  do: {do}", faq, word_classifiers())
    assert message in str(error.value)


def load(folder: Path, rules: str, faq: str, classifiers: list[WordClassifier]) -> None:
    (folder / "faq.yaml").write_text(faq)
    own = Gateway(make_config(folder, 1, rules, TINY_CONFIG), classifiers=classifiers)
    own.load()
    own.engine.close()


def test_a_slot_that_several_classifiers_find(gateway: StartGateway, tmp_path: Path) -> None:
    more = WordClassifier("mail", {"EMAIL": r"\S+@\S+"}, kind="spans", breaks=False)
    rules = "rules:\n- {name: faq, do: {answer_from: {faq: faq.yaml, at: 0.5}}}"
    with pytest.raises(PolicyError, match=r"found by pii and mail; write \{pii\.EMAIL\}"):
        load(tmp_path, rules, FAQ, [*word_classifiers(), more])
    named = FAQ.replace("{EMAIL}", "{mail.EMAIL}")
    door = start(gateway, tmp_path, rules, classifiers=[*word_classifiers(), more], faq=named)
    said = ask(door, "Please send the brochure to me@example.com").parse()
    assert said.choices[0].message.content == "The brochure goes to me@example.com today."


def test_a_faq_needs_somebody_to_read_it(tmp_path: Path) -> None:
    text = "name: x\nrules:\n- {name: faq, do: {answer_from: faq.yaml}}"
    with pytest.raises(PolicyError, match=r"x\.yaml:3: FAQs are not read here"):
        schema.bind(schema.loads(text, "x.yaml"), {})


def test_with_the_shipped_encoder(gateway: StartGateway, tmp_path: Path, upstream: Any) -> None:
    rules = "rules:\n- {name: faq, do: {answer_from: {faq: faq.yaml, max_wrong_answer_rate: 2%}}}"
    door = start(gateway, tmp_path, rules, more="")
    assert ask(door, "How can I reset my password, please?").headers["x-doorman-action"] == "answer"
    assert not upstream.seen
    for text in (
        "When are you open to talk about my salary?",
        "How do I reset my password, and who won the world cup?",
        "Write a poem about passwords.",
    ):
        assert ask(door, text).headers["x-doorman-action"] == "forward", text
    assert len(upstream.seen) == 3
