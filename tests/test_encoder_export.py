"""Encoders of several architectures become packs that agree with their models."""

# ruff: noqa: E402 (the imports that need the extra come after its check)
from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed (extra `train`)")
pytest.importorskip("transformers", reason="transformers is not installed (extra `train`)")
pytest.importorskip("onnx", reason="onnx is not installed (extra `train`)")

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import (
    BertConfig,
    BertModel,
    DistilBertConfig,
    DistilBertModel,
    ElectraConfig,
    ElectraModel,
    GPT2Config,
    GPT2Model,
    MPNetConfig,
    MPNetModel,
    XLMRobertaConfig,
    XLMRobertaModel,
)

from classifiers.encoder import Encoder
from classifiers.packs import PackError, write_manifest
from classifiers.training.architectures import (
    ARCHITECTURES,
    ExportError,
    load_model,
    special_tokens,
    tokenizer_of,
)
from classifiers.training.export import AGREEMENT, agreement, default_layers, export
from proxy.commands import encoder as command
from proxy.commands.output import CommandError

TEXTS = (
    "hello where is the order",
    "Das Paket ist noch nicht da. Wo ist es?",
    "متى يصل الطلب",
    "退款什么时候到账",
    "hello " * 60,
)
LETTERS = "abcdefghijklmnopqrstuvwxyzäöüß.?,"
SIZES: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "intermediate_size": 48,
    "initializer_range": 0.3,
}


