"""What a corrected pack promises: most of its calibration rows are not remembered."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="scikit-learn is not installed (extra `train`)")

from train_kit import BEGIN, END, TINY, rows_of, run

from classifiers.encoder import Encoder
from classifiers.loading import load_packs
from classifiers.packs import REPLAY, PackError, read_pack, read_tensors, write_tensors
from classifiers.training.corrected import Subject
from classifiers.training.data import Row
from classifiers.training.delta import bounded_shifts
from classifiers.training.evaluate import score
from classifiers.training.features import FeatureCache
from classifiers.training.pack import finish, manifest_of
from classifiers.training.replay import remembered
from classifiers.training.update import update
from classifiers.types import OperatingPoint

SKY = (
    "clouds",
    "wind",
    "thunder",
    "fog",
    "sunshine",
    "hail",
    "drizzle",
    "frost",
    "snow",
    "rainbow",
)


def sky(number: int) -> str:
    """An ordinary text; each number gives another one."""
    lot = random.Random(f"sky {number}")
    one, two = lot.sample(SKY, 2)
    return (
        f"{lot.choice(BEGIN)} {one} and the {two} {lot.choice(END)}, number {lot.randrange(10**6)}"
    )


def forget(pack: Path, rows: int) -> None:
    """Leave a pack so many remembered rows, at random."""
    manifest, tensors = manifest_of(pack), read_tensors(pack / REPLAY)
    kept = np.random.default_rng(0).permutation(len(tensors["truth"]))[:rows]
    grams = remembered(tensors).grams[kept]
    named = {
        name: tensors[name][kept] for name in ("features", "scale", "truth", "benign", "index")
    }
    named["grams_at"] = grams.indptr.astype(np.int32)
    named["grams_bucket"] = grams.indices.astype(np.int32)
    named["grams_value"] = grams.data.astype(np.float16)
    write_tensors(pack / REPLAY, named)
    finish(pack, manifest)


def test_the_promise_holds_where_most_calibration_rows_are_not_remembered(tmp_path: Path) -> None:
    budget = 0.05
    plain = [{"text": sky(n), "label": None} for n in range(900)]
    run(
        tmp_path,
        [*rows_of(300, ("garden",)), *plain],
        kind="any_of",
        labels=["garden"],
        max_false_positive_rate=budget,
    )
    forget(tmp_path / "pack", 60)
    fresh = [sky(n) for n in range(10_000, 10_800)]
    encoder = Encoder(TINY)
    cache = FeatureCache(encoder, tmp_path / "cache")
    shares = []
    for lot in range(4):
        first = 5_000 + 8 * lot
        # Ordinary texts, said to be of the label: they raise the scores of all that are like them.
        given = [Row(sky(n), frozenset({"garden"})) for n in range(first, first + 8)]
        update(tmp_path / "pack", given, encoder, cache, tmp_path / "new", force=True)
        (own,) = load_packs([tmp_path / "new"], encoder)
        cut = own.thresholds(("garden",), OperatingPoint())["garden"]
        shares.append(float((score(own, fresh, ("garden",))[:, 0] >= cut).mean()))
        (told,) = read_pack(tmp_path / "new", kind="head")["updates"]
        counts = told["calibration_rows"]
        assert counts["bounded"] > 4 * counts["moved"] > 0
    assert max(shares) <= budget


def test_the_bound_of_texts_that_are_not_remembered() -> None:
    lot = np.random.default_rng(0)
    shifts = lot.normal(loc=(0.0, -9.0), size=(4_000, 2))
    truth = np.tile(np.asarray([[1, 0], [0, 1]], dtype=np.int8), (2_000, 1))
    added = bounded_shifts(shifts, truth, truth)
    has = truth == 1
    assert added[has[:, 0], 0] == pytest.approx(-1.645, abs=0.1)
    assert added[~has[:, 0], 0].min() == pytest.approx(1.645, abs=0.1)
    # One in a hundred moves by more than 2.3, as of those that were seen.
    assert (added[~has[:, 0], 0] > 2.326).mean() == pytest.approx(0.01, abs=0.007)
    # All scores of the second label fall, which lowers no threshold.
    assert (added[~has[:, 1], 1] == 0).all()
    assert added[has[:, 1], 1] == pytest.approx(-10.645, abs=0.1)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("grams_bucket", lambda array: array + 2**30),
        ("grams_bucket", lambda array: array - 2**30),
        ("grams_at", lambda array: array[::-1].copy()),
        ("index", lambda array: array + 10**9),
        ("features", lambda array: array[:, :7].copy()),
        ("scale", lambda array: array * np.nan),
        ("truth", None),
    ],
)
def test_a_crafted_memory_is_refused(tmp_path: Path, name: str, change: Any) -> None:
    run(tmp_path, rows_of(12))
    pack = tmp_path / "pack"
    manifest = manifest_of(pack)
    tensors = read_tensors(pack / REPLAY)
    if change is None:
        del tensors[name]
    else:
        tensors[name] = change(tensors[name])
    write_tensors(pack / REPLAY, tensors)
    finish(pack, manifest)
    with pytest.raises(PackError, match=r"replay\.safetensors"):
        Subject(pack, Encoder(TINY), None)
