"""The reader of bodies under coverage-guided fuzzing, for a few seconds."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SEEDS = (
    b'{"a": "b", "c": [1, 2.5, true, null, {"d": "\\u00e9\\n"}]}',
    b'{"model": "m", "messages": [{"role": "user", "content": "hi"}], "stream": true}',
    b'data: {"a": 1}\n\nevent: x\r\ndata: [DONE]\r\n\r\n',
)


def test_bodies_and_events(tmp_path: Path) -> None:
    pytest.importorskip("atheris", reason="atheris has no build for this platform")
    for number, seed in enumerate(SEEDS):
        (tmp_path / f"seed{number}").write_bytes(seed)
    here = Path(__file__).parent
    # Its limit of memory counts the peak of whoever started it as well.
    limits = ["-max_total_time=5", "-max_len=300", "-rss_limit_mb=0", "-malloc_limit_mb=512"]
    command = [sys.executable, str(here / "fuzz_jsonbody.py"), *limits]
    done = subprocess.run(
        [*command, f"-artifact_prefix={tmp_path}/", str(tmp_path)],
        cwd=here.parent,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "Done " in done.stderr  # so many runs
