"""What people are asked to look at, and whether texts have changed."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import orjson
import pytest

pytest.importorskip("sklearn", reason="scikit-learn is not installed (extra `train`)")

from dashboard_kit import KEYS, login
from feedback_kit import NEW, ask, home_of, say, served, trained
from gateway_kit import ScriptedUpstream

from proxy.feedback import drift, review
from proxy.feedback.recorded import Recorded

APP = "dm-client-0123456789"


def test_the_sample_is_steady_and_as_large_as_asked() -> None:
    lot = random.Random(7)
    ids = [f"dec_{lot.getrandbits(96):024x}" for _ in range(20_000)]
    chosen = {id for id in ids if review.sampled(id, 0.05)}
    assert len(chosen) == pytest.approx(1000, rel=0.15)
    assert chosen <= {id for id in ids if review.sampled(id, 0.1)}
    assert not any(review.sampled(id, 0.0) for id in ids)
    assert all(review.sampled(id, 1.0) for id in ids)


def entry(address: list[Any], role: str = "user", **told: Any) -> dict[str, Any]:
    return {"address": address, "role": role, **told}


@pytest.mark.parametrize(
    ("stage", "cause", "entries", "text", "told"),
    [
        ("input", None, [entry([0], text="one"), entry([1], text="two")], "two", "whole"),
        ("input", [0], [entry([0], text="one"), entry([1], text="two")], "one", "whole"),
        ("input", [9], [entry([0], text="one"), entry([1], text="two")], None, "nothing"),
        ("input", [9], [entry([0], text="one"), entry([1], "system", text="two")], "one", "whole"),
        ("input", None, [entry([0], hmac_sha256="00")], None, "hash"),
        ("input", None, [entry([0], text="on", cut=5)], None, "cut"),
        ("input", None, [], None, "nothing"),
        ("output", [0], [entry([0], text="one")], None, "reply"),
    ],
)
def test_the_text_that_a_decision_is_about(
    stage: str, cause: Any, entries: list[Any], text: str | None, told: str
) -> None:
    made = {
        "policy": "p@1", "rule": "r", "classifier": "guard@1", "label": "attack",
        "address": cause,
    }  # fmt: skip
    decision = {"outcome": "block", "cause": made} if cause else {"outcome": "forward"}
    line = {"stages": {stage: decision}, "content": entries}
    row = {"decision_id": "dec_1", "key": None, "record": orjson.dumps(line)}
    found = Recorded.of(row)
    assert (found.text, found.told) == (text, told)


def test_a_cut_text_is_no_text_of_the_request() -> None:
    found = Recorded("dec_1", None, "input", {}, (entry([0], text="ab", cut=2),))
    assert not found.holds("ab", lambda text: "")
    assert Recorded("dec_1", None, "input", {}, (entry([0], text="ab"),)).holds("ab", str)


def test_the_index_of_two_histograms() -> None:
    even = [100] * 10
    assert drift.psi(even, even) == pytest.approx(0, abs=1e-9)
    assert drift.psi(even, [10] * 10) is None  # too few
    # By hand, of two bins: (0.7 - 0.5) ln(0.7/0.5) + (0.3 - 0.5) ln(0.3/0.5) = 0.1695
    assert drift.psi([70_000, 30_000], [50_000, 50_000]) == pytest.approx(0.1695, abs=1e-3)
    assert (drift.psi([0, 1000], [1000, 0]) or 0) > 5


def test_bins_hold_every_score_once() -> None:
    values = [0.0, 0.009, 0.01, 0.5, 0.949, 0.95, 1.0]
    counts = drift.bins(values)
    assert sum(counts) == len(values)
    assert (counts[0], counts[-1]) == (2, 2)


@pytest.fixture(scope="module")
def pack(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(tmp_path_factory.mktemp("trained"))


def test_the_queue_through_the_dashboard(
    pack: Path, tmp_path: Path, upstream: ScriptedUpstream
) -> None:
    home = home_of(tmp_path, pack)
    more = KEYS + "feedback: {near: 20, sample: 1}\nrecord: {content: full}\n"
    with served(home, upstream, more) as door:
        ids = [ask(door, text, api_key=APP)[0] for text in NEW[:3]]
        body = {"decision_id": ids[2], "verdict": "wrong", "comment": "<b>not so</b>"}
        assert say(door, body, APP).json()["state"] == "reported"
        visitor = login(door)
        page = visitor.get("/review").text
        assert page.index("reported") < page.index("uncertain")
        assert all(text in page for text in NEW[:3])
        assert "&lt;b&gt;not so&lt;/b&gt;" in page

        told = {"decision_id": ids[0], "classifier": "hobby", "label": "kitchen"}
        assert visitor.post("/review/label", of="/review", **told).status_code == 303
        right = {"decision_id": ids[1], "verdict": "correct"}
        assert visitor.post("/review/label", of="/review", **right).status_code == 303
        wrong = {"decision_id": ids[2], "report": "1", "use": "chosen", "chosen": "hobby/travel"}
        assert visitor.post("/review/label", of="/review", **wrong).status_code == 303
        assert "Nothing waits for you" in visitor.get("/review").text
        table = door.app.state.gateway.feedback.table
        found = door.loop.run(table.corrections("hobby"))
        assert [(c.text, c.labels, c.judge) for c in found] == [
            (NEW[2], ("travel",), "boss"),
            (NEW[0], ("kitchen",), "boss"),
        ]
        assert NEW[0] in visitor.get("/retrain/hobby").text
        taken_back = {"name": "hobby", "id": str(found[0].id)}
        gone = visitor.post("/retrain/do/remove", of="/retrain/hobby", **taken_back)
        assert gone.headers["location"] == "/dashboard/retrain/hobby?done=removed"
        assert NEW[2] not in visitor.get("/retrain/hobby").text
        for word in ("promote", "beside"):
            nothing = {"name": "hobby", "pack": "0" * 12}
            refused = visitor.post(f"/retrain/do/{word}", of="/retrain/hobby", **nothing)
            assert refused.status_code == 404
        undo = visitor.post("/retrain/do/undo", of="/retrain/hobby", name="hobby")
        assert (undo.status_code, "No pack was promoted" in undo.text) == (409, True)
        assert visitor.get("/retrain/nobody").status_code == 404
        assert "hobby" in visitor.get("/classifiers").text
        assert visitor.get("/classifiers/of/hobby").status_code == 200
        assert visitor.get("/classifiers/of/nobody").status_code == 404
        bad = {"decision_id": ids[1], "use": "chosen"}
        assert visitor.post("/review/label", of="/review", **bad).status_code == 400
