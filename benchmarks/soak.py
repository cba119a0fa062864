"""A long mixed load against the real gateway: nothing lost, doubled or mixed up, nothing that grows.

    python -m benchmarks.soak --seconds 60

``doorman serve`` with shipped packs and a scripted model, each a process of its own; 32 clients send plain
and streamed requests, attacks, personal data, long texts, requests they give up and requests whose model
fails, while the policy is exchanged every two seconds. Exit status 1 if any answer or record was wrong.
What is added is measured under that load: most of it is waiting in line for the classifiers.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import psutil
import yaml

from benchmarks.servers import ROOT, free_port
from benchmarks.soak_clients import KINDS, Client, Findings

CLIENTS = 32
RELOAD_SECONDS = 2.0
SEEN_RELOADS = 0.25
"""Share of the reloads that clients must notice: a busy machine may skip some, not most."""
START_SECONDS = 180.0
LEAVE_SECONDS = 5.0
"""How long after its client a call to the model may go on: far above what it takes, for busy machines."""
GROWTH_MIB = 64
"""Growth over the first half that counts as flat: remembered texts fill a cache of bounded size."""
GROWTH_FILES = 48

# Long texts of sentences drawn by chance, which mean nothing, come near the pack's own point at times:
# what is looked at here is not the classifier.
POLICY = """name: soak
version: {version}
rules:
  - name: attacks
    when: {{jailbreak: jailbreak, at: 0.9}}
    roles: [user]
    do: {{block: "Blocked by {version}."}}
  - {{name: mail, when: {{pii: EMAIL}}, do: {{redact: {{as: "<{{label}}_{{n}}>", restore: true}}}}}}
  - {{name: replies, when: {{pii: CREDIT_CARD}}, check: [output], do: {{block: "No."}}}}
"""


@dataclass(slots=True)
class Watch:
    """What the gateway's process used, sample by sample."""

    process: psutil.Process
    mib: list[float] = field(default_factory=list)
    files: list[int] = field(default_factory=list)

    async def run(self) -> None:
        """Sample until cancelled."""
        while True:
            await asyncio.sleep(0.5)
            self.mib.append(self.process.memory_info().rss / 2**20)
            self.files.append(self.process.num_fds())

    def growth(self) -> tuple[float, float]:
        """Median of the second half less that of the first: MiB, open files."""
        half = len(self.mib) // 2
        return (
            statistics.median(self.mib[half:]) - statistics.median(self.mib[:half]),
            statistics.median(self.files[half:]) - statistics.median(self.files[:half]),
        )


def write_policy(folder: Path, version: int) -> None:
    """Exchange the policy as editors do."""
    fresh = folder / "fresh.yaml"
    fresh.write_text(POLICY.format(version=version), "utf-8")
    fresh.replace(folder / "policy.yaml")


def write_config(folder: Path, upstream: int) -> Path:
    base = f"http://127.0.0.1:{upstream}/v1"
    params = {"model": "openai/soak", "api_base": base, "api_key": "sk-none"}
    config = {
        "model_list": [
            {"model_name": "default", "litellm_params": params},
            {"model_name": "faulty", "litellm_params": {**params, "model": "openai/soak-faulty"}},
        ],
        "policies": ["policy.yaml"],
        "classifiers": {"shipped": ["jailbreak", "safety", "topic", "pii"]},
        "timeouts": {"first_byte": 30, "idle": 30},
    }
    config["model_list"][1]["litellm_params"]["timeout"] = 3  # type: ignore[index]
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(config), "utf-8")
    return path


async def answers(
    session: aiohttp.ClientSession, url: str, process: subprocess.Popen[bytes]
) -> None:
    """Wait until a server is there."""
    limit = time.monotonic() + START_SECONDS
    while time.monotonic() < limit and process.poll() is None:
        try:
            async with session.get(url) as reply:
                if reply.status == 200:
                    return
        except aiohttp.ClientError:
            pass
        await asyncio.sleep(0.1)
    raise SystemExit(f"{url} does not answer")


async def reload(folder: Path) -> None:
    """A new version of the policy, again and again."""
    version = 1
    while True:
        await asyncio.sleep(RELOAD_SECONDS)
        version += 1
        write_policy(folder, version)


async def load(url: str, seconds: float, folder: Path, watch: Watch, findings: Findings) -> None:
    """Clients, reloads and samples at the same time."""
    timeout = aiohttp.ClientTimeout(total=None)
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(timeout=timeout, connector=connector) as session:
        beside = [asyncio.create_task(watch.run()), asyncio.create_task(reload(folder))]
        until = time.monotonic() + seconds
        clients = [Client(session, url, seed, findings) for seed in range(CLIENTS)]
        await asyncio.gather(*(client.run(until) for client in clients))
        for task in beside:
            task.cancel()


