"""Addresses of machines, told apart from versions, times and names in code."""

from __future__ import annotations

import ipaddress
import re

from classifiers.pii_grades import EXACT, Verdict, near, words_of

IPV4 = re.compile(r"(?<![\w.-])(?:\d{1,3}\.){3}\d{1,3}(?![\w-]|\.\d)")
IPV6 = re.compile(
    r"(?<![\w:.])(?:[0-9A-Fa-f]{0,4}:){2,7}(?:(?:\d{1,3}\.){3}\d{1,3}|[0-9A-Fa-f]{0,4})(?![\w:])"
)
_VERSION_WORDS = words_of(
    r"(?:version|\bv|\bver|release|firmware|build|driver|section|clause|chapter|update|upgrade|\boid|[a-z]/)[\s.:=#]*$"
)
_HOST_WORDS = words_of(
    r"\bips?\b|address|host|server|ping|client|subnet|\bdns\b|gateway|\baddr|\bfrom\b|connect|ssh|router|://"
)
MAC = re.compile(
    r"(?<![\w:-])(?:[0-9A-Fa-f]{2}(?P<s>[:-])(?:[0-9A-Fa-f]{2}(?P=s)){4}[0-9A-Fa-f]{2}|(?:[0-9A-Fa-f]{4}\.){2}[0-9A-Fa-f]{4})(?![\w:-])"
)
_MAC_WORDS = words_of(r"\bmac\b|ethernet|hardware address|bssid|wlan")


def check_ipv4(text: str, found: re.Match[str], region: str) -> Verdict:
    start, end = found.span()
    try:
        address = ipaddress.IPv4Address(found.group())
    except ValueError:
        return None
    octets = address.packed
    if address.is_loopback or address.is_unspecified or octets[0] in (0, 255):
        return None  # names no one: this machine, any machine, a netmask
    before = text[max(0, start - 16) : start]
    if _VERSION_WORDS.search(before) and not before.endswith("://"):
        return None
    if max(octets) < 30 and not near(text, start, end, _HOST_WORDS):
        return None  # "2.0.1.3" is a version
    return start, end, EXACT


def check_ipv6(text: str, found: re.Match[str], region: str) -> Verdict:
    raw = found.group()
    groups = [group for group in raw.split(":") if group]
    # "a::b" and "::add" are names in code.
    if len(groups) < 3 or not any(c.isdigit() for c in raw):
        return None
    try:
        address = ipaddress.IPv6Address(raw)
    except ValueError:
        return None
    return None if address.is_loopback or address.is_unspecified else (*found.span(), EXACT)


def check_mac(text: str, found: re.Match[str], region: str) -> Verdict:
    raw = re.sub(r"[^0-9a-f]", "", found.group().lower())
    if len(set(raw)) < 3 or (raw.isdigit() and not near(text, *found.span(), _MAC_WORDS)):
        return None
    return (*found.span(), EXACT)
