"""The classifiers as a library: load and call, train, and what importing them costs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from train_kit import TINY, options, rows_of, span_rows, text_of, write_jsonl, write_task

from classifiers import load, train
from classifiers.packs import PackError
from classifiers.types import Batch, Span


@pytest.fixture(scope="module")
def pack(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("sklearn", reason="scikit-learn is not installed (extra `train`)")
    folder = tmp_path_factory.mktemp("api")
    train(write_task(folder, rows_of(20)), folder / "pack", options(folder))
    return folder / "pack"


def test_one_text_or_several(pack: Path) -> None:
    hobby = load(pack, encoder=TINY)
    texts = [text_of("travel", 3), text_of("garden", 3)]
    one, two = hobby(texts)
    assert hobby(texts[0])[0].label == one[0].label == "travel"
    assert two[0].label == "garden"
    assert [p.score for p in one] == sorted((p.score for p in one), reverse=True)
    assert sorted(map(str, one)) == sorted(map(str, hobby.classifier.predict(Batch(texts))[0]))
    assert repr(hobby) == "<classifier hobby: garden, kitchen, travel, out_of_scope>"


def test_no_texts_and_an_empty_one(pack: Path) -> None:
    hobby = load(str(pack), encoder=str(TINY))
    assert hobby([]) == []
    assert len(hobby("")) == 4


@pytest.mark.parametrize(("texts", "kind"), [([1], "int"), ([None], "NoneType"), (b"x", "int")])
def test_what_is_no_text_is_refused(pack: Path, texts: object, kind: str) -> None:
    with pytest.raises(TypeError, match=f"a text or a list of texts is needed, got {kind}"):
        load(pack, encoder=TINY)(texts)  # type: ignore[call-overload]


def test_finds_come_in_their_order(tmp_path: Path) -> None:
    pytest.importorskip("sklearn", reason="scikit-learn is not installed (extra `train`)")
    task = write_task(tmp_path, span_rows(60), kind="spans", labels=["plant", "day"])
    train(task, tmp_path / "pack", options(tmp_path))
    found = load(tmp_path / "pack", encoder=TINY)(
        "my aunt likes her tulips on Friday near the river"
    )
    assert [p.span for p in found] == [Span(18, 24), Span(28, 34)]


def test_a_shipped_classifier_by_its_name() -> None:
    (find,) = load("pii")("write to a.person@example.com")
    assert find.label == "EMAIL"
    assert load("spam")("You won a prize, click here")[0].classifier == "spam"


@pytest.mark.parametrize("name", ["spma", "./spam", "nowhere/spam", "encoderx"])
def test_what_is_not_there_is_named(name: str) -> None:
    with pytest.raises(PackError) as caught:
        load(name)
    assert f"no pack {name!r}; name a folder with a pack, or one of" in str(caught.value)
    assert "spam" in str(caught.value)
    assert "pii" in str(caught.value)


def test_an_encoder_is_no_classifier() -> None:
    with pytest.raises(PackError, match="a pack of kind 'encoder'"):
        load("encoder")


def test_a_folder_wins_over_a_shipped_name(
    pack: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pii").symlink_to(pack)
    monkeypatch.chdir(tmp_path)
    assert load("pii", encoder=TINY).classifier.name == "hobby"


def test_from_a_mapping(tmp_path: Path) -> None:
    pytest.importorskip("sklearn", reason="scikit-learn is not installed (extra `train`)")
    data = write_jsonl(tmp_path / "rows.jsonl", rows_of(20, ("garden", "kitchen")))
    task = {"name": "two", "labels": ["garden", "kitchen"], "data": [str(data)]}
    report = train(task, tmp_path / "pack", options(tmp_path))
    assert report.name == "two"
    assert load(tmp_path / "pack", encoder=TINY)("soil")


def test_importing_the_library_loads_nothing_heavy() -> None:
    script = (
        "import sys; from classifiers import load, train\n"
        "print(sorted({'numpy', 'onnxruntime', 'sklearn', 'pydantic', 'classifiers.training'} "
        "& set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
