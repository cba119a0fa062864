"""The classifiers as a library: load one and call it, or train one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

if TYPE_CHECKING:
    from classifiers.training.train import Options, Report
    from classifiers.types import Classifier, Prediction


class Loaded:
    """A classifier that is called with a text, or with several.

    Attributes:
        classifier: what it calls; see :class:`classifiers.types.Classifier`.
    """

    def __init__(self, classifier: Classifier) -> None:
        self.classifier = classifier

    def __repr__(self) -> str:
        return f"<classifier {self.classifier.name}: {', '.join(self.classifier.labels)}>"

    @overload
    def __call__(  # type: ignore[overload-overlap]  # a string is a sequence of strings, too
        self, texts: str
    ) -> tuple[Prediction, ...]: ...

    @overload
    def __call__(self, texts: Sequence[str]) -> list[tuple[Prediction, ...]]: ...

    def __call__(
        self, texts: str | Sequence[str]
    ) -> tuple[Prediction, ...] | list[tuple[Prediction, ...]]:
        """Predictions of one text, or of each of several: labels by score, finds by place.

        Raises:
            TypeError: neither a string nor a list of strings.
        """
        from classifiers.types import Batch

        single = isinstance(texts, str)
        batch = [texts] if isinstance(texts, str) else list(texts)
        for text in batch:
            if not isinstance(text, str):
                raise TypeError(f"a text or a list of texts is needed, got {type(text).__name__}")
        if not batch:
            return []
        found = self.classifier.predict(Batch(batch))
        if self.classifier.kind != "spans":
            found = [tuple(sorted(own, key=lambda p: -p.score)) for own in found]
        return found[0] if single else found


def load(name: str | Path, *, encoder: Path | str | None = None, threads: int = 1) -> Loaded:
    """Load a classifier.

    Args:
        name: the folder of a pack, or else the name of a shipped one (``safety``, ``pii``, ...).
        encoder: folder of another shared encoder.
        threads: cores that read one batch.

    Raises:
        PackError: there is none, or it is damaged; the message says what there is.
    """
    from classifiers.encoder import Encoder
    from classifiers.loading import load_packs
    from classifiers.packs import MANIFEST, SHIPPED, PackError

    folder = Path(name)
    if name == "pii" and not (folder / MANIFEST).is_file():
        from classifiers.pii import PiiClassifier

        return Loaded(PiiClassifier())
    if not (folder / MANIFEST).is_file() and folder.name == str(name):
        folder = SHIPPED / str(name)
    if not (folder / MANIFEST).is_file():
        shipped = sorted(p.parent.name for p in SHIPPED.glob(f"*/{MANIFEST}"))
        known = ", ".join([*(n for n in shipped if n != "encoder"), "pii"])
        raise PackError(f"no pack {str(name)!r}; name a folder with a pack, or one of {known}")
    home = SHIPPED / "encoder" if encoder is None else Path(encoder)
    return Loaded(load_packs([folder], Encoder(home, threads=threads))[0])


def train(
    task: Path | str | Mapping[str, Any], pack: Path | str, options: Options | None = None
) -> Report:
    """Train a pack; see :func:`classifiers.training.train.train`. Needs the extra ``train``."""
    from classifiers.training.train import train as run

    return run(task, pack, options)
