"""Runs that stop half-way, and what they cost: every reply is paid for once."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from scripted_llm import ScriptedLlm
from synth_kit import KEY, LABELS, PLAN, SMALL, TINY, Run, chat, lines

from classifiers.encoder import Encoder
from classifiers.training.spend import Bill, CostLimit, SpendError
from classifiers.training.synth_diversity import encoder_embed
from classifiers.training.synthesize import estimate_synthesis
from proxy.llm import chat_model


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


@pytest.mark.parametrize("fault", ["", "some labels"])
def test_a_finished_run_costs_nothing_again(run, server, fault):
    server.always = {"label": fault}
    first = run()
    assert first.rejected.get("the check gave no label", 0) >= (8 if fault else 0)
    calls, rows, journal = server.count(), run.rows(), (run.folder / "journal.jsonl").read_bytes()
    again = run()
    assert server.count() == calls
    assert run.rows() == rows
    assert again.bill["dollars"] == first.bill["dollars"]
    assert (again.bill["calls"], again.bill["replayed"]) == (0, calls)
    assert (run.folder / "journal.jsonl").read_bytes().startswith(journal)


@pytest.mark.parametrize("after", [1, 3, 6, 8])
def test_an_interrupted_run_goes_on_and_pays_only_for_the_rest(
    model, server, embed, tmp_path, after
):
    straight = Run(model, embed, tmp_path / "straight")
    server_calls = len(straight().rows) and server.count()

    def interrupt(progress):
        if progress.step in ("write", "check"):
            seen.append(progress)
            if len(seen) == after:
                raise KeyboardInterrupt

    seen = []
    run = Run(model, embed, tmp_path / "resumed")
    with pytest.raises(KeyboardInterrupt):
        run(progress=interrupt)
    paid = server.count() - server_calls
    journal = run.folder / "journal.jsonl"
    kept = sum('"text"' in line for line in journal.read_text().splitlines())
    assert kept == paid >= 1  # every reply that came is on the disk
    result = run()
    assert result.bill["replayed"] == paid
    assert result.bill["calls"] == server.count() - server_calls - paid
    assert len({row["text"] for row in run.rows()}) == len(result.rows) >= 32


KILLED = """
import os, signal, sys
from pathlib import Path
sys.path[:0] = [{root!r}, {tests!r}]
from synth_kit import PLAN, TINY, chat_model, synthesize
from classifiers.encoder import Encoder
from classifiers.training.synth_diversity import encoder_embed

def kill(progress):
    if progress.step == "check":
        os.kill(os.getpid(), signal.SIGKILL)

