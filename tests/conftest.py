"""Fixtures of the gateway's tests: a scripted upstream, and gateways in front of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from gateway_kit import (
    Door,
    Loop,
    ScriptedUpstream,
    StartGateway,
    completion,
    make_config,
    serve,
)
from hypothesis import HealthCheck, settings
from postgres_kit import new_database

# How long an example takes says more of the machine than of the code.
settings.register_profile("steady", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("steady")


@pytest.fixture(scope="session")
def _upstream() -> Iterator[ScriptedUpstream]:
    loop = Loop()
    server = ScriptedUpstream()
    loop.run(server.start())
    yield server
    loop.run(server.stop())
    loop.close()


@pytest.fixture(autouse=True)
def _unscripted(request: pytest.FixtureRequest) -> Iterator[None]:
    """No test finds the script of another, whatever order they run in."""
    used = "_upstream" in request.fixturenames
    server: ScriptedUpstream | None = request.getfixturevalue("_upstream") if used else None
    yield
    if server is not None:
        server.script = completion("ok")


@pytest.fixture
def upstream(_upstream: ScriptedUpstream) -> ScriptedUpstream:
    _upstream.seen.clear()
    _upstream.script = completion("ok")
    return _upstream


@pytest.fixture
def gateway(tmp_path: Path, upstream: ScriptedUpstream) -> Iterator[StartGateway]:
    """Start a gateway: ``gateway(rules_yaml, config_yaml, port=of_the_upstream)``.

    Aliases: ``default`` (gpt-4o) and ``small`` (gpt-4o-mini) on the scripted upstream.
    """
    with ExitStack() as stack:

        def start(policy: str = "", more: str = "", port: int = 0, **options: Any) -> Door:
            config = make_config(tmp_path, port or upstream.port, policy, more)
            return stack.enter_context(serve(config, **options))

        yield start


@pytest.fixture(scope="session")
def shared_gateway(
    _upstream: ScriptedUpstream, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[StartGateway]:
    """The same, kept for the whole run: for tables of cases that read no records or metrics."""
    doors: dict[tuple[str, str], Door] = {}
    with ExitStack() as stack:

        def start(policy: str = "", more: str = "") -> Door:
            if (policy, more) not in doors:
                # The upstreams of some tables do nothing but fail; the next test is not to notice.
                patient = "" if "breaker:" in more else "\nbreaker: {failures: 1000000}\n"
                config = make_config(
                    tmp_path_factory.mktemp("shared"), _upstream.port, policy, more + patient
                )
                doors[policy, more] = stack.enter_context(serve(config))
            return doors[policy, more]

        yield start


@pytest.fixture
def database() -> Iterator[str]:
    """The URL of a new, empty PostgreSQL database."""
    with new_database() as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def ledger_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a new, empty ledger: ``data/doorman.db`` below ``tmp_path``, and in PostgreSQL."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/data/doorman.db"
    url: str = request.getfixturevalue("database")
    return url
