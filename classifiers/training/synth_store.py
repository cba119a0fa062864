"""The files that come of writing rows: for review, and safe from being written over."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any, get_args

from classifiers.training.data import read_jsonl
from classifiers.training.spend import SpendError
from classifiers.training.synth_journal import Journal, content_digest, jsonl, write_whole
from classifiers.training.synth_plan import Written
from classifiers.training.synthesis_prompts import Kind

ROWS, REJECTED, JOURNAL = "rows.jsonl", "rejected.jsonl", "journal.jsonl"


class Store:
    """The rows of one task on disk.

    Args:
        folder: of the files.
        journal: remembers how the rows were written, so that edits show.
        spec: of the plan; another plan gives other rows.
        labels: that rows may have.
    """

    def __init__(self, folder: Path, journal: Journal, spec: str, labels: tuple[str, ...]) -> None:
        self.rows_path = folder / ROWS
        self.rejected_path = folder / REJECTED
        self._journal = journal
        self._spec = spec
        self._labels = labels

    def reviewed(self) -> tuple[Written, ...] | None:
        """The rows as somebody edited them, once they were all there; None if nobody did.

        Raises:
            SpendError: they were edited before they were all there, or for another plan; or an
                edit cannot be read.
        """
        if not self.rows_path.exists():
            return None
        note = self._journal.notes.get("rows") or {}
        if content_digest(self.rows_path.read_bytes()) in note.get("digests", ()):
            return None
        if not note.get("done") or note.get("spec") != self._spec:
            raise SpendError(
                f"{self.rows_path}: was edited since it was written, and more rows are to be "
                "written; move it away, and name it under data: if its rows shall count"
            )
        return tuple(
            self._read(row, f"{self.rows_path}: row {number}")
            for number, row in enumerate(read_jsonl(self.rows_path), start=1)
        )

    def save(
        self, rows: tuple[Written, ...], rejected: list[dict[str, Any]], *, done: bool
    ) -> None:
        """Write both files, each whole or not at all."""
        data = jsonl([row.to_json() for row in rows])
        before = (self._journal.notes.get("rows") or {}).get("digests", [])[-1:]
        digests = [*before, content_digest(data)]
        # Noted before it is written: if the process dies in between, nobody has edited anything.
        self._journal.note("rows", {"digests": digests, "done": done, "spec": self._spec})
        write_whole(self.rows_path, data)
        write_whole(self.rejected_path, jsonl(rejected))

    def _read(self, row: dict[str, Any], place: str) -> Written:
        known = {field.name for field in fields(Written)}
        values = {key: row.get(key, "") for key in known}
        labels = row.get("labels")
        if not isinstance(labels, list) or not set(map(str, labels)) <= set(self._labels):
            raise SpendError(f"{place}: labels must be a list of {', '.join(self._labels)}")
        if not isinstance(values["text"], str) or not values["text"].strip():
            raise SpendError(f"{place}: text is missing; write some or delete the line")
        if values["kind"] not in get_args(Kind):
            raise SpendError(f"{place}: kind must be one of {', '.join(get_args(Kind))}")
        return Written(**{**values, "labels": tuple(map(str, labels))})
