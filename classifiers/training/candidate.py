"""Make a candidate for the place of a pack that is served: all corrections, on the pack as it was
before any of them, in a process of its own.

Run as ``python -m classifiers.training.candidate`` with an :class:`Order` as JSON on standard input;
writes JSON lines: ``{"step": ...}`` while it works, then ``{"candidate": ...}`` or ``{"fault": ...}``.
Beginning anew each time forgets nothing: what was corrected earlier is corrected again, and what was
taken back is gone.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from classifiers.candidates import CORRECT, Candidate, Line, write_whole
from classifiers.packs import PackError
from classifiers.training.tables import DataError
from classifiers.training.workplace import one_thread, scratch_beside

FAULT = 1
"""Exit status where there is no candidate; the last line says why."""


@dataclass(frozen=True, slots=True)
class Order:
    """What is to be made.

    Attributes:
        base: the pack that the operator configured.
        live: the pack that is served now, if it is another one.
        encoder: the shared encoder's folder.
        rows: ``{"text", "label", "id"}``, all corrections there are.
        target: folder of the candidates of this classifier.
        cache: folder of the features of texts.
        threads: cores.
        by: who asked for it.
    """

    base: str
    live: str | None
    encoder: str
    rows: Sequence[Mapping[str, Any]]
    target: str
    cache: str | None = None
    threads: int = 1
    by: str = ""


def make(order: Order, say: Callable[[str], None]) -> Candidate:
    """Write the candidate's pack, then what there is to say of it.

    Raises:
        PackError: the pack cannot be corrected.
        DataError: a correction names a label that the pack has not.
        OSError: the folder cannot be written.
    """
    from classifiers.encoder import Encoder
    from classifiers.training.corrections import correctable, row_of
    from classifiers.training.features import CACHE, FeatureCache
    from classifiers.training.update import GotWorse, update

    begun = time.monotonic()
    base, target = Path(order.base), Path(order.target)
    manifest = correctable(base)
    labels, single = tuple(manifest["labels"]), manifest["decision"] == "one_of"
    rows = [row_of(r, labels, single, f"correction {r['id']}") for r in order.rows]
    say("reading the encoder")
    encoder = Encoder(Path(order.encoder), threads=order.threads)
    with (
        scratch_beside(target / "candidate") as scratch,
        FeatureCache(encoder, Path(order.cache) if order.cache else CACHE) as cache,
        one_thread(),
    ):
        say(f"fitting {len(rows)} corrections")
        try:
            done = update(base, rows, encoder, cache, scratch / "pack")
        except GotWorse:
            # People are shown what would be lost, and decide.
            say("looking for what loses least")
            done = update(base, rows, encoder, cache, scratch / "pack", force=True)
        say("comparing with what is served")
        before = {change.name: change.before for change in done.slices}
        served = {label: pair[0] for label, pair in done.thresholds.items()}
        live_hash = done.hashes[0]
        if order.live is not None:
            live = _live(base, Path(order.live), rows, encoder, cache)
            before, served, live_hash = live
        table = tuple(
            Line(c.name, c.cases, c.before, before[c.name], c.after, c.may_lose)
            for c in done.slices
        )
        candidate = Candidate(
            str(manifest["name"]), done.hashes[1], done.hashes[0], live_hash,
            tuple(int(row["id"]) for row in order.rows), done.weight, table,
            {label: (served[label], pair[1]) for label, pair in done.thresholds.items()},
            round(time.monotonic() - begun, 2), time.time(), order.by,
        )  # fmt: skip
        _keep(scratch / "pack", target, candidate)
    return candidate


def _live(
    base: Path, live: Path, rows: Sequence[Any], encoder: Any, cache: Any
) -> tuple[dict[str, int], dict[str, float], str]:
    """What holds in the pack that is served: slice -> cases, its thresholds, its hash."""
    from classifiers.training.corrected import Subject
    from classifiers.training.standing import scored, standing

    subject = Subject(base, encoder, None)
    given = subject.points_of(rows, cache)
    subject.believe(given)
    head = scored(subject, given, live)
    held = {name: one.right for name, one in standing(subject, given, head).items()}
    thresholds = {label: float(head.points[label]["threshold"]) for label in subject.labels}
    return held, thresholds, str(head.classifier.manifest["hash"])


def _keep(made: Path, target: Path, candidate: Candidate) -> None:
    """Put the pack into its place, and only then say that it is there."""
    folder = target / candidate.short
    if not folder.is_dir():
        os.replace(made, folder)
    text = json.dumps(asdict(candidate), ensure_ascii=False, indent=1) + "\n"
    write_whole(folder.with_suffix(".json"), text)


def main() -> int:
    """See the module."""

    def tell(**said: Any) -> None:
        print(json.dumps(said, ensure_ascii=False), flush=True)

    try:
        made = make(Order(**json.load(sys.stdin)), lambda step: tell(step=step))
    except ImportError as error:
        tell(fault=f"{error.name} is not installed; run: {CORRECT}")
    except (PackError, DataError, OSError, ValueError) as error:
        tell(fault=str(error))
    else:
        tell(candidate=asdict(made))
        return 0
    return FAULT


if __name__ == "__main__":
    sys.exit(main())
