"""Tuning an encoder: what is held out stays unseen, and the pack is an ordinary one."""

# ruff: noqa: E402 (the imports that need the extra come after its check)
from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed (extra `train`)")
pytest.importorskip("transformers", reason="transformers is not installed (extra `train`)")
pytest.importorskip("onnx", reason="onnx is not installed (extra `train`)")

from transformers import BertConfig, BertModel

from classifiers.encoder import Encoder
from classifiers.heads import HeadClassifier
from classifiers.loading import load_packs
from classifiers.pooled import probabilities
from classifiers.training import tune as tuning
from classifiers.training.architectures import load_model, tokenizer_of
from classifiers.training.data import Row
from classifiers.training.export import agreement, export
from classifiers.training.features import FeatureCache
from classifiers.training.fit import Settings, fit, truth_table
from classifiers.training.methods.base import Context, Trained
from classifiers.training.methods.finetune import FinetuneMethod, held_out_part
from classifiers.training.pack import Promise, Subject, write_pack
from classifiers.training.platt import calibrate
from classifiers.training.regress import Part
from classifiers.training.split import folds as folds_of
from classifiers.training.tune import TuneSettings, tune
from classifiers.training.tune_data import MOST_PIECES, Goal, Pieces, cut
from classifiers.training.windows import make_windows
from classifiers.types import Batch, Kind

TINY = Path(__file__).parent / "fixtures" / "tiny-encoder"
WORDS = {
    "refund": ("refund money", "money now please", "free refund", "want my refund"),
    "code": ("python code", "code in python", "print code", "how to code"),
    "weather": ("weather now", "good weather", "what is the weather", "weather joke"),
}
FILLING = ("please", "hello", "thanks", "can you help me", "is it", "where", "not yes", "the mail")
LABELS = tuple(WORDS)


