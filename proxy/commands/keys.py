"""Client keys: make, list, revoke and rotate them. A running gateway follows within seconds."""

from __future__ import annotations

import argparse
import asyncio
import getpass
import os
import re
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeVar

from proxy.commands.output import (
    CommandError,
    config_option,
    emit,
    faults,
    json_option,
    read_config,
)

if TYPE_CHECKING:
    from rich.console import Console

    from proxy.config import Config
    from proxy.config_keys import Terms
    from proxy.ledgers.keys import KeyTable, StoredKey

T = TypeVar("T")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:@/-]{0,63}")
AUDITED = 50
NO_KEYS = 1
"""Exit status of a name that no key has."""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    create = actions.add_parser("create", help="make a key and show it, once")
    create.add_argument("name", help="what policies attach to and records show")
    create.add_argument("--models", metavar="A,B", help="aliases it may call, as patterns")
    create.add_argument("--policies", metavar="P,Q", help="policies that count for it besides")
    create.add_argument("--rpm", type=int, metavar="N", help="requests per minute")
    create.add_argument("--tpm", type=int, metavar="N", help="tokens per minute")
    create.add_argument("--max-parallel", type=int, metavar="N", help="requests at once")
    create.add_argument("--budget-usd", metavar="N/PERIOD", help="5/day or 100/month, UTC")
    create.add_argument("--expires", metavar="DAY", help="refused from then on, 2027-01-01 (UTC)")
    create.add_argument("--admin", action="store_true", help="may read /metrics and the like")
    _shared(create)
    _shared(actions.add_parser("list", help="every key, without its secret"))
    for action, help in (("show", "one key"), ("revoke", "refuse a key from now on")):
        one = actions.add_parser(action, help=help)
        one.add_argument("name", help="of the key")
        _shared(one)
    rotate = actions.add_parser("rotate", help="make another key for the same name and limits")
    rotate.add_argument("name", help="of the key")
    rotate.add_argument(
        "--grace", type=float, default=0, metavar="SECONDS", help="the old one still counts (0)"
    )
    _shared(rotate)
    audit = actions.add_parser("audit", help="who changed what, the newest first")
    audit.add_argument("--limit", type=int, default=AUDITED, help=f"entries ({AUDITED})")
    _shared(audit)


def run(options: argparse.Namespace) -> int:
    """Do one action. Returns 1 for a name that no key has."""
    config = read_config(options.config, secrets="ledger")
    return ACTIONS[options.action](options, config)


def _create(options: argparse.Namespace, config: Config) -> int:
    from proxy.keystore import made
    from proxy.ledgers.database import Refused

    name, terms = options.name, _terms(options)
    if not NAME.fullmatch(name):
        raise CommandError(f"the name {name[:80]!r} must be 1 to 64 letters, digits or . _ : @ / -")
    if any(key.name == name for key in config.keys):
        raise CommandError(f"the config has a key {name!r} already; use another name")
    _check(terms, config)
    key, new = made()
    try:
        _with(config, lambda table: table.create(name, new, terms, time.time()))
    except Refused:
        raise CommandError(
            f"there is a key {name!r} already; revoke it, rotate it, or use another name"
        ) from None
    return _show_secret(options, name, key, _plain(terms))


def _rotate(options: argparse.Namespace, config: Config) -> int:
    from proxy.keystore import made

    if not 0 <= options.grace <= 31_536_000:
        raise CommandError(f"--grace {options.grace:g} must be 0 to 31536000 seconds")
    key, new = made()
    rotate = _with(
        config, lambda table: table.rotate(options.name, new, options.grace, time.time())
    )
    if not rotate:
        return _none(options.name)
    return _show_secret(options, options.name, key, {"old_key_counts_seconds": options.grace})


def _revoke(options: argparse.Namespace, config: Config) -> int:
    if not _with(config, lambda table: table.revoke(options.name, time.time())):
        return _none(options.name)
    emit(
        options,
        {"name": options.name, "status": "revoked"},
        lambda console: console.print(f"revoked: {options.name}"),
    )
    return 0


def _list(options: argparse.Namespace, config: Config) -> int:
    rows = _rows(config)
    emit(options, rows, lambda console: _table(console, rows, LISTED))
    return 0


def _show(options: argparse.Namespace, config: Config) -> int:
    rows = [row for row in _rows(config) if row["name"] == options.name]
    if not rows:
        return _none(options.name)

    def render(console: Console) -> None:
        for row in rows:
            for column, value in row.items():
                console.print(f"{column:<16} {value}", markup=False)

    emit(options, rows, render)
    return 0


def _audit(options: argparse.Namespace, config: Config) -> int:
    changes = _with(config, lambda table: table.changes(options.limit))
    rows = [
        {
            "time": _moment(change.time),
            "actor": change.actor,
            "action": change.action,
            "name": change.name,
            "key": change.shown,
            "details": dict(change.details),
        }
        for change in changes
    ]
    emit(options, rows, lambda console: _table(console, rows, tuple(rows[0]) if rows else ()))
    return 0


ACTIONS: dict[str, Callable[[argparse.Namespace, Config], int]] = {
    "create": _create,
    "list": _list,
    "show": _show,
    "revoke": _revoke,
    "rotate": _rotate,
    "audit": _audit,
}
LISTED = ("name", "key", "status", "created", "terms", "spent_usd")


def _shared(parser: argparse.ArgumentParser) -> None:
    config_option(parser)
    json_option(parser)


