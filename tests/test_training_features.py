"""The cache of features: closed after use, and a file that cannot be used is named."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import pytest

pytest.importorskip("sklearn", reason="scikit-learn is not installed (extra `train`)")

from train_kit import TINY, rows_of, write_task

from classifiers.encoder import Encoder
from classifiers.training.features import FeatureCache
from proxy.cli import main


def damaged(folder: Path, how: str) -> Path:
    """A cache of forty texts, spoiled."""
    with FeatureCache(Encoder(TINY), folder) as cache:
        cache.get([f"text {n}" for n in range(40)])
    (path,) = folder.iterdir()
    content = path.read_bytes()
    if how == "no database":
        path.write_bytes(b"not a database at all, " * 400)
    elif how == "cut off":
        path.write_bytes(content[: len(content) // 2])
    else:
        with sqlite3.connect(path) as rows:
            rows.execute("UPDATE features SET value = x'010203'")
        rows.close()
    return path


@pytest.mark.parametrize("how", ["no database", "cut off", "another value"])
def test_a_damaged_file_is_named_with_what_to_do(tmp_path: Path, how: str) -> None:
    path = damaged(tmp_path / "cache", how)
    texts = [f"text {n}" for n in range(40)]
    with pytest.raises(ValueError, match="is damaged") as caught:
        FeatureCache(Encoder(TINY), tmp_path / "cache").get(texts)
    assert str(caught.value).startswith(f"{path}: the cache of features is damaged (")
    assert "delete it" in str(caught.value)
    path.unlink()
    with FeatureCache(Encoder(TINY), tmp_path / "cache") as cache:
        assert len(cache.get(["text 1"])) == 1


def test_training_tells_of_it_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    path = damaged(tmp_path / "cache", "no database")
    write_task(tmp_path, rows_of(6))
    assert main(["train", "task.yaml", "--cache", "cache", "--encoder", str(TINY)]) == 2
    said = capsys.readouterr().err
    assert said.startswith(
        f"doorman: {path.relative_to(tmp_path)}: the cache of features is damaged"
    )
    assert len(said.splitlines()) == 1


def test_a_file_that_cannot_be_opened_is_not_called_damaged(tmp_path: Path) -> None:
    encoder = Encoder(TINY)
    (tmp_path / f"features-{encoder.hash[:12]}.sqlite").mkdir()
    with pytest.raises(ValueError, match=r"cannot be used .*name another folder with --cache"):
        FeatureCache(encoder, tmp_path)


def test_it_is_closed_after_use(tmp_path: Path) -> None:
    with FeatureCache(Encoder(TINY), tmp_path) as cache:
        first = cache.get(["text"])[0]
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        cache.get(["text"])
    with FeatureCache(Encoder(TINY), tmp_path) as again:
        assert json.dumps(again.get(["text"])[0].tolist()) == json.dumps(first.tolist())
