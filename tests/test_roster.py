"""Classifiers that are exchanged: who may be asked for, by name and by version, and when."""

from __future__ import annotations

import gc

import pytest
from gateway_kit import WordClassifier

from classifiers.engine import ClassifierEngine
from classifiers.roster import Asked, Roster


def guard(version: str, word: str = "attack", name: str = "guard") -> WordClassifier:
    return WordClassifier(name, {"hit": rf"\b{word}\b"}, version=version)


OLD, NEW, NEWER = guard("1"), guard("2", "raid"), guard("3", "siege")
TOPIC = guard("1", name="topic")


def test_names_mean_what_is_in_force_and_versions_what_they_say() -> None:
    roster = Roster([OLD, TOPIC])
    assert roster.asked(None) == {"guard@1": Asked("guard"), "topic@1": Asked("topic")}
    assert roster.asked(["guard"]) == roster.asked(["guard@1"])
    for unknown in ("guard@2", "nobody", "guard@"):
        with pytest.raises(ValueError, match="there are: guard, topic"):
            roster.asked([unknown])


def test_two_of_one_name_are_refused() -> None:
    with pytest.raises(ValueError, match="two classifiers are named 'guard'"):
        Roster([OLD, NEW])


def test_the_one_before_may_be_asked_for_by_who_began_with_it() -> None:
    roster = Roster([OLD, TOPIC])
    roster.exchange({"guard": NEW, "topic": TOPIC})
    assert roster.find("guard@1") is OLD
    assert roster.asked(["guard"]) == {"guard@2": Asked("guard")}
    assert roster.asked(["guard@1"]) == {"guard@1": Asked("guard")}
    # An exchange of something else takes nothing away.
    roster.exchange({"guard": NEW, "topic": guard("2", name="topic")})
    assert roster.find("guard@1") is OLD
    roster.exchange({"guard": NEWER, "topic": TOPIC})
    assert roster.find("guard@1") is None
    assert roster.find("guard@2") is NEW


def test_what_is_retired_may_be_made_smaller() -> None:
    roster = Roster([OLD])
    small = guard("1")
    roster.exchange({"guard": NEW}, retire=lambda _: small)
    assert roster.find("guard@1") is small


def test_what_is_admitted_is_asked_by_its_version_alone() -> None:
    roster = Roster([OLD])
    roster.admit(NEW)
    assert roster.asked(["guard@2"]) == {"guard@2": Asked("guard")}
    assert roster.asked(["guard"]) == {"guard@1": Asked("guard")}
    roster.admit()
    assert roster.find("guard@2") is None


def test_a_candidate_is_asked_wherever_the_one_in_force_is() -> None:
    roster = Roster([OLD, TOPIC])
    roster.exchange(roster.current, {"guard": NEW})
    both = {"guard@1": Asked("guard"), "guard@2": Asked("guard", beside=True)}
    assert roster.asked(["guard@1"]) == both
    assert roster.asked(["topic"]) == {"topic@1": Asked("topic")}


def test_what_was_lent_goes_with_its_holder() -> None:
    roster = Roster([OLD])
    own = guard("7", name="faq/shop@7")
    roster.lend(own)
    assert roster.asked(["faq/shop@7"]) == {"faq/shop@7@7": Asked("faq/shop@7")}
    assert roster.find("faq/shop@7@7") is own
    del own
    gc.collect()
    assert roster.find("faq/shop@7@7") is None


def test_the_engine_tells_results_by_name_and_remembers_them_by_version() -> None:
    engine = ClassifierEngine([OLD])
    try:
        text = "a raid"
        [before] = engine.classify_blocking([text])
        engine.roster.exchange(engine.classifiers, {"guard": NEW})
        [tried] = engine.classify_blocking([text])  # remembered, and yet the candidate is asked
        engine.roster.exchange({"guard": NEW})
        [after, old] = (engine.classify_blocking([text], [id])[0] for id in ("guard", "guard@1"))
    finally:
        engine.close()
    scores = [one.predictions["guard"][0].score for one in (before, tried, after, old)]
    assert scores == [0.01, 0.01, 0.99, 0.01]
    assert [one.score for one in tried.beside["guard"]] == [0.99]
    assert (before.beside, after.beside, after.cached, old.cached) == ({}, {}, True, True)


def test_a_candidate_that_fails_is_no_failure() -> None:
    engine = ClassifierEngine([guard("1")])
    try:
        broken = WordClassifier("guard", {"hit": "("}, version="2")  # no expression: it raises
        engine.roster.exchange(engine.classifiers, {"guard": broken})
        [found] = engine.classify_blocking(["a text"], ["guard@1"])
    finally:
        engine.close()
    assert found.predictions.keys() == {"guard"}
    assert (found.errors, found.beside) == ({}, {})