def rows_of(count: int, *, seed: int = 0) -> list[Row]:
    """Texts in which a few words tell the label."""
    random = np.random.default_rng(seed)
    rows = []
    for number in range(count):
        label = LABELS[number % len(LABELS)]
        parts = [*random.choice(FILLING, 3), random.choice(WORDS[label]), random.choice(FILLING)]
        rows.append(Row(" ".join(parts), frozenset([label])))
    return rows


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small encoder with the tokenizer of the tiny one."""
    folder = tmp_path_factory.mktemp("base")
    tokenizer = tokenizer_of(TINY)
    torch.manual_seed(5)
    BertModel(
        BertConfig(
            vocab_size=tokenizer.get_vocab_size(),
            hidden_size=32,
            num_hidden_layers=3,
            num_attention_heads=2,
            intermediate_size=48,
            max_position_embeddings=64,
            initializer_range=0.2,
        )
    ).save_pretrained(folder)
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


def context_of(
    rows: list[Row], base: Path, scratch: Path, said: list[str] | None = None
) -> Context:
    encoder = Encoder(TINY)
    scratch.mkdir(parents=True, exist_ok=True)
    groups = [row.group or str(index) for index, row in enumerate(rows)]
    return Context(
        encoder,
        FeatureCache(encoder, scratch / "shared"),
        "mean",
        folds_of(groups, truth_table(rows, LABELS), 3),
        scratch,
        base=str(base),
        threads=1,
        say=(said if said is not None else []).append,
    )


@pytest.fixture(scope="module")
def made(
    base: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[list[Row], Trained, Context, list[str]]:
    rows, said = rows_of(180), list[str]()
    context = context_of(rows, base, tmp_path_factory.mktemp("scratch"), said)
    trained = FinetuneMethod(layers=2, epochs=6).train(rows, LABELS, "one_of", context)
    return rows, trained, context, said


def test_only_rows_that_did_not_tune_the_encoder_are_honest(made: Any) -> None:
    rows, trained, context, _ = made
    assert set(np.unique(context.folds[trained.honest])) == {0}
    assert 20 <= trained.honest.sum() <= 60
    assert trained.held_out.shape == (len(rows), 3)
    truth = truth_table(rows, LABELS)
    for own in truth[trained.honest].T:
        assert own.any(), "every label is among the held-out rows"
    right = trained.held_out[trained.honest].argmax(1) == truth[trained.honest].argmax(1)
    assert right.mean() >= 0.9
    assert trained.manifest["finetuned"]["held_out_rows"] == trained.honest.sum()
    assert "also chose" in trained.doubt  # so that they are no proof


def test_it_says_how_long_it_will_take_and_how_far_it_is(made: Any) -> None:
    said = " / ".join(made[3])
    assert "about" in said.split(" / ")[0]
    assert "round 1 of at most 6: held-out loss" in said
    assert "exporting" in said


def test_the_pack_is_an_ordinary_one_with_an_encoder_of_its_own(made: Any, tmp_path: Path) -> None:
    rows, trained, _, _ = made
    subject = Subject("words", "", LABELS, "one_of", "mean", {}, {})
    own = Encoder(trained.encoder)
    write_pack(tmp_path / "pack", subject, trained, rows, own, Promise(0.1))
    classifier = load_packs([tmp_path / "pack"], Encoder(TINY))[0]
    fresh = rows_of(60, seed=1)
    found = classifier.predict(Batch([row.text for row in fresh]))
    right = [
        max(own, key=lambda one: one.score).label in row.labels
        for own, row in zip(found, fresh, strict=True)
    ]
    assert np.mean(right) >= 0.9
    assert isinstance(classifier, HeadClassifier)
    shares = classifier.explain("hello python code thanks", "code")
    assert [share.token for share in shares if share.token] == "hello python code thanks".split()


def test_the_encoder_was_tuned_and_only_at_the_top(made: Any, base: Path) -> None:
    before, after = load_model(base), load_model(made[2].scratch / "tuned")
    same = {
        name: torch.equal(one, after.state_dict()[name])
        for name, one in before.state_dict().items()
    }
    below = [name for name in same if name.startswith(("embeddings", "encoder.layer.0."))]
    above = [name for name in same if name.startswith(("encoder.layer.1.", "encoder.layer.2."))]
    assert all(same[name] for name in below)
    assert not any(same[name] for name in above if name.endswith("dense.weight"))


@pytest.fixture(scope="module")
def few(
    base: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[list[Row], Trained, Context, list[str]]:
    rows, said = rows_of(45), list[str]()
    context = context_of(rows, base, tmp_path_factory.mktemp("few"), said)
    return rows, FinetuneMethod(epochs=12).train(rows, LABELS, "one_of", context), context, said


def test_few_rows_and_the_names_of_the_labels_are_all_tuned_on(few: Any) -> None:
    rows, trained, _, said = few
    counts = [line.split(" windows")[0].split()[-1] for line in said if "tuning" in line]
    held = int(trained.honest.sum())
    assert 3 <= held <= len(rows) / 3
    assert counts[1:] == [str(len(rows) + 3 - held), str(len(rows) + 3)]
    assert "round 12 of 12: " in " / ".join(said)
    assert trained.held_out.shape == (len(rows), 3)
    assert "without them" in trained.doubt  # so that they are no proof


def test_few_rows_are_read_by_the_encoder_as_it_was_beside_the_tuned_one(
    few: Any, base: Path, tmp_path: Path
) -> None:
    rows, trained, context, _ = few
    own = Encoder(trained.encoder)
    assert own.layers == (3, 2, 1, 6, 5, 4)
    plain = export(base, tmp_path / "plain", name="x", origin="random", licence="Apache-2.0")
    alone = Encoder(plain.parent)
    texts = [row.text for row in rows[:8]]
    both, single = own.encode(texts).features, alone.encode(texts).features
    np.testing.assert_allclose(both[:, 96:], single, atol=2e-5)
    assert np.abs(both[:, :32] - single[:, :32]).max() > 0.01
    tuned = load_model(context.scratch / "tuned")
    found = agreement(tuned, trained.encoder, texts, load_model(base))
    assert min(found.values()) >= 0.97
    before, after = load_model(base).state_dict(), tuned.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before if "embeddings" in name)
    first = "encoder.layer.0.output.dense.weight"
    assert not torch.equal(before[first], after[first])


def test_a_pack_of_few_rows_is_served_as_any_other(few: Any, tmp_path: Path) -> None:
    rows, trained, _, _ = few
    subject = Subject("words", "", LABELS, "one_of", "mean", {}, {})
    own = Encoder(trained.encoder)
    write_pack(tmp_path / "pack", subject, trained, rows, own, Promise(0.1))
    classifier = load_packs([tmp_path / "pack"], Encoder(TINY))[0]
    fresh = rows_of(60, seed=1)
    found = classifier.predict(Batch([row.text for row in fresh]))
    with FeatureCache(own, tmp_path / "cache") as cache:
        windows = make_windows(fresh, own, cache, "mean")
    head = trained.tensors["head.safetensors"]
    logits = windows.features @ head["encoder"] + windows.grams @ head["lexical"] + head["bias"]
    wanted = probabilities(np.asarray(logits, dtype=np.float64), "one_of")
    for own_scores, row in zip(found, wanted, strict=True):
        scores = {one.label: one.score for one in own_scores}
        np.testing.assert_allclose([scores[label] for label in LABELS], row, atol=0.01)
    right = wanted.argmax(1) == truth_table(fresh, LABELS).argmax(1)
    assert right.mean() >= 0.6  # of three labels, by an encoder that knew nothing
    assert isinstance(classifier, HeadClassifier)
    shares = classifier.explain("hello python code thanks", "code")
    assert [share.token for share in shares if share.token] == "hello python code thanks".split()


def goal_of(rows: list[Row], owner: Any, decision: Kind = "one_of") -> Goal:
    train = np.arange(len(rows)) % 5 > 0
    return Goal(truth_table(rows, LABELS)[owner], np.ones(len(owner)), train[owner], decision)


def pieces_of(rows: list[Row], base: Path, window: int = 18, stride: int = 12) -> Pieces:
    texts = [row.text for row in rows]
    return cut(texts, tokenizer_of(base), ("[CLS]", "[SEP]"), window, stride)


def tuned_states(base: Path, decision: Kind = "one_of", **settings: Any) -> tuple[Any, Any]:
    rows = rows_of(60)
    pieces = pieces_of(rows, base)
    model = load_model(base)
    result = tune(
        model,
        pieces,
        goal_of(rows, pieces.owner, decision),
        TuneSettings(epochs=2, batch=8, **settings),
        threads=1,
    )
    return result, model.state_dict()


def test_the_same_seed_gives_the_same_encoder(base: Path) -> None:
    one, first = tuned_states(base)
    two, second = tuned_states(base)
    assert one.losses == two.losses
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_kept_states_of_the_lower_layers_are_what_running_them_gives(
    base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept, _ = tuned_states(base)
    monkeypatch.setattr(tuning, "MOST_CACHED", 0)
    ran, _ = tuned_states(base)
    np.testing.assert_allclose(kept.losses, ran.losses, rtol=0.05)


def test_all_layers_can_be_tuned(base: Path) -> None:
    before = load_model(base).state_dict()
    _, after = tuned_states(base, layers="all")
    name = "embeddings.word_embeddings.weight"
    assert not torch.equal(before[name], after[name])


def test_unknown_truths_teach_nothing(base: Path) -> None:
    """What stands in the place of an unknown truth makes no difference, be it all of a column."""
    rows = rows_of(40)
    pieces = pieces_of(rows, base)
    losses = []
    for weight in (1.0, 1000.0):
        truth = truth_table(rows, LABELS)[pieces.owner]
        weights = np.ones(len(truth))
        unknown = np.arange(len(truth)) % 4 == 1
        truth[unknown] = -1
        weights[unknown] = weight
        goal = Goal(truth, weights, np.arange(len(rows))[pieces.owner] % 5 > 0, "any_of")
        losses.append(
            tune(load_model(base), pieces, goal, TuneSettings(epochs=1), threads=1).losses
        )
    assert losses[0] == losses[1]


def test_long_texts_are_cut_as_serving_cuts_them(base: Path) -> None:
    encoder = Encoder(TINY)
    texts = ["hello", "hello the order " * 15, "", "code " * 300]
    pieces = cut(texts, tokenizer_of(TINY), ("[CLS]", "[SEP]"), 18, 12)
    for index in range(len(texts)):
        served = [w.ids for w in encoder.windows([texts[index]]) if not w.sentence]
        own = [tuple(pieces.ids[row]) for row in np.flatnonzero(pieces.owner == index)]
        assert own[0] == served[0]
        assert own[-1] == served[-1]
        assert set(own) <= set(served)
        assert len(own) == min(len(served), MOST_PIECES)


def test_groups_stay_whole_and_rare_labels_stay_with_the_tuned_rows(
    base: Path, tmp_path: Path
) -> None:
    rows = [
        Row(row.text, row.labels, group=f"g{number // 4}")
        for number, row in enumerate(rows_of(600))
    ]
    rows = [row for row in rows if "weather" not in row.labels] + [
        Row("the weather", frozenset(["weather"]), group="one")
    ]
    context = context_of(rows, base, tmp_path)
    held = held_out_part(rows, truth_table(rows, LABELS), LABELS, context)
    inside = {row.group for row, out in zip(rows, held, strict=True) if out}
    outside = {row.group for row, out in zip(rows, held, strict=True) if not out}
    assert not inside & outside
    assert "one" in outside
    assert 0.1 <= held.mean() <= 0.34


@pytest.mark.parametrize(
    ("rows", "fault"),
    [
        (rows_of(30)[:1], "label 'code' has no row; add examples or drop the label"),
        (rows_of(3), "3 rows are too few to finetune on"),
    ],
)
def test_too_few_rows(rows: list[Row], fault: str, base: Path, tmp_path: Path) -> None:
    encoder = Encoder(TINY)
    context = Context(
        encoder,
        FeatureCache(encoder, tmp_path),
        "mean",
        np.arange(len(rows)) % 3,
        tmp_path,
        base=str(base),
    )
    with pytest.raises(ValueError, match=fault):
        FinetuneMethod().train(rows, LABELS, "one_of", context)


@pytest.mark.parametrize("decision", ["one_of", "any_of"])
def test_rows_of_fold_minus_one_train_and_are_not_judged(decision: Kind, tmp_path: Path) -> None:
    """Scale and shift are the best ones for the held-out rows alone."""
    rows = rows_of(120)
    encoder = Encoder(TINY)
    windows = make_windows(rows, encoder, FeatureCache(encoder, tmp_path), "mean")
    held = np.arange(len(rows)) % 4 == 0
    fitted = fit(rows, LABELS, decision, windows, Settings(threads=1), np.where(held, 0, -1))
    logits, truth = fitted.held_out[held], truth_table(rows, LABELS)[held]
    assert (logits.argmax(1) == truth.argmax(1)).mean() >= 0.9
    if decision == "any_of":  # the shift makes the mean probability that of the truth
        np.testing.assert_allclose(
            probabilities(logits, decision).mean(0), truth.mean(0), atol=0.05
        )
    columns = range(3) if decision == "any_of" else [slice(None)]
    for own in columns:
        best, scale, _ = calibrate(
            np.atleast_2d(logits[:, own].T).T,
            np.atleast_2d(truth[:, own].T).T,
            np.ones(30),
            decision,
        )
        assert 0.8 <= scale <= 1.25
        assert best < 0.4


@pytest.mark.parametrize(("useful", "strength"), [(True, 0.0), (False, 10.0)])
def test_another_model_is_taken_only_where_it_judges_better(
    useful: bool, strength: float, tmp_path: Path
) -> None:
    rows = rows_of(60)
    encoder = Encoder(TINY)
    windows = make_windows(rows, encoder, FeatureCache(encoder, tmp_path), "mean")
    truth = truth_table(rows, LABELS)
    centred = windows.features - windows.features.mean(axis=0)
    weight = np.linalg.lstsq(centred, truth - 1 / 3, rcond=None)[0] * (20 if useful else -20)
    given = Part(weight, -windows.features.mean(axis=0) @ weight)
    folds = np.where(np.arange(len(rows)) % 3 == 0, 0, -1)
    fitted = fit(rows, LABELS, "one_of", windows, Settings(threads=1), folds, given)
    assert {meaning for meaning, _ in fitted.strength} == {strength}
    if useful:  # it stands in the head as it was given, but for the mix and the scale
        ratio = fitted.head.encoder / weight
        np.testing.assert_allclose(ratio, ratio[0, 0], rtol=1e-6)
