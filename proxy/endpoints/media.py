"""Strings that are not written but encoded: images, audio, files, and what only providers can read.

Most of them cannot be read here, and are listed as unscanned. Some are texts after all: a text file
that is sent as data is decoded and read.
"""

from __future__ import annotations

import codecs
import re
from base64 import b64decode
from collections.abc import Iterator
from typing import TYPE_CHECKING
from urllib.parse import unquote

from proxy.endpoints import words

if TYPE_CHECKING:
    from proxy.endpoints.base import Address

MEDIA_KEYS = frozenset(
    {
        "url", "data", "file_data", "b64_json", "image_url", "audio_url", "video_url", "file_url",
        "image", "audio", "partial_image_b64",
    }
)  # fmt: skip
"""Keys of images, audio and files."""

BASE64_KEYS = {
    "data": frozenset({"input_audio", "audio", "source", "inline_data"}),
    "file_data": frozenset({"file", "input_file", "content", "output"}),
    "b64_json": frozenset({"data", "images", "image"}),
}
"""Keys of plain base64, and below which keys: elsewhere they are the client's own, and text."""

REFERENCE_KEYS = frozenset(
    {"container", "file_id", "file_ids", "file_uri", "skill_id", "vector_store_ids"}
)
"""Keys of things that are stored at the provider and cannot be read here."""

BLOB_KEYS = frozenset({"encrypted_content"})
"""Keys of what only the provider can read: base64 of any length."""

SIGNATURE_KEYS = frozenset({"signature"})
"""Keys of seals. The provider compares them, no model reads them."""

UNREAD_KEYS = MEDIA_KEYS | REFERENCE_KEYS | BLOB_KEYS
"""Keys without which nothing is unread, but for the ``id`` of what is stored."""

_STORED = (("audio", "id"), ("container", "id"))

_PICTURE_KEYS = frozenset({"image_url", "audio_url", "video_url", "images", "image", "audio"})
"""Keys above a ``url`` that is shown and not only named."""

_TEXT_TYPE = r"text/(?:plain|csv|html|markdown|x-markdown|css|javascript|xml|tab-separated-values)"
_TEXT_APPLICATION = r"application/(?:json|xml|yaml|x-yaml|javascript|x-ndjson|rtf|x-sh|sql)"
_PICTURE = (
    r"image/(?:png|jpe?g|gif|webp|svg\+xml|bmp|tiff|heic|heif|avif)"
    r"|audio/(?:wav|x-wav|wave|mpeg|mp3|mp4|m4a|ogg|webm|flac|aac|opus)"
    r"|video/(?:mp4|mpeg|webm|quicktime|ogg)"
)
_OFFICE = (
    r"application/(?:pdf|octet-stream|zip|msword|vnd\.ms-(?:excel|powerpoint)"
    r"|vnd\.openxmlformats-officedocument\.(?:wordprocessingml\.document"
    r"|spreadsheetml\.sheet|presentationml\.presentation)"
    r"|vnd\.oasis\.opendocument\.(?:text|spreadsheet|presentation))"
)
_KNOWN_HEAD = re.compile(
    rf"data:(?:{_TEXT_TYPE}|{_TEXT_APPLICATION}|{_PICTURE}|{_OFFICE})?"
    r"(?:;charset=(?:utf-?8|utf-?16|us-ascii|iso-8859-1|windows-1252))?;base64,",
    re.IGNORECASE,
)
"""A head that says nothing but the type. Any other one is read as text."""

_DATA_URL = re.compile(
    r"(?P<head>data:(?P<type>[^,;]{0,128})[^,]{0,128};base64,)(?P<payload>[A-Za-z0-9+/_\-\r\n]*={0,2})",
    re.IGNORECASE | re.ASCII,
)
_RENDERED = re.compile(r"(?:image|audio|video|font|model)/", re.IGNORECASE)
_ENCODED_URL = re.compile(r"data:[^,]*?(?P<base64>;base64)?,", re.IGNORECASE)
_BASE64 = re.compile(r"(?:[A-Za-z0-9+/_-]{4})*(?:[A-Za-z0-9+/_-]{2}==|[A-Za-z0-9+/_-]{3}=)?")
_WEB = re.compile(r"(?:https?|gs|s3|file)://\S+", re.IGNORECASE)
_LINK = re.compile(
    r"[a-z][a-z0-9+.-]{0,31}:[/\\]|[/\\]{2}|data:|(?:https?|gs|s3|file|ftp|blob):", re.IGNORECASE
)
"""How a reference begins once blanks are out, as parsers of URLs read it."""
_BLANKS = re.compile(r"[\s\x00-\x20\x7f\u200b-\u200f\u2060\ufeff]+")
_BEGINNING = 256
_BINARY = re.compile("[\x00-\x08\x0e-\x1a\x1c-\x1f]")
_RUNS = re.compile(r"[a-z]{4,}|[B-Z]{4,}")  # zeros are written as A
_PROBE = 4096
_LONG = 64


