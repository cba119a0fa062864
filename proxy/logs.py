"""How log lines look: text, or JSON. Neither shows what an exception says, which may quote a user.

What this program logs itself never holds texts. Libraries log exceptions with their messages and
objects with their contents; of those lines only where they come from is shown.
"""

from __future__ import annotations

import asyncio
import logging
import traceback
from collections.abc import Mapping
from datetime import UTC, datetime
from types import TracebackType
from typing import Any

import orjson

OWN = "doorman"
"""What the names of the program's own loggers begin with, and those of the watcher of files."""
_TRUSTED = (OWN, "watchfiles", "uvicorn")
_Info = tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]


class Text(logging.Formatter):
    """``2026-01-31 12:00:00,000 INFO doorman: listening on ...``"""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        return f"{super().formatTime(record)} {record.levelname} {record.name}: {said(record)}"


class Json(logging.Formatter):
    """``{"time": ..., "level": "info", "logger": "doorman", "message": ...}``"""

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        when = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        line = {
            "time": when,
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": said(record),
        }
        return orjson.dumps(line).decode()


FORMS: Mapping[str, type[logging.Formatter]] = {"text": Text, "json": Json}


def said(record: logging.LogRecord) -> str:
    """What a record says, on one line, without the words of exceptions and of other programs."""
    trusted = record.name.partition(".")[0] in _TRUSTED
    text = record.getMessage() if trusted else f"(a message at {record.module}:{record.lineno})"
    if record.exc_info:
        text = f"{text} {where(record.exc_info)}"
    return " ".join(text.split())


def where(info: _Info) -> str:
    """The type of an exception, and the innermost places it came through."""
    kind, _, trace = info
    frames = traceback.extract_tb(trace)[-8:]
    places = " < ".join(f"{f.filename}:{f.lineno} {f.name}" for f in reversed(frames))
    return f"{kind.__name__ if kind else 'no exception'} at {places}"


def quiet(loop: asyncio.AbstractEventLoop, context: Mapping[str, Any]) -> None:
    """For ``loop.set_exception_handler``: asyncio's own words show the task with its exception."""
    error = context.get("exception")
    told = "" if error is None else where((type(error), error, error.__traceback__))
    logging.getLogger(OWN).error("asyncio: %s %s", context.get("message", ""), told)
