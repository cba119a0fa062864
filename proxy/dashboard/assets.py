"""The static files, kept in memory and named by their content, so that browsers may keep them for good."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from proxy.dashboard.kit import HOME, Answer, Visit
from proxy.errors import NotFound

FOLDER = Path(__file__).resolve().parent / "static"
TYPES = {
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
}
"""What is served, by the ending of its name."""


@dataclass(frozen=True, slots=True)
class Asset:
    """A static file."""

    body: bytes
    content_type: str
    digest: str


def load(folder: Path = FOLDER) -> dict[str, Asset]:
    """All static files by their path below the folder."""
    return {
        path.relative_to(folder).as_posix(): Asset(
            body := path.read_bytes(), TYPES[path.suffix], hashlib.sha256(body).hexdigest()[:16]
        )
        for path in sorted(folder.rglob("*"))
        if path.suffix in TYPES
    }


def address(assets: Mapping[str, Asset], name: str) -> str:
    """Where a page finds a file. Raises KeyError for one that is not there."""
    return f"{HOME}/static/{name}?v={assets[name].digest}"


async def static(visit: Visit) -> Answer:
    """Answer ``/dashboard/static/...``."""
    asset = visit.desk.assets.get(visit.params["name"])
    if asset is None:
        raise NotFound("No such file here.", code="unknown_url")
    newest = visit.query.get("v") == asset.digest
    age = "public, max-age=31536000, immutable" if newest else "no-cache"
    return Answer(asset.body, 200, {"cache-control": age}, asset.content_type)
