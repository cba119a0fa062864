"""Identifiers are random, and no two processes share any."""

from __future__ import annotations

import os
import re
import sys

import pytest

from proxy.ids import random_id


def test_they_differ() -> None:
    made = [random_id() for _ in range(2_000)]
    assert len(set(made)) == 2_000
    assert all(re.fullmatch("[0-9a-f]{24}", one) for one in made)


@pytest.mark.skipif(sys.platform == "win32", reason="needs fork")
def test_a_child_makes_its_own() -> None:
    random_id()  # more of the same are ready
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writing, "".join(random_id() for _ in range(300)).encode())
        os._exit(0)
    os.waitpid(child, 0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        theirs = re.findall("." * 24, pipe.read())
    assert len(theirs) == 300
    assert not set(theirs) & {random_id() for _ in range(300)}
