"""Read corrections: lines of ``{"text": ..., "label": ...}`` that anybody appended."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from classifiers.faults import did_you_mean
from classifiers.loading import kind_of
from classifiers.packs import MANIFEST, PackError, read_pack
from classifiers.training.data import Row
from classifiers.training.pack import restore
from classifiers.training.tables import DataError

SOURCE = "corrections"
FORM = 'write lines such as {"text": "...", "label": "..."}'


def read_corrections(path: Path, pack: Path) -> list[Row]:
    """Corrections of a pack. ``label`` is a label, a list of them, or null for none of them; of a
    text that stands several times the last line counts.

    Args:
        path: JSONL.
        pack: whose labels they are.

    Raises:
        DataError: the file cannot be used; the message names file, line, fault and fix.
        PackError: the pack cannot be read, or is of a kind that cannot be corrected.
    """
    manifest = correctable(pack)
    labels, single = tuple(manifest["labels"]), manifest["decision"] == "one_of"
    found: dict[str, Row] = {}
    for place, item in _lines(path):
        row = row_of(item, labels, single, place)
        found.pop(row.text, None)
        found[row.text] = row
    if not found:
        raise DataError(f"{path}: is empty; {FORM}")
    return list(found.values())


def correctable(pack: Path) -> dict[str, Any]:
    """The manifest of a pack that can be corrected.

    Raises:
        PackError: there is none, it is damaged, or of another kind.
    """
    restore(pack)
    if not (pack / MANIFEST).is_file():
        raise PackError(f"{pack}: no pack is there; --update names the folder of one")
    if (kind := kind_of(pack)) != "head":
        raise PackError(
            f"{pack}: a pack of kind {kind} cannot be corrected; add the rows to the data of its task "
            "and train it anew"
        )
    return read_pack(pack, kind="head")


def _lines(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """``file:line`` and the object of each line that is not blank."""
    try:
        text = path.read_text("utf-8-sig")
    except FileNotFoundError:
        raise DataError(f"{path}: there is no such file") from None
    except UnicodeDecodeError:
        raise DataError(f"{path}: is not UTF-8; save it as UTF-8") from None
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        place = f"{path}:{number}"
        try:
            item = json.loads(line)
        except ValueError as error:
            raise DataError(f"{place}: not JSON ({error}); {FORM}") from None
        if not isinstance(item, dict):
            raise DataError(f"{place}: {type(item).__name__} is no object; {FORM}")
        yield place, item


def row_of(item: Mapping[str, Any], labels: Sequence[str], single: bool, place: str) -> Row:
    """A correction from ``{"text": ..., "label": ...}``.

    Args:
        labels: of the pack.
        single: whether a text has exactly one.
        place: of the correction, for errors.

    Raises:
        DataError: there is no text, no label, one that the pack has not, or not exactly one.
    """
    text = item.get("text")
    if not isinstance(text, str) or not text.strip():
        raise DataError(f"{place}: there is no text; {FORM}")
    if "label" not in item and "labels" not in item:
        raise DataError(f"{place}: there is no label; write null where none of them holds")
    given = item.get("label", item.get("labels"))
    names = [] if given is None else given if isinstance(given, list) else [given]
    for name in names:
        if name not in labels:
            raise DataError(
                f"{place}: unknown label {name!r}; {did_you_mean(str(name), labels, 'labels')}"
            )
    if single and len(names) != 1:
        raise DataError(f"{place}: {len(names)} labels; a text of this pack has exactly one")
    return Row(
        text,
        frozenset(names),
        source=SOURCE,
        benign=not names,
        place=place,
    )
