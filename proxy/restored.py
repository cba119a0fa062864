"""Redacted values go back into the reply."""

from __future__ import annotations

from collections.abc import Mapping

import orjson

from policies.engine import restore


def restored(content: str, originals: Mapping[str, str], *, is_json: bool) -> str:
    """The reply's text with the originals of redacted values put back.

    Args:
        originals: by placeholder.
        is_json: the text is JSON source, such as a tool call's arguments.
    """
    if is_json and originals:
        # Within JSON source the original must stay one string.
        originals = {key: orjson.dumps(value).decode()[1:-1] for key, value in originals.items()}
    return restore(content, originals)
