"""The generated tables of coverage.md: every endpoint is asked what it reads, place by place."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.carriers import CARRIERS, UNREADABLE
from proxy.endpoints import (
    ENDPOINTS,
    chat_request,
    messages_request,
    prompts,
    responses_request,
)
from proxy.endpoints.media import BLOB_KEYS, MEDIA_KEYS, REFERENCE_KEYS, SIGNATURE_KEYS
from proxy.endpoints.words import VALUES

WORD = "Zonubade kotifa"
FIELDS = {
    "/v1/chat/completions": chat_request.FIELD_ROLES,
    "/v1/completions": prompts.FIELD_ROLES,
    "/v1/embeddings": prompts.FIELD_ROLES,
    "/v1/responses": responses_request.FIELD_ROLES,
    "/v1/messages": messages_request.FIELD_ROLES,
}


def carriers() -> str:
    """Endpoint, place, whose text it is and how it is read."""
    lines = ["| endpoint | place | read as the text of | how |", "|---|---|---|---|"]
    for path, endpoint in ENDPOINTS.items():
        for place, make in CARRIERS[path].items():
            body = make(WORD)
            endpoint.validate(body)
            plain = [text for text in endpoint.texts(body) if _said(text.content)]
            assert plain, f"{path} {place} is not read"
            roles = ", ".join(sorted({text.role for text in plain}))
            how = "as it stands" if any(not text.derived for text in plain) else "taken apart"
            lines.append(f"| `{path}` | {_code(place)} | {roles} | {how} |")
    return "\n".join(lines) + "\n"


def unreadable() -> str:
    """Endpoint, place, and the address that the record has for it."""
    lines = ["| endpoint | place | reported as |", "|---|---|---|"]
    for path, bodies in UNREADABLE.items():
        for place, body in bodies.items():
            ENDPOINTS[path].validate(body)
            found = ENDPOINTS[path].unscanned(body)
            assert found, f"{path} {place} is not reported"
            lines.append(f"| `{path}` | {_code(place)} | `{', '.join(found)}` |")
    return "\n".join(lines) + "\n"


def fields() -> str:
    """The roles of top-level fields."""
    lines = ["| endpoint | role | fields |", "|---|---|---|"]
    for path in ENDPOINTS:
        table = FIELDS[path]
        for role in sorted(set(table.values())):
            names = ", ".join(f"`{name}`" for name in sorted(table) if table[name] == role)
            lines.append(f"| `{path}` | {role} | {names} |")
        lines.append(f"| `{path}` | user | every other field that is no message or input |")
    return "\n".join(lines) + "\n"


def skipped() -> str:
    """What is no text: the closed tables."""
    rows = {
        "words of the APIs themselves, in fields of protocol": VALUES,
        "encoded data: decoded and read where it is text, reported where not": MEDIA_KEYS,
        "stored at the provider: reported": REFERENCE_KEYS,
        "encrypted by the provider: reported": BLOB_KEYS,
        "seals of the provider, unless a word stands in them": SIGNATURE_KEYS,
    }
    lines = ["| what | |", "|---|---|"]
    lines += [
        f"| {what} | {', '.join(f'`{n}`' for n in sorted(them))} |" for what, them in rows.items()
    ]
    return "\n".join(lines) + "\n"


def _said(content: str) -> bool:
    return all(word in content for word in WORD.split())


def _code(place: str) -> str:
    name, blank, rest = place.partition(" (")
    return place if " " in name else f"`{name}`{blank}{rest}"
