"""How near a score came to a threshold: in log-odds, wherever the threshold lies."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from proxy.config_feedback import FeedbackConfig
from proxy.feedback.near import Near, log_odds, nearest
from proxy.feedback.recorded import NONE, Recorded

CUTS = {"guard@1": {"attack": (0.5, 0.8)}}
NEAR = FeedbackConfig().near


def seen(scores: Any, **kind: Any) -> dict[str, Any]:
    told = {"role": "user", "last_turn": True, "across": False, "derived": False, "texts": 1}
    return {**told, **kind, "scores": scores}


def record(scores: Mapping[str, Any], id: str = "guard@1") -> dict[str, Any]:
    return {"stages": {"input": {"outcome": "forward", "seen": [seen({id: scores})]}}}


@pytest.mark.parametrize(
    ("scores", "threshold", "margin", "known"),
    [
        ({"attack": 0.52}, 0.5, 0.080, True),
        ({"attack": 0.79}, 0.8, 0.061, True),
        ({"attack": 0.99}, 0.8, 3.209, True),
        ({"attack": 1.0}, 0.8, 8.517, False),  # rounded up, nobody knows how far
        ({}, 0.5, 4.595, False),  # too low to be recorded: 0.01 stands for it
        ({"other": 0.5}, 0.5, 4.595, False),
    ],
)
def test_the_nearest_threshold(
    scores: dict[str, float], threshold: float, margin: float, known: bool
) -> None:
    found = nearest(record(scores), CUTS)
    assert found is not None
    assert (found.classifier, found.label, found.threshold) == ("guard", "attack", threshold)
    assert found.margin == pytest.approx(margin, abs=1e-3)
    assert found.known == known


@pytest.mark.parametrize(
    ("score", "threshold", "uncertain"),
    [
        (0.9993, 0.95, False),  # as good as sure, though 0.05 away
        (0.9999, 0.95, False),
        (0.96, 0.95, True),
        (0.55, 0.5, True),
        (0.65, 0.5, False),
        (0.12, 0.1, True),
        (0.01, 0.1, False),
        (0.02, 0.1, False),
    ],
)
def test_the_same_distance_means_the_same_at_every_threshold(
    score: float, threshold: float, uncertain: bool
) -> None:
    assert (Near("guard", "attack", score, threshold).margin <= NEAR) == uncertain
    mirrored = Near("guard", "attack", 1 - score, 1 - threshold)
    assert mirrored.margin == pytest.approx(Near("guard", "attack", score, threshold).margin)


@pytest.mark.parametrize("threshold", [0.001, 0.01, 0.012, 0.05, 0.1])
def test_a_quiet_text_is_not_uncertain_under_a_low_threshold(threshold: float) -> None:
    found = nearest(record({}), {"guard@1": {"attack": (threshold,)}})
    assert found is not None
    assert not found.known


def test_a_score_that_is_there_goes_before_one_that_is_not() -> None:
    found = nearest(record({"attack": 0.7}), {"guard@1": {"attack": (0.5,), "spam": (0.01,)}})
    assert found is not None
    assert (found.label, found.known) == ("attack", True)


def test_certainty_has_a_log_odds_too() -> None:
    assert log_odds(1.0) == -log_odds(0.0) == pytest.approx(9.903, abs=1e-3)


def test_nothing_is_near_where_no_rule_in_force_looked() -> None:
    assert nearest(record({"attack": 0.5}, "guard@0"), CUTS) is None
    failed = record({})
    failed["stages"]["input"]["seen"][0]["scores"]["guard@1"] = None
    assert nearest(failed, CUTS) is None


def entries(*roles: str) -> tuple[dict[str, Any], ...]:
    return tuple({"address": [n], "role": role, "text": f"{n}"} for n, role in enumerate(roles))


@pytest.mark.parametrize(
    ("roles", "near", "chosen"),
    [
        (("system", "user", "user"), {"role": "user"}, 2),
        (("system", "user", "user"), {"role": "system", "newest": False}, 0),
        (("system", "user", "user"), {"role": "user", "newest": False}, NONE),
        (("system", "user", "user"), {"role": "user", "alone": False}, NONE),
        (("system", "user"), {"role": "user", "alone": False}, 1),
        (("system",), {"role": "tool"}, NONE),
    ],
)
def test_the_text_that_has_the_score(
    roles: tuple[str, ...], near: dict[str, Any], chosen: int
) -> None:
    decided = {
        "classifier": "other@1", "label": "rude", "score": 0.99, "threshold": 0.5, "address": [0],
    }  # fmt: skip
    found = Recorded("dec_1", None, "input", decided, entries(*roles))
    about = found.of_score(Near("guard", "attack", 0.5, 0.5, **near))
    assert about.chosen == chosen
    assert (about.text is None) == (chosen == NONE)
    mine = {**decided, "classifier": "guard@1", "label": "attack", "score": 0.50001}
    decided_by_it = Recorded("dec_1", None, "input", mine, entries(*roles))
    assert decided_by_it.of_score(Near("guard", "attack", 0.5, 0.5, **near)).text == "0"


def test_one_text_has_one_digest() -> None:
    def of(*kept: dict[str, Any]) -> str | None:
        return Recorded("dec_1", None, "input", {}, kept).digest

    said = {"address": [0], "role": "user"}
    assert of({**said, "text": "a"}) == of({**said, "address": [4], "text": "a"}) is not None
    assert of({**said, "text": "a"}) != of({**said, "text": "b"})
    assert of({**said, "hmac_sha256": "00"}) == "00"
    assert of({**said, "text": "a", "cut": 3}) is None
    assert of() is None
