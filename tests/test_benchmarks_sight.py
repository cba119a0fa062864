"""The checks of the benchmarks can fail: what they are for does not escape them."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks.coverage import check, everything
from benchmarks.soak import RELOAD_SECONDS, hold_mix
from benchmarks.soak_clients import KINDS, Findings
from classifiers.types import Text
from proxy.endpoints.base import Address, Body
from proxy.endpoints.chat import Chat

IMAGE = "data:image/png;base64,iVBORw0KGgo="


class Overlooking(Chat):
    """Overlooks what stands below one unknown name, and says so below another."""

    def texts(self, body: Body) -> list[Text]:
        return [text for text in super().texts(body) if "beta" not in text.address]

    def unread(self, body: Body) -> list[Address]:
        return [("alpha", "url")]


def test_a_part_that_is_told_hides_no_neighbour_that_is_not() -> None:
    body: dict[str, Any] = {
        "model": "m",
        "messages": [{"role": "user", "content": "hello"}],
        "alpha": {"url": IMAGE},
        "beta": {"url": "wordone wordtwo"},
    }
    words = {"wordone wordtwo": "wordone wordtwo"}
    found = check(Overlooking(), body, words, everything())
    assert (("beta", "url"), "wordone wordtwo") in [(at, said) for _, at, said in found.missed]
    assert ("alpha", "url") not in [at for _, at, _ in found.missed]


def mixed(versions: int, without: str | None = None) -> Findings:
    findings = Findings()
    findings.counts.update(kind for kind in KINDS if kind != without)
    findings.policies.update(f"soak@{version}" for version in range(versions))
    return findings


SECONDS = 40 * RELOAD_SECONDS
MIXES = [
    ("every version was seen", mixed(40), 0),
    ("some were missed", mixed(15), 0),
    ("only the first", mixed(1), 1),
    ("reloads stopped", mixed(5), 1),
    ("no stream was cut", mixed(40, "cut stream"), 1),
]


@pytest.mark.parametrize(("name", "findings", "faults"), MIXES, ids=[row[0] for row in MIXES])
def test_a_soak_without_reloads_or_without_a_kind_has_failed(
    name: str, findings: Findings, faults: int
) -> None:
    hold_mix(findings, SECONDS)
    assert len(findings.violations) == faults
