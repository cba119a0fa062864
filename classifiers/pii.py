"""Finds personal data and secrets by their form: e-mail, telephone, cards, accounts, ids, keys.

Names of persons, postal addresses, ages and other data without a form of their own are not found
here; they need a tagger that reads the sentence. The table of detectors, with what their scores mean,
is ``classifiers.pii_detectors``.
"""

from __future__ import annotations

import difflib
import hashlib
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence

import re2

from classifiers.normalize import plain
from classifiers.pii_detectors import DETECTORS, LABELS, candidates
from classifiers.spans import Find, fixed_thresholds, without_overlaps
from classifiers.types import Batch, ClassifierError, Kind, OperatingPoint, Prediction, Span

_DASHES = dict.fromkeys(map(ord, "−–—"), "-")
_FOREIGN_DIGIT = re.compile(r"(?![0-9])\d")

MAX_FINDS = 2_000
"""Finds in one text. Past it there is no verdict, rather than half of one."""

_RULES_VERSION = 1
"""Raised when a check changes in a way that no expression of the table shows."""


class PiiClassifier:
    """Personal data and secrets, with spans.

    Disguises of characters (full-width digits, invisible characters between digits, odd hyphens) do
    not hide anything; spans are in characters of the original text. Finds never overlap: the most
    certain wins, among equals the longest.

    Args:
        name: the classifier's name in policies.
        region: ISO 3166 code of the country whose telephone numbers are tried first.
        labels: what to look for, everything by default.

    Raises:
        ValueError: an unknown label or region.
    """

    kind: Kind = "spans"

    def __init__(
        self, name: str = "pii", region: str = "US", labels: Iterable[str] | None = None
    ) -> None:
        chosen = LABELS if labels is None else tuple(dict.fromkeys(labels))
        for label in chosen:
            if label not in LABELS:
                near = difflib.get_close_matches(label.upper(), LABELS, n=1)
                mean = f"did you mean {near[0]!r}? " if near else ""
                raise ValueError(
                    f"no such personal data label: {label!r}; {mean}there are: {', '.join(LABELS)}"
                )
        if not re.fullmatch(r"[A-Z]{2}", region):
            raise ValueError(
                f"region must be a two-letter country code such as 'US', got {region!r}"
            )
        self.name = name
        self.region = region
        self.labels: tuple[str, ...] = chosen
        self._detectors = [detector for detector in DETECTORS if detector.label in chosen]
        table = [(d.label, d.gate, d.form.pattern) for d in self._detectors]
        self.version = hashlib.sha256(repr((_RULES_VERSION, region, table)).encode()).hexdigest()[
            :12
        ]
        options = re2.Options()
        options.log_errors = False
        options.max_mem = 64 << 20
        self._gates = re2.Set.SearchSet(options)
        for detector in self._detectors:
            self._gates.Add(detector.gate)
        if self._detectors:
            self._gates.Compile()

    def thresholds(self, labels: Sequence[str], point: OperatingPoint) -> Mapping[str, float]:
        """0.5 by default, or the score after ``at:``; see :class:`ClassifierInfo`."""
        return fixed_thresholds(self.name, self.labels, labels, point)

    def predict(self, batch: Batch) -> list[tuple[Prediction, ...]]:
        """One prediction per find, in the order of the text.

        Raises:
            ClassifierError: a text holds more than ``MAX_FINDS``.
        """
        return [self._classify(text) for text in batch.texts]

    def _classify(self, text: str) -> tuple[Prediction, ...]:
        if not self._detectors:
            return ()
        shown = plain(text, words=False)
        search = shown.text
        if not search.isascii():
            # One character for one, so the offsets stay.
            search = search.translate(_DASHES)
            search = _FOREIGN_DIGIT.sub(lambda d: str(unicodedata.digit(d.group())), search)
        data = search.encode("utf-8", "replace")
        if len(data) != len(search):
            search = data.decode()  # lone surrogates have become "?", which keeps the offsets
        hits = self._gates.Match(data)
        if not hits:
            return ()
        finds = []
        for index in sorted(hits):
            detector = self._detectors[index]
            for start, end, score in candidates(detector, search, self.region):
                span = shown.to_original(start, end)
                finds.append(Find(span.start, span.end, detector.label, score))
                if len(finds) > MAX_FINDS:
                    raise ClassifierError(
                        f"more than {MAX_FINDS} finds in one text, too many to be placed; "
                        "send it in smaller parts"
                    )
        return tuple(
            Prediction(self.name, find.label, find.score, Span(find.start, find.end))
            for find in without_overlaps(finds)
        )
