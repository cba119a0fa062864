"""The model-pack format: a folder of data with a manifest that vouches for every file.

``manifest.json`` names the kind of the pack, its files with their sha256 and its own hash. Loading
checks all of them and refuses what does not match. Packs hold JSON, safetensors, ONNX and Markdown;
nothing in them is ever executed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

FORMAT = 1
REPLAY = "replay.safetensors"
"""The file of a pack that remembers training rows; ``classifiers.training.replay`` writes it."""
MANIFEST = "manifest.json"
SHIPPED = Path(__file__).parent / "packs"
SHIPPED_HEADS = (
    "safety",
    "jailbreak",
    "spam",
    "intent",
    "topic",
    "sentiment",
    "emotion",
    "ticket",
    "email_intent",
)
SHIPPED_SPANS = ("entities", "slots")
"""Token heads. ``slots`` is an example: it is loaded where it is named."""
LOADED = (*SHIPPED_HEADS, "entities")
"""What ``shipped: all`` means, beside the patterns of ``pii``."""


class PackError(Exception):
    """A pack cannot be used; the message names the folder, the fault and the fix."""


def file_sha256(path: Path) -> str:
    """sha256 of a file, hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def write_manifest(folder: Path, content: Mapping[str, Any]) -> Path:
    """Write ``manifest.json`` for the files that lie in the folder.

    Args:
        folder: the pack; every other file in it is listed with its sha256.
        content: the manifest without ``format``, ``files`` and ``hash``.

    Returns:
        The path of the manifest.
    """
    files = {
        path.name: file_sha256(path)
        for path in sorted(folder.iterdir())
        if path.is_file() and path.name != MANIFEST
    }
    manifest = {"format": FORMAT, **content, "files": files}
    manifest["hash"] = _own_hash(manifest)
    path = folder / MANIFEST
    path.write_text(json.dumps(manifest, indent=2, ensure_ascii=False) + "\n", "utf-8")
    return path


def read_pack(
    folder: Path, *, kind: str, needs: Sequence[str] = (), files: Sequence[str] = ()
) -> dict[str, Any]:
    """Read and verify a pack's manifest and the hashes of its files.

    Args:
        folder: the pack.
        kind: what it has to be.
        needs: keys that the manifest must have.
        files: files that the manifest must vouch for.

    Raises:
        PackError: no pack there, of another kind or format, or a file that was changed.
    """
    path = folder / MANIFEST
    try:
        manifest = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise PackError(
            f"{folder}: no {MANIFEST}; a pack is a folder made by the trainer"
        ) from None
    except (OSError, ValueError, RecursionError) as error:
        raise PackError(f"{path}: cannot be read ({error}); rebuild the pack") from None
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        found = manifest.get("format") if isinstance(manifest, dict) else type(manifest).__name__
        raise PackError(f"{path}: format {found!r}, this release reads {FORMAT}; rebuild the pack")
    if manifest.get("kind") != kind:
        raise PackError(f"{path}: a pack of kind {manifest.get('kind')!r}, {kind!r} is needed here")
    if manifest.get("hash") != _own_hash(manifest):
        raise PackError(f"{path}: changed since it was made (its hash differs); rebuild the pack")
    listed = manifest.get("files")
    if not isinstance(listed, dict) or (unlisted := set(files) - set(listed)):
        what = "its files" if not isinstance(listed, dict) else ", ".join(sorted(unlisted))
        raise PackError(f"{path}: does not vouch for {what}; rebuild the pack")
    if lacking := [key for key in needs if key not in manifest]:
        raise PackError(f"{path}: {', '.join(lacking)} missing; rebuild the pack")
    for name, digest in listed.items():
        if Path(name).name != name:
            raise PackError(f"{path}: file name {name!r} points outside the pack")
        file = folder / name
        if not file.is_file():
            raise PackError(
                f"{folder}: {name} is missing; copy the whole folder or rebuild the pack"
            )
        if file_sha256(file) != digest:
            raise PackError(f"{file}: changed since the pack was made; rebuild the pack")
    return manifest