def wordpiece() -> Tokenizer:
    """As BERT has it, without a rule for [CLS] and [SEP]."""
    words = [
        "[PAD]",
        "[UNK]",
        "[CLS]",
        "[SEP]",
        "[MASK]",
        "hello",
        "where",
        "is",
        "the",
        "order",
        *LETTERS,
    ]
    words += ["##" + letter for letter in LETTERS]
    tokenizer = Tokenizer(models.WordPiece({w: n for n, w in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.add_special_tokens(["[PAD]", "[UNK]", "[CLS]", "[SEP]"])
    return tokenizer


def unigram() -> Tokenizer:
    """As XLM-RoBERTa has it: the space before a word belongs to its token."""
    pieces = [(token, 0.0) for token in ("<s>", "<pad>", "</s>", "<unk>")]
    pieces += [("▁hello", -1.0), ("▁order", -1.0), ("▁", -3.0)]
    pieces += [(letter, -5.0) for letter in LETTERS]
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=3))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.add_special_tokens(["<s>", "<pad>", "</s>", "<unk>"])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    return tokenizer


def bytes_of_bpe() -> Tokenizer:
    """As RoBERTa has it: bytes, and no unknown token."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: n for n, token in enumerate(["<s>", "<pad>", "</s>", *alphabet])}
    tokenizer = Tokenizer(models.BPE(vocabulary, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.add_special_tokens(["<s>", "<pad>", "</s>"])
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    return tokenizer


def bert(size: int) -> Any:
    return BertModel(BertConfig(vocab_size=size, max_position_embeddings=128, **SIZES))


def distilbert(size: int) -> Any:
    return DistilBertModel(
        DistilBertConfig(
            vocab_size=size,
            dim=32,
            n_layers=3,
            n_heads=2,
            hidden_dim=48,
            max_position_embeddings=128,
            initializer_range=0.3,
        )
    )


def electra(size: int) -> Any:
    return ElectraModel(
        ElectraConfig(vocab_size=size, embedding_size=16, max_position_embeddings=128, **SIZES)
    )


def mpnet(size: int) -> Any:
    return MPNetModel(MPNetConfig(vocab_size=size, max_position_embeddings=130, **SIZES))


def xlm_roberta(size: int) -> Any:
    return XLMRobertaModel(
        XLMRobertaConfig(
            vocab_size=size, max_position_embeddings=130, type_vocab_size=1, pad_token_id=1, **SIZES
        )
    )


def saved(folder: Path, make: Callable[[int], Any], tokenizer: Tokenizer) -> Path:
    torch.manual_seed(3)
    make(tokenizer.get_vocab_size()).eval().save_pretrained(folder)
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


@pytest.fixture
def xlm(tmp_path: Path) -> Path:
    return saved(tmp_path / "xlm", xlm_roberta, unigram())


CASES = {
    "bert": (bert, wordpiece, ("[CLS]", "[SEP]"), 128),
    "bert-unigram": (bert, unigram, ("<s>", "</s>"), 128),
    "distilbert": (distilbert, wordpiece, ("[CLS]", "[SEP]"), 128),
    "electra": (electra, wordpiece, ("[CLS]", "[SEP]"), 128),
    "mpnet": (mpnet, bytes_of_bpe, ("<s>", "</s>"), 128),
    "xlm-roberta": (xlm_roberta, unigram, ("<s>", "</s>"), 128),
}


@pytest.mark.parametrize("name", CASES)
def test_a_pack_agrees_with_what_the_model_itself_says(name: str, tmp_path: Path) -> None:
    make, tokenizer, special, most = CASES[name]
    source = saved(tmp_path / "source", make, tokenizer())
    path = export(
        source, tmp_path / "pack", name=name, origin="random", licence="Apache-2.0", least=0.97
    )
    manifest = json.loads(path.read_text("utf-8"))
    assert tuple(manifest["layers"]) == (3, 2, 1)
    assert manifest["max_tokens"] == most
    assert tuple(manifest.get("special_tokens", ("[CLS]", "[SEP]"))) == special
    encoder = Encoder(tmp_path / "pack")
    model = load_model(source)
    encoded = encoder.encode(TEXTS)
    for window, found in zip(encoded.windows, encoded.features, strict=True):
        if window.sentence:
            continue
        ids = torch.tensor([window.ids])
        assert tokenizer().id_to_token(window.ids[0]) == special[0]
        assert tokenizer().id_to_token(window.ids[-1]) == special[1]
        with torch.no_grad():  # transformers' own path through the model, not the exporter's
            states = model(input_ids=ids, output_hidden_states=True).hidden_states
        for layer, row in zip((3, 2, 1), found.reshape(3, 32), strict=True):
            wanted = states[layer][0].mean(dim=0).numpy()
            cosine = wanted @ row / np.linalg.norm(wanted) / np.linalg.norm(row)
            assert cosine >= 0.97, f"layer {layer}: {cosine:.4f}"


def test_the_agreement_is_that_of_the_worst_text_and_notices_another_model(xlm: Path) -> None:
    pack = xlm.parent / "pack"
    path = export(xlm, pack, name="x", origin="random", licence="Apache-2.0", least=AGREEMENT)
    reached = json.loads(path.read_text("utf-8"))["agreement"]
    assert set(reached) == {"3", "2", "1"}
    assert all(AGREEMENT <= value <= 1 for value in reached.values())
    torch.manual_seed(4)
    other = xlm_roberta(unigram().get_vocab_size()).eval()
    other.config._attn_implementation = "eager"
    assert min(agreement(other, pack, TEXTS).values()) < 0.9


def test_outlying_activations_are_mended_by_single_precision(tmp_path: Path) -> None:
    """One great activation before a feed-forward output leaves all others few steps."""

    def spoiled(size: int) -> Any:
        model = bert(size)
        with torch.no_grad():
            dense = model.encoder.layer[1].intermediate.dense
            dense.bias[0] = 3000.0
            model.encoder.layer[1].output.dense.weight[:, 0] = 0.0
        return model

    source = saved(tmp_path / "source", spoiled, wordpiece())
    plain = export(source, tmp_path / "plain", name="x", origin="random", licence="Apache-2.0")
    assert "agreement" not in json.loads(plain.read_text("utf-8"))
    before = agreement(load_model(source), tmp_path / "plain", TEXTS)
    assert before[3] < 0.97
    path = export(
        source, tmp_path / "pack", name="x", origin="random", licence="Apache-2.0", least=0.97
    )
    manifest = json.loads(path.read_text("utf-8"))
    assert 2 in manifest["float_layers"]
    assert min(manifest["agreement"].values()) >= 0.97
    Encoder(tmp_path / "pack")


def test_a_word_begins_after_its_space(xlm: Path) -> None:
    export(xlm, xlm.parent / "pack", name="x", origin="random", licence="Apache-2.0")
    text = "hello order  hello"
    window = Encoder(xlm.parent / "pack").windows([text])[0]
    found = [text[start:end] for start, end in window.offsets if end > start]
    assert found == ["hello", "order", "hello"]


@pytest.mark.parametrize(
    ("depth", "layers"),
    [(6, (6, 4, 2)), (12, (12, 8, 4)), (24, (24, 16, 8)), (3, (3, 2, 1)), (1, (1,))],
)
def test_default_layers(depth: int, layers: tuple[int, ...]) -> None:
    assert default_layers(depth) == layers


def test_a_tokenizer_without_a_rule_and_without_known_tokens_is_refused() -> None:
    tokenizer = Tokenizer(models.WordLevel({"a": 0, "[UNK]": 1}, unk_token="[UNK]"))
    with pytest.raises(ExportError, match=r"neither \[CLS\] and \[SEP\] nor <s> and </s>"):
        special_tokens(tokenizer, "here")


def test_a_folder_without_tokenizer_json_is_converted(tmp_path: Path) -> None:
    source = saved(tmp_path / "source", bert, wordpiece())
    vocabulary = sorted(wordpiece().get_vocab().items(), key=lambda item: item[1])
    (source / "tokenizer.json").unlink()
    (source / "vocab.txt").write_text("\n".join(word for word, _ in vocabulary), "utf-8")
    converted = tokenizer_of(source)
    assert converted.encode("hello order").tokens == ["[CLS]", "hello", "order", "[SEP]"]
    export(source, tmp_path / "pack", name="x", origin="random", licence="Apache-2.0")
    window = Encoder(tmp_path / "pack").windows(["hello order"])[0]
    assert list(window.ids) == converted.encode("hello order").ids


def gpt2(folder: Path) -> Path:
    GPT2Model(
        GPT2Config(vocab_size=50, n_embd=16, n_layer=1, n_head=1, n_positions=32)
    ).save_pretrained(folder)
    return folder


def without_tokenizer(folder: Path) -> Path:
    saved(folder, bert, wordpiece())
    (folder / "tokenizer.json").unlink()
    return folder


def without_weights(folder: Path) -> Path:
    saved(folder, bert, wordpiece())
    (folder / "model.safetensors").unlink()
    return folder


def strange_tokenizer(folder: Path) -> Path:
    saved(folder, bert, wordpiece())
    bytes_of_bpe().save(str(folder / "tokenizer.json"))
    return folder


def empty(folder: Path) -> Path:
    folder.mkdir()
    return folder


def nowhere(_: Path) -> str:
    return "no-such-owner/no-such-encoder"


def run(*arguments: str) -> int:
    import argparse

    parser = argparse.ArgumentParser()
    command.arguments(parser)
    return command.run(parser.parse_args(list(arguments)))


@pytest.mark.parametrize(
    ("make", "fault"),
    [
        (gpt2, f"architecture 'gpt2' cannot be exported; take one of {', '.join(ARCHITECTURES)}"),
        (without_tokenizer, "add its tokenizer.json"),
        (without_weights, "it needs config.json and model.safetensors"),
        (strange_tokenizer, "they do not belong together"),
        (empty, "no config.json; name the folder that holds the encoder"),
        (nowhere, "neither a folder nor an encoder that the hub gives"),
    ],
)
def test_what_cannot_be_exported_is_told_in_one_line(
    make: Callable[[Path], Any], fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    source = make(tmp_path / "source")
    with pytest.raises(CommandError) as caught:
        run("export", str(source), "-o", str(tmp_path / "pack"))
    assert fault in str(caught.value)
    assert str(source) in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir() if path != source] == []


def test_a_hub_that_cannot_be_reached_is_told_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in (
        "http_proxy",
        "https_proxy",
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "all_proxy",
        "ALL_PROXY",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(CommandError) as caught:
        run("export", "no-such-owner/no-such-encoder", "-o", str(tmp_path / "pack"))
    assert str(caught.value).startswith(
        "no-such-owner/no-such-encoder: neither a folder nor an encoder"
    )
    assert "Connection refused" in str(caught.value)
    assert "Retrying" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "fault"),
    [
        (("--layers", "4,2"), "name different ones from 1 to 3"),
        (("--layers", "2,2"), "name different ones from 1 to 3"),
        (("--layers", "3,1", "--layer-weights", "1"), "2 layers need as many weights, got 1"),
        (("--window-tokens", "400"), "longer than the 128 that the encoder reads"),
        (("--stride-tokens", "2"), "name 3 to 96"),
    ],
)
def test_choices_that_do_not_fit_the_encoder(
    more: tuple[str, ...], fault: str, xlm: Path, tmp_path: Path
) -> None:
    with pytest.raises(CommandError) as caught:
        run("export", str(xlm), "-o", str(tmp_path / "pack"), *more)
    assert fault in str(caught.value)
    assert not (tmp_path / "pack").exists()


def test_the_command_writes_a_pack_and_replaces_only_packs(
    xlm: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pack = tmp_path / "pack"
    assert run("export", str(xlm), "-o", str(pack), "--layers", "3,1", "--licence", "MIT") == 0
    told = json.loads(capsys.readouterr().out)
    encoder = Encoder(pack)
    assert (encoder.name, encoder.layers, encoder.hash) == ("xlm", (3, 1), told["hash"])
    assert (told["licence"], told["special_tokens"]) == ("MIT", ["<s>", "</s>"])
    assert told["bytes"] > 10_000
    assert run("export", str(xlm), "-o", str(pack), "--name", "second") == 0
    assert Encoder(pack).name == "second"
    other = tmp_path / "other"
    other.mkdir()
    (other / "letter.txt").write_text("keep me", "utf-8")
    with pytest.raises(CommandError, match="is a folder with other files"):
        run("export", str(xlm), "-o", str(other))
    assert (other / "letter.txt").read_text("utf-8") == "keep me"


def test_an_encoder_whose_special_tokens_the_tokenizer_lacks_is_refused(xlm: Path) -> None:
    pack = xlm.parent / "pack"
    path = export(xlm, pack, name="x", origin="random", licence="Apache-2.0")
    manifest = json.loads(path.read_text("utf-8"))
    content = {k: v for k, v in manifest.items() if k not in ("format", "files", "hash")}
    content["special_tokens"] = ["[CLS]", "[SEP]"]
    shutil.copytree(pack, xlm.parent / "spoiled")
    write_manifest(xlm.parent / "spoiled", content)
    with pytest.raises(PackError, match=r"the tokenizer has no \[CLS\] token"):
        Encoder(xlm.parent / "spoiled")
