"""FAQs that policies answer from: each becomes a classifier over the shared encoder."""

from __future__ import annotations

import hashlib
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from classifiers.engine import ClassifierEngine
from classifiers.types import ClassifierInfo
from policies import faq
from policies.faq import Faq

if TYPE_CHECKING:
    from classifiers.views import Reader
    from proxy.config import ClassifiersConfig


class FaqShelf:
    """Opens FAQ files for the policies of an engine.

    A FAQ is read by the encoder when its policy is loaded; what has been read before is remembered,
    and a FAQ that has not changed is the same classifier still.

    Args:
        engine: where the classifiers are asked; it holds none of them.
        config: where the encoder is, if no classifier has loaded it already.
    """

    def __init__(self, engine: ClassifierEngine, config: ClassifiersConfig) -> None:
        from classifiers.faq import Memory

        self._engine = engine
        self._config = config
        self._memory = Memory()
        self._reader: Reader | None = None
        self._lock = threading.Lock()

    def __call__(self, path: Path) -> tuple[Faq, ClassifierInfo]:
        """Read a FAQ and make its classifier. Blocking: the encoder reads what is new.

        Raises:
            PolicyError: the file has mistakes.
            ConfigError: the encoder cannot be loaded.
        """
        from classifiers.faq import FaqClassifier

        read = faq.read(path)
        with self._lock:
            reader = self._shared_reader()
            content = f"{read.version} {reader.encoder.hash}"
            version = hashlib.sha256(content.encode()).hexdigest()[:12]
            name = f"faq/{read.name}@{version}"
            known = self._engine.lent(name)
            if known is None:
                asks = {id: entry.ask for id, entry in read.entries().items()}
                known = FaqClassifier(name, version, asks, read.elsewhere, reader, self._memory)
                self._engine.lend(known)
        return read, known

    def _shared_reader(self) -> Reader:
        """That of the packs where there are any, so that one pass of the encoder serves all."""
        from classifiers.encoder import Encoder
        from classifiers.packs import PackError
        from classifiers.views import Reader
        from proxy.loading import SHIPPED_ENCODER
        from proxy.yaml_source import ConfigError

        if self._reader is None:
            folder = self._config.encoder or SHIPPED_ENCODER
            for classifier in self._engine.classifiers.values():
                found = getattr(classifier, "reader", None)
                if isinstance(found, Reader) and found.encoder.folder.resolve() == folder.resolve():
                    self._reader = found
                    return found
            try:
                self._reader = Reader(Encoder(folder, threads=self._config.threads or 1))
            except (PackError, ValueError) as error:
                raise ConfigError(f"the encoder for FAQs cannot be loaded: {error}") from None
        return self._reader