def name_of_pack(folder: Path) -> str:
    """What a pack calls itself; its files are not checked.

    Raises:
        PackError: there is no manifest, or it cannot be read.
    """
    return str(_said(folder).get("name", folder.name))


def hash_of_pack(folder: Path) -> str:
    """What a pack says of its content; nothing is checked.

    Raises:
        PackError: see :func:`name_of_pack`.
    """
    return str(_said(folder).get("hash", ""))


def _said(folder: Path) -> dict[str, Any]:
    try:
        said = json.loads((folder / MANIFEST).read_text("utf-8"))
    except (OSError, ValueError):
        said = None
    # An error that says what is wrong is read_pack's to word.
    return said if isinstance(said, dict) else read_pack(folder, kind="head")


def checked_points(folder: Path, manifest: Mapping[str, Any]) -> tuple[str, ...]:
    """The labels of a classifier's pack, once its name, labels and operating points have been checked.

    Raises:
        PackError: labels that are no list of different names, or a label without a threshold in 0..1.
            A threshold that is no number would never match, and a rule on it let everything pass.
    """
    name, labels, points = manifest["name"], manifest["labels"], manifest["operating_points"]
    if not isinstance(name, str) or not name:
        raise PackError(f"{folder}: its name is {name!r}; rebuild the pack")
    if (
        not isinstance(labels, list)
        or not labels
        or not all(isinstance(label, str) and label for label in labels)
        or len(set(labels)) < len(labels)
    ):
        raise PackError(f"{folder}: its labels are no list of different names; rebuild the pack")
    if not isinstance(points, dict):
        raise PackError(f"{folder}: it has no operating points; rebuild the pack")
    if missing := sorted(set(labels) - set(points)):
        raise PackError(f"{folder}: no operating point for {', '.join(missing)}")
    for label, point in points.items():
        value = point.get("threshold") if isinstance(point, dict) else None
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
            raise PackError(
                f"{folder}: the threshold of {label} is {value!r}, no number in 0..1; rebuild the pack"
            )
    return tuple(labels)


def made_for_another(
    folder: Path, manifest: Mapping[str, Any], encoder: Path, name: str, hash: str
) -> PackError:
    """The error of a pack whose numbers are for another encoder; it names the command that mends it.

    Args:
        folder, manifest: the pack.
        encoder, name, hash: the encoder that is there.
    """
    own = encoder == SHIPPED / "encoder"
    how = f"doorman train TASK -o {folder}" + ("" if own else f" --encoder {encoder}")
    if folder.parent == SHIPPED:
        how = "make packs" + ("" if own else f" ENCODER={encoder}")
    return PackError(
        f"{folder}: made for encoder {str(manifest['encoder'])[:12]}, this one is {hash[:12]} "
        f"({name}); rebuild it with `{how}`"
    )


def read_tensors(path: Path) -> dict[str, npt.NDArray[Any]]:
    """Tensors of a safetensors file.

    Raises:
        PackError: the file is damaged.
    """
    try:
        tensors: dict[str, npt.NDArray[Any]] = load_file(path)
    except (OSError, SafetensorError, AttributeError) as error:  # of a type that numpy lacks
        raise PackError(f"{path}: cannot be read ({error}); rebuild the pack") from None
    return tensors


def write_tensors(path: Path, tensors: Mapping[str, npt.NDArray[Any]]) -> None:
    """Write a safetensors file."""
    save_file({name: np.ascontiguousarray(array) for name, array in tensors.items()}, path)
    path.chmod(0o644)  # safetensors makes it its owner's alone, whatever the umask


def _own_hash(manifest: Mapping[str, Any]) -> str:
    content = {key: value for key, value in manifest.items() if key != "hash"}
    text = json.dumps(content, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
