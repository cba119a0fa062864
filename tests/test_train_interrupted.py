"""Whatever ends a training, nothing half-written is left, and what was there stays."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

pytest.importorskip("sklearn", reason="scikit-learn is not installed (extra `train`)")

from train_kit import TINY, contents, options, rows_of, run, write_task

from classifiers.packs import read_pack
from classifiers.training import methods
from classifiers.training.data import Row
from classifiers.training.methods.base import Context, Trained
from classifiers.training.train import train
from classifiers.types import Kind


@dataclass(frozen=True)
class Broken:
    """A method that fails after it has written something."""

    error: BaseException
    name: str = "head"

    def train(
        self, rows: Sequence[Row], labels: Sequence[str], decision: Kind, context: Context
    ) -> Trained:
        (context.scratch / "half.safetensors").write_bytes(b"half")
        raise self.error


@pytest.mark.parametrize("error", [ValueError("broken"), KeyboardInterrupt(), MemoryError()])
def test_a_method_that_fails_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    run(tmp_path, rows_of(20))
    before = contents(tmp_path)
    monkeypatch.setitem(methods.METHODS, "head", lambda: Broken(error))
    with pytest.raises(type(error)):
        train(tmp_path / "task.yaml", tmp_path / "pack", options(tmp_path))
    assert contents(tmp_path) == before
    assert {p.name for p in tmp_path.iterdir()} == {"cache", "pack", "rows.jsonl", "task.yaml"}


@pytest.mark.parametrize(
    "when", ["reading the data", "fitting", "choosing the thresholds", "measuring", "drawing"]
)
@pytest.mark.parametrize("there", [True, False])
def test_an_interrupt_at_any_step_leaves_what_was_there(
    tmp_path: Path, when: str, there: bool
) -> None:
    if there:
        run(tmp_path, rows_of(10))
    task = write_task(tmp_path, rows_of(12))
    before = contents(tmp_path)

    def say(line: str) -> None:
        if line.startswith(when):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(task, tmp_path / "pack", options(tmp_path, say=say, report=True))
    assert contents(tmp_path) == before
    assert not [p for p in tmp_path.iterdir() if p.name.startswith(".")]
    assert (tmp_path / "pack").exists() is there


KILLED = """
import os, signal, sys
from proxy.commands import train as command
from classifiers.training import study
signal.signal(signal.SIGINT, signal.default_int_handler)  # jobs in the background ignore it
def stop(*_, **__):
    os.kill(os.getpid(), signal.{signal})
    import time
    time.sleep(20)
study.Study.evaluation = stop
from proxy.cli import main
sys.exit(main(["train", "task.yaml", "-o", "pack", "--cache", "cache", "--encoder", {tiny!r}]))
"""


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 130), (signal.SIGINT, 130)])
def test_a_killed_run_leaves_what_was_there(tmp_path: Path, number: int, status: int) -> None:
    run(tmp_path, rows_of(10))
    before = contents(tmp_path)
    script = KILLED.format(signal=signal.Signals(number).name, tiny=str(TINY))
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False,
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1"}, timeout=120,
    )  # fmt: skip
    assert done.returncode == status, done.stderr
    assert contents(tmp_path) == before
    assert not [p for p in tmp_path.iterdir() if p.name.startswith(".")]


def test_a_move_that_fails_puts_the_old_pack_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from classifiers.training.pack import replace_folder

    run(tmp_path, rows_of(10))
    before = contents(tmp_path)
    with pytest.raises(FileNotFoundError):
        replace_folder(tmp_path / "was never made", tmp_path / "pack")
    assert contents(tmp_path) == before


@pytest.mark.parametrize("command", ["train", "update"])
def test_a_pack_that_was_moved_aside_is_put_back(tmp_path: Path, command: str) -> None:
    """A process that is killed between the two renames leaves the pack under another name."""
    from classifiers.training.corrections import correctable
    from classifiers.training.pack import check_target

    run(tmp_path, rows_of(10), method="head")
    before = contents(tmp_path)
    pack, aside = tmp_path / "pack", tmp_path / ".pack.old"
    pack.rename(aside)
    if command == "train":
        check_target(pack)
    else:
        correctable(pack)
    assert contents(tmp_path) == before
    assert not aside.exists()


@pytest.mark.parametrize("there", ["file", "folder", "link to a pack", "empty folder"])
def test_what_may_be_at_the_target(tmp_path: Path, there: str) -> None:
    task = write_task(tmp_path, rows_of(10))
    target = tmp_path / "place"
    said: list[str] = []
    if there == "file":
        target.write_text("mine")
    elif there == "folder":
        target.mkdir()
        (target / "letter.txt").write_text("mine")
    elif there == "empty folder":
        target.mkdir()
    else:
        train(task, tmp_path / "real", options(tmp_path))
        target.symlink_to(tmp_path / "real")
    if there in ("file", "folder"):
        before = contents(tmp_path)
        with pytest.raises(FileExistsError, match=r"name a.* folder with -o"):
            train(task, target, options(tmp_path, say=said.append))
        assert said == []
        assert contents(tmp_path) == before
        return
    train(task, target, options(tmp_path))
    assert read_pack(target, kind="head")["name"] == "hobby"
    assert target.is_symlink() is (there == "link to a pack")
    assert not [p for p in tmp_path.iterdir() if p.name.startswith(".")]


@pytest.mark.parametrize("method", ["head", "examples"])
def test_training_needs_no_torch_and_no_litellm(tmp_path: Path, method: str) -> None:
    write_task(tmp_path, rows_of(10), method=method)
    script = (
        "import sys; from proxy.cli import main\n"
        f"status = main('train task.yaml -o pack --cache cache --encoder {TINY}'.split())\n"
        "found = {'torch', 'transformers', 'litellm', 'pandas'} & set(sys.modules)\n"
        "print(status, sorted(found), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False,
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1"}, timeout=120,
    )  # fmt: skip
    assert done.stderr.strip().endswith("0 []"), done.stderr


@pytest.mark.parametrize("kind", ["web", "encoder", "beside"])
def test_a_folder_with_other_files_is_never_replaced(tmp_path: Path, kind: str) -> None:
    from classifiers.training.pack import check_target

    folder = tmp_path / "there"
    folder.mkdir()
    manifest = {
        "web": {"name": "an app", "icons": []},
        "encoder": {"kind": "encoder", "files": {}},
        "beside": {"kind": "head", "files": {"head.safetensors": ""}},
    }[kind]
    (folder / "manifest.json").write_text(json.dumps(manifest))
    (folder / "head.safetensors").write_bytes(b"")
    if kind == "beside":
        check_target(folder)  # a pack and nothing else: a newer one takes its place
        (folder / "notes.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="is a folder with other files"):
        check_target(folder)
