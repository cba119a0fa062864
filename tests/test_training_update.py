"""Corrections of a finished pack: they hold, nothing else is lost silently, and little is encoded."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("sklearn", reason="scikit-learn is not installed (extra `train`)")

from train_kit import (
    BEGIN,
    TINY,
    contents,
    doorman,
    options,
    rows_of,
    run,
    span_rows,
    text_of,
    write_jsonl,
    write_task,
)

from classifiers.encoder import Encoded, Encoder
from classifiers.loading import load_packs
from classifiers.neighbours import CORRECTED
from classifiers.packs import REPLAY, PackError, read_pack, read_tensors
from classifiers.training.corrections import read_corrections
from classifiers.training.data import Row
from classifiers.training.evaluate import judge_slice, score
from classifiers.training.features import FeatureCache
from classifiers.training.pack import finish, manifest_of
from classifiers.training.slices import passed, read_slices
from classifiers.training.tables import DataError
from classifiers.training.train import train
from classifiers.training.update import WEIGHTS, GotWorse, Update, update
from classifiers.types import Batch, OperatingPoint

SLICES = {
    "must hold": [{"text": text_of("garden", n), "label": "garden"} for n in range(900, 904)],
    "must not": [{"text": text_of("kitchen", n), "not": "travel"} for n in range(900, 903)],
}
NEW = [f"{begin} quibble" for begin in BEGIN]
"""Texts about none of what was trained."""


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    run(folder, rows_of(40), slices=SLICES)
    return folder


@pytest.fixture
def home(trained: Path, tmp_path: Path) -> Path:
    shutil.copytree(trained / "pack", tmp_path / "pack")
    return tmp_path


class Counted(Encoder):
    """An encoder that counts what it is given."""

    texts: list[str]

    def encode(self, texts: Sequence[str], *rest: Any, **more: Any) -> Encoded:
        self.__dict__.setdefault("texts", []).extend(texts)
        return super().encode(texts, *rest, **more)


def fix(home: Path, rows: list[dict[str, Any]], name: str = "pack", **more: Any) -> Update:
    given = read_corrections(write_jsonl(home / "fix.jsonl", rows), home / name)
    encoder = more.pop("encoder", None) or Encoder(TINY)
    return update(home / name, given, encoder, FeatureCache(encoder, home / "cache"), **more)


def said(pack: Path, text: str) -> set[str]:
    own = load_packs([pack], Encoder(TINY))[0]
    cuts = own.thresholds(own.labels, OperatingPoint())
    return {
        p.label
        for p in own.predict(Batch([text]))[0]
        if p.score >= cuts[p.label] and p.label != "out_of_scope"
    }


def test_corrections_hold_and_slices_do_not_get_worse(home: Path) -> None:
    rows = [{"text": text, "label": "travel"} for text in NEW[:4]]
    done = fix(home, rows)
    assert done.worse == ()
    assert done.slices[0].after == 4
    assert [one.name for one in done.slices[1:3]] == ["must hold", "must not"]
    for row in rows:
        assert said(home / "pack", row["text"]) == {"travel"}
    assert said(home / "pack", text_of("garden", 3)) == {"garden"}
    json.dumps(done.to_json(), allow_nan=False)


def test_the_hash_changes_and_the_manifest_tells(home: Path) -> None:
    before = read_pack(home / "pack", kind="head")
    done = fix(home, [{"text": NEW[0], "label": "travel"}])
    after = read_pack(home / "pack", kind="head")
    assert done.hashes == (before["hash"], after["hash"])
    assert before["hash"] != after["hash"]
    rows = len(read_tensors(home / "pack" / "calibration.safetensors")["truth"])
    counts = {"moved": rows, "bounded": 0, "dropped": 0}
    assert after["updates"] == [
        {
            "corrections": 1,
            "weight": done.weight,
            "from": before["hash"],
            "calibration_rows": counts,
        }
    ]
    assert after["operating_points"]["out_of_scope"] == before["operating_points"]["out_of_scope"]
    assert "Corrected since by 1 texts" in (home / "pack" / "README.md").read_text()
    fix(home, [{"text": NEW[1], "label": "garden"}])
    assert [u["from"] for u in read_pack(home / "pack", kind="head")["updates"]] == [
        before["hash"], after["hash"],
    ]  # fmt: skip


def test_another_output_leaves_the_old_pack_untouched(home: Path) -> None:
    before = contents(home / "pack")
    fix(home, [{"text": NEW[0], "label": "travel"}], target=home / "deep" / "new")
    assert contents(home / "pack") == before
    assert said(home / "deep" / "new", NEW[0]) == {"travel"}
    assert not list(home.rglob(".*"))


def test_a_later_update_remembers_an_earlier_one(home: Path) -> None:
    rows = len(read_tensors(home / "pack" / REPLAY)["truth"])
    fix(home, [{"text": text, "label": "travel"} for text in NEW[:3]])
    replay = read_tensors(home / "pack" / REPLAY)
    assert len(replay["truth"]) == rows + 3
    assert (replay["index"][-3:] == CORRECTED).all()
    done = fix(home, [{"text": text, "label": "garden"} for text in NEW[3:6]])
    (earlier,) = [one for one in done.slices if one.name == "earlier corrections"]
    assert (earlier.cases, earlier.before, earlier.after) == (3, 3, 3)
    for number, text in enumerate(NEW[:6]):
        assert said(home / "pack", text) == {"travel" if number < 3 else "garden"}


def test_a_person_may_change_their_mind(home: Path) -> None:
    fix(home, [{"text": NEW[0], "label": "travel"}])
    done = fix(home, [{"text": NEW[0], "label": "garden"}])
    assert done.worse == ()
    assert said(home / "pack", NEW[0]) == {"garden"}


def test_a_training_row_with_a_wrong_label_is_corrected_too(home: Path) -> None:
    text = text_of("garden", 5)
    done = fix(home, [{"text": text, "label": "kitchen"}], force=True)
    assert done.slices[0].after == 1
    truth = read_tensors(home / "pack" / REPLAY)["truth"]
    before = read_tensors(home / "pack" / "calibration.safetensors")["truth"]
    assert (truth.sum(axis=1) == 1).all()
    assert (before.sum(axis=1) == 1).all()


def test_a_correction_that_makes_a_slice_worse_is_refused(home: Path) -> None:
    before = contents(home)
    wrong = [{"text": text_of("garden", n), "label": "travel"} for n in range(900, 904)]
    with pytest.raises(GotWorse, match=r"must hold: 4 of 4 -> [0-3]\b.*Nothing was written"):
        fix(home, wrong)
    after = contents(home)
    after.pop("fix.jsonl")
    assert after == before
    done = fix(home, wrong, force=True)
    assert "must hold" in [one.name for one in done.worse]
    assert done.to_json()["worse"] == [one.name for one in done.worse]


def test_only_the_corrections_and_the_slices_are_encoded(home: Path) -> None:
    encoder = Counted(TINY)
    encoder.texts = []
    rows = [{"text": text, "label": "travel"} for text in NEW[:5]]
    done = fix(home, rows, encoder=encoder)
    assert done.slices[0].after == 5
    cases = [case["text"] for own in SLICES.values() for case in own]
    assert sorted(encoder.texts) == sorted([*(row["text"] for row in rows), *cases])


def test_the_command_and_its_exit_status(home: Path) -> None:
    tiny = ("--encoder", TINY, "--cache", home / "cache")
    write_jsonl(home / "good.jsonl", [{"text": NEW[0], "label": "travel"}])
    done = doorman("train", "good.jsonl", "--update", "pack", "-o", "new", *tiny, cwd=home)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["pack"] == "new"
    before = contents(home / "pack")
    wrong = [{"text": text_of("garden", n), "label": "travel"} for n in range(900, 904)]
    write_jsonl(home / "bad.jsonl", wrong)
    done = doorman("train", "bad.jsonl", "--update", "pack", *tiny, cwd=home)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith("doorman: pack: ")
    assert "--force" in done.stderr
    assert contents(home / "pack") == before
    done = doorman("train", "bad.jsonl", "--update", "pack", "--force", *tiny, cwd=home)
    assert done.returncode == 0
    assert contents(home / "pack") != before


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"text": "a", "label": "gardn"}', "fix.jsonl:3: unknown label 'gardn'; did you mean 'garden'"),
        ('{"text": "a"}', "fix.jsonl:3: there is no label; write null"),
        ('{"text": " ", "label": "garden"}', "fix.jsonl:3: there is no text"),
        ('{"text": "a", "label": null}', "fix.jsonl:3: 0 labels; a text of this pack has exactly one"),
        ('{"text": "a", "label": ["garden", "travel"]}', "fix.jsonl:3: 2 labels"),
        ('{"text": "a", "label": {"x": 1}}', "fix.jsonl:3: unknown label {'x': 1}"),
        ("text,label", "fix.jsonl:3: not JSON"),
        ("[1]", "fix.jsonl:3: list is no object"),
    ],
)  # fmt: skip
def test_a_line_that_cannot_be_used(home: Path, line: str, message: str) -> None:
    path = home / "fix.jsonl"
    path.write_text(f'{{"text": "fine", "label": "garden"}}\n\n{line}\n')
    with pytest.raises(DataError) as caught:
        read_corrections(path, home / "pack")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "there is no such file"),
        (b"", "is empty"),
        (b"\n \n", "is empty"),
        (b"\xff", "UTF-8"),
    ],
)
def test_a_file_that_cannot_be_used(home: Path, content: bytes | None, message: str) -> None:
    if content is not None:
        (home / "fix.jsonl").write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_corrections(home / "fix.jsonl", home / "pack")


def test_of_a_text_that_stands_twice_the_last_line_counts(home: Path) -> None:
    lines = [{"text": "x", "label": "garden"}, {"text": "x", "label": "travel"}]
    (row,) = read_corrections(write_jsonl(home / "fix.jsonl", lines), home / "pack")
    assert row.labels == {"travel"}
    assert row.place.endswith("fix.jsonl:2")


def test_null_in_an_any_of_pack(tmp_path: Path) -> None:
    plain = [{"text": f"{text} weather", "label": None} for text in NEW]
    rows = [*rows_of(40, ("garden", "kitchen")), *plain]
    run(tmp_path, rows, kind="any_of", labels=["garden", "kitchen"])
    text = "the old house of tulips and roses where nobody lives"
    done = fix(tmp_path, [{"text": text, "label": None}, {"text": NEW[1], "label": ["kitchen"]}])
    assert done.slices[0].after == 2
    assert said(tmp_path / "pack", text) == set()
    assert said(tmp_path / "pack", NEW[1]) == {"kitchen"}


def test_a_label_that_is_not_known_stays_as_it_is(tmp_path: Path) -> None:
    plain = [{"text": f"{text} weather", "label": None} for text in NEW]
    rows = [*rows_of(40, ("garden", "kitchen")), *plain]
    run(tmp_path, rows, kind="any_of", labels=["garden", "kitchen"])
    encoder = Encoder(TINY)
    row = Row(text_of("garden", 3), frozenset({"kitchen"}), known=frozenset({"kitchen"}))
    cache = FeatureCache(encoder, tmp_path / "cache")
    done = update(tmp_path / "pack", [row], encoder, cache, force=True)
    assert done.slices[0].after == 1
    assert "kitchen" in said(tmp_path / "pack", row.text)


@pytest.mark.parametrize("kind", ["spans", "examples"])
def test_other_kinds_are_refused(tmp_path: Path, kind: str) -> None:
    if kind == "spans":
        run(tmp_path, span_rows(60), kind="spans", labels=["plant", "day"])
    else:
        run(tmp_path, rows_of(3))
    with pytest.raises(PackError, match=f"a pack of kind {kind} cannot be corrected; add the rows"):
        fix(tmp_path, [{"text": "x", "label": "plant"}])


def test_a_pack_that_remembers_nothing_is_refused(home: Path) -> None:
    manifest = manifest_of(home / "pack")
    (home / "pack" / REPLAY).unlink()
    finish(home / "pack", manifest)
    with pytest.raises(
        PackError, match=f"has no {REPLAY}, so it cannot be corrected; train it anew"
    ):
        fix(home, [{"text": "x", "label": "garden"}])


def test_what_is_no_pack_is_refused(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "fix.jsonl", [{"text": "x", "label": "garden"}])
    with pytest.raises(PackError, match="no pack is there; --update names the folder of one"):
        read_corrections(tmp_path / "fix.jsonl", tmp_path / "nothing")


def test_a_corrected_pack_may_have_another_name(home: Path) -> None:
    rows = [{"text": NEW[0], "label": "travel"}]
    given = read_corrections(write_jsonl(home / "fix.jsonl", rows), home / "pack")
    with FeatureCache(Encoder(TINY), home / "cache") as cache:
        update(home / "pack", given, Encoder(TINY), cache, home / "new", name="hobby-2")
    assert read_pack(home / "new", kind="head")["name"] == "hobby-2"
    assert read_pack(home / "pack", kind="head")["name"] == "hobby"
    assert (home / "new" / "README.md").read_text().startswith("# hobby-2\n")
    both = load_packs([home / "pack", home / "new"], Encoder(TINY))
    assert [one.name for one in both] == ["hobby", "hobby-2"]
    before = contents(home / "pack")
    with pytest.raises(ValueError, match="the name of a pack is 'a b'; use up to 64 letters"):
        update(home / "pack", given, Encoder(TINY), cache, name="a b")
    assert contents(home / "pack") == before


def test_slices_are_judged_as_training_judges_them(tmp_path: Path) -> None:
    # So high a threshold that the best label is under it: training says that the case passes.
    run(tmp_path, rows_of(40), slices=SLICES)
    manifest = manifest_of(tmp_path / "pack")
    points = manifest["operating_points"]
    for label in ("garden", "kitchen", "travel"):
        points[label]["threshold"] = 0.9999
    finish(tmp_path / "pack", manifest)
    (own,) = load_packs([tmp_path / "pack"], Encoder(TINY))
    told = {}
    for name, cases in SLICES.items():
        rows = [
            Row(case["text"], frozenset({case["label"]} if "label" in case else ()),
                None if "label" in case else frozenset({case["not"]}))
            for case in cases
        ]  # fmt: skip
        labels = ("garden", "kitchen", "travel")
        cuts = own.thresholds(labels, OperatingPoint())
        scores = score(own, [row.text for row in rows], labels)
        assert (scores < 0.9999).all()
        judged = judge_slice(name, rows, scores, labels, "one_of", cuts)
        told[name] = (judged.passed, len(rows))
    assert (
        told
        == passed(own, read_slices(tmp_path / "pack"))
        == {"must hold": (4, 4), "must not": (3, 3)}
    )


def test_the_target_may_not_be_a_folder_with_other_files(home: Path) -> None:
    (home / "letters").mkdir()
    (home / "letters" / "one.txt").write_text("dear")
    with pytest.raises(FileExistsError, match="is a folder with other files"):
        fix(home, [{"text": NEW[0], "label": "travel"}], target=home / "letters")


def test_a_report_of_the_old_pack_is_dropped(tmp_path: Path) -> None:
    train(write_task(tmp_path, rows_of(20)), tmp_path / "pack", options(tmp_path, report=True))
    fix(tmp_path, [{"text": NEW[0], "label": "travel"}], force=True)
    files = read_pack(tmp_path / "pack", kind="head")["files"]
    assert "report.html" not in files
    assert not (tmp_path / "pack" / "report.html").exists()
    assert "README.md" in files


def test_a_pack_that_was_built_without_a_task_keeps_a_card(home: Path) -> None:
    manifest = manifest_of(home / "pack")
    del manifest["judged_on"]
    finish(home / "pack", manifest)
    fix(home, [{"text": NEW[0], "label": "travel"}])
    card = (home / "pack" / "README.md").read_text()
    assert "Corrected since by 1 texts; the figures are from before that." in card
    assert "README.md" in read_pack(home / "pack", kind="head")["files"]


def test_of_corrections_that_cannot_all_be_met_the_most_are(home: Path) -> None:
    # One text with two labels: one of the two rows is wrong whatever the weight is.
    rows = [Row(text, frozenset({"travel"})) for text in (*NEW[:3], NEW[0])]
    rows[3] = Row(NEW[0], frozenset({"garden"}))
    encoder = Encoder(TINY)
    cache = FeatureCache(encoder, home / "cache")
    done = update(home / "pack", rows, encoder, cache, home / "new")
    assert (done.right, done.worse) == (3, ())
    assert done.weight < WEIGHTS[-1]
    forced = update(home / "pack", rows, encoder, cache, home / "forced", force=True)
    assert forced.weight == done.weight
    assert read_pack(home / "new", kind="head")["updates"][0]["weight"] == done.weight