params = {{"model": "openai/scripted", "api_base": {base!r}, "api_key": "k"}}
synthesize(PLAN, chat_model(params, {{}}), encoder_embed(Encoder(TINY)), Path({folder!r}), progress=kill)
"""


def test_a_killed_run_goes_on(run, server):
    tests = Path(__file__).parent
    code = KILLED.format(
        root=str(tests.parent), tests=str(tests), base=server.base, folder=str(run.folder)
    )
    killed = subprocess.run([sys.executable, "-c", code], timeout=60, capture_output=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()[-500:]
    before = server.count()
    result = run()
    assert result.bill["replayed"] >= 6
    assert server.count() - before == result.bill["calls"]
    assert len(result.rows) >= 32


def test_a_half_written_line_is_paid_for_again_and_no_other(run, server):
    first = run(SMALL)
    journal = run.folder / "journal.jsonl"
    whole = journal.read_bytes().splitlines(keepends=True)
    replies = [n for n, line in enumerate(whole) if b'"completion_tokens"' in line]
    journal.write_bytes(b"".join(whole[: replies[-1]]) + whole[replies[-1]][:40])
    (run.folder / "rows.jsonl").unlink()
    again = run(SMALL)
    assert again.bill["calls"] == 1
    assert len(again.rows) == len(first.rows)
    assert [json.loads(line) for line in journal.read_text().splitlines()]


def test_a_damaged_line_in_the_middle_is_named(run, server):
    run(SMALL)
    journal = run.folder / "journal.jsonl"
    whole = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(whole[0] + b"{oops\n" + b"".join(whole[1:]))
    with pytest.raises(SpendError, match=r"journal.jsonl:2: not a line of a journal; delete"):
        run(SMALL)


def test_more_rows_of_the_same_pay_for_the_difference(run, server):
    run(SMALL)
    calls = server.count()
    more = run(replace(SMALL, per_label=10))
    assert len(more.rows) == 30
    assert server.count() - calls == 3 + 1
    run(replace(SMALL, labels=replace(LABELS, description="Other messages.")))
    assert server.count() - calls == 4 + 4  # another task is another question


def test_after_the_server_is_mended_the_same_questions_are_asked_again(run, server):
    server.always = {"write": "refusal"}
    with pytest.raises(
        SpendError, match=r"[0-9]+ questions in a row .* not JSON.*\$.* is paid; run it again"
    ):
        run()
    server.always = {}
    assert len(run().rows) >= 32


@pytest.mark.parametrize(
    ("fault", "calls", "message"),
    [
        ("401", 4, "the provider refused the key; set the provider's own variable"),
        ("400", 12, "status 400"),
        ("500", 24, "status 500"),
        ("busy for hours", 4, "status 429"),
        ("drop", 24, "status 500"),
    ],
)
def test_a_failure_for_good_says_what_is_saved_and_how_to_go_on(run, server, fault, calls, message):
    server.faults["write"].append("")
    server.always = {"write": fault}
    with pytest.raises(SpendError) as caught:
        run()
    said = str(caught.value)
    assert message in said
    assert "run it again to pay for the rest alone" in said
    assert "\n" not in said
    assert KEY not in said
    assert server.count() <= calls + 1
    server.always = {}
    assert run().bill["replayed"] >= 1


def test_two_runs_do_not_share_a_journal(run, model, embed):
    def second(progress):
        other = Run(model, embed, run.folder)
        with pytest.raises(SpendError, match="another run is using it"):
            other()

    run(SMALL, progress=second)


def test_edited_rows_are_kept(run, server):
    run(SMALL)
    path = run.folder / "rows.jsonl"
    rows = path.read_text().splitlines(keepends=True)
    path.write_text("".join(rows[:-2]))
    calls = server.count()
    again = run(SMALL)
    assert again.reviewed
    assert len(again.rows) == len(rows) - 2
    assert server.count() == calls
    with pytest.raises(SpendError, match="was edited since it was written"):
        run(PLAN)
    assert len(run.rows()) == len(rows) - 2
    path.write_text('{"text": "Hi", "labels": ["unknown"], "kind": "positive"}\n')
    with pytest.raises(SpendError, match=r"row 1: labels must be a list of refund, prize"):
        run(SMALL)


def test_no_file_holds_the_key(run, server):
    server.faults["write"].append("500")
    run(SMALL)
    for path in run.folder.iterdir():
        assert KEY not in path.read_text()
    assert KEY not in repr(run.model)


def test_the_estimate_is_near_the_bill_and_above_it(run, server):
    plan = replace(PLAN, per_label=20)
    estimate = estimate_synthesis(plan, run.model)
    result = run(plan)
    assert 0.8 * server.count() <= estimate.calls <= 2 * server.count()
    assert estimate.dollars >= result.bill["dollars"]
    assert "calls to openai/scripted" in estimate.line()


def test_an_estimate_above_max_cost_is_refused_before_anything_is_paid(run, server):
    with pytest.raises(CostLimit, match=r"more than max_cost \$0\.0010.*raise max_cost"):
        run(replace(PLAN, max_cost=0.001))
    assert server.count() == 0


def test_the_bill_stops_before_max_cost(run, server):
    estimate = estimate_synthesis(PLAN, run.model).dollars
    server.always = {"label": "wrong labels"}  # so that far more is needed than was estimated
    with pytest.raises(CostLimit, match=r"could bring the bill .* over max_cost .* run it again"):
        run(replace(PLAN, max_cost=estimate, per_label=8, patience=50))
    paid = sum(line.get("cost", 0) for line in lines(run.folder / "journal.jsonl"))
    assert 0 < paid <= estimate


def test_a_price_that_nobody_knows(server, embed, tmp_path):
    with chat_model({"model": "openai/scripted", "api_base": server.base}, {}) as model:
        run = Run(model, embed, tmp_path)
        with pytest.raises(CostLimit, match="the price of openai/scripted is not known"):
            run(replace(SMALL, max_cost=5.0))
        result = run(SMALL)
    assert "not known" in run.told[0].note
    assert result.bill["dollars"] is None
    assert "without a known price" in result.bill_line


def test_the_lid_holds_for_calls_that_are_out():
    bill, stop = Bill(1.0), threading.Event()
    assert bill.reserve(0.6, stop)
    stop.set()
    assert not bill.reserve(0.6, stop)
    bill.settle(0.6, None)
    with pytest.raises(CostLimit):
        bill.reserve(1.1, stop)
