"""The request of ``POST /v1/feedback``: what a person says of a decision."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from classifiers.types import Stage
from proxy.errors import InvalidRequest
from proxy.ledgers.feedback import Verdict

KEYS = ("classifier", "comment", "decision_id", "label", "text", "verdict")
VERDICTS: tuple[Verdict, ...] = ("correct", "wrong")
MOST_COMMENT = 2000
MOST_TEXT = 40_000
MOST_LABELS = 50
_ID = re.compile(r"dec_[0-9a-f]{24}")


@dataclass(frozen=True, slots=True)
class Given:
    """A well-formed request.

    Attributes:
        labels: None where none was sent, empty for ``null``: none of them.
        stage, chosen: where the text stood, see :class:`proxy.feedback.recorded.Recorded`; of the review
            page alone.
        train: False for what shall count as called wrong, with nothing to learn from it; of the
            dashboard alone.
    """

    decision_id: str
    verdict: Verdict
    classifier: str = ""
    labels: tuple[str, ...] | None = None
    text: str | None = field(default=None, repr=False)
    comment: str | None = field(default=None, repr=False)
    stage: Stage | None = None
    chosen: int | None = None
    train: bool = True


def read(body: Mapping[str, Any]) -> Given:
    """What a body says.

    Raises:
        InvalidRequest: with the field at fault.
    """
    for name in body:
        if name not in KEYS:
            raise InvalidRequest(
                f"Unknown field; there are: {', '.join(KEYS)}.", None, "unknown_parameter"
            )
    id = _string(body, "decision_id", 64)
    if id is None or not _ID.fullmatch(id):
        raise InvalidRequest(
            "`decision_id` must be the value of the header x-doorman-decision-id of an answer.",
            "decision_id",
        )
    verdict = next((word for word in VERDICTS if word == body.get("verdict")), None)
    if verdict is None:
        raise InvalidRequest("`verdict` must be correct or wrong.", "verdict")
    labels = _labels(body)
    if labels is not None and verdict == "correct":
        raise InvalidRequest(
            "`label` says what would be right; leave it out where the verdict is correct.", "label"
        )
    text = _string(body, "text", MOST_TEXT)
    if text is not None and not text.strip():
        raise InvalidRequest("`text` is empty; leave it out, or send the text.", "text")
    classifier = _string(body, "classifier", 64) or ""
    return Given(id, verdict, classifier, labels, text, _string(body, "comment", MOST_COMMENT))


def _labels(body: Mapping[str, Any]) -> tuple[str, ...] | None:
    if "label" not in body:
        return None
    value = body["label"]
    names = [] if value is None else value if isinstance(value, list) else [value]
    if not all(isinstance(name, str) and name for name in names) or len(names) > MOST_LABELS:
        raise InvalidRequest(
            "`label` must be a label, a list of labels, or null for none of them.", "label"
        )
    return tuple(dict.fromkeys(names))


def _string(body: Mapping[str, Any], name: str, most: int) -> str | None:
    value = body.get(name)
    if value is None:
        return None
    if not isinstance(value, str):
        raise InvalidRequest(f"`{name}` must be a string.", name, "invalid_type")
    if len(value) > most:
        raise InvalidRequest(
            f"`{name}` has {len(value)} characters, at most {most} are kept; send fewer.", name
        )
    return value
