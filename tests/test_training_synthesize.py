"""Rows written by a chat model: the real litellm against a server that misbehaves."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from scripted_llm import ScriptedLlm
from synth_kit import KEY, LABELS, PLAN, SMALL, TINY, Run, chat

from classifiers.encoder import Encoder
from classifiers.training.spend import SpendError, tokens_of
from classifiers.training.synth_diversity import (
    Gathered,
    encoder_embed,
    farthest_sample,
    outliers,
    unit,
)
from classifiers.training.synthesize import Labels, LabelSpec


@pytest.fixture(scope="module")
def embed():
    return encoder_embed(Encoder(TINY))


@pytest.fixture
def server():
    with ScriptedLlm({"refund": "refund", "prize": "prize"}) as scripted:
        yield scripted


@pytest.fixture
def model(server):
    with chat(server) as made:
        yield made


@pytest.fixture
def run(model, embed, tmp_path):
    return Run(model, embed, tmp_path / "work")


def test_rows_of_every_label_in_both_directions(run, server):
    plan = replace(PLAN, languages=("en", "de"), personas=("a baker", "a pilot"))
    result = run(plan)
    rows = run.rows()
    assert len(rows) == len(result.rows)
    counts = {(c.label, c.kind): (c.wanted, c.kept, c.stopped) for c in result.cells}
    assert set(counts) == {
        ("refund", "positive"), ("refund", "near_miss"), ("prize", "positive"),
        ("prize", "near_miss"), ("", "ordinary"),
    }  # fmt: skip
    for (label, kind), (wanted, kept, stopped) in counts.items():
        assert wanted == (4 if kind == "near_miss" else 8)
        assert stopped == "enough", (label, kind)
        assert wanted <= kept < wanted + 10
    for row in rows:
        assert row["labels"] == server.labels(row["text"])
        assert row["labels"] == ([row["label"]] if row["kind"] == "positive" else [])
        assert row["language"] in ("en", "de")
        assert row["persona"] in ("a baker", "a pilot")
    assert {row["language"] for row in rows} == {"en", "de"}
    trained = [row.row() for row in result.rows]
    assert {row.labels for row in trained} == {
        frozenset(),
        frozenset({"refund"}),
        frozenset({"prize"}),
    }
    assert sum(row.benign for row in trained) == counts["", "ordinary"][1]
    assert len({row.group for row in trained}) > 5
    assert server.most_at_once <= 4
    assert result.bill["calls"] == server.count()
    assert run.told[0].note.startswith("about")
    assert run.told[-1].rows == len(rows)
    assert json.dumps(result.to_json())


def test_every_label_has_a_row_where_texts_cannot_be_without_one(run, server):
    result = run(replace(PLAN, labels=replace(LABELS, none=False)))
    assert {cell.kind for cell in result.cells} == {"positive", "near_miss"}
    near = [row for row in result.rows if row.kind == "near_miss"]
    assert near
    assert all(row.labels and row.labels != (row.label,) for row in near)


def test_any_of(run, server):
    result = run(replace(PLAN, labels=replace(LABELS, one_of=False)))
    assert {row.labels for row in result.rows} == {(), ("refund",), ("prize",)}


def test_the_prompt_tells_what_the_user_said_and_what_is_there(run, server):
    run(replace(PLAN, languages=("pt-BR",), batch=2))
    prompts = [asked.prompt for asked in server.asked if asked.kind == "write"]
    near = next(p for p in prompts if 'near misses of "refund"' in p)
    for part in ("tickets", "Messages to a shop.", "wants money back", "asks how refunds work",
                 "Portuguese (pt-BR)", "Write 2 texts"):  # fmt: skip
        assert part in near
    assert any("These exist already" in p for p in prompts)
    labelled = [asked.prompt for asked in server.asked if asked.kind == "label"]
    assert not any("near miss" in prompt or "belongs_to" in prompt for prompt in labelled)
    body = server.asked[0].body
    assert body["response_format"]["json_schema"]["strict"] is True
    assert body["max_tokens"] > 100
    assert server.asked[0].headers["authorization"] == f"Bearer {KEY}"


# Kind of request, what goes wrong, how often, calls beyond those of a good run, waits before retries.
MISHAPS = [
    ("write", "malformed", 1, 1, []),
    ("write", "fenced", 9, 0, []),
    ("write", "thinking", 9, 0, []),
    ("write", "truncated", 1, 1, []),
    ("write", "empty", 2, 2, []),
    ("write", "no items", 1, 1, []),
    ("write", "extra key", 1, 1, []),
    ("write", "numbers", 1, 1, []),
    ("write", "refusal", 1, 1, []),
    ("write", "huge", 1, 1, []),
    ("write", "busy", 1, 1, [7.0]),
    ("write", "500", 2, 2, [1, 1]),
    ("write", "drop", 1, 1, [1]),
    ("label", "malformed", 1, 1, []),
    ("label", "fenced", 9, 0, []),
    ("label", "truncated", 1, 1, []),
    ("label", "empty", 1, 1, []),
    ("label", "unknown labels", 1, 1, []),
    ("label", "busy", 1, 1, [7.0]),
    ("label", "500", 1, 1, [1]),
    ("label", "drop", 1, 1, [1]),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "fault", "times", "more", "waits"), MISHAPS)
def test_a_mishap_is_made_good(run, server, kind, fault, times, more, waits):
    server.faults[kind].extend([fault] * times)
    result = run(SMALL)
    assert len(result.rows) == 15
    assert server.count() == 4 + more
    assert len(run.waits) == len(waits)
    for waited, at_least in zip(sorted(run.waits), waits, strict=True):
        assert at_least <= waited <= max(7.0, 1.5 * at_least)


def test_a_reply_that_was_cut_off_gets_more_room(run, server):
    server.faults["write"].append("truncated")
    run(replace(SMALL, labels=replace(LABELS, labels=LABELS.labels[:1]), ordinary=0))
    first, second, _ = server.asked
    assert second.body["max_tokens"] > 1.5 * first.body["max_tokens"]
    assert "cut off" in second.prompt


def test_a_server_that_hangs(server, embed, tmp_path):
    server.faults["write"].append("hang")
    with chat(server, timeout=3) as model:
        run = Run(model, embed, tmp_path)
        assert len(run(SMALL).rows) == 15
    assert server.count() == 5
    assert len(run.waits) == 1


def test_a_server_that_knows_no_schemas_is_asked_in_words(run, server):
    server.always = {"write": "no schema", "label": "no schema"}
    assert len(run(SMALL).rows) == 15
    refused = sum("response_format" in asked.body for asked in server.asked)
    assert 1 <= refused <= 3  # at most those that were out at once


# Kind of request, what is wrong with each reply, the reason of the rejection, and how it ends.
DROPPED = [
    ("write", "duplicates", "duplicate", "no longer diverse"),
    ("write", "refusals inside", "a refusal", "no longer diverse"),
    ("write", "long texts", "longer than 4000 characters", "no longer diverse"),
    ("write", "off label", "the check says otherwise", "the check drops nearly all"),
    ("label", "wrong labels", "the check says otherwise", "the check drops nearly all"),
]


@pytest.mark.parametrize(("kind", "fault", "reason", "stopped"), DROPPED)
def test_what_is_dropped_stands_with_its_reason(run, server, kind, fault, reason, stopped):
    server.always = {kind: fault}
    server.only = "Write texts that belong to" if kind == "write" else ""
    server.keywords = {"prize": "prize"}
    one = replace(SMALL, labels=replace(LABELS, labels=LABELS.labels[1:]))
    if kind == "label":
        with pytest.raises(
            SpendError, match=r"no text could be kept; most were dropped: the check"
        ):
            run(one)
        assert {row["reason"] for row in run.rejected()} == {
            "the check says none, not prize", "the check says prize, not none"
        }  # fmt: skip
        return
    result = run(one)
    cell = next(cell for cell in result.cells if cell.kind == "positive")
    assert cell.stopped == stopped
    assert cell.kept <= 1
    assert result.rejected[reason] >= 5
    assert {row["reason"].split(":")[0] for row in run.rejected()}
    assert all(row["labels"] == server.labels(row["text"]) for row in run.rows())


def test_the_yield_of_each_batch_is_what_ends_a_label(run, server, embed):
    result = run(replace(SMALL, near_duplicate=0.3, per_label=50))  # nearly all count as the same
    for cell in result.cells:
        assert cell.stopped == "no longer diverse"
        assert sum(cell.yields[-3:]) < 0.9
        assert cell.kept < 10
    assert result.rejected["near-duplicate"] > 10


def test_replies_without_usage_are_counted_by_the_rule_and_said_to_be(run, server):
    server.always = {"write": "no usage", "label": "no usage"}
    result = run(SMALL)
    assert result.bill["replies_with_estimated_tokens"] == 4
    assert result.bill["completion_tokens"] > 50
    assert result.bill["dollars"] > 0
    assert "estimates" in result.bill_line


PLANS = [
    ({"labels": Labels("t", "", ())}, "labels: there are none"),
    ({"labels": Labels("t", "", (LabelSpec("a"), LabelSpec("a")))}, "two have the same name"),
    ({"labels": Labels("t", "", (LabelSpec("a"),), none=False)}, "a single label"),
    ({"labels": Labels("t", "", (LabelSpec("none"), LabelSpec("a")))}, "'none' is what texts"),
    ({"languages": ()}, "languages: there are none"),
    ({"per_label": 0}, "per_label: 0 is less than 1"),
    ({"batch": 99}, "batch: 99 is not in 1..50"),
    ({"near_duplicate": 0.0}, "near_duplicate: must be above 0"),
]


@pytest.mark.parametrize(("change", "message"), PLANS)
def test_plans_check_themselves(change, message):
    with pytest.raises(ValueError, match=message):
        replace(PLAN, **change)


def test_near_duplicates_strays_and_samples():
    rng = np.random.default_rng(0)
    centre = rng.normal(size=32)
    near = unit((centre + 0.3 * rng.normal(size=(40, 32))).astype(np.float32))
    gathered = Gathered(0.999)
    assert gathered.mean_nearest() is None
    assert gathered.fresh(np.concatenate([near[:3], near[:1]])) == [True, True, True, False]
    gathered.keep(near[:3])
    assert gathered.fresh(near[2:4]) == [False, True]
    assert 0.5 < gathered.mean_nearest() < 1
    assert outliers(near) == []
    stray = unit(-centre[None, :].astype(np.float32))
    assert outliers(np.concatenate([near, stray])) == [40]
    assert outliers(np.concatenate([near[:5], stray])) == []
    clusters = np.concatenate([near, np.repeat(stray, 3, axis=0)])
    drawn = [farthest_sample(clusters, 5, seed) for seed in range(20)]
    assert sum(any(i >= 40 for i in some) for some in drawn) >= 18  # three of 43, found in five
    assert farthest_sample(np.repeat(stray, 9, axis=0), 4, 0) == sorted(
        set(farthest_sample(np.repeat(stray, 9, axis=0), 4, 0))
    )
    with pytest.raises(ValueError, match="finite"):
        unit(np.full((2, 2), np.nan, np.float32))


def test_the_token_rule_errs_upwards():
    text = "The quick brown fox jumps over the lazy dog near the river bank. " * 20
    assert len(text) / 4 <= tokens_of(text) <= len(text) / 2
    assert tokens_of("") == 0
