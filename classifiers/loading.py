"""Packs of every kind, as classifiers: one encoder pass serves all that share an encoder."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from classifiers.encoder import Encoder
from classifiers.heads import load_heads
from classifiers.nearest import NearestClassifier
from classifiers.packs import MANIFEST, PackError, read_pack
from classifiers.tokens import load_span_packs
from classifiers.types import Classifier
from classifiers.views import Reader

PRIVATE = "encoder"
"""Folder within a pack that holds an encoder of its own."""
KINDS = ("head", "examples", "spans")


def load_packs(folders: Sequence[Path], encoder: Encoder) -> list[Classifier]:
    """Load packs, in the order of the folders.

    Args:
        folders: packs of the kinds :data:`KINDS`.
        encoder: the shared one; a pack with an encoder of its own is read by that.

    Raises:
        PackError: a pack is damaged, of another kind, or made for another encoder.
    """
    readers: dict[Path | None, Reader] = {None: Reader(encoder)}
    groups: dict[tuple[Path | None, str], list[Path]] = {}
    for folder in folders:
        own = folder / PRIVATE
        home = own if own.is_dir() else None
        if home is not None:
            readers[home] = Reader(Encoder(home, threads=encoder.threads))
        groups.setdefault((home, kind_of(folder)), []).append(folder)
    loaded: dict[Path, Classifier] = {}
    for (home, kind), members in groups.items():
        reader = readers[home]
        made: Sequence[Classifier]
        if kind == "head":
            made = load_heads(members, reader)
        elif kind == "spans":
            made = load_span_packs(members, reader)
        else:
            made = [NearestClassifier(folder, reader) for folder in members]
        loaded.update(zip(members, made, strict=True))
    return [loaded[folder] for folder in folders]


def kind_of(folder: Path) -> str:
    """The kind of a pack.

    Raises:
        PackError: no pack, or of a kind that is no classifier.
    """
    try:
        kind = json.loads((folder / MANIFEST).read_text("utf-8")).get("kind")
    except (OSError, ValueError, AttributeError):
        read_pack(folder, kind="head")  # says what is wrong with it
        raise
    if kind not in KINDS:
        raise PackError(
            f"{folder}: a pack of kind {kind!r}; a classifier's is one of {', '.join(KINDS)}"
        )
    return str(kind)
