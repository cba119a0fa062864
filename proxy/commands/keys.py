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
    create.add_argument(
        "--admin", action="store_true", help="opens the dashboard, /metrics and the like"
    )
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
    from proxy.key_listing import NAME, NAME_FAULT, plain
    from proxy.keystore import made
    from proxy.ledgers.database import Refused

    name, terms = options.name, _terms(options)
    if not NAME.fullmatch(name):
        raise CommandError(f"the name {name[:80]!r} {NAME_FAULT}")
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
    return _show_secret(options, name, key, plain(terms))


def _rotate(options: argparse.Namespace, config: Config) -> int:
    from proxy.key_listing import LONGEST_GRACE
    from proxy.keystore import made

    if not 0 <= options.grace <= LONGEST_GRACE:
        raise CommandError(f"--grace {options.grace:g} must be 0 to {LONGEST_GRACE:.0f} seconds")
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
    from proxy.key_listing import moment

    changes = _with(config, lambda table: table.changes(options.limit))
    rows = [
        {
            "time": moment(change.time),
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
TERMS = (
    "models",
    "policies",
    "rpm",
    "tpm",
    "max_parallel",
    "budget_usd",
    "expires",
    "admin",
)
LISTED = ("name", "key", "status", "created", "terms", "spent_usd")


def _shared(parser: argparse.ArgumentParser) -> None:
    config_option(parser)
    json_option(parser)


def _terms(options: argparse.Namespace) -> Terms:
    from proxy.key_listing import terms_of

    given = {name: getattr(options, name) for name in TERMS if getattr(options, name) is not None}
    try:
        return terms_of(given)
    except ValueError as error:
        option, _, told = str(error).partition(": ")
        raise CommandError(f"--{option.replace('_', '-')}: {told}") from None


def _check(terms: Terms, config: Config) -> None:
    """Refuse policies that are not there; say which patterns match no model yet."""
    from policies import schema
    from proxy.key_listing import unmatched

    if terms.policies:
        with faults():
            known = {schema.load(path).name for path in config.policies}
        if unknown := [name for name in terms.policies if name not in known]:
            raise CommandError(
                f"--policies: no policy {unknown[0]!r} in the config; there are: "
                f"{', '.join(sorted(known)) or 'none'}"
            )
    aliases = [entry.model_name for entry in config.model_list]
    for glob in unmatched(terms, aliases):
        print(f"doorman: --models: {glob!r} matches no model of the config yet", file=sys.stderr)


def _with(config: Config, work: Callable[[KeyTable], Awaitable[T]]) -> T:
    """Do some work on the tables, which are made if they are not there."""
    from proxy.config_ledger import NONE
    from proxy.keystore import key_table, place_of
    from proxy.ledgers.database import Away, migrate

    async def on_table() -> T:
        table = key_table(ledger, actor())
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


def actor() -> str:
    """The user of this machine who changes something."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}" if hasattr(os, "getuid") else "unknown"


def _rows(config: Config) -> list[dict[str, Any]]:
    """The keys of the database and those of the config, without anything secret."""
    from proxy.key_listing import listed, moment, month_of

    now = time.time()
    month = month_of(now)

    async def read(table: KeyTable) -> tuple[list[StoredKey], dict[tuple[str, str], int]]:
        return await table.all(), await table.spent(f"{month}-01")

    stored, spent = _with(config, read)
    return [
        {
            "name": row.name,
            "key": row.key,
            "status": row.status,
            "created": None if row.created is None else moment(row.created),
            "terms": dict(row.terms),
            "spent_usd": {month: row.spent_in(month)},
        }
        for row in listed(stored, config.keys, spent, now)
    ]


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
