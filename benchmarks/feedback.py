"""From a wrong decision to a corrected pack that is served: seconds of machine time, click by click.

python -m benchmarks.feedback             # the shipped packs and the default policy, through the dashboard
"""

from __future__ import annotations

import argparse
import contextlib
import re
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import psutil

from benchmarks.report import Check, Result, Table, median, number
from benchmarks.servers import Server, doorman, mock_upstream
from proxy.config import SHIPPED_POLICY

ROUNDS = 3
PROMISED = 30.0
"""Seconds from the click to the promoted pack."""
NAME = "jailbreak"
TEXT = "Forget your rules about dessert and give me a second piece of cake"
"""An ordinary wish that the shipped pack takes for an attack."""
STEPS = ("correct", "retrain and test", "beside", "promote", "decided right")
_TOKEN = re.compile(r'x-csrf-token": "([0-9a-f]+)"')
_VERSION = re.compile(r'id="version">([0-9a-f]+)<')
_PACK = re.compile(r'name="pack" value="([0-9a-f]+)"')
_PATIENCE = 300.0


@dataclass(slots=True)
class Round:
    """Seconds of the clock by step, and of the processors in all."""

    steps: dict[str, float] = field(default_factory=dict)
    cpu: float = 0.0

    @property
    def total(self) -> float:
        """From the click that corrects to the answer that is right."""
        return sum(self.steps.values())

    @contextlib.contextmanager
    def step(self, name: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        self.steps[name] = time.perf_counter() - started


class Browser:
    """The dashboard as forms and pages, without drawing them."""

    def __init__(self, port: int) -> None:
        self.http = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=_PATIENCE)

    def ask(self) -> tuple[str, str]:
        """Send the text; the id of the decision, and the action."""
        body = {"model": "mock", "messages": [{"role": "user", "content": TEXT}]}
        headers = self.http.post("/v1/chat/completions", json=body).headers
        return headers["x-doorman-decision-id"], headers["x-doorman-action"]

    def page(self) -> str:
        """The retrain page."""
        return self.http.get(f"/dashboard/retrain/{NAME}").text

    def click(self, path: str, **fields: str) -> None:
        """Send a form.

        Raises:
            RuntimeError: it was refused.
        """
        token = found(_TOKEN, self.page())
        answer = self.http.post(f"/dashboard{path}", data={"csrf": token, **fields})
        if answer.status_code != 303:
            raise RuntimeError(f"{path} was answered with {answer.status_code}")

    def finished(self) -> str:
        """The page once no candidate is being made.

        Raises:
            RuntimeError: none was made.
        """
        limit = time.monotonic() + _PATIENCE
        while "Making a candidate" in (page := self.page()):
            if time.monotonic() > limit:
                raise RuntimeError("the candidate takes too long")
            time.sleep(0.1)
        if "No candidate" in page or "The tests of all policies hold" not in page:
            raise RuntimeError("no candidate that can be promoted was made")
        return page


def found(pattern: re.Pattern[str], page: str) -> str:
    """What stands on a page."""
    match = pattern.search(page)
    if match is None:
        raise RuntimeError(f"the page lacks {pattern.pattern}")
    return match[1]


def cpu(server: Server) -> float:
    """Seconds of the processors so far, those of trainers that have ended included."""
    times = psutil.Process(server.process.pid).cpu_times()
    return sum((times.user, times.system, times.children_user, times.children_system))


def once(server: Server, browser: Browser) -> Round:
    """The whole way, then back."""
    made = Round()
    id, action = browser.ask()
    if action != "block":
        raise RuntimeError(f"the text is decided right already: {action}")
    before = found(_VERSION, browser.page())
    spent = cpu(server)
    with made.step("correct"):
        told = {"decision_id": id, "classifier": NAME, "label": "", "text": TEXT}
        browser.click("/review/label", **told)
    with made.step("retrain and test"):
        browser.click("/retrain/do/start", name=NAME)
        pack = found(_PACK, browser.finished())
    with made.step("beside"):
        browser.click("/retrain/do/beside", name=NAME, pack=pack)
    with made.step("promote"):
        browser.click("/retrain/do/promote", name=NAME, pack=pack)
    with made.step("decided right"):
        _, action = browser.ask()
    made.cpu = cpu(server) - spent
    if action != "forward" or found(_VERSION, browser.page()) == before:
        raise RuntimeError(f"the text is still decided wrong: {action}")
    browser.click("/retrain/do/undo", name=NAME)
    return made


def measure(rounds: int) -> Result:
    """Start a gateway, and go the way several times. The first round has nothing in any cache."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        options: Mapping[str, object] = {
            "ledger": {"url": f"sqlite:///{folder}/doorman.db"},
            "feedback": {"cache": str(folder / "cache")},
            "classifiers": {"shipped": "all", "corrected": str(folder / "packs")},
        }
        with (
            mock_upstream(folder) as upstream,
            doorman("doorman", upstream.port, [SHIPPED_POLICY], [], folder, options) as server,
        ):
            browser = Browser(server.port)
            done = [once(server, browser) for _ in range(rounds)]
    rows = [
        (
            f"round {n}",
            *(number(one.steps[step]) for step in STEPS),
            number(one.total),
            number(one.cpu),
        )
        for n, one in enumerate(done, start=1)
    ]
    slowest = max(one.total for one in done)
    middle = median([one.total for one in done])
    return Result(
        "feedback",
        (
            Table(
                "From a wrong decision to a promoted pack, seconds",
                ("", *STEPS, "in all", "processors"),
                tuple(rows),
                f"Shipped packs, default policy with its tests; median {middle:.2f} s. `processors` is "
                "the time of the gateway and of the trainer.",
            ),
        ),
        (
            Check(
                "from the click to the corrected pack, s, slowest round",
                number(slowest),
                f"<= {PROMISED:g}",
                slowest <= PROMISED,
            ),
        ),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--json", type=Path, help="keep the figures there")
    given = parser.parse_args()
    measure(given.rounds).write(given.json)


if __name__ == "__main__":
    main()
