"""Corrected packs on disk: the candidates of each classifier, and which of them is served.

``FOLDER/NAME/HASH`` is a pack, ``HASH.json`` beside it says how it was made and that it is whole, and
``live.json`` which one is served. All of them are exchanged by renaming: whoever is killed in between
leaves what was there before.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from classifiers.packs import MANIFEST, PackError

LIVE = "live.json"
CORRECT = "python -m pip install 'doorman[correct]'"
"""What installs the packages that making a candidate needs: no torch."""
SHORT = 12
"""Characters of a pack's hash that name its folder; records name packs by as many."""
MOST_UNDO = 20
"""How many steps back are kept."""
MOST_KEPT = 5
"""Candidates of a classifier that are kept besides those that were served."""


@dataclass(frozen=True, slots=True)
class Line:
    """How many cases of a slice hold: in the configured pack, the one that is served, the candidate."""

    name: str
    cases: int
    base: int
    live: int
    after: int
    may_lose: int

    @property
    def worse(self) -> bool:
        """Whether the candidate loses more than it may of what is right now."""
        return self.after < self.live - self.may_lose


@dataclass(frozen=True, slots=True)
class Candidate:
    """A pack that may take the place of the one that is served.

    Attributes:
        name: of the classifier.
        hash: of the pack; the beginning of it names the folder.
        base, live: hashes of the pack that it was made of, and of the one that was served.
        corrections: ids of the corrections that it holds.
        weight: what each of them counted.
        table: before and after.
        thresholds: label -> (served then, candidate).
        seconds: it took.
        made: unix seconds.
        by: who asked for it.
    """

    name: str
    hash: str
    base: str
    live: str
    corrections: tuple[int, ...]
    weight: float
    table: tuple[Line, ...]
    thresholds: Mapping[str, tuple[float, float]]
    seconds: float
    made: float
    by: str

    @property
    def worse(self) -> tuple[Line, ...]:
        """Where it loses more than it may."""
        return tuple(line for line in self.table if line.worse)

    @property
    def short(self) -> str:
        """The name of its folder."""
        return self.hash[:SHORT]

    @classmethod
    def of(cls, said: Mapping[str, Any]) -> Candidate:
        """What :func:`dataclasses.asdict` made of one.

        Raises:
            TypeError, KeyError: it is something else.
        """
        own: dict[str, Any] = dict(said)
        own["table"] = tuple(Line(**line) for line in said["table"])
        own["thresholds"] = {label: tuple(pair) for label, pair in said["thresholds"].items()}
        own["corrections"] = tuple(said["corrections"])
        return cls(**own)


@dataclass(frozen=True, slots=True)
class Pointer:
    """Which pack of a classifier is served.

    Attributes:
        live: the folder's name; None for the pack that the operator configured.
        before: what was served earlier, the latest last.
        base: hash of the configured pack when this was written.
        by: who promoted it.
        time: unix seconds.
    """

    live: str | None = None
    before: tuple[str | None, ...] = field(default=())
    base: str = ""
    by: str = ""
    time: float = 0.0


class Shelf:
    """The corrected packs of all classifiers.

    Args:
        folder: made when the first one is.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def pointer(self, name: str) -> Pointer:
        """Which pack of a classifier is served.

        Raises:
            PackError: that cannot be read, or names a pack that is not there.
        """
        path = self.folder / name / LIVE
        try:
            said = json.loads(path.read_text("utf-8"))
            pointer = Pointer(**{**said, "before": tuple(said["before"])})
        except FileNotFoundError:
            return Pointer()
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise PackError(
                f"{path}: cannot be read ({error}); remove the file to serve the configured pack"
            ) from None
        if pointer.live is not None and not (self.place(name, pointer.live) / MANIFEST).is_file():
            raise PackError(
                f"{path}: names the pack {pointer.live}, which is not there; bring it back, or remove the "
                "file to serve the configured pack"
            )
        return pointer

    def live(self, name: str) -> Path | None:
        """The corrected pack that is served in the place of the configured one, if one is.

        Raises:
            PackError: see :meth:`pointer`.
        """
        live = self.pointer(name).live
        return None if live is None else self.place(name, live)

    def place(self, name: str, short: str) -> Path:
        """The folder of a candidate."""
        return self.folder / name / short

    def point(self, name: str, pointer: Pointer) -> None:
        """Serve another pack from now on. This is the moment of promotion, and survives it.

        Raises:
            OSError: it cannot be written; what was served still is.
        """
        text = json.dumps(asdict(pointer), ensure_ascii=False, indent=1) + "\n"
        write_whole(self.folder / name / LIVE, text)

    def candidate(self, name: str, short: str) -> Candidate | None:
        """A candidate by the beginning of its hash; None if it is not there, or not whole."""
        if not short.isalnum():
            return None
        return self._read(self.place(name, short).with_suffix(".json"))

    def candidates(self, name: str) -> list[Candidate]:
        """All candidates of a classifier, the newest first."""
        files = (self.folder / name).glob("*.json")
        found = [self._read(file) for file in files if file.name != LIVE]
        return sorted((one for one in found if one), key=lambda one: one.made, reverse=True)

    def remove(self, name: str, short: str) -> None:
        """Take a candidate away: first what is said of it, then the pack."""
        folder = self.place(name, short)
        folder.with_suffix(".json").unlink(missing_ok=True)
        shutil.rmtree(folder, ignore_errors=True)

    def sweep(self, name: str, seconds: float) -> None:
        """Remove candidates that were never served, but for the newest, and what trainers that were
        killed more than so many seconds ago have left behind."""
        limit, pointer = time.time() - seconds, self.pointer(name)
        for old in self.candidates(name)[MOST_KEPT:]:
            if old.short not in (pointer.live, *pointer.before):
                self.remove(name, old.short)
        for scratch in (self.folder / name).glob(".*"):
            if scratch.stat().st_mtime >= limit:
                continue
            if scratch.is_dir():
                shutil.rmtree(scratch, ignore_errors=True)
            else:
                scratch.unlink(missing_ok=True)

    @staticmethod
    def _read(path: Path) -> Candidate | None:
        try:
            found = Candidate.of(json.loads(path.read_text("utf-8")))
        except (OSError, ValueError, TypeError, KeyError):
            return None
        whole = path.stem == found.short and (path.with_suffix("") / MANIFEST).is_file()
        return found if whole else None


def promoted(pointer: Pointer, short: str | None, base: str, by: str, now: float) -> Pointer:
    """The pointer after a promotion."""
    before: Sequence[str | None] = (*pointer.before, pointer.live)[-MOST_UNDO:]
    return Pointer(short, tuple(before), base, by, now)


def undone(pointer: Pointer, by: str, now: float) -> Pointer | None:
    """The pointer one step back; None where there is none."""
    if not pointer.before:
        return None
    return Pointer(pointer.before[-1], pointer.before[:-1], pointer.base, by, now)


def write_whole(path: Path, text: str) -> None:
    """Put a file in the place of another, whole or not at all, and on the disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
