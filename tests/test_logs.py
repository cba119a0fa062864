"""What log lines look like, and what they never show."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import sys
from collections.abc import Callable

import pytest

from proxy.logs import FORMS, Json, Text, quiet

SECRET = "what the user said"


def record(name: str, message: str, *values: object, fault: bool = False) -> logging.LogRecord:
    info = None
    if fault:
        try:
            raise ValueError(SECRET)
        except ValueError:
            info = sys.exc_info()
    return logging.LogRecord(name, logging.ERROR, "x.py", 7, message, values, info)


@pytest.mark.parametrize("form", FORMS.values())
def test_a_line_names_the_fault_and_never_its_words(form: Callable[[], logging.Formatter]) -> None:
    line = form().format(record("doorman.gateway", "request %s failed\nbadly", "req_1", fault=True))
    assert "request req_1 failed badly ValueError at" in line
    assert "test_logs.py" in line
    assert "\n" not in line
    assert SECRET not in line
    other = form().format(record("somebody.else", "they say %s", SECRET, fault=True))
    assert SECRET not in other
    assert "x:7" in other


def test_json_has_its_fields() -> None:
    line = json.loads(Json().format(record("doorman", 'says "%s"', "hi")))
    assert line.keys() == {"time", "level", "logger", "message"}
    assert (line["level"], line["logger"], line["message"]) == ("error", "doorman", 'says "hi"')
    assert Text().format(record("doorman", "hi")).endswith(" ERROR doorman: hi")


def test_asyncio_does_not_show_what_a_task_has_raised(caplog: pytest.LogCaptureFixture) -> None:
    async def fails() -> None:
        raise ValueError(SECRET)

    async def forgets() -> None:
        asyncio.get_running_loop().set_exception_handler(quiet)
        task = asyncio.ensure_future(fails())
        await asyncio.wait([task])
        del task
        gc.collect()

    asyncio.run(forgets())
    assert "exception was never retrieved" in caplog.text
    assert "ValueError at" in caplog.text
    assert SECRET not in caplog.text
