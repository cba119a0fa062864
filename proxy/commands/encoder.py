"""Turn a sentence encoder into an encoder pack, for other languages or other needs."""

from __future__ import annotations

import argparse
import contextlib
import json
import re
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from classifiers.training.workplace import EXTRA
from proxy.commands.output import CommandError, emit, json_option

if TYPE_CHECKING:
    from rich.console import Console

UNKNOWN = "not stated"
GENERIC = frozenset(
    {
        "model",
        "models",
        "onnx",
        "encoder",
        "checkpoint",
        "final",
        "best",
        "output",
        "snapshot",
        "home",
    }
    | {"tmp", "transformer", "0_transformer", "pytorch", "data"}
)
"""Folders that are called so in any export; they do not say which encoder it is."""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("what", choices=["export"], help="make a pack of an encoder")
    parser.add_argument(
        "source",
        metavar="PATH_OR_HUB_ID",
        help="folder with config.json, model.safetensors and a tokenizer, or a hub identifier",
    )
    parser.add_argument(
        "-o", "--output", type=Path, metavar="FOLDER", help="the pack (default: the encoder's name)"
    )
    parser.add_argument(
        "--layers",
        type=_whole_numbers,
        metavar="N,N",
        help="hidden layers to read, the main one first "
        "(default: the top one and those at two thirds and one third of the depth)",
    )
    parser.add_argument(
        "--layer-weights",
        type=_weights,
        metavar="X,X",
        help="weight of each layer (default: 1 for the first, 0.5 for the others)",
    )
    parser.add_argument(
        "--window-tokens",
        type=int,
        default=96,
        metavar="N",
        help="tokens read at once (%(default)s)",
    )
    parser.add_argument(
        "--stride-tokens",
        type=int,
        metavar="N",
        help="tokens from one window to the next (default: 64)",
    )
    parser.add_argument("--name", help="name of the pack (default: the encoder's, from its path)")
    parser.add_argument(
        "--licence", default=UNKNOWN, metavar="SPDX", help="licence of the weights (%(default)s)"
    )
    parser.add_argument(
        "--force",
        action="store_true",
        help="keep the pack even if it does not agree with its model",
    )
    json_option(parser)


def run(options: argparse.Namespace) -> int:
    """Export, compare with the model, put the pack in place."""
    try:
        import torch  # noqa: F401
        import transformers  # noqa: F401
    except ImportError as error:
        raise CommandError(f"{error.name} is not installed; run: {EXTRA}") from None
    name = options.name or name_of(options.source)
    target: Path = options.output or Path(re.sub(r"[^\w.-]+", "-", name))
    _writable(target)
    result = _export(options, name, target)
    emit(options, result, lambda console: _render(console, target, result))
    return 0


def name_of(source: str) -> str:
    """What an encoder is called: the last part of its path that says something, else what its config
    says it was made from, else the first folder above that says something."""
    config: Any = None
    with contextlib.suppress(OSError, ValueError):
        config = json.loads(Path(source, "config.json").read_text("utf-8"))
    origin = config.get("_name_or_path") if isinstance(config, dict) else None
    ways = [source, origin if isinstance(origin, str) else ""]
    if Path(source).exists():
        ways.append(str(Path(source).resolve()))
    for way in ways:
        for part in reversed(re.split(r"[/\\]", way)):
            if part.strip(". ") and part.casefold() not in GENERIC:
                return part
    return "encoder"


def _export(options: argparse.Namespace, name: str, target: Path) -> dict[str, Any]:
    """The pack's manifest, its folder and its size."""
    from classifiers.training import export
    from classifiers.training.architectures import ExportError
    from classifiers.training.pack import replace_folder

    print(f"exporting {options.source}; a base model takes a minute or two", file=sys.stderr)
    try:
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}-") as scratch:
            made = Path(scratch) / "pack"
            path = export.export(
                options.source,
                made,
                layers=options.layers,
                layer_weights=options.layer_weights,
                name=name,
                origin=options.source,
                licence=options.licence,
                window_tokens=options.window_tokens,
                stride_tokens=options.stride_tokens,
                least=export.AGREEMENT,
            )
            manifest = json.loads(path.read_text("utf-8"))
            least = min(manifest["agreement"].values())
            if least < export.AGREEMENT and not options.force:
                raise CommandError(
                    f"{options.source}: the int8 graph agrees with the model to {least:.3f} only, "
                    f"{export.AGREEMENT} is needed; name other --layers, or keep it with --force"
                )
            replace_folder(made, target, ("encoder",))
    except (ExportError, FileExistsError) as error:
        raise CommandError(str(error)) from None
    size = sum(path.stat().st_size for path in target.iterdir())
    return {"pack": str(target), "bytes": size, **manifest}


def _writable(target: Path) -> None:
    if target.exists() and not target.is_dir():
        raise CommandError(f"{target} is a file; name a folder with -o")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CommandError(f"{target}: cannot be made ({error}); name another with -o") from None


def _whole_numbers(text: str) -> tuple[int, ...]:
    try:
        found = tuple(int(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}: write numbers such as 12,8,4") from None
    return found


def _weights(text: str) -> tuple[float, ...]:
    try:
        found = tuple(float(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}: write numbers such as 1,0.5,0.5") from None
    if not all(0 < weight < 1e6 for weight in found):
        raise argparse.ArgumentTypeError(f"{text!r}: weights are greater than 0")
    return found


def _render(console: Console, target: Path, result: dict[str, Any]) -> None:
    agreement = ", ".join(
        f"layer {layer} {value:.3f}" for layer, value in result["agreement"].items()
    )
    console.print(f"{target}: {result['bytes'] / 1e6:.1f} MB, {result['width']} wide")
    console.print(f"least agreement with the model (cosine): {agreement}")
    if kept := result.get("float_layers"):
        console.print(
            f"feed-forward outputs in single precision: layers {', '.join(map(str, kept))}"
        )
    console.print(f"use it: doorman train TASK -o PACK --encoder {target}", soft_wrap=True)
    console.print(f"and in the config: classifiers: {{encoder: {target}}}", soft_wrap=True)
