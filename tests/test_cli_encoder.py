"""doorman encoder: what an encoder is called when nobody says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from proxy.commands.encoder import name_of


@pytest.mark.parametrize(
    ("source", "origin", "name"),
    [
        ("all-MiniLM", None, "all-MiniLM"),
        ("all-MiniLM/", "org/other", "all-MiniLM"),
        ("all-MiniLM/model", None, "all-MiniLM"),
        ("all-MiniLM/onnx/model/", "org/other", "all-MiniLM"),
        ("model", "org/my-base", "my-base"),
        ("model", "/somewhere/my-base/model", "my-base"),
        ("./model", None, "place"),
        (".", None, "place"),
        ("model", "", "place"),
    ],
)
def test_a_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, origin: str | None, name: str
) -> None:
    home = tmp_path / "place"
    (home / source).mkdir(parents=True)
    monkeypatch.chdir(home)
    (home / source / "config.json").write_text(json.dumps({"_name_or_path": origin}))
    assert name_of(source) == name


@pytest.mark.parametrize(
    ("source", "name"), [("org/some-encoder", "some-encoder"), ("org/model", "org")]
)
def test_an_identifier_of_the_hub(source: str, name: str) -> None:
    assert name_of(source) == name


@pytest.mark.parametrize("config", ["", "[]", "{", '{"_name_or_path": 5}'])
def test_a_config_that_says_nothing(tmp_path: Path, config: str) -> None:
    folder = tmp_path / "mine" / "model"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(config)
    assert name_of(str(folder)) == "mine"
