"""Packs of every kind on one encoder: their order, one run for all, and encoders of their own."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("sklearn", reason="scikit-learn is not installed (extra `train`)")

from train_kit import TINY, rows_of, run, span_rows, text_of

from classifiers.encoder import Encoded, Encoder
from classifiers.loading import kind_of, load_packs
from classifiers.packs import PackError, write_manifest
from classifiers.types import Batch
from proxy.config import ClassifiersConfig
from proxy.loading import load_classifiers
from proxy.yaml_source import ConfigError

TEXTS = [text_of("garden", 5), "my aunt likes her tulips on Friday", "x"]


class Counted(Encoder):
    """An encoder that counts its runs."""

    runs = 0

    def encode(self, *texts: Any, **more: Any) -> Encoded:
        type(self).runs += 1
        return super().encode(*texts, **more)


@pytest.fixture(scope="module")
def packs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    found = {}
    for kind in ("head", "examples", "spans"):
        folder = tmp_path_factory.mktemp(kind)
        if kind == "spans":
            run(folder, span_rows(60), name=kind, kind="spans", labels=["plant", "day"])
        else:
            run(folder, rows_of(20), name=kind, method=kind)
        found[kind] = folder / "pack"
    return found


def moved_encoder(pack: Path, to: Path) -> Path:
    """A pack with an encoder of its own, which is another than the shared one."""
    shutil.copytree(pack, to)
    shutil.copytree(TINY, to / "encoder")
    own = json.loads((to / "encoder" / "manifest.json").read_text())
    content = {k: v for k, v in own.items() if k not in ("format", "files", "hash")}
    write_manifest(to / "encoder", {**content, "name": "private"})
    manifest = json.loads((to / "manifest.json").read_text())
    content = {k: v for k, v in manifest.items() if k not in ("format", "files", "hash")}
    write_manifest(to, {**content, "encoder": Encoder(to / "encoder").hash, "name": "private"})
    return to


@pytest.mark.parametrize(
    "order",
    [("head", "examples", "spans"), ("spans", "head", "examples"), ("examples", "spans", "head")],
)
def test_the_order_of_the_folders_is_kept(packs: dict[str, Path], order: Sequence[str]) -> None:
    loaded = load_packs([packs[kind] for kind in order], Encoder(TINY))
    assert [one.name for one in loaded] == list(order)


def test_packs_side_by_side_say_what_each_says_alone(packs: dict[str, Path]) -> None:
    together = load_packs(list(packs.values()), Encoder(TINY))
    batch = Batch(TEXTS)
    for own, folder in zip(together, packs.values(), strict=True):
        alone = load_packs([folder], Encoder(TINY))[0].predict(Batch(TEXTS))
        for one, other in zip(own.predict(batch), alone, strict=True):
            assert [(p.label, p.span) for p in one] == [(p.label, p.span) for p in other]
            assert [p.score for p in one] == pytest.approx([p.score for p in other], abs=1e-5)


def test_one_run_of_the_encoder_serves_all_kinds(packs: dict[str, Path]) -> None:
    loaded = load_packs([*packs.values(), packs["head"]], Counted(TINY))
    batch, Counted.runs = Batch(TEXTS), 0
    for own in loaded:
        own.predict(batch)
    assert Counted.runs == 1


def test_a_pack_with_an_encoder_of_its_own_is_read_by_that(
    packs: dict[str, Path], tmp_path: Path
) -> None:
    private = moved_encoder(packs["head"], tmp_path / "private")
    shared = Counted(TINY)
    loaded = load_packs([packs["examples"], private, packs["head"]], shared)
    assert [one.name for one in loaded] == ["examples", "private", "head"]
    batch, Counted.runs = Batch(TEXTS), 0
    found = [own.predict(batch) for own in loaded]
    assert Counted.runs == 1
    assert [p.score for p in found[1][0]] == pytest.approx([p.score for p in found[2][0]])


def test_a_private_encoder_that_does_not_fit_is_refused(
    packs: dict[str, Path], tmp_path: Path
) -> None:
    private = moved_encoder(packs["head"], tmp_path / "private")
    shutil.rmtree(private / "encoder")
    with pytest.raises(PackError, match="made for encoder"):
        load_packs([private], Encoder(TINY))
    (private / "encoder").mkdir()
    with pytest.raises(PackError, match=r"no manifest\.json"):
        load_packs([private], Encoder(TINY))


def test_what_is_no_classifier_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PackError, match=r"a pack of kind 'encoder'; a classifier's is one of head"):
        load_packs([TINY], Encoder(TINY))
    with pytest.raises(PackError, match=r"no manifest\.json"):
        kind_of(tmp_path)
    for content in ("", "[]", "{"):
        (tmp_path / "manifest.json").write_text(content)
        with pytest.raises(PackError, match="rebuild the pack"):
            kind_of(tmp_path)


@pytest.mark.parametrize(
    ("shipped", "own", "words"),
    [
        (("spam",), "spam", ["leave it out of classifiers.shipped", "--update --name"]),
        ((), "spam", ["two are named 'spam'; rename one", "--update --name"]),
    ],
)
def test_two_of_one_name_are_refused_with_the_ways_out(
    tmp_path: Path, shipped: tuple[str, ...], own: str, words: list[str]
) -> None:
    patterns = [{"name": own, "patterns": [{"label": "X", "keywords": ["x"]}]}]
    twice = patterns if shipped else patterns * 2
    config = ClassifiersConfig.model_validate({"shipped": list(shipped), "patterns": twice})
    with pytest.raises(ConfigError) as caught:
        load_classifiers(config)
    assert all(word in str(caught.value) for word in words), str(caught.value)
    assert ("classifiers.shipped" in str(caught.value)) is bool(shipped)


def test_no_packs_at_all() -> None:
    assert load_packs([], Encoder(TINY)) == []
