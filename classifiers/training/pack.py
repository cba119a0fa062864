"""Write what a method trained as a pack, with its operating points."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from classifiers import calibration
from classifiers.encoder import Encoder
from classifiers.heads import OUT_OF_SCOPE
from classifiers.loading import KINDS
from classifiers.loading import PRIVATE as PRIVATE
from classifiers.packs import MANIFEST, REPLAY, read_pack, write_manifest, write_tensors
from classifiers.pooled import probabilities
from classifiers.training.data import Row
from classifiers.training.fit import truth_table
from classifiers.training.methods.base import MAX_CALIBRATION_ROWS, Trained
from classifiers.training.replay import thinned
from classifiers.types import Kind, UnknownLabel

CARD = "README.md"
CALIBRATION = "calibration.safetensors"


@dataclass(frozen=True, slots=True)
class Promise:
    """What the default operating points are to keep.

    Attributes:
        budget: false-positive rate on benign texts, by label, proven at 95 % confidence.
        recall: recall that is to be proven as well, if any.
        least: a label that is less likely than this never matches by default.
        strict: too few benign rows are an error; otherwise the point is marked as not promised.
        doubt: why the held-out rows prove nothing; every point is then marked as not promised.
    """

    budget: float
    recall: float | None = None
    least: float = 0.5
    strict: bool = False
    doubt: str = ""


@dataclass(frozen=True, slots=True)
class Subject:
    """What a pack is about.

    Attributes:
        name, description, labels, decision, pooling: as in the manifest.
        sources: name -> rows and licence.
        more: further entries of the manifest.
        replay_rows: training rows that the pack remembers for corrections.
    """

    name: str
    description: str
    labels: tuple[str, ...]
    decision: Kind
    pooling: str
    sources: Mapping[str, Mapping[str, Any]]
    more: Mapping[str, Any]
    licence: str = "Apache-2.0"
    replay_rows: int = 4_000


def write_pack(
    folder: Path,
    subject: Subject,
    trained: Trained,
    rows: Sequence[Row],
    encoder: Encoder,
    promise: Promise,
) -> dict[str, Any]:
    """Write a pack without its figures.

    Args:
        folder: made if missing; files of an older pack are replaced.
        rows: what was trained on, in the order of ``trained.held_out``.
        encoder: the one that the numbers are for: the shared one, or the pack's own.

    Returns:
        What the manifest says, to be completed with the figures and written again.

    Raises:
        UnknownLabel: the promise is strict and the benign rows are too few.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for stale in (CARD, REPLAY, "report.html", "report.json"):
        (folder / stale).unlink(missing_ok=True)
    truth = truth_table(rows, subject.labels)
    kept = calibration_rows(rows, subject.decision, trained.honest)
    logits = trained.held_out[kept].astype(np.float32)
    points = operating_points(
        subject.name, subject.labels, subject.decision, logits, truth[kept], promise
    )
    for name, tensors in trained.tensors.items():
        write_tensors(folder / name, tensors)
    write_tensors(folder / CALIBRATION, {"logits": logits, "truth": truth[kept]})
    if trained.replay:
        write_tensors(folder / REPLAY, thinned(trained.replay, kept, subject.replay_rows))
    if trained.encoder is not None:
        shutil.copytree(trained.encoder, folder / PRIVATE, dirs_exist_ok=True)
    manifest: dict[str, Any] = {
        "kind": trained.kind,
        "name": subject.name,
        "description": subject.description,
        "labels": list(subject.labels),
        "decision": subject.decision,
        "pooling": subject.pooling,
        "encoder": encoder.hash,
        "encoder_name": encoder.name,
        **trained.manifest,
        "operating_points": points,
        "licence": subject.licence,
        "sources": dict(subject.sources),
        **subject.more,
    }
    if OUT_OF_SCOPE in subject.more:
        share = subject.more[OUT_OF_SCOPE]["in_scope_kept"]
        points[OUT_OF_SCOPE] = {"threshold": share, "in_scope_kept": share}
    write_manifest(folder, manifest)
    return manifest


