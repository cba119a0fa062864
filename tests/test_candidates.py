"""Corrected packs on disk, and packs that take each other's place in memory."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="scikit-learn is not installed (extra `train`)")

from feedback_kit import NEW, trained, with_candidate
from train_kit import TINY, text_of

from classifiers import restack
from classifiers.candidates import LIVE, Pointer, Shelf, promoted, undone
from classifiers.encoder import Encoder
from classifiers.heads import HeadClassifier
from classifiers.loading import load_packs
from classifiers.packs import SHIPPED, PackError
from classifiers.types import Batch
from proxy.config import ClassifiersConfig
from proxy.loading import load_classifiers
from proxy.yaml_source import ConfigError

TEXTS = [*NEW[:3], text_of("kitchen", 3), text_of("garden", 5), ""]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return with_candidate(trained(tmp_path_factory.mktemp("trained")))


@pytest.fixture
def home(made: Path, tmp_path: Path) -> Path:
    shutil.copytree(made / "pack", tmp_path / "pack")
    shutil.copytree(made / "shelf", tmp_path / "packs" / "hobby")
    return tmp_path


def short(home: Path) -> str:
    [one] = Shelf(home / "packs").candidates("hobby")
    return one.short


def scores(classifier: Any) -> np.ndarray[Any, Any]:
    return np.asarray([[p.score for p in found] for found in classifier.predict(Batch(TEXTS))])


def test_a_pointer_goes_forth_and_back() -> None:
    first = promoted(Pointer(), "a" * 12, "base", "ann", 1.0)
    second = promoted(first, "b" * 12, "base", "bob", 2.0)
    assert (second.live, second.before) == ("b" * 12, (None, "a" * 12))
    back = undone(second, "ann", 3.0)
    assert back is not None
    assert (back.live, back.before, back.by) == ("a" * 12, (None,), "ann")
    again = undone(back, "ann", 4.0)
    assert again is not None
    assert (again.live, undone(again, "ann", 5.0)) == (None, None)


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "{}", '{"live": 3}', '{"live": "x", "before": 1}']
)
def test_a_damaged_pointer_stops_the_start(home: Path, content: str) -> None:
    (home / "packs" / "hobby" / LIVE).write_text(content)
    config = ClassifiersConfig(
        shipped=(), packs=(home / "pack",), encoder=TINY, corrected=home / "packs"
    )
    with pytest.raises(ConfigError, match=r"the configured pack|not there"):
        load_classifiers(config)


def test_a_pointer_to_nothing_stops_the_start(home: Path) -> None:
    shelf = Shelf(home / "packs")
    shelf.point("hobby", Pointer("0" * 12))
    with pytest.raises(PackError, match="names the pack 000000000000, which is not there"):
        shelf.live("hobby")


def test_the_next_start_loads_what_was_promoted(
    home: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = ClassifiersConfig(
        shipped=(), packs=(home / "pack",), encoder=TINY, corrected=home / "packs"
    )
    before = load_classifiers(config)[0].version
    Shelf(home / "packs").point("hobby", Pointer(short(home), (None,), "another pack's hash"))
    assert load_classifiers(config)[0].version == short(home) != before
    assert "was made of another pack" in caplog.text


def test_names_from_outside_stay_inside(home: Path) -> None:
    shelf = Shelf(home / "packs")
    assert shelf.candidate("hobby", "../hobby/" + short(home)) is None
    assert shelf.candidate("hobby", short(home)) is not None
    shelf.remove("hobby", short(home))
    assert shelf.candidates("hobby") == []


def test_old_candidates_go_but_for_those_that_were_served(home: Path) -> None:
    shelf, first = Shelf(home / "packs"), short(home)
    folder = home / "packs" / "hobby"
    said = json.loads((folder / f"{first}.json").read_text("utf-8"))
    names = [f"{number:012x}" for number in range(8)]
    for number, name in enumerate(names):
        shutil.copytree(folder / first, folder / name)
        newer = {**said, "hash": name, "made": said["made"] + 1 + number}
        (folder / f"{name}.json").write_text(json.dumps(newer), "utf-8")
    shelf.point("hobby", Pointer(names[1], (None, first)))
    (folder / ".hobby.json-left").write_text("{}")
    (folder / ".candidate-left").mkdir()
    shelf.sweep("hobby", 600)
    assert len(list(folder.glob(".*"))) == 2  # somebody may be at it
    shelf.sweep("hobby", -600)
    assert list(folder.glob(".*")) == []
    kept = [one.short for one in shelf.candidates("hobby")]
    assert kept == [*reversed(names[3:]), names[1], first]


def test_heads_say_the_same_in_another_stack(home: Path) -> None:
    encoder = Encoder(TINY)
    known = {c.name: c for c in load_packs([home / "pack"], encoder)}
    folder = home / "packs" / "hobby" / short(home)
    alone = load_packs([folder], encoder)[0]

    tried = restack.beside(known, "hobby", folder)
    assert np.allclose(scores(tried.current["hobby"]), scores(known["hobby"]))
    assert np.allclose(scores(tried.pack), scores(alone))
    assert tried.pack.encoder is known["hobby"].encoder  # type: ignore[attr-defined]

    made = restack.replaced(tried.current, "hobby", folder)
    assert made.current["hobby"] is made.pack
    assert np.allclose(scores(made.pack), scores(alone))
    old = restack.alone(known["hobby"])
    assert isinstance(old, HeadClassifier)
    assert old.version == known["hobby"].version
    assert np.allclose(scores(old), scores(known["hobby"]))
    assert not np.allclose(scores(made.pack), scores(old))


def test_what_cannot_take_the_place_is_refused(home: Path) -> None:
    known = {c.name: c for c in load_packs([home / "pack"], Encoder(TINY))}
    with pytest.raises(PackError, match="nobody is not loaded"):
        restack.replaced(known, "nobody", home / "pack")
    with pytest.raises(PackError, match="is a pack of hobby, one of pastime is needed"):
        restack.replaced({"pastime": known["hobby"]}, "pastime", home / "pack")
    with pytest.raises(PackError, match="made for encoder"):
        restack.replaced(known, "hobby", SHIPPED / "spam")
