"""List the shipped classifiers, or show one: labels, figures, sources, licences."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from proxy.commands.output import CommandError, emit, json_option

if TYPE_CHECKING:
    from rich.console import Console

CARD = "README.md"
PII = "pii"
"""The shipped classifier that is no pack of trained numbers: it is built of patterns."""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("what", choices=["list", "show"], help="all, or one in detail")
    parser.add_argument(
        "name", nargs="?", metavar="NAME", help="a shipped classifier, or a pack's folder"
    )
    json_option(parser)


def run(options: argparse.Namespace) -> int:
    """Read manifests; nothing is loaded into memory."""
    from classifiers.packs import MANIFEST, SHIPPED

    folders = {path.parent.name: path.parent for path in sorted(SHIPPED.glob(f"*/{MANIFEST}"))}
    if options.what == "list":
        rows = [_summary(_manifest(folder), folder) for folder in folders.values()]
        rows.append({key: _pii()[key] for key in ("name", "kind", "hash", "labels", "bytes")})
        emit(options, rows, lambda console: _render_list(console, rows))
        return 0
    if options.name is None:
        raise CommandError(f"which pack? There are: {', '.join([*folders, PII])}")
    if options.name == PII:
        from proxy.commands import pii_labels

        found, described = _pii(), pii_labels.card()
        emit(options, {**found, "card": described}, lambda out: _render_one(out, found, described))
        return 0
    folder = folders.get(options.name, Path(options.name))
    if not (folder / MANIFEST).is_file():
        raise CommandError(f"no pack {options.name!r}; there are: {', '.join([*folders, PII])}")
    manifest = _manifest(folder)
    card = folder / CARD
    text = card.read_text("utf-8") if card.is_file() else None
    emit(options, {**manifest, "card": text}, lambda console: _render_one(console, manifest, text))
    return 0


def _manifest(folder: Path) -> dict[str, Any]:
    import json

    from classifiers.packs import MANIFEST, PackError, read_pack

    try:
        kind = json.loads((folder / MANIFEST).read_text("utf-8")).get("kind", "")
        return read_pack(folder, kind=kind)
    except (PackError, ValueError, AttributeError) as error:
        raise CommandError(f"{error}") from None


def _pii() -> dict[str, Any]:
    """What there is to say of the patterns for personal data, in the words of a manifest."""
    from classifiers.pii import PiiClassifier
    from proxy.commands.pii_labels import described

    classifier = PiiClassifier()
    return {
        "name": PII,
        "kind": "patterns",
        "hash": classifier.version,
        "labels": list(classifier.labels),
        "bytes": 0,
        "finds": dict(described()),
        "licence": "Apache-2.0",
    }


def _summary(manifest: dict[str, Any], folder: Path) -> dict[str, Any]:
    return {
        "name": folder.name,
        "kind": manifest["kind"],
        "hash": manifest["hash"][:12],
        "labels": manifest.get("labels", []),
        "bytes": sum(path.stat().st_size for path in folder.iterdir() if path.is_file()),
    }


def _render_list(console: Console, rows: list[dict[str, Any]]) -> None:
    from rich.table import Table

    table = Table("name", "kind", "hash", "size", "labels")
    for row in rows:
        size = f"{row['bytes'] / 1e6:.1f} MB" if row["bytes"] else ""
        table.add_row(row["name"], row["kind"], row["hash"], size, ", ".join(row["labels"]))
    console.print(table)


def _render_one(console: Console, manifest: dict[str, Any], card: str | None) -> None:
    from rich.markdown import Markdown

    if card is not None:
        console.print(Markdown(card))
        return
    console.print_json(data=manifest)