def is_media(address: Address, string: str) -> bool:
    """Whether a string is encoded data: it is not classified as it stands, see :func:`held`."""
    key = last_name(address)
    if key in BLOB_KEYS:
        return _BASE64.fullmatch(string) is not None and not in_clear(string)
    if key not in MEDIA_KEYS:
        return False
    if string[:5].lower() == "data:":
        return _DATA_URL.fullmatch(string) is not None
    if key == "partial_image_b64":
        return _BASE64.fullmatch(string) is not None
    around = [part for part in address if isinstance(part, str)]
    below = around[-2] if len(around) > 1 else ""
    if key == "data" and below == "content":  # a thought that the provider has sealed
        return len(string) > _LONG and _random(string)
    if below not in BASE64_KEYS.get(key, ()) or _BASE64.fullmatch(string) is None:
        return False
    return not in_clear(string)


def in_clear(string: str) -> bool:
    """Whether what looks like base64 has words in plain sight: a third of it stands in runs of four
    letters and more of one case, which is rare in data."""
    start = string[:_PROBE]
    return 3 * sum(map(len, _RUNS.findall(start))) > len(start)


def is_signature(address: Address, string: str) -> bool:
    """Whether a string is a seal, without a word that a client could have put there."""
    if last_name(address) not in SIGNATURE_KEYS:
        return False
    if len(string) <= _LONG:
        return words.opaque(string.rstrip("=").replace("+", "-"))
    return _random(string) and _text(string) is None and not in_clear(string)


def held(string: str) -> Iterator[str]:
    """The texts that encoded data holds: what it decodes to, and what its head says."""
    found = _DATA_URL.fullmatch(string)
    if found is not None and _KNOWN_HEAD.fullmatch(found["head"]) is None:
        yield found["head"]
    payload = string if found is None else found["payload"]
    if text := _text(payload):
        yield text
        if len(payload) <= _LONG:  # words can be base64 by chance
            yield payload


def unread(address: Address, string: str) -> bool:
    """Whether a string is, or leads to, what nobody here can read."""
    key = last_name(address)
    if key not in UNREAD_KEYS:
        return key == "id" and address[-2:] in _STORED
    if key in REFERENCE_KEYS or key in BLOB_KEYS:
        return True
    if is_media(address, string):
        found = _DATA_URL.fullmatch(string)
        if found is not None and _RENDERED.match(found["type"]):
            return True
        if found is None and (key != "file_data" and "source" not in address):
            return True
        text = _text(string if found is None else found["payload"])
        return text is None or text.startswith("%PDF")
    if _clear_data(string):
        return False
    return _is_place(address) or _LINK.match(_BLANKS.sub("", string[:_BEGINNING])) is not None


def _is_place(address: Address) -> bool:
    """Whether an API takes media here and nothing else: what is no text for certain is unread."""
    names = [part for part in address if isinstance(part, str)]
    key, below = names[-1], names[-2] if len(names) > 1 else ""
    if key.endswith("_url"):
        return True
    if key == "url":
        return below in _PICTURE_KEYS or below == "source"
    return below in BASE64_KEYS.get(key, ())


def _clear_data(string: str) -> bool:
    """Whether a data URL without base64 is a text: of no type that is shown, and decoded."""
    found = _ENCODED_URL.match(string)
    if found is None or found["base64"] or _RENDERED.match(string[5:]):
        return False
    source = string[found.end() :]
    return "%" not in source or bool(decoded(string))


def generated(address: Address, string: str) -> bool:
    """Whether a string of a reply is, or leads to, media that nobody here can read."""
    key = last_name(address)
    if key in BLOB_KEYS or key not in MEDIA_KEYS:
        return False
    if _WEB.fullmatch(string) is None:
        return is_media(address, string)
    around = {part for part in address if isinstance(part, str)}
    return key != "url" or not around.isdisjoint(_PICTURE_KEYS)


def decoded(value: str) -> str | None:
    """The text of a data URL that holds some in a code; None for anything else."""
    found = _ENCODED_URL.match(value) if value[:5].lower() == "data:" else None
    if found is None:
        return None
    source = value[found.end() :]
    if found["base64"]:
        return _text(source) or None
    try:
        return unquote(source, errors="strict") if "%" in source else None
    except ValueError:
        return None


def last_name(address: Address) -> str:
    """The last name in an address; elements of a list go by the name of the list."""
    for part in reversed(address):  # a plain loop: this runs for every string of every body
        if part.__class__ is str:
            return part
    return ""


def _random(string: str) -> bool:
    """Whether a long string is base64 that nobody has written: words alone have no digits."""
    if _BASE64.fullmatch(string) is None:
        return False
    return all(
        re.search(r"[0-9]", string[at : at + 2 * _LONG])
        for at in range(0, max(1, len(string) - _LONG), 2 * _LONG)
    )


def _text(payload: str) -> str | None:
    """What base64 decodes to, if that is text: UTF-8 or marked UTF-16, without control characters."""
    source = payload.replace("-", "+").replace("_", "/").rstrip("=")
    try:
        head = b64decode(source[:_PROBE] + "=" * (-len(source[:_PROBE]) % 4))
        coding = "utf-16" if head[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) else "utf-8"
        # Most data is none, and says so at its beginning.
        if _BINARY.search(codecs.getincrementaldecoder(coding)().decode(head)):
            return None
        text = b64decode(source + "=" * (-len(source) % 4)).decode(coding)
    except ValueError:
        return None
    return None if _BINARY.search(text) else text
