"""Labels by an expensive judge: a prompted model by way of litellm, and a moderation endpoint."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from scripted_llm import ScriptedLlm

from classifiers.encoder import Encoder
from classifiers.training.spend import CostLimit, SpendError
from classifiers.training.synth_diversity import encoder_embed
from classifiers.training.synthesize import Labels, LabelSpec
from classifiers.training.teacher import (
    Consistency,
    EndpointJudge,
    TeacherPlan,
    agreement,
    estimate_teacher,
    prompted_teacher,
    teach,
    teacher_report,
)
from proxy.config import ConfigError
from proxy.llm import chat_model
from proxy.llm_moderations import ModerationEndpoint

TINY = Path(__file__).parent / "fixtures" / "tiny-encoder"
KEY = "sk-secret-of-the-test-0002"
PRICED = {"input_cost_per_token": 1e-6, "output_cost_per_token": 1e-6}
LABELS = Labels("tickets", "", (LabelSpec("refund", "money back"), LabelSpec("prize", "a prize")))
PLAN = TeacherPlan(LABELS, sample=60, repeat=20)
COUNT = 90


@pytest.fixture
def server():
    with ScriptedLlm({"refund": "refund", "prize": "prize"}) as scripted:
        yield scripted


@pytest.fixture
def texts(server):
    return [server.text(("refund", "prize", "")[n % 3]) for n in range(COUNT)]


@pytest.fixture
def model(server):
    params = {"model": "openai/judge", "api_base": server.base, "api_key": KEY, **PRICED}
    with chat_model(params, {}) as made:
        yield made


@pytest.fixture
def endpoint(server):
    with ModerationEndpoint(
        server.base + "/moderations", environ={"DOORMAN_LLM_API_KEY": KEY}, dollars_per_1000=1.0
    ) as made:
        yield made


def judges(model, endpoint):
    return {"label": prompted_teacher(model, LABELS), "moderate": EndpointJudge(endpoint, LABELS)}


@pytest.mark.parametrize("kind", ["label", "moderate"])
def test_a_sample_is_labelled(server, texts, model, endpoint, tmp_path, kind):
    told = []
    judge = judges(model, endpoint)[kind]
    result = teach(PLAN, judge, [*texts, *texts], tmp_path, progress=told.append)
    assert len(result.texts) == 60
    assert set(result.texts) <= set(texts)
    for text, labels in zip(result.texts, result.labels, strict=True):
        assert sorted(labels) == server.labels(text)
    assert result.consistency == Consistency(20, 0)
    assert server.count(kind) == -(-60 // judge.batch) + -(-20 // judge.batch)
    lines = [json.loads(line) for line in result.path.read_text().splitlines()]
    assert lines == [
        {"text": text, "labels": sorted(labels)}
        for text, labels in zip(result.texts, result.labels, strict=True)
    ]
    assert [told[0].step, told[-1].step] == ["begin", "end"]
    assert server.asked[0].headers["authorization"] == f"Bearer {KEY}"
    for path in tmp_path.iterdir():
        assert KEY not in path.read_text()


@pytest.mark.parametrize("kind", ["label", "moderate"])
def test_it_is_paid_for_once(server, texts, model, endpoint, tmp_path, kind):
    judge = judges(model, endpoint)[kind]
    first = teach(PLAN, judge, texts, tmp_path)
    calls = server.count()
    again = teach(PLAN, judge, texts, tmp_path)
    assert server.count() == calls
    assert again.labels == first.labels
    assert again.bill["dollars"] == first.bill["dollars"] > 0
    teach(replace(PLAN, sample=COUNT, repeat=0), judge, texts, tmp_path)
    assert server.count() - calls == -(-(COUNT - 60) // judge.batch)


@pytest.mark.parametrize("kind", ["label", "moderate"])
def test_an_interrupted_labelling_goes_on(server, texts, model, endpoint, tmp_path, kind):
    judge = judges(model, endpoint)[kind]

    def interrupt(progress):
        if progress.step == "label":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        teach(PLAN, judge, texts, tmp_path, progress=interrupt)
    paid = server.count()
    result = teach(PLAN, judge, texts, tmp_path)
    assert result.bill["replayed"] == paid >= 1
    assert result.bill["calls"] == server.count() - paid
    assert len(result.texts) == 60


MISHAPS = [
    ("label", "malformed", 1, 0),
    ("label", "fenced", 0, 0),
    ("label", "unknown labels", 1, 0),
    ("label", "truncated", 1, 0),
    ("label", "refusal", 1, 0),
    ("label", "busy", 1, 1),
    ("label", "no usage", 0, 0),
    ("moderate", "malformed", 1, 0),
    ("moderate", "empty", 1, 0),
    ("moderate", "huge", 1, 0),
    ("moderate", "busy", 1, 1),
    ("moderate", "500", 1, 1),
    ("moderate", "drop", 1, 1),
]


@pytest.mark.parametrize(("kind", "fault", "more", "waits"), MISHAPS)
def test_a_mishap_is_made_good(server, texts, model, endpoint, tmp_path, kind, fault, more, waits):
    server.faults[kind].append(fault)
    waited = []
    plan = replace(PLAN, sample=10, repeat=0)
    result = teach(plan, judges(model, endpoint)[kind], texts, tmp_path, wait=waited.append)
    assert len(result.texts) == 10
    assert server.count() == 1 + more
    assert len(waited) == waits
    assert all(seconds >= 7 for seconds in waited if fault == "busy")


FAILURES = [
    ("label", "401", "the provider refused the key"),
    ("label", "refusal", "labelled none of the texts; the last time: the reply is not JSON"),
    ("moderate", "401", "the key was refused; set DOORMAN_LLM_API_KEY"),
    ("moderate", "400", "status 400"),
    ("moderate", "500", "status 500"),
]


@pytest.mark.parametrize(("kind", "fault", "message"), FAILURES)
def test_a_failure_for_good(server, texts, model, endpoint, tmp_path, kind, fault, message):
    server.always = {kind: fault}
    judge = judges(model, endpoint)[kind]
    with pytest.raises(SpendError) as caught:
        teach(PLAN, judge, texts, tmp_path, wait=lambda _: None)
    assert message in str(caught.value)
    assert "run it again to pay for the rest alone" in str(caught.value)
    assert KEY not in str(caught.value)
    server.always = {}
    assert len(teach(PLAN, judge, texts, tmp_path).texts) == 60


def test_an_endpoint_that_hangs(server, texts, tmp_path):
    server.faults["moderate"].append("hang")
    waited = []
    with ModerationEndpoint(server.base + "/moderations", environ={}, seconds=2) as endpoint:
        judge = EndpointJudge(endpoint, LABELS)
        result = teach(
            replace(PLAN, sample=5, repeat=0), judge, texts, tmp_path, wait=waited.append
        )
    assert (len(result.texts), len(waited)) == (5, 1)
    assert "authorization" not in server.asked[0].headers
    assert result.bill["dollars"] is None


def test_categories_and_thresholds(server, texts, endpoint, tmp_path):
    one = Labels("bad", "", (LabelSpec("bad"),), one_of=False)
    plan = TeacherPlan(one, sample=30, repeat=0)
    for number, (options, expected) in enumerate(
        [
            ({"categories": {"bad": ["refund"]}}, lambda t: "refund" in t),
            ({"categories": {"bad": ["refund", "prize"]}}, lambda t: bool(t)),
            ({"categories": {"bad": ["flagged"]}}, lambda t: bool(t)),
            ({"categories": {"bad": ["refund"]}, "threshold": 0.95}, lambda t: False),
            ({"categories": {"bad": ["refund"]}, "threshold": 0.05}, lambda t: True),
        ]
    ):
        judge = EndpointJudge(endpoint, one, **options)
        result = teach(plan, judge, texts, tmp_path)
        assert (result.bill["calls"] == 0) == (number > 0)  # the same scores, paid for once
        for text, labels in zip(result.texts, result.labels, strict=True):
            assert bool(labels) == expected(server.labels(text)), (options, text)
    with pytest.raises(ValueError, match=r"categories for 'worse', which is no label"):
        EndpointJudge(endpoint, one, categories={"worse": ["x"]})
    with pytest.raises(SpendError, match=r"there is no category 'bad'; there are: prize, refund"):
        teach(plan, EndpointJudge(endpoint, one), texts, tmp_path / "other")


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("http://example.com/v1/moderations", "in the clear; write https://"),
        ("ftp://127.0.0.1/x", "is no address"),
        ("https://user:sk-1234567@example.com/", "is no address"),
        ("moderations", "is no address"),
    ],
)
def test_addresses_that_are_refused(url, message):
    with pytest.raises(ConfigError, match=message) as caught:
        ModerationEndpoint(url, environ={})
    assert "sk-1234567" not in str(caught.value)
    assert ModerationEndpoint("http://example.com/x", environ={}, allow_http=True).name


def test_openais_key_goes_to_openai_alone(server, texts):
    with ModerationEndpoint(
        server.base + "/moderations", model="m", environ={"OPENAI_API_KEY": "sk-openai"}
    ) as endpoint:
        endpoint.moderate(texts[:2])
    assert "authorization" not in server.asked[0].headers
    assert server.asked[0].body == {"input": texts[:2], "model": "m"}


def test_another_server_is_asked_anew(server, texts, tmp_path):
    """Verdicts are of a model on a server; a key in the address is no part of that."""
    plan = replace(PLAN, sample=5, repeat=0)

    def ask(base):
        with chat_model({"model": "openai/judge", "api_base": base, **PRICED}, {}) as model:
            return teach(plan, prompted_teacher(model, LABELS), texts, tmp_path)

    with ScriptedLlm({"refund": "prize", "prize": "refund"}) as other:
        first = ask(server.base)
        assert ask(f"{server.base}/").labels == first.labels
        assert (server.count(), other.count()) == (1, 0)
        ask(other.base)
        assert (server.count(), other.count()) == (1, 1)


def test_another_model_of_an_endpoint_is_asked_anew(server, texts, tmp_path):
    plan = replace(PLAN, sample=5, repeat=0)
    for model, asked in (("one", 1), ("one", 1), ("two", 2), (None, 3)):
        with ModerationEndpoint(server.base + "/moderations", model=model, environ={}) as endpoint:
            teach(plan, EndpointJudge(endpoint, LABELS), texts, tmp_path)
        assert server.count("moderate") == asked


def test_the_source_of_verdicts_holds_no_secret():
    given = {
        "model": "openai/x",
        "api_base": "https://me:sk-1@host:8/v1?key=sk-2",
        "api_key": "sk-3",
    }
    with chat_model(given, {}) as model:
        assert (model.name, model.source) == ("openai/x", "openai/x https://host:8/v1")


def test_the_users_own_prompt_stands_before_the_labels(server, texts, model, tmp_path):
    judge = prompted_teacher(model, LABELS, "Be strict about prizes.")
    teach(replace(PLAN, sample=5, repeat=0), judge, texts, tmp_path)
    prompt = server.asked[0].prompt
    assert prompt.index("Be strict about prizes.") < prompt.index("money back")
    assert server.asked[0].body["temperature"] == 0
    plain = prompted_teacher(model, LABELS)
    teach(replace(PLAN, sample=5, repeat=0), plain, texts, tmp_path)
    assert server.count() == 2  # another prompt may give other labels


def test_a_teacher_that_contradicts_itself(server, texts, model, tmp_path):
    server.faults["label"].append("wrong labels")
    plan = replace(PLAN, sample=15, repeat=15)
    result = teach(plan, prompted_teacher(model, LABELS), texts, tmp_path)
    assert result.consistency == Consistency(15, 15)
    assert result.consistency.share == 1.0


def test_a_text_that_the_provider_filters_costs_no_other_its_label(server, texts, model, tmp_path):
    server.always = {"label": "filtered"}
    some = [*texts[:19], "A forbidden refund."]
    result = teach(replace(PLAN, repeat=0), prompted_teacher(model, LABELS), some, tmp_path)
    assert set(result.texts) == set(texts[:19])
    assert result.unlabelled == 1
    assert result.bill["calls"] <= 5  # halved until the text stands alone
    calls = server.count()
    teach(replace(PLAN, repeat=0), prompted_teacher(model, LABELS), some, tmp_path)
    assert server.count() == calls + 1  # it is asked after again: filters change


def test_samples(server, texts, model, tmp_path):
    embed = encoder_embed(Encoder(TINY))
    plan = replace(PLAN, sample=12, repeat=0, max_chars=200)
    judge = prompted_teacher(model, LABELS)
    long = "x" * 201
    first = teach(plan, judge, [*texts, long], tmp_path, embed=embed)
    assert first.too_long == 1
    assert len(set(first.texts)) == 12
    assert teach(plan, judge, [*texts, long], tmp_path, embed=embed).texts == first.texts
    other = teach(replace(plan, seed=1), judge, texts, tmp_path, embed=embed)
    assert other.texts != first.texts
    with pytest.raises(SpendError, match="no texts to label"):
        teach(plan, judge, [long, " "], tmp_path)


def test_the_cost_limit(server, texts, model, tmp_path):
    judge = prompted_teacher(model, LABELS)
    estimate = estimate_teacher(PLAN, judge, texts)
    with pytest.raises(CostLimit, match="raise max_cost"):
        teach(replace(PLAN, max_cost=estimate.dollars / 2), judge, texts, tmp_path)
    assert server.count() == 0
    server.always, server.prompt_tokens = {"label": "refusal"}, 1000
    with pytest.raises(CostLimit, match="run it again to pay for the rest alone"):
        teach(replace(PLAN, max_cost=estimate.dollars * 1.001), judge, texts, tmp_path)
    assert 0 < server.count() < 12
    paid = [
        json.loads(line)["cost"] for line in (tmp_path / "journal.jsonl").read_text().splitlines()
    ]
    assert sum(paid) <= estimate.dollars


def test_the_report(server, texts, model, tmp_path):
    result = teach(PLAN, prompted_teacher(model, LABELS), texts, tmp_path)
    assert result.questions == 80
    head = [labels if n % 10 else frozenset() for n, labels in enumerate(result.labels)]
    report = teacher_report(result, head, result.labels, LABELS, head_cpu_ms=3.5)
    wrong = sum(bool(labels) for labels in result.labels[::10])
    assert report.agreement.accuracy == pytest.approx(1 - wrong / 60)
    assert report.teacher_dollars_per_1000 == pytest.approx(
        1000 * result.bill["dollars"] / 80, rel=1e-3
    )
    assert report.break_even_texts == 80
    twice = teacher_report(result, head, result.labels, LABELS, also_dollars=result.bill["dollars"])
    assert twice.break_even_texts == 160
    unknown = teacher_report(result, head, result.labels, LABELS, also_dollars=None)
    assert (unknown.bill_dollars, unknown.break_even_texts) == (None, None)
    assert unknown.teacher_dollars_per_1000 == report.teacher_dollars_per_1000
    assert report.head_dollars_per_1000 == 0
    parsed = json.loads(json.dumps(report.to_json()))
    assert parsed["agreement"]["labels"][0]["label"] == "refund"
    assert parsed["head_cpu_ms"] == 3.5


def sets(*names):
    return [frozenset(name.split()) for name in names]


AGREEMENTS = [
    # head, teacher, accuracy, kappa: 1 - (1-po)/(1-pe), by hand.
    (sets("a", "b", "", "a"), sets("a", "b", "", "a"), 1.0, 1.0),
    (sets("a", "a", "b", "b"), sets("a", "b", "a", "b"), 0.5, 0.0),
    (sets("a", "a", "a", "b"), sets("a", "a", "b", "b"), 0.75, 0.5),
    (sets("a b", "a"), sets("a", "a"), 0.5, 0.0),
    (sets("a", "a"), sets("a", "a"), 1.0, None),
    ([], [], None, None),
]


@pytest.mark.parametrize(("head", "teacher", "accuracy", "kappa"), AGREEMENTS)
def test_agreement(head, teacher, accuracy, kappa):
    found = agreement(head, teacher, ("a", "b"))
    assert found.accuracy == accuracy
    assert found.kappa == (None if kappa is None else pytest.approx(kappa))
    for label in found.labels:
        assert label.head == sum(label.label in one for one in head)
        assert label.teacher == sum(label.label in one for one in teacher)
        assert label.both <= min(label.head, label.teacher)
    with pytest.raises(ValueError, match="texts of the head"):
        agreement(head, [*teacher, frozenset()], ("a",))
