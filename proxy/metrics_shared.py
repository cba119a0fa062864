"""The metrics of several workers as one: each keeps its numbers in files that all of them can read.

The format of the files is prometheus_client's (its multiprocess mode). Counters of a worker that has died
stay, its gauges go.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path

from prometheus_client import CollectorRegistry, Metric, ProcessCollector, generate_latest, values
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead
from prometheus_client.registry import Collector

_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
_HIGHEST = frozenset({"process_start_time_seconds", "process_max_fds"})
"""Of these the workers' highest counts; all others are added up."""

_shared: Path | None = None


def share(folder: Path) -> None:
    """Keep the numbers of this process in a folder, from now on. Before the first metric is made."""
    global _shared
    _shared = folder
    os.environ[_VARIABLE] = str(folder)  # where the library looks
    values.ValueClass = values.MultiProcessValue()  # type: ignore[no-untyped-call]
    (folder / f"worker-{os.getpid()}").touch()


def folder() -> Path | None:
    """Where this process keeps its numbers, None if it is alone."""
    return _shared


def forget_process(folder: Path, pid: int) -> None:
    """Drop what only counts while a worker lives. By the first process, when it has died."""
    (folder / f"worker-{pid}").unlink(missing_ok=True)
    mark_process_dead(pid, str(folder))  # type: ignore[no-untyped-call]


def together(folder: Path) -> bytes:
    """The metrics of all workers, in Prometheus' text format."""
    registry = CollectorRegistry()
    MultiProcessCollector(registry, str(folder))  # type: ignore[no-untyped-call]
    registry.register(_Processes(folder))
    return generate_latest(registry)


class _Processes(Collector):
    """What the workers take, together."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def collect(self) -> Iterable[Metric]:
        """The metrics of :class:`prometheus_client.ProcessCollector`."""
        found: dict[str, Metric] = {}
        taken: dict[str, list[float]] = defaultdict(list)
        for pid in self._pids():
            for metric in ProcessCollector(pid=partial(int, pid), registry=None).collect():
                found.setdefault(metric.name, metric)
                taken[metric.name] += [sample.value for sample in metric.samples]
        for name, metric in found.items():
            sample = metric.samples[0]
            total = max(taken[name]) if sample.name in _HIGHEST else sum(taken[name])
            metric.samples = [sample._replace(value=total)]
            yield metric

    def _pids(self) -> Iterator[int]:
        for file in self._folder.glob("worker-*"):
            yield int(file.name.removeprefix("worker-"))
