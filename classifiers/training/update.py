"""Correct a pack: ``{text, label}`` rows that people gave, in seconds, without its training texts."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from classifiers.encoder import Encoder
from classifiers.heads import HeadClassifier, load_heads, probabilities
from classifiers.packs import PackError, read_tensors, write_tensors
from classifiers.training.corrections import correctable
from classifiers.training.data import Row
from classifiers.training.delta import Delta, Points, fit_delta
from classifiers.training.features import FeatureCache
from classifiers.training.fit import truth_table
from classifiers.training.pack import (
    CALIBRATION,
    CARD,
    PRIVATE,
    Promise,
    check_target,
    finish,
    manifest_of,
    operating_points,
    replace_folder,
)
from classifiers.training.replay import CORRECTED, REPLAY, Replay, joined, remembered
from classifiers.training.slices import batches_of, passed, read_slices
from classifiers.training.task_card import write_task_card
from classifiers.training.windows import make_windows
from classifiers.training.workplace import scratch_beside
from classifiers.types import Kind
from classifiers.views import Reader
from classifiers.written import name_of

Wide = npt.NDArray[np.float64]
WEIGHTS = (1.0, 3.0, 10.0, 30.0, 100.0)
"""What a correction counts, in remembered rows; the least that gets every correction right is taken."""
TOLERATED = 0.005
"""Share of the remembered rows of a label that may be lost; slices that a person wrote may lose none."""
CORRECTIONS, EARLIER = "corrections", "earlier corrections"
STALE = ("report.html", "report.json")
"""They describe the pack before the correction."""


class GotWorse(Exception):
    """A correction would make a slice worse; the message names the slices."""


@dataclass(frozen=True, slots=True)
class SliceChange:
    """How many cases of a slice hold, before and after."""

    name: str
    cases: int
    before: int
    after: int
    may_lose: int = 0

    @property
    def worse(self) -> bool:
        """Whether more cases were lost than may be."""
        return self.after < self.before - self.may_lose


@dataclass(frozen=True, slots=True)
class Update:
    """What a correction did.

    Attributes:
        corrections: rows that were given.
        weight: what each of them counted.
        slices: before and after, the corrections themselves first.
        thresholds: label -> (before, after).
        hashes: of the pack, (before, after).
    """

    corrections: int
    weight: float
    slices: tuple[SliceChange, ...]
    thresholds: dict[str, tuple[float, float]]
    hashes: tuple[str, str]

    @property
    def worse(self) -> tuple[SliceChange, ...]:
        """The slices that got worse."""
        return tuple(change for change in self.slices if change.worse)

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        found = asdict(self)
        found["worse"] = [change.name for change in self.worse]
        return found


def update(
    pack: Path,
    rows: Sequence[Row],
    encoder: Encoder,
    cache: FeatureCache,
    target: Path | None = None,
    *,
    force: bool = False,
    name: str | None = None,
) -> Update:
    """Write a corrected pack.

    Args:
        pack: of kind ``head``.
        rows: corrections; labels that are not named in ``known`` stay as they are.
        encoder: the shared encoder; a pack with one of its own takes that.
        cache: of the shared encoder's features.
        target: the corrected pack; by default it takes the place of the old one.
        force: write it even if a slice gets worse.
        name: what the corrected pack is called; by default as the old one.

    Raises:
        PackError: the pack cannot be corrected.
        GotWorse: a slice got worse and ``force`` is not set; nothing was written.
        FileExistsError: the target is a file, or a folder with other files.
        ValueError: there is no correction, or no pack can have that name.
    """
    if not rows:
        raise ValueError(
            'there are no corrections; give rows such as {"text": "...", "label": "..."}'
        )
    if name is not None:
        name_of("the name of a pack")(name)
    correctable(pack)
    target = target or pack
    check_target(target)
    with ExitStack() as stack:
        if (pack / PRIVATE).is_dir():
            encoder = Encoder(pack / PRIVATE)
            cache = stack.enter_context(FeatureCache(encoder, cache.folder))
        subject = _Subject(pack, encoder, name)
        given = subject.points_of(rows, cache)
    subject.believe(given)
    place = target.resolve()
    with scratch_beside(place) as scratch:
        made = scratch / "pack"
        shutil.copytree(pack, made)
        for stale in (*STALE, CARD):
            (made / stale).unlink(missing_ok=True)
        found = None
        for weight in WEIGHTS:
            delta = subject.fitted(given, weight)
            found = _write(subject, rows, given, delta, weight, made)
            first = found.slices[0]
            if first.after == first.cases or (found.worse and not force):
                break
        assert found is not None
        if found.worse and not force:
            lost = "; ".join(f"{c.name}: {c.before} of {c.cases} -> {c.after}" for c in found.worse)
            raise GotWorse(
                f"{pack.name}: {lost}. Nothing was written; look at the corrections, or write it all "
                "the same with --force"
            )
        replace_folder(made, place)
    return found


class _Subject:
    """The pack that is corrected."""

    def __init__(self, pack: Path, encoder: Encoder, name: str | None) -> None:
        manifest = correctable(pack)
        if REPLAY not in manifest["files"]:
            raise PackError(
                f"{pack}: has no {REPLAY}, so it cannot be corrected; train it anew with the "
                "corrections among its data"
            )
        self.pack = pack
        self.encoder = encoder
        self.hash = str(manifest["hash"])
        self.manifest = manifest_of(pack)
        if name is not None:
            self.manifest["name"] = name
        self.labels: tuple[str, ...] = tuple(manifest["labels"])
        self.decision: Kind = manifest["decision"]
        self.head = read_tensors(pack / "head.safetensors")
        self.replay_tensors = read_tensors(pack / REPLAY)
        self.replay: Replay = remembered(self.replay_tensors)
        self.held_out = read_tensors(pack / CALIBRATION)
        self.reader = Reader(encoder)
        self.before: HeadClassifier = load_heads([pack], self.reader)[0]
        self.slices = read_slices(pack)
        self.batches = batches_of(self.slices)
        self.anchors = Points(
            self.replay.features,
            self.replay.grams,
            self.logits(self.replay.features, self.replay.grams),
            self.replay.truth,
        )
        self.again = np.zeros(len(self.replay.truth), dtype=bool)
        """Remembered rows whose text is corrected now."""

    def logits(self, features: npt.NDArray[np.float32], grams: Any) -> Wide:
        lexical = self.head["lexical"].astype(np.float64)
        encoder, bias = self.head["encoder"].astype(np.float64), self.head["bias"]
        found: Wide = features @ encoder + grams @ lexical + bias
        return found

    def points_of(self, rows: Sequence[Row], cache: FeatureCache) -> Points:
        """Each correction as the window that decides."""
        truth = truth_table(rows, self.labels)
        windows = make_windows(rows, self.encoder, cache, str(self.manifest["pooling"]))
        logits = self.logits(windows.features, windows.grams)
        wanted = np.where(truth == 1, 0.0, -50.0)
        wanted[(truth == 1).sum(axis=1) == 0] = 0.0
        worth = (logits + wanted[windows.owner]).max(axis=1)
        order = np.lexsort((-worth, windows.owner))
        _, first = np.unique(windows.owner[order], return_index=True)
        own = order[first]
        return Points(windows.features[own], windows.grams[own], logits[own], truth)

    def believe(self, given: Points) -> None:
        """Take the corrected labels for remembered rows with the same text, too."""
        said = {key: index for index, key in enumerate(given.spelling()) if key}
        for row, key in enumerate(self.anchors.spelling()):
            if key in said:
                self.again[row] = True
                self.replay.truth[row] = given.truth[said[key]]
                self.replay.benign[row] = not (given.truth[said[key]] != 0).any()
        self.replay_tensors["benign"] = self.replay.benign.astype(np.uint8)

    def fitted(self, given: Points, weight: float) -> Delta:
        """The change for the corrections, earlier ones included."""
        earlier = (self.replay.index == CORRECTED) & ~self.again
        anchors = self.anchors.take(~(self.again | (self.replay.index == CORRECTED)))
        corrected = given.and_also(self.anchors.take(earlier))
        return fit_delta(anchors, corrected, self.decision, weight)

    def cuts(self, points: dict[str, Any]) -> npt.NDArray[np.float64]:
        return np.asarray([points[label]["threshold"] for label in self.labels])

    def right(self, logits: Wide, truth: npt.NDArray[np.int8], cuts: Wide) -> npt.NDArray[np.bool_]:
        """``[n, labels]`` whether the verdict on each label is right; unknown ones are."""
        matched = probabilities(logits, self.decision) >= cuts
        right: npt.NDArray[np.bool_] = (matched == (truth == 1)) | (truth < 0)
        return right


def _write(
    subject: _Subject, rows: Sequence[Row], given: Points, delta: Delta, weight: float, made: Path
) -> Update:
    """Write the corrected pack into the folder, a copy of the old one, and compare."""
    head = subject.head
    write_tensors(
        made / "head.safetensors",
        {
            "encoder": (head["encoder"] + delta.encoder).astype(np.float32),
            "lexical": (head["lexical"].astype(np.float64) + delta.lexical).astype(np.float16),
            "bias": (head["bias"] + delta.bias).astype(np.float32),
        },
    )
    held_out = subject.held_out
    logits = held_out["logits"].astype(np.float64)
    replay = subject.replay
    kept = replay.index >= 0
    moved = delta.of(subject.anchors)
    logits[replay.index[kept]] += moved[kept]
    truth = held_out["truth"].copy()
    truth[replay.index[kept]] = replay.truth[kept]
    write_tensors(made / CALIBRATION, {"logits": logits.astype(np.float32), "truth": truth})
    write_tensors(
        made / REPLAY, joined(subject.replay_tensors, given.features, given.grams, given.truth)
    )
    manifest = dict(subject.manifest)
    old = manifest["operating_points"]
    # Points of labels that were not trained, such as out_of_scope, stay.
    points = old | operating_points(
        subject.before.name,
        subject.labels,
        subject.decision,
        logits,
        truth,
        promise_of(old),
    )
    manifest["operating_points"] = points
    changes = [
        *manifest.get("updates", []),
        {"corrections": len(rows), "weight": weight, "from": subject.hash},
    ]
    manifest["updates"] = changes
    if "judged_on" in manifest:
        write_task_card(made / CARD, manifest, manifest["judged_on"])
    finish(made, manifest)
    after = load_heads([made], subject.reader)[0]
    return Update(
        corrections=len(rows),
        weight=weight,
        slices=_compare(subject, after, given, delta, points),
        thresholds={
            label: (float(old[label]["threshold"]), float(points[label]["threshold"]))
            for label in subject.labels
        },
        hashes=(subject.hash, str(after.manifest["hash"])),
    )


def promise_of(points: dict[str, Any]) -> Promise:
    """What a pack's default points were made to keep; it is the same for all labels."""
    first = next(iter(points.values()))
    recall = first.get("min_recall")
    return Promise(
        float(first.get("max_false_positive_rate", 0.01)),
        None if recall is None else float(recall),
        float(first.get("least", 0.5)),
    )