def finish(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Write the manifest anew, for files and figures that came later."""
    own = {k: v for k, v in manifest.items() if k not in ("format", "files", "hash")}
    write_manifest(folder, own)


def manifest_of(folder: Path, kind: str = "head") -> dict[str, Any]:
    """A pack's manifest without what :func:`finish` writes itself.

    Raises:
        PackError: as :func:`classifiers.packs.read_pack`.
    """
    manifest = read_pack(folder, kind=kind)
    return {k: v for k, v in manifest.items() if k not in ("format", "files", "hash")}


def check_target(target: Path, kinds: Sequence[str] = KINDS) -> None:
    """Refuse a place where no pack can be put. A pack that a killed run took away is put back first.

    Args:
        kinds: of the packs that may be replaced.

    Raises:
        FileExistsError: a file is there, or a folder with other files.
    """
    restore(target)
    if target.exists() and not target.is_dir():
        raise FileExistsError(f"{target} is a file; name a folder with -o")
    if target.is_dir() and (others := _foreign(target, kinds)):
        raise FileExistsError(
            f"{target} is a folder with other files ({', '.join(others[:3])}), which a new pack would "
            "replace; name another folder with -o"
        )


def _foreign(folder: Path, kinds: Sequence[str]) -> list[str]:
    """What lies in a folder beside the files of a pack; everything, if it is none of these kinds."""
    inside = sorted(path.name for path in folder.iterdir())
    try:
        manifest = json.loads((folder / MANIFEST).read_text("utf-8"))
        listed, kind = manifest["files"].keys(), manifest["kind"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return inside
    if kind not in kinds:
        return inside
    return [name for name in inside if name not in {*listed, MANIFEST, PRIVATE}]


def restore(target: Path) -> None:
    """Put back the pack that :func:`replace_folder` had moved aside when its process was killed."""
    target = target.resolve()
    old = _aside(target)
    if not target.exists() and (old / MANIFEST).is_file():
        old.rename(target)


def _aside(target: Path) -> Path:
    """Where the older pack lies while the newer one is moved to its place."""
    return target.with_name(f".{target.name}.old")


def replace_folder(made: Path, target: Path, kinds: Sequence[str] = KINDS) -> None:
    """Put a finished folder in the place of another, so that no half-written pack is ever seen.

    Between two renames there is no pack at all; what is killed there, :func:`restore` mends.

    Args:
        made: on the same file system as the target.
        target: a pack, or nothing yet.

    Raises:
        FileExistsError: as :func:`check_target`.
    """
    check_target(target, kinds)
    target = target.resolve()
    old = _aside(target)
    try:
        if target.exists():
            shutil.rmtree(old, ignore_errors=True)
            target.rename(old)
        made.rename(target)
    except BaseException:
        if old.exists() and not target.exists():
            old.rename(target)
        raise
    shutil.rmtree(old, ignore_errors=True)


def operating_points(
    name: str,
    labels: Sequence[str],
    decision: Kind,
    logits: npt.NDArray[Any],
    truth: npt.NDArray[np.int8],
    promise: Promise,
) -> dict[str, dict[str, Any]]:
    """The default threshold of each label: the lowest that keeps the false-positive budget on the benign
    calibration rows, and never under ``promise.least``.

    For ``one_of`` heads the benign rows of a label are those of all other labels. Where the rows are
    too few for the promise, the point says so and how many are needed; where they prove nothing
    (``promise.doubt``), it says why.

    Args:
        name: of the pack, for the error.
        logits: ``[n, labels]`` calibrated, of rows that the head was not fitted on.
        truth: ``[n, labels]`` as in :func:`classifiers.training.fit.truth_table`.

    Raises:
        UnknownLabel: the promise is strict and cannot be kept.
    """
    scores = probabilities(logits, decision)
    benign = (truth == 0).all(axis=1) | (decision == "one_of")
    points: dict[str, dict[str, Any]] = {}
    for column, label in enumerate(labels):
        quiet = scores[(truth[:, column] == 0) & benign, column]
        found = truth[:, column] == 1
        point: dict[str, Any] = {}
        cut = promise.least
        try:
            lowest = calibration.false_positive_threshold(quiet, promise.budget, f"{name}: {label}")
            cut = max(lowest, promise.least)
        except UnknownLabel:
            if promise.strict:
                raise
            point["promised"] = False
            point["benign_rows_needed"] = calibration.benign_needed(promise.budget)
        cut = math.ceil(cut * 1e6) / 1e6  # rounded down it would let a benign row in
        if promise.doubt:
            point |= {"promised": False, "promise_fault": promise.doubt}
        point |= {
            "threshold": cut,
            "max_false_positive_rate": promise.budget,
            "least": promise.least,
            "benign_rows": len(quiet),
            "held_out_recall": round(float((scores[found, column] >= cut).mean()), 4)
            if found.any()
            else None,
        }
        if promise.recall is not None:
            point |= _recall(scores[found, column], promise.recall, cut, f"{name}: {label}")
            if promise.doubt:
                point |= {"recall_promised": False, "recall_fault": promise.doubt}
        points[label] = point
    return points


def _recall(scores: npt.NDArray[Any], recall: float, cut: float, name: str) -> dict[str, Any]:
    """Whether the recall is proven at the threshold too, and where it would be."""
    try:
        lowest = calibration.recall_threshold(scores, recall, name)
    except UnknownLabel as error:
        return {"min_recall": recall, "recall_promised": False, "recall_fault": str(error)}
    return {
        "min_recall": recall,
        "recall_promised": bool(lowest >= cut),
        "recall_threshold": round(lowest, 6),
    }


def calibration_rows(
    rows: Sequence[Row], decision: Kind, honest: npt.NDArray[np.bool_], seed: int = 0
) -> npt.NDArray[np.int64]:
    """Held-out rows that ship with the pack: benign ones and positives, seeded."""
    good = [
        index
        for index, row in enumerate(rows)
        if honest[index] and (row.benign or row.labels or decision == "one_of")
    ]
    chosen = np.random.default_rng(seed).permutation(good)[:MAX_CALIBRATION_ROWS]
    return np.sort(chosen)
