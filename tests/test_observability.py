"""The example dashboard and the alert rules: they can be read, and name metrics that exist."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import yaml
from gateway_kit import StartGateway
from ledger_kit import samples

from proxy.metrics import METRICS, PROCESS

ROOT = Path(__file__).parent.parent
ALERTS = ROOT / "deploy" / "prometheus" / "alerts.yaml"
DASHBOARD = ROOT / "deploy" / "grafana" / "doorman.json"
NAME = re.compile(r"\b(?:doorman|process)_\w+")
LABELS = re.compile(r"(?:by|without) \(([\w, ]+)\)")
MATCHED = re.compile(r"(\w+)\s*(?:=~|!~|!=|=)\s*\"")
ALWAYS = {"instance", "job", "le"}
"""Labels that Prometheus adds itself."""


def rules() -> list[dict[str, str]]:
    groups = yaml.safe_load(ALERTS.read_text("utf-8"))["groups"]
    return [rule for group in groups for rule in group["rules"]]


def expressions() -> Iterator[tuple[str, str]]:
    for rule in rules():
        yield rule["alert"], rule["expr"]
    for panel in json.loads(DASHBOARD.read_text("utf-8"))["panels"]:
        for target in panel["targets"]:
            yield panel["title"], target["expr"]


def known(name: str) -> str | None:
    """The metric that a series belongs to."""
    for base in (name, *(name.removesuffix(end) for end in ("_bucket", "_sum", "_count"))):
        metric = METRICS.get(base) or PROCESS.get(base)
        if metric is not None and (base == name) == (metric.kind != "histogram"):
            return base
    return None


@pytest.mark.parametrize(("title", "expression"), list(expressions()))
def test_metrics_and_labels_exist(title: str, expression: str) -> None:
    found = [known(name) for name in NAME.findall(expression)]
    assert found, title
    assert None not in found, title
    metrics = [METRICS.get(name or "") or PROCESS[name or ""] for name in found]
    labels = {label for metric in metrics for label in metric.labels} | ALWAYS
    used = {label.strip() for listed in LABELS.findall(expression) for label in listed.split(",")}
    assert used | set(MATCHED.findall(expression)) <= labels, title
    assert balanced(expression), title


def balanced(expression: str) -> bool:
    """Whether every bracket is closed by its own, outside of strings."""
    pairs = {")": "(", "]": "[", "}": "{"}
    still: list[str] = []
    for sign in re.sub(r"\"[^\"]*\"", "", expression):
        if sign in pairs.values():
            still.append(sign)
        elif sign in pairs and (not still or still.pop() != pairs[sign]):
            return False
    return not still


def test_balance_can_fail() -> None:
    assert not balanced("sum(rate(a[5m])")
    assert not balanced("a{b=~'c'])")
    assert known("doorman_overhead_seconds") is None  # a histogram has no such series
    assert known("doorman_no_such_total") is None


def test_each_alert_says_what_to_do() -> None:
    names = [rule["alert"] for rule in rules()]
    assert len(set(names)) == len(names)
    documented = (ROOT / "docs" / "observability.md").read_text("utf-8")
    for rule in rules():
        assert rule["annotations"].keys() == {"summary", "description"}  # type: ignore[attr-defined]
        assert rule["labels"]["severity"] in ("warning", "critical")  # type: ignore[index]
        assert f"`{rule['alert']}`" in documented


def test_panels_do_not_overlap() -> None:
    panels = json.loads(DASHBOARD.read_text("utf-8"))["panels"]
    cells = [
        (at["x"] + x, at["y"] + y)
        for at in (panel["gridPos"] for panel in panels)
        for x in range(at["w"])
        for y in range(at["h"])
    ]
    assert len(set(cells)) == len(cells)
    assert max(x for x, _ in cells) < 24
    assert len({panel["id"] for panel in panels}) == len(panels)


def test_promtool_takes_the_rules() -> None:
    if (promtool := shutil.which("promtool")) is None:
        pytest.skip("promtool is not installed")
    done = subprocess.run([promtool, "check", "rules", ALERTS], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_going_on_without_a_guard_is_counted(gateway: StartGateway) -> None:
    rules = "{on_error}rules: [{{name: r, when: {{guard: attack}}, do: {{block: 'No.'}}}}]"
    body = {"model": "default", "messages": [{"role": "user", "content": "crash"}]}
    for on_error, status, counted in (
        ("on_error: allow\n", 200, {'guard="classifier"': 1.0}),
        ("", 503, {}),
    ):
        door = gateway(rules.format(on_error=on_error))
        assert httpx.post(f"{door.url}/v1/chat/completions", json=body).status_code == status
        metrics = httpx.get(f"{door.url}/metrics").text
        assert samples(metrics, "doorman_fail_open_total") == counted
        assert samples(metrics, "process_cpu_seconds_total")


def test_what_is_told_is_in_the_table(gateway: StartGateway) -> None:
    door = gateway("")
    assert httpx.get(f"{door.url}/ready").status_code == 200
    told = re.findall(r"^([a-z_]+)", httpx.get(f"{door.url}/metrics").text, re.MULTILINE)
    parts = {
        f"{name}{end}"
        for name, metric in METRICS.items()
        if metric.kind == "histogram"
        for end in ("_bucket", "_count", "_sum")
    }
    assert set(told) <= METRICS.keys() | PROCESS.keys() | parts
