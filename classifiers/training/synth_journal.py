"""Every paid reply, on disk before it is used: what was paid for is never paid for twice.

One JSON object a line, only ever appended, each line flushed to the disk. A half-written last line
(the process was killed, the disk was full) is cut off when the journal is opened again.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from classifiers.training.spend import Reply, SpendError

try:
    import fcntl
except ImportError:  # Windows: two runs on one journal are not kept apart there
    fcntl = None  # type: ignore[assignment]

MAX_REPLY_CHARS = 400_000
"""Longer replies cannot be used; of them only the beginning is kept."""


def digest(*parts: object) -> str:
    """A short hash of JSON-able values: the same question has the same one in every run."""
    text = json.dumps(parts, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=12).hexdigest()


@dataclass(frozen=True, slots=True)
class Entry:
    """A paid reply.

    Attributes:
        key: of the question.
        spec: of the family of questions it belongs to.
        about: hashes of the texts that the question was about, in its order.
        estimated: the provider did not count the tokens.
    """

    key: str
    spec: str
    about: tuple[str, ...]
    reply: Reply
    estimated: bool = False


class Journal:
    """The replies of one piece of work.

    Args:
        path: the file; it and its folder are made if missing.

    Raises:
        SpendError: another run has it open, or a line in its middle is damaged.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self.entries: list[Entry] = []
        """What earlier runs paid for."""
        self.notes: dict[str, Any] = {}
        """Other things worth keeping, the last value of each name."""
        self._by_key: dict[str, list[Entry]] = defaultdict(list)
        self._given_up: set[str] = set()
        self._lock = threading.Lock()
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            self._claim()
            self._read()
        except BaseException:
            os.close(self._file)
            raise

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file. A thread that still waits for its reply cannot write any more."""
        with self._lock:
            if self._file >= 0:
                os.close(self._file)
                self._file = -1

    def replies(self, key: str) -> tuple[Entry, ...]:
        """What was paid for a question so far, oldest first."""
        with self._lock:
            return tuple(self._by_key[key])

    def given_up(self, key: str) -> bool:
        """Whether an earlier run gave up on the question and went on."""
        return key in self._given_up

    def add(self, entry: Entry) -> None:
        """Write a reply; it is on the disk when this returns."""
        reply = entry.reply
        line = {
            "key": entry.key,
            "spec": entry.spec,
            "about": list(entry.about),
            "text": reply.text[: MAX_REPLY_CHARS + 1],
            "prompt_tokens": reply.prompt_tokens,
            "completion_tokens": reply.completion_tokens,
            "cost": reply.cost,
            "finish_reason": reply.finish_reason,
            "estimated": entry.estimated,
        }
        with self._lock:
            self._append(line)
            self._by_key[entry.key].append(entry)

    def give_up(self, key: str) -> None:
        """Later runs need not ask again."""
        with self._lock:
            if key not in self._given_up:
                self._given_up.add(key)
                self._append({"given_up": key})

    def note(self, name: str, value: Any) -> None:
        """Keep a JSON-able value by its name."""
        with self._lock:
            if self.notes.get(name) != value:
                self.notes[name] = value
                self._append({"note": name, "value": value})

    def _claim(self) -> None:
        if fcntl is None:
            return
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise SpendError(
                f"{self.path}: another run is using it; wait for that run or stop it"
            ) from None

    def _read(self) -> None:
        data = self.path.read_bytes()
        whole = data.rfind(b"\n") + 1
        if whole < len(data):
            os.ftruncate(self._file, whole)
        for number, line in enumerate(data[:whole].splitlines(), start=1):
            try:
                self._take(json.loads(line))
            except (ValueError, KeyError, TypeError, AttributeError):
                raise SpendError(
                    f"{self.path}:{number}: not a line of a journal; delete the line (what it paid "
                    "for is then paid for again)"
                ) from None

    def _take(self, line: dict[str, Any]) -> None:
        if "given_up" in line:
            self._given_up.add(str(line["given_up"]))
        elif "note" in line:
            self.notes[line["note"]] = line["value"]
        else:
            reply = Reply(
                str(line["text"]),
                _count(line["prompt_tokens"]),
                _count(line["completion_tokens"]),
                None if line["cost"] is None else float(line["cost"]),
                str(line["finish_reason"]),
            )
            about = tuple(map(str, line["about"]))
            entry = Entry(line["key"], line["spec"], about, reply, bool(line["estimated"]))
            self.entries.append(entry)
            self._by_key[entry.key].append(entry)

    def _append(self, line: dict[str, Any]) -> None:
        if self._file < 0:
            raise SpendError(f"{self.path}: closed")
        data = json.dumps(line, ensure_ascii=True).encode() + b"\n"
        before = os.fstat(self._file).st_size
        try:
            rest = memoryview(data)
            while rest:
                rest = rest[os.write(self._file, rest) :]
            os.fsync(self._file)
        except OSError as error:
            os.ftruncate(self._file, before)
            raise SpendError(
                f"{self.path}: cannot be written ({error.strerror}); free some space and run again"
            ) from None


def _count(value: Any) -> int | None:
    return None if value is None else int(value)


def jsonl(rows: Sequence[dict[str, Any]]) -> bytes:
    """Rows as the content of a file."""
    lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    return "".join(lines).encode("utf-8", "replace")


def write_whole(path: Path, data: bytes) -> None:
    """Write a file, whole or not at all."""
    part = path.with_name(path.name + ".part")
    with part.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)


def content_digest(data: bytes) -> str:
    """Tells whether a file is as it was written."""
    return hashlib.blake2b(data, digest_size=12).hexdigest()
