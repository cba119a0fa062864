"""The semantic cache: other words for the same question, and never another question."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from cache_kit import action, ask
from gateway_kit import ScriptedUpstream, StartGateway, completion, make_config

from classifiers.calibration import upper_bound
from classifiers.encoder import Encoder
from proxy.cache_words import signature
from proxy.config import loads
from proxy.config_cache import SemanticCache as Options
from proxy.gateway import Gateway
from proxy.loading import SHIPPED_ENCODER
from proxy.semantic_cache import PAIRS, near_misses, pairs, score, threshold
from proxy.yaml_source import ConfigError

ON = "cache: {semantic: {models: [default]}}"
KEYS = ON + "\nkeys: [{name: one, key: key-of-one}, {name: two, key: key-of-two}]"


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return Encoder(SHIPPED_ENCODER)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("How do I cancel my order?", "how can I cancel my order"),
        ("How do I cancel my order?", "Hi, could you tell me how to cancel my order, please?"),
        ("What's the capital of France?", "What is the capital of France"),
        ("Don't you ship to Peru?", "Do not you ship to Peru?"),
        ("Where do I find my invoices?", "Where can I find my invoice?"),
        ("Is it possible to pay by card?", "Can I pay by card?"),
        ("Do you know what the fee for a card is?", "What the fee for a card is"),
    ],
)
def test_ways_to_ask_the_same(one: str, other: str) -> None:
    assert signature(one) is not None
    assert signature(one) == signature(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Fly from Rome to Oslo?", "Fly from Oslo to Rome?"),
        ("Does Ann owe Bob?", "Does Bob owe Ann?"),
        ("Can I cancel?", "How can I cancel?"),
        ("Can I cancel?", "Can I not cancel?"),
        ("Can I cancel?", "Can't I cancel?"),
        ("Can I cancel my order?", "Must I cancel my order?"),
        ("What is 5 + 3?", "What is 5 - 3?"),
        ("What is 5!?", "What is 5?"),
        ("What is -5 squared?", "What is 5 squared?"),
        ("What is 1,000?", "What is 1.000?"),
        ("Is 5 kg too much?", "Is 5 lb too much?"),
        ("What is C++?", "What is C#?"),
        ("what is the price of Apple", "what is the price of apple"),
        ("How tall is the US president?", "How tall is us president?"),
        ('What does "may" mean?', 'What does "might" mean?'),
        ("What does 'a b' mean?", "What does 'a  b' mean?"),
        ("You ship to Peru?", "You ship to Peru."),
        ("Do you know Paris?", "Paris?"),
        ("How much vitamin a is in milk?", "How much vitamin is in milk?"),
        ("Did a few people come?", "Did few people come?"),
        ("Cancel. Not my order", "Cancel not my order"),
        ("Is my order late?", "Is your order late?"),
        ("Is it open?", "Was it open?"),
        # Look-alikes: Cyrillic a, fullwidth digit, Greek question mark's neighbour, dotless i.
        ("Is paypal safe to use?", "Is p\u0430ypal safe to use?"),
        ("What is 5 plus 1?", "What is \uff15 plus 1?"),
        ("Is this city big?", "Is th\u0131s c\u0131ty big?"),
        # Another language: no word is small there.
        ("Ist an der Tür ein Schild?", "Ist der Tür ein Schild?"),
        ("Vou a Lisboa", "Vou Lisboa"),
    ],
)
def test_ways_to_ask_something_else(one: str, other: str) -> None:
    assert signature(one) != signature(other)


@pytest.mark.parametrize(
    "text",
    [
        "What does `x = 1` do?", "first line\nsecond line", "can I\u200b pay?", "can \u202eI pay?",
        "pay \U000e0041 me", "", "   ", "a " * 400,
    ],
)  # fmt: skip
def test_what_is_only_compared_letter_by_letter(text: str) -> None:
    assert signature(text) is None


def test_the_shipped_pairs_keep_the_promise(encoder: Encoder) -> None:
    known = pairs()
    misses = [pair for pair in known if not pair.same]
    assert len(known) >= 400
    assert len(set(known)) == len(known), "a pair that counts twice proves nothing"
    scores = score(known, encoder)
    level = threshold(Options(models=("*",)), near_misses(encoder))
    wrong = sum(s >= level for s, pair in zip(scores, known, strict=True) if not pair.same)
    right = sum(s >= level for s, pair in zip(scores, known, strict=True) if pair.same)
    assert upper_bound(wrong, len(misses)) <= 0.01
    assert right >= 0.5 * (len(known) - len(misses))


def test_a_near_miss_that_looks_the_same_raises_the_threshold() -> None:
    import numpy as np

    scores = np.concatenate([np.full(480, -1.0), np.full(12, 0.97)])
    level = threshold(Options(max_wrong_hit_rate=0.01), scores)
    assert level > 0.97
    assert threshold(Options(max_wrong_hit_rate=0.05), scores) == 0.8


def test_what_cannot_be_promised_is_said_at_the_start(tmp_path: Path) -> None:
    more = "cache: {semantic: {models: [default], max_wrong_hit_rate: 0.1%}}"
    gateway = Gateway(make_config(tmp_path, 1, "", more), classifiers=[])
    with pytest.raises(ConfigError, match=r"0\.1000% cannot be promised.*are needed.*or more"):
        gateway.load()


def test_models_that_do_not_exist_are_named() -> None:
    with pytest.raises(ConfigError, match=r"cache\.semantic\.models: no model 'defualt'"):
        loads("cache: {semantic: {models: [defualt]}}", PAIRS)


def settled(door: Any) -> None:
    door.loop.run(door.app.state.gateway.replies.settled())


def test_other_words_are_answered_and_other_questions_are_not(
    gateway: StartGateway, upstream: ScriptedUpstream
) -> None:
    door = gateway("", ON)
    upstream.script = completion("Press the button.")
    first = ask(door, "How do I cancel my order?")
    settled(door)
    same = ask(door, "Hello, how can I cancel my order?")
    assert (action(first), action(same)) == ("forward", "cache")
    assert same.content == first.content
    record, hit = door.records.next(), door.records.next()
    assert hit.cache is not None
    assert hit.cache["kind"] == "semantic"
    assert 0.8 <= hit.cache["similarity"] <= 1
    assert hit.cache["decision_id"] == record.decision_id
    assert hit.saved_usd == record.cost_usd
    streamed = ask(door, "Hello, how can I cancel my order?", stream=True)
    assert action(streamed) == "cache"
    assert "Press the button." in streamed.text
    for other in (
        "How do I cancel his order?",
        "How do I not cancel my order?",
        "Why cancel my order?",
    ):
        assert action(ask(door, other)) == "forward"
    system = {"role": "system", "content": "Answer in Dutch."}
    asked = {"role": "user", "content": "How can I cancel my order?"}
    assert action(ask(door, messages=[system, asked])) == "forward"
    assert action(ask(door, "How can I cancel my order?", max_tokens=9)) == "forward"
    metrics = door.app.state.gateway.metrics.text().decode()
    assert 'doorman_cache_total{kind="semantic",outcome="hit"} 2.0' in metrics


def test_never_across_client_keys(gateway: StartGateway, upstream: ScriptedUpstream) -> None:
    door = gateway("", KEYS)
    ask(door, "How do I cancel my order?", headers={"authorization": "Bearer key-of-one"})
    settled(door)
    for key, expected in (("two", "forward"), ("one", "cache")):
        headers = {"authorization": f"Bearer key-of-{key}"}
        assert action(ask(door, "How can I cancel my order?", headers=headers)) == expected


def test_a_bad_reply_poisons_no_other_question(
    gateway: StartGateway, upstream: ScriptedUpstream
) -> None:
    rules = "rules: [{name: out, check: output, when: {guard: secret}, do: {flag: leak}}]"
    door = gateway(rules, ON)
    upstream.script = completion("the secret")
    ask(door, "How do I cancel my order?")
    settled(door)
    upstream.script = completion("fine")
    assert action(ask(door, "How can I cancel my order?")) == "forward"


def test_both_caches_together(gateway: StartGateway, upstream: ScriptedUpstream) -> None:
    door = gateway("", "cache: {exact: {models: ['*']}, semantic: {models: [default]}}")
    ask(door, "How do I cancel my order?")
    settled(door)
    ask(door, "How do I cancel my order?")
    ask(door, "How can I cancel my order?")
    door.records.next()
    kinds = [(door.records.next().cache or {})["kind"] for _ in "ab"]
    assert kinds == ["exact", "semantic"]