def hold_against(findings: Findings, told: dict[str, Any], records: Path) -> list[float]:
    """The model's and the ledger's side of it. Returns seconds from a client's leaving to the model's
    noticing."""
    must = findings.must
    seen = Counter(told["seen"])
    must(not told["leaked"], "redacted", f"{len(told['leaked'])} addresses reached the model")
    for reference, times in seen.items():
        must(times == 1, findings.sent.get(reference, "?"), f"asked the model {times} times")
    for reference in findings.asked:
        must(seen[reference] == 1, findings.sent[reference], "answered without the model")
    written = Counter(json.loads(line)["request_id"] for line in records.open(encoding="utf-8"))
    for reference, kind in findings.sent.items():
        times = written[reference]
        # Who left before the request was read has asked nothing.
        fair = times == 1 or (
            times == 0 and reference in findings.cancelled and not seen[reference]
        )
        must(fair, kind, f"{times} records")
    must(not written.keys() - findings.sent.keys(), "ledger", "records of no request")
    waits = []
    for reference, when in findings.cancelled.items():
        if reference in seen:
            noticed = told["left"].get(reference)
            must(noticed is not None, "cancel", "the model was left talking")
            if noticed is not None:
                waits.append(max(0.0, noticed - when))
    late = sum(wait > LEAVE_SECONDS for wait in waits)
    must(late == 0, "cancel", f"{late} calls went on for over {LEAVE_SECONDS:g} s")
    return waits


def hold_mix(findings: Findings, seconds: float) -> None:
    """Everything that is to happen under the load has happened: reloads, and all kinds of requests."""
    least = 1 + int(seconds * SEEN_RELOADS / RELOAD_SECONDS)
    versions = len(findings.policies)
    findings.must(versions >= least, "reload", f"{versions} versions seen, not even {least}")
    for kind in KINDS:
        findings.must(findings.counts[kind] > 0, kind, "never happened")


def percentiles(values: list[float]) -> str:
    ordered = sorted(values)
    p50, p99 = (ordered[min(len(ordered) - 1, int(len(ordered) * q))] for q in (0.5, 0.99))
    return f"p50 {p50:.2f}, p99 {p99:.2f}"


def report(findings: Findings, watch: Watch, waits: list[float], seconds: float) -> None:
    """Print what came of it."""
    total = sum(findings.counts.values())
    print(f"{total} requests in {seconds:.0f} s: {dict(findings.counts.most_common())}")
    print(f"versions of the policy seen: {len(findings.policies)}")
    for name, own in findings.overhead.items():
        print(f"added by Doorman, {name}: {percentiles(own)} ms of {len(own)}")
    if waits:
        print(f"calls ended after their client left: {percentiles([w * 1000 for w in waits])} ms")
    mib, files = watch.growth()
    print(
        f"memory: {statistics.median(watch.mib):.0f} MiB, {mib:+.1f} in the second half; "
        f"open files: {statistics.median(watch.files):.0f}, {files:+.0f}"
    )
    findings.must(mib <= GROWTH_MIB, "memory", f"grew by {mib:.0f} MiB")
    findings.must(files <= GROWTH_FILES, "open files", f"grew by {files:.0f}")


def soak(seconds: float, folder: Path) -> Findings:
    """Run it all."""
    upstream_port, port = free_port(), free_port()
    write_policy(folder, 1)
    config = write_config(folder, upstream_port)
    upstream = [sys.executable, "-m", "benchmarks.soak_upstream", "--port", str(upstream_port)]
    gateway = [sys.executable, "-m", "proxy.cli", "serve", "-c", str(config), "--port", str(port)]
    records, log = folder / "records.jsonl", folder / "log.txt"
    url, told_url = f"http://127.0.0.1:{port}", f"http://127.0.0.1:{upstream_port}/seen"
    findings = Findings()
    with records.open("wb") as out, log.open("wb") as err:
        model = subprocess.Popen(upstream, cwd=ROOT, stdout=subprocess.DEVNULL)
        door = subprocess.Popen(gateway, cwd=ROOT, stdout=out, stderr=err)
        try:
            watch = Watch(psutil.Process(door.pid))
            asyncio.run(_ready((told_url, model), (f"{url}/ready", door)))
            started = time.monotonic()
            told = asyncio.run(_talk(url, told_url, seconds, folder, watch, findings))
            seconds = time.monotonic() - started - LEAVE_SECONDS
            door.send_signal(signal.SIGTERM)
            findings.must(door.wait(60) == 0, "the end", f"exit status {door.returncode}")
        finally:
            for process in (door, model):
                process.kill()
                process.wait()
    waits = hold_against(findings, told, records)
    hold_mix(findings, seconds)
    findings.must("Traceback" not in log.read_text("utf-8"), "log", "holds a traceback")
    report(findings, watch, waits, seconds)
    return findings


async def _ready(*servers: tuple[str, subprocess.Popen[bytes]]) -> None:
    async with aiohttp.ClientSession() as session:
        for url, process in servers:
            await answers(session, url, process)


async def _talk(
    url: str, told_url: str, seconds: float, folder: Path, watch: Watch, findings: Findings
) -> dict[str, Any]:
    """The load, and then what the model has to tell."""
    await load(url, seconds, folder, watch, findings)
    await asyncio.sleep(LEAVE_SECONDS)
    async with aiohttp.ClientSession() as session, session.get(told_url) as reply:
        return dict(await reply.json())


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=float, default=60)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        findings = soak(options.seconds, Path(folder))
    for line, times in Counter(findings.violations).most_common(20):
        print(f"VIOLATION {line} ({times} times)")
    if not findings.violations:
        print("nothing lost, doubled or mixed up")
    return 1 if findings.violations else 0


if __name__ == "__main__":
    sys.exit(main())