def _terms(options: argparse.Namespace) -> Terms:
    from pydantic import ValidationError

    from proxy.config_keys import Terms

    given: dict[str, Any] = {
        name: getattr(options, name)
        for name in ("rpm", "tpm", "max_parallel", "budget_usd", "expires", "admin")
        if getattr(options, name) is not None
    }
    for name in ("models", "policies"):
        listed = (getattr(options, name) or "").split(",")
        given[name] = tuple(item.strip() for item in listed if item.strip())
    try:
        return Terms(**given)
    except ValidationError as error:
        fault = error.errors()[0]
        option = str(fault["loc"][0]).replace("_", "-")
        raise CommandError(f"--{option}: {fault['msg'].removeprefix('Value error, ')}") from None


def _check(terms: Terms, config: Config) -> None:
    """Refuse policies that are not there; say which patterns match no model yet."""
    from fnmatch import fnmatchcase

    from policies import schema

    if terms.policies:
        with faults():
            known = {schema.load(path).name for path in config.policies}
        if unknown := [name for name in terms.policies if name not in known]:
            raise CommandError(
                f"--policies: no policy {unknown[0]!r} in the config; there are: "
                f"{', '.join(sorted(known)) or 'none'}"
            )
    aliases = [entry.model_name for entry in config.model_list]
    for glob in terms.models:
        if not any(fnmatchcase(alias, glob) for alias in aliases):
            print(
                f"doorman: --models: {glob!r} matches no model of the config yet", file=sys.stderr
            )


def _with(config: Config, work: Callable[[KeyTable], Awaitable[T]]) -> T:
    """Do some work on the tables, which are made if they are not there."""
    from proxy.config_ledger import NONE
    from proxy.keystore import key_table, place_of
    from proxy.ledgers.database import Away, migrate

    async def on_table() -> T:
        table = key_table(ledger, _actor())
        assert table is not None
        try:
            return await work(table)
        except Away as error:
            raise CommandError(f"the database cannot be used: {error}; try again") from None
        finally:
            await table.close()

    ledger = config.ledger.model_copy(update={"url": _resolved(config.ledger.url)})
    if ledger.url == NONE:
        raise CommandError("keys are kept in the ledger's database; give `ledger.url` one")
    with faults():
        migrate(place_of(ledger))
    return asyncio.run(on_table())


def _resolved(url: str) -> str:
    """The URL with the variables that reading a config without secrets has left in it."""

    def value(match: re.Match[str]) -> str:
        found = os.environ.get(match[1])
        if found is None:
            raise CommandError(f"ledger.url needs the environment variable {match[1]}; export it")
        return found

    return re.sub(r"os\.environ/([A-Za-z_][A-Za-z0-9_]*)", value, url)


def _actor() -> str:
    """The user of this machine who changes something."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}" if hasattr(os, "getuid") else "unknown"


def _rows(config: Config) -> list[dict[str, Any]]:
    """The keys of the database and those of the config, without anything secret."""
    now = time.time()
    month = f"{datetime.fromtimestamp(now, UTC):%Y-%m}"

    async def read(table: KeyTable) -> tuple[list[StoredKey], dict[tuple[str, str], int]]:
        return await table.all(), await table.spent(f"{month}-01")

    stored, spent = _with(config, read)
    sums: dict[str, int] = {}
    for (name, _), nano in spent.items():
        sums[name] = sums.get(name, 0) + nano
    rows: list[dict[str, Any]] = [
        {
            "name": key.name,
            "key": f"{key.shown}...",
            "status": _status(key, now),
            "created": _moment(key.created),
            "terms": _load(key.terms),
            "spent_usd": {month: sums.get(key.name, 0) / 1e9},
        }
        for key in stored
    ]
    rows += [
        {
            "name": key.name,
            "key": "in the config",
            "status": "config",
            "created": None,
            "terms": _plain(key, leave=("name", "key")),
            "spent_usd": {month: sums.get(key.name, 0) / 1e9},
        }
        for key in config.keys
    ]
    return rows


def _status(key: StoredKey, now: float) -> str:
    if key.ends is not None:
        return f"counts until {_moment(key.ends)}" if key.ends > now else str(key.why)
    expires = _load(key.terms).get("expires")
    return "expired" if expires and datetime.fromisoformat(expires).timestamp() <= now else "active"


def _load(terms: str) -> dict[str, Any]:
    import json

    return dict(json.loads(terms))


def _plain(terms: Terms, leave: Sequence[str] = ()) -> dict[str, Any]:
    return terms.model_dump(mode="json", exclude_defaults=True, exclude=set(leave))


def _moment(time: float) -> str:
    return f"{datetime.fromtimestamp(time, UTC):%Y-%m-%d %H:%M:%S} UTC"


def _show_secret(options: argparse.Namespace, name: str, key: str, more: dict[str, Any]) -> int:
    def render(console: Console) -> None:
        console.print(key, markup=False, soft_wrap=True)
        console.print(f"The key of {name}. It is not shown again: only its hash is stored.")

    emit(options, {"name": name, "key": key, **more}, render)
    return 0


def _table(console: Console, rows: Sequence[dict[str, Any]], columns: Sequence[str]) -> None:
    from rich.table import Table

    table = Table(*columns)
    for row in rows:
        table.add_row(*(_cell(row[column]) for column in columns))
    console.print(table)


def _cell(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_cell(own)}" for name, own in value.items())
    if isinstance(value, list):
        return ",".join(map(str, value))
    return "" if value is None else str(value)


def _none(name: str) -> int:
    print(f"doorman: no key {name[:80]!r} counts; see `doorman keys list`", file=sys.stderr)
    return NO_KEYS
