"""Run the benchmarks and write ``RESULTS.md``.

    python -m benchmarks.run --data DIR [--quick] [--skip NAME,...] [--litellm-venv DIR | --no-litellm]

Each benchmark is a process of its own and hands over its figures as JSON. ``--quick`` shows that
everything runs: few rounds, few rows, figures not to be quoted.
"""

from __future__ import annotations

import argparse
import datetime
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmarks.report import Result, Table, checks_table, cores, processor, versions
from benchmarks.servers import ROOT

RESULTS = ROOT / "benchmarks" / "RESULTS.md"


@dataclass(frozen=True, slots=True)
class Benchmark:
    """One module of this folder.

    Attributes:
        title: of its section.
        data: it needs the public data sets.
        cache: it keeps the encoder's features.
        litellm: it takes the options about litellm's environment.
        plot: it draws a picture, of its name, into the folder of the results.
        quick: arguments of a trial.
    """

    title: str
    quick: tuple[str, ...]
    data: bool = False
    cache: bool = False
    litellm: bool = False
    plot: bool = False


TRAINER_TRIAL = "seconds,public,promise,sources,languages"
"""Parts of a trial: setfit's environment takes longer to install than all the rest to run."""

BENCHMARKS = {
    "classify": Benchmark("Latency of the classifiers", ("--rounds", "3")),
    "newtexts": Benchmark("New texts by how many come at once", ("--rounds", "1")),
    "gateway": Benchmark("HTTP overhead", ("--rounds", "1", "--seconds", "1"), litellm=True),
    "forward": Benchmark("The gateway's own cost", ("--rounds", "1"), litellm=True),
    "growth": Benchmark("How costs grow", ("--rounds", "1"), plot=True),
    "across": Benchmark("What users say across messages", ("--rows", "2"), data=True),
    "firstlook": Benchmark("Less work for new texts", ("--rows", "10"), data=True),
    "quality": Benchmark("Quality", ("--limit", "20"), data=True, cache=True),
    "trainer": Benchmark(
        "The trainer", ("--quick", "--only", TRAINER_TRIAL), data=True, cache=True
    ),
}


def command(name: str, given: argparse.Namespace) -> list[str]:
    """Arguments of one benchmark, without the interpreter."""
    benchmark = BENCHMARKS[name]
    words = ["-m", f"benchmarks.{name}"]
    if benchmark.data:
        words += ["--data", str(given.data.resolve())]
        if benchmark.cache and given.cache is not None:
            words += ["--cache", str(given.cache.resolve())]
    if benchmark.litellm:
        if given.no_litellm:
            words += ["--no-litellm"] if name == "gateway" else []
        elif given.litellm_venv is not None:
            words += ["--litellm-venv", str(given.litellm_venv.resolve())]
    if benchmark.plot:
        words += ["--plot", str(given.output.with_name(f"{name}.svg").resolve())]
    return [*words, *(benchmark.quick if given.quick else ())]


def shown(words: Sequence[str]) -> str:
    """A command as others would type it: folders by what they hold, not by where they lie."""
    names = {"--data": "DATA", "--cache": "CACHE", "--litellm-venv": "VENV", "--plot": "FILE"}
    hidden = [names.get(words[i - 1], word) if i else word for i, word in enumerate(words)]
    return " ".join(["python", *hidden])


def page(
    results: Sequence[Result],
    commands: Sequence[str],
    machine: Sequence[str],
    failed: Sequence[str],
    *,
    quick: bool,
) -> str:
    """RESULTS.md."""
    lines = ["# Results", ""]
    if quick:
        lines += ["**A trial (`--quick`): these figures show that everything runs, no more.**", ""]
    lines += [
        "Written by `python -m benchmarks.run`; what each figure means: [README.md](README.md).",
        "",
        *machine,
        "",
        "```",
        *commands,
        "```",
        "",
    ]
    if failed:
        lines += [f"**Failed, so without figures: {', '.join(failed)}.**", ""]
    if checks := [check for result in results for check in result.checks]:
        lines.append(checks_table(checks).markdown().replace("###", "##", 1))
    for result in results:
        benchmark = BENCHMARKS[result.name]
        picture = f"![{benchmark.title}]({result.name}.svg)\n\n" if benchmark.plot else ""
        lines.append(f"## {benchmark.title}\n\n{picture}{result.markdown()}")
    more = [version for result in results for version in result.versions]
    rows = tuple((name, version) for name, version in [*versions(), *more])
    lines.append(Table("Versions", ("what", "version"), rows).markdown().replace("###", "##", 1))
    return "\n".join(lines)


def describe_machine() -> list[str]:
    memory = psutil.virtual_memory().total / 2**30
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")
    return [
        f"- date: {datetime.datetime.now(datetime.UTC):%Y-%m-%d}",
        f"- processor: {processor()}, {len(cores())} cores used",
        f"- memory: {memory:.0f} GiB",
        f"- system: {platform.system()} {platform.machine()}",
        f"- load when it began: {load:.1f} (above 0.5, something else was running)",
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of the public data sets")
    parser.add_argument(
        "--cache", type=Path, help="folder of encoder features, for quality and trainer"
    )
    parser.add_argument("--quick", action="store_true", help="few rounds and rows, for a trial")
    parser.add_argument("--skip", default="", help=f"by comma: {', '.join(BENCHMARKS)}")
    parser.add_argument("--litellm-venv", type=Path, help="litellm's own environment")
    parser.add_argument("--no-litellm", action="store_true", help="leave litellm's proxy out")
    parser.add_argument("--output", type=Path, default=RESULTS)
    given = parser.parse_args()
    skipped = set(filter(None, given.skip.split(",")))
    if unknown := skipped - set(BENCHMARKS):
        parser.error(f"no benchmark {', '.join(unknown)}; there are {', '.join(BENCHMARKS)}")
    reading = [name for name in BENCHMARKS if BENCHMARKS[name].data and name not in skipped]
    if reading and not given.data.is_dir():
        names = ",".join(reading)
        parser.error(f"--data {given.data}: no such folder; name it, or use --skip {names}")
    results: list[Result] = []
    commands: list[str] = []
    failed: list[str] = []
    machine = describe_machine()
    with tempfile.TemporaryDirectory() as folder:
        for name in BENCHMARKS:
            if name in skipped:
                continue
            figures = Path(folder) / f"{name}.json"
            words = command(name, given)
            print(f"== {shown(words)}", flush=True)
            done = subprocess.run(
                [sys.executable, *words, "--json", str(figures)], cwd=ROOT, check=False
            )
            if done.returncode or not figures.is_file():
                failed.append(name)
                continue
            results.append(Result.read(figures))
            commands.append(shown(words))
    text = page(results, commands, machine, failed, quick=given.quick)
    given.output.write_text(text, "utf-8")
    print(f"written: {given.output.name}" + (f"; failed: {', '.join(failed)}" if failed else ""))
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
