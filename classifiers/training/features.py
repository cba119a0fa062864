"""Encoder features of training texts, computed once and kept on disk.

Encoding is nearly all of the cost of training a head; with the features at hand a new head takes
seconds. The cache is one SQLite file per encoder, keyed by the hash of the text.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

import numpy as np
import numpy.typing as npt

from classifiers.encoder import Encoder

Array = npt.NDArray[np.float32]

CACHE = Path.home() / ".cache" / "doorman"
"""Where the features of texts are kept, so that the next training of the same texts takes seconds."""


class FeatureCache:
    """Features of texts, one array ``[windows, features]`` per text.

    Args:
        encoder: computes what is not there yet.
        folder: where the file lies; made if missing.

    To be closed at the end, in the thread that made it; as a context manager it closes itself.

    Raises:
        ValueError: the file is damaged or cannot be used; the message names it, and the fix.
    """

    def __init__(self, encoder: Encoder, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._encoder = encoder
        self.folder = folder
        self._path = folder / f"features-{encoder.hash[:12]}.sqlite"
        with self._faults():
            self._rows = sqlite3.connect(self._path)
        try:
            with self._faults():
                self._rows.execute(
                    "CREATE TABLE IF NOT EXISTS features (key BLOB PRIMARY KEY, value BLOB)"
                )
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> FeatureCache:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; what was computed is in it."""
        self._rows.close()

    def get(
        self, texts: Sequence[str], progress: Callable[[int, int], None] | None = None
    ) -> list[Array]:
        """Features of each text, half precision, computed where missing.

        Args:
            texts: any texts; equal ones are computed once.
            progress: called with (done, total) of the texts that had to be computed.

        Raises:
            ValueError: as the class.
        """
        keys = [hashlib.blake2b(text.encode("utf-8", "replace")).digest()[:16] for text in texts]
        found = self._read(set(keys))
        todo = {key: text for key, text in zip(keys, texts, strict=True) if key not in found}
        pending = list(todo.items())
        for first in range(0, len(pending), 256):
            part = pending[first : first + 256]
            encoded = self._encoder.encode([text for _, text in part])
            owners = np.asarray([window.text for window in encoded.windows])
            values = encoded.features.astype(np.float16)
            rows = [(key, values[owners == row]) for row, (key, _) in enumerate(part)]
            found.update(rows)
            with self._faults():
                self._rows.executemany(
                    "INSERT OR REPLACE INTO features VALUES (?, ?)",
                    [(key, value.tobytes()) for key, value in rows],
                )
                self._rows.commit()
            if progress is not None:
                progress(first + len(part), len(pending))
        return [found[key].astype(np.float32) for key in keys]

    def _read(self, keys: Iterable[bytes]) -> dict[bytes, npt.NDArray[np.float16]]:
        found: dict[bytes, npt.NDArray[np.float16]] = {}
        with self._faults():
            for key in keys:
                row = self._rows.execute(
                    "SELECT value FROM features WHERE key = ?", (key,)
                ).fetchone()
                if row is not None:
                    value = np.frombuffer(row[0], dtype=np.float16)
                    found[key] = value.reshape(-1, self._encoder.features)
        return found

    @contextmanager
    def _faults(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.ProgrammingError:  # our own mistake, such as use after close()
            raise
        except sqlite3.OperationalError as error:  # locked, no room, no permission: not damaged
            raise ValueError(
                f"{self._path}: the cache of features cannot be used ({error}); name another folder "
                "with --cache"
            ) from None
        except (sqlite3.DatabaseError, ValueError, TypeError) as error:
            raise ValueError(
                f"{self._path}: the cache of features is damaged ({error}); delete it, it is made anew"
            ) from None
