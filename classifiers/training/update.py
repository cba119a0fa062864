"""Correct a pack: ``{text, label}`` rows that people gave, in seconds, without its training texts."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from classifiers.encoder import Encoder
from classifiers.heads import load_heads
from classifiers.loading import PRIVATE
from classifiers.packs import REPLAY, write_tensors
from classifiers.training.card import write_card
from classifiers.training.corrected import Subject
from classifiers.training.corrections import correctable
from classifiers.training.data import Row
from classifiers.training.delta import Points
from classifiers.training.features import FeatureCache
from classifiers.training.pack import (
    CALIBRATION,
    CARD,
    Promise,
    check_target,
    finish,
    operating_points,
    replace_folder,
)
from classifiers.training.replay import joined
from classifiers.training.standing import Scored, standing
from classifiers.training.task_card import write_task_card
from classifiers.training.workplace import scratch_beside
from classifiers.written import name_of

WEIGHTS = (1.0, 3.0, 10.0, 30.0, 100.0)
"""What a correction counts, in remembered rows; the least that gets most corrections right without harm
is taken."""
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

    @property
    def right(self) -> int:
        """How many of the corrections are right now."""
        return self.slices[0].after

    @property
    def complete(self) -> bool:
        """Every correction is right, and nothing got worse."""
        return self.right == self.corrections and not self.worse

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
        subject = Subject(pack, encoder, name)
        given = subject.points_of(rows, cache)
    subject.believe(given)
    place = target.resolve()
    with scratch_beside(place) as scratch:
        made = scratch / "pack"
        shutil.copytree(pack, made)
        for stale in (*STALE, CARD):
            (made / stale).unlink(missing_ok=True)
        found = _best(subject, rows, given, made, force)
        replace_folder(made, place)
    return found


def _best(subject: Subject, rows: Sequence[Row], given: Points, made: Path, force: bool) -> Update:
    """Write the pack with the least weight that gets most corrections right and makes nothing worse.

    The weights are compared by the plain fit, and one that seems best is fitted honestly: that may
    show it to be worse, and then the search goes on.

    Raises:
        GotWorse: every weight that helps makes something worse, and ``force`` is not set.
    """
    tried: list[Update] = []
    seeming: list[Update] = []
    for weight in WEIGHTS:
        seems = _write(subject, rows, given, weight, made, honest=False)
        if seems.complete:
            tried.append(_write(subject, rows, given, weight, made))
            if tried[-1].complete:
                return tried[-1]
        else:
            seeming.append(seems)

    before = (tried + seeming)[0].slices[0].before
    hopeless = max(one.right for one in tried + seeming) <= before

    def rank(one: Update) -> tuple[bool, int]:
        # To be harmless and of no use is no answer where another weight is of use.
        return not one.worse and (hopeless or one.right > before), one.right

    for seems in sorted(seeming, key=rank, reverse=True):
        if tried and max(map(rank, tried)) >= rank(seems):
            break
        tried.append(_write(subject, rows, given, seems.weight, made))
    found = max(tried, key=lambda one: (*rank(one), -one.weight))
    if found.worse and not force:
        lost = "; ".join(f"{c.name}: {c.before} of {c.cases} -> {c.after}" for c in found.worse)
        raise GotWorse(
            f"{subject.pack.name}: {lost}. Nothing was written; look at the corrections, or write it "
            "all the same with --force"
        )
    return found if found is tried[-1] else _write(subject, rows, given, found.weight, made)


def _write(
    subject: Subject,
    rows: Sequence[Row],
    given: Points,
    weight: float,
    made: Path,
    honest: bool = True,
) -> Update:
    """Write the corrected pack into the folder, a copy of the old one, and compare.

    Args:
        honest: move the calibration rows by shifts of fits without them; otherwise by the fit itself,
            which is quicker and shows about the same.
    """
    delta, shifts = subject.fitted(given, weight, honest)
    head = subject.head
    write_tensors(
        made / "head.safetensors",
        {
            "encoder": (head["encoder"] + delta.encoder).astype(np.float32),
            "lexical": (head["lexical"].astype(np.float64) + delta.lexical).astype(np.float16),
            "bias": (head["bias"] + delta.bias).astype(np.float32),
        },
    )
    after_fit = subject.calibrated(shifts)
    logits, truth = after_fit.logits.astype(np.float32), after_fit.truth
    write_tensors(made / CALIBRATION, {"logits": logits, "truth": truth})
    write_tensors(
        made / REPLAY,
        joined(
            {**subject.replay_tensors, "index": after_fit.index},
            given.features,
            given.grams,
            given.truth,
        ),
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
        {
            "corrections": len(rows),
            "weight": weight,
            "from": subject.hash,
            "calibration_rows": after_fit.counts,
        },
    ]
    manifest["updates"] = changes
    _write_card(made / CARD, manifest)
    finish(made, manifest)
    after = load_heads([made], subject.reader)[0]
    anchors = subject.anchors
    return Update(
        corrections=len(rows),
        weight=weight,
        slices=_compare(
            subject,
            given,
            Scored(subject.before, given.logits, anchors.logits, old),
            Scored(
                after, given.logits + delta.of(given), anchors.logits + delta.of(anchors), points
            ),
        ),
        thresholds={
            label: (float(old[label]["threshold"]), float(points[label]["threshold"]))
            for label in subject.labels
        },
        hashes=(subject.hash, str(after.manifest["hash"])),
    )


def _write_card(path: Path, manifest: dict[str, Any]) -> None:
    """The card as the pack had it: of a task, or of a pack that was built without one."""
    if "judged_on" in manifest:
        write_task_card(path, manifest, manifest["judged_on"])
    else:
        write_card(path, {"metrics": {"by_label": {}, "overall": {}}, **manifest})


def promise_of(points: dict[str, Any]) -> Promise:
    """What a pack's default points were made to keep; it is the same for all labels."""
    first = next(iter(points.values()))
    recall = first.get("min_recall")
    return Promise(
        float(first.get("max_false_positive_rate", 0.01)),
        None if recall is None else float(recall),
        float(first.get("least", 0.5)),
        doubt=str(first.get("promise_fault", "")),
    )


def _compare(
    subject: Subject, given: Points, before: Scored, after: Scored
) -> tuple[SliceChange, ...]:
    old, new = standing(subject, given, before), standing(subject, given, after)
    return tuple(
        SliceChange(name, held.cases, held.right, new[name].right, held.may_lose)
        for name, held in old.items()
    )