def _compare(
    subject: _Subject,
    after: HeadClassifier,
    given: Points,
    delta: Delta,
    points: dict[str, Any],
) -> tuple[SliceChange, ...]:
    """The corrections, the slices that a person wrote, and the remembered rows by label."""
    old_cuts, new_cuts = subject.cuts(subject.manifest["operating_points"]), subject.cuts(points)
    found = []
    held = subject.right(given.logits, given.truth, old_cuts).all(axis=1).sum()
    now = subject.right(given.logits + delta.of(given), given.truth, new_cuts).all(axis=1).sum()
    found.append(SliceChange(CORRECTIONS, len(given.logits), int(held), int(now)))
    before = passed(subject.before, subject.slices, subject.batches)
    later = passed(after, subject.slices, subject.batches)
    for name, (passing, cases) in before.items():
        found.append(SliceChange(name, cases, passing, later[name][0]))
    anchors = subject.anchors
    one = subject.right(anchors.logits, anchors.truth, old_cuts)
    two = subject.right(anchors.logits + delta.of(anchors), anchors.truth, new_cuts)
    given_before = subject.replay.index == CORRECTED
    if given_before.any():
        held, now = one[given_before].all(axis=1).sum(), two[given_before].all(axis=1).sum()
        found.append(SliceChange(EARLIER, int(given_before.sum()), int(held), int(now)))
    for column, label in enumerate(subject.labels):
        own = anchors.truth[:, column] == 1
        if own.any():
            found.append(_remembered(f"remembered: {label}", one[own, column], two[own, column]))
    quiet = subject.replay.benign
    if subject.decision == "any_of" and quiet.any():
        found.append(
            _remembered(
                "remembered: none of them", np.all(one[quiet], axis=1), np.all(two[quiet], axis=1)
            )
        )
    return tuple(found)


def _remembered(
    name: str, before: npt.NDArray[np.bool_], after: npt.NDArray[np.bool_]
) -> SliceChange:
    allowed = int(np.ceil(TOLERATED * len(before)))
    return SliceChange(name, len(before), int(before.sum()), int(after.sum()), allowed)
