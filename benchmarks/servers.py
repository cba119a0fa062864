"""Servers under measurement, each a process of its own on 127.0.0.1: start, wait, watch, stop."""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil
import yaml

START_SECONDS = 90.0
ROOT = Path(__file__).resolve().parent.parent


class StartFailed(Exception):
    """A server did not come up; the message holds the end of what it wrote."""


@dataclass(slots=True)
class Server:
    """A running server.

    Attributes:
        start_seconds: from the start of the process to the first answer.
    """

    name: str
    port: int
    process: psutil.Process
    start_seconds: float

    def cpu_seconds(self) -> float:
        """User and system time of the process and its children so far; exact on Linux, elsewhere in
        steps of ten milliseconds."""
        total = 0.0
        for process in self._tree():
            with contextlib.suppress(psutil.NoSuchProcess):
                total += _thread_seconds(process.pid) or sum(process.cpu_times()[:2])
        return total

    def memory(self) -> float:
        """MiB resident, children included."""
        total = 0
        for process in self._tree():
            with contextlib.suppress(psutil.NoSuchProcess):
                total += process.memory_info().rss
        return total / 2**20

    def _tree(self) -> list[psutil.Process]:
        return [self.process, *self.process.children(recursive=True)]


def _thread_seconds(pid: int) -> float:
    """What the threads of a process have run, 0 where the system does not say."""
    total = 0
    for path in Path(f"/proc/{pid}/task").glob("*/schedstat"):
        with contextlib.suppress(OSError):  # it has ended
            total += int(path.read_text().split()[0])
    return total / 1e9


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@contextlib.contextmanager
def running(
    name: str,
    command: Sequence[str],
    port: int,
    ready: str,
    folder: Path,
    environment: Mapping[str, str] | None = None,
) -> Iterator[Server]:
    """Start a server, wait until ``GET ready`` answers 200, stop it and its children in the end.

    Raises:
        StartFailed: it ended, or was not ready in time.
    """
    log = folder / f"{re.sub(r'[^a-z0-9]+', '-', name.lower())}.log"
    started = time.perf_counter()
    with log.open("wb") as errors:
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env={**os.environ, **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=errors,
        )
    watched = psutil.Process(process.pid)
    try:
        while not _answers(port, ready):
            if process.poll() is not None or time.perf_counter() - started > START_SECONDS:
                raise StartFailed(f"{name} did not start:\n{_tail(log)}")
            time.sleep(0.02)
        yield Server(name, port, watched, time.perf_counter() - started)
    finally:
        children = watched.children(recursive=True) if process.poll() is None else []
        process.terminate()
        try:
            process.wait(timeout=15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        for child in children:
            with contextlib.suppress(psutil.NoSuchProcess):
                child.kill()


def mock_upstream(
    folder: Path, options: Sequence[str] = ()
) -> contextlib.AbstractContextManager[Server]:
    """The upstream that all others forward to."""
    port = free_port()
    command = [sys.executable, "-m", "benchmarks.mock_upstream", "--port", str(port), *options]
    return running("upstream", command, port, "/health", folder)


def doorman(
    name: str,
    upstream: int,
    policies: Sequence[Path],
    classifiers: Sequence[str],
    folder: Path,
    options: Mapping[str, object] | None = None,
    arguments: Sequence[str] = (),
) -> contextlib.AbstractContextManager[Server]:
    """A gateway with these policies; ``classifiers`` names the shipped ones, none for all.

    ``options`` are further sections of its config, ``arguments`` further ones of the command line.
    """
    port = free_port()
    config = {
        "model_list": _models(upstream),
        "policies": [str(path) for path in policies],
        "watch_policies": False,
        "classifiers": {"shipped": list(classifiers) or "all"},
        **(options or {}),
    }
    path = folder / f"doorman-{port}.yaml"
    path.write_text(yaml.safe_dump(config), "utf-8")
    command = [sys.executable, "-m", "proxy.cli", "serve", "--config", str(path)]
    command += ["--port", str(port), *arguments]
    return running(name, command, port, "/ready", folder)


def bare(name: str, upstream: int, folder: Path) -> contextlib.AbstractContextManager[Server]:
    """The least that a Python proxy can be, see :mod:`benchmarks.bare`."""
    port = free_port()
    command = [sys.executable, "-m", "benchmarks.bare", "--port", str(port)]
    return running(name, [*command, "--upstream", str(upstream)], port, "/health", folder)


def litellm_proxy(
    name: str, upstream: int, venv: Path, folder: Path
) -> contextlib.AbstractContextManager[Server]:
    """litellm's own proxy, one worker, no database, no key."""
    port = free_port()
    path = folder / "litellm.yaml"
    path.write_text(yaml.safe_dump({"model_list": _models(upstream)}), "utf-8")
    command = [str(venv / "bin" / "litellm"), "--config", str(path), "--host", "127.0.0.1"]
    command += ["--port", str(port), "--num_workers", "1", "--telemetry", "False"]
    environment = litellm_environment(venv)
    return running(name, command, port, "/health/liveliness", folder, environment)


def litellm_environment(venv: Path) -> dict[str, str]:
    """Variables that litellm's proxy is started with."""
    return {
        # Its price map from the package instead of the network, no debug output.
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "LITELLM_MODE": "PRODUCTION",
        "LITELLM_LOG": "ERROR",
        "NO_DOCS": "True",
        # Keyless like the gateway beside it, and on 127.0.0.1 alone.
        "LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY": "true",
        "PATH": f"{venv / 'bin'}{os.pathsep}{os.environ.get('PATH', '')}",
    }


def litellm_venv(venv: Path) -> str:
    """Make litellm's own environment if it is missing; returns the version in it.

    Raises:
        StartFailed: it could not be made.
    """
    python = venv / "bin" / "python"
    if not (venv / "bin" / "litellm").is_file():
        locked = re.search(r"^litellm==(\S+)", (ROOT / "requirements.lock").read_text(), re.M)
        if locked is None:
            raise StartFailed("requirements.lock does not name a version of litellm")
        for command in (
            ["python3.11", "-m", "venv", str(venv)],
            [str(python), "-m", "pip", "install", "-q", f"litellm[proxy]=={locked[1]}"],
        ):
            try:
                subprocess.run(command, check=True, capture_output=True)
            except (OSError, subprocess.CalledProcessError) as error:
                raise StartFailed(f"litellm's environment cannot be made: {error}") from None
    program = "import importlib.metadata as m, json; print(json.dumps(m.version('litellm')))"
    done = subprocess.run([str(python), "-c", program], capture_output=True, check=True)
    return str(json.loads(done.stdout))


def _models(upstream: int) -> list[dict[str, object]]:
    base = f"http://127.0.0.1:{upstream}/v1"
    return [
        {
            "model_name": name,
            "litellm_params": {"model": f"openai/{name}", "api_base": base, "api_key": "sk-none"},
        }
        for name in ("mock", "mock-paced")
    ]


def _answers(port: int, path: str) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as reply:
            return int(reply.status) == 200
    except OSError:
        return False


def _tail(log: Path, lines: int = 8) -> str:
    return "\n".join(log.read_text("utf-8", "replace").splitlines()[-lines:])
