"""The detectors of personal data, as one table. How certain a find is, is one of five grades.

| score | why |
|---|---|
| 1.0 | check digits or a checksum agree |
| 0.95 | the form names itself: an address with a host, a key with its prefix, a valid +international number |
| 0.85 | the form fits and a word near it says what it is |
| 0.75 | a word says what it is, the form only just fits |
| 0.7 | the form alone: plausible, nothing near says so |

Each detector has a gate in RE2 syntax, without look-around, that its finds cannot avoid; all gates
run as one automaton. Expressions are bounded so that no text makes them slow.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from classifiers.pii_accounts import (
    BITCOIN,
    CARD,
    ETHEREUM,
    IBAN,
    check_bitcoin,
    check_card,
    check_iban,
)
from classifiers.pii_grades import CONTEXT, EXACT, Verdict, near, words_of
from classifiers.pii_identity import (
    BIRTH,
    BIRTH_WORDS,
    LICENSE,
    LICENSE_WORDS,
    PASSPORT,
    PASSPORT_WORDS,
    SSN,
    check_document,
    check_ssn,
)
from classifiers.pii_machines import IPV4, IPV6, MAC, check_ipv4, check_ipv6, check_mac
from classifiers.pii_national import NATIONAL_NUMBERS, NationalNumber
from classifiers.pii_phone import PHONE_CANDIDATE, PHONE_GATE, phone
from classifiers.pii_secrets import (
    NAMED,
    NAMED_GATE,
    PREFIXED,
    PREFIXED_GATE,
    PRIVATE_KEY,
    PRIVATE_KEY_GATE,
    is_named_secret,
    is_prefixed_secret,
    is_url_password,
)


@dataclass(frozen=True, slots=True)
class Detector:
    """One form of one kind of personal data.

    Attributes:
        label: what policies call it.
        gate: RE2 expression that occurs in every text with a find.
        form: where candidates are; group ``it``, if there is one, is the find.
        check: ``(text, match, region) -> (start, end, score)``, or None.
    """

    label: str
    gate: str
    form: re.Pattern[str]
    check: Callable[[str, re.Match[str], str], Verdict]


def _whole(score: float) -> Callable[[str, re.Match[str], str], Verdict]:
    def check(text: str, found: re.Match[str], region: str) -> Verdict:
        start, end = found.span("it") if "it" in found.re.groupindex else found.span()
        return start, end, score

    return check


# -- e-mail ------------------------------------------------------------------------------------------

_EMAIL = re.compile(
    r"(?<![\w.+-])(?P<it>\w[\w.!#$%&'*+/=?^`{|}~-]{0,63}@(?:[\w-]{1,63}\.){1,8}"
    r"(?:xn--[a-z0-9-]{2,59}|[^\W\d_]{2,24}))(?!\w)"
)
_EMAIL_WORDED = re.compile(
    r"(?<![\w.+-])[\w.+-]{1,64}\s?[\[({]\s?at\s?[\])}]\s?[\w-]{1,63}"
    r"(?:(?:\s?[\[({]\s?dot\s?[\])}]\s?|\.)[\w-]{1,63}){0,4}(?:\s?[\[({]\s?dot\s?[\])}]\s?|\.)[A-Za-z]{2,24}\b",
    re.IGNORECASE,
)
_NO_TLD = frozenset(
    "png jpg jpeg gif svg webp ico js ts jsx tsx css scss json md py html txt local".split()
)


def _email(text: str, found: re.Match[str], region: str) -> Verdict:
    start, end = found.span("it")
    local, host = found["it"].rsplit("@", 1)
    if host.rsplit(".", 1)[1].lower() in _NO_TLD or local.endswith("."):
        return None
    if local == "git" and text[end : end + 1] in (":", "/"):
        return None  # a repository's address
    return start, end, EXACT


def _national(number: NationalNumber) -> Detector:
    words = words_of(number.words) if number.words else None

    def check(text: str, found: re.Match[str], region: str) -> Verdict:
        start, end = found.span()
        if words is not None and not near(text, start, end, words):
            return None
        compact = re.sub(r"[\s.-]", "", found.group()) if number.country != "FI" else found.group()
        return (start, end, number.score) if number.check(compact.upper()) else None

    form = re.compile(rf"(?<![\w-])(?<!\d[.,])(?:{number.form})(?![\w-]|[.,]\d)")
    gate = number.form if words is None else f"(?i:{number.words})"
    return Detector("NATIONAL_ID", gate, form, check)


def _prefixed(text: str, found: re.Match[str], region: str) -> Verdict:
    return (*found.span(), EXACT) if is_prefixed_secret(found.group()) else None


def _named(text: str, found: re.Match[str], region: str) -> Verdict:
    return (*found.span("named"), CONTEXT) if is_named_secret(found["named"]) else None


def _url_password(text: str, found: re.Match[str], region: str) -> Verdict:
    return (*found.span("it"), EXACT) if is_url_password(found["password"]) else None


_URL_PASSWORD = re.compile(
    r"(?<![A-Za-z0-9+.-])[A-Za-z][A-Za-z0-9+.-]{1,20}://"
    r"(?P<it>[^\s:/@'\"<>]{0,100}:(?P<password>[^\s/@'\"<>]{1,200})@[\w.-]{1,253})"
)

DETECTORS: tuple[Detector, ...] = (
    Detector("EMAIL", r"@[\pL\pN_-]+\.", _EMAIL, _email),
    Detector("EMAIL", r"(?i)[\[({]\s?at\s?[\])}]", _EMAIL_WORDED, _whole(CONTEXT)),
    Detector("PHONE", PHONE_GATE, PHONE_CANDIDATE, phone),
    Detector("CREDIT_CARD", r"\d(?:[ .-]{0,2}\d){11}", CARD, check_card),
    Detector("IBAN", r"(?i)\b[a-z]{2}\d{2}(?:[ -]?[a-z0-9]){11}", IBAN, check_iban),
    Detector("US_SSN", r"\d{3}[-. –]?\d{2}[-. –]?\d{4}", SSN, check_ssn),
    Detector("IP_ADDRESS", r"\d\.\d{1,3}\.\d{1,3}\.\d", IPV4, check_ipv4),
    Detector("IP_ADDRESS", r"(?i)[0-9a-f]{0,4}:[0-9a-f]{0,4}:[0-9a-f]{0,4}", IPV6, check_ipv6),
    Detector(
        "MAC_ADDRESS",
        r"(?i)(?:[0-9a-f]{2}[:-]){5}[0-9a-f]|[0-9a-f]{4}\.[0-9a-f]{4}\.",
        MAC,
        check_mac,
    ),
    Detector(
        "CRYPTO_WALLET", r"\b(?:[13][a-zA-Z1-9]{25}|(?i:bc1[a-z0-9]{8}))", BITCOIN, check_bitcoin
    ),
    Detector("CRYPTO_WALLET", r"0x[0-9a-fA-F]{40}", ETHEREUM, _whole(EXACT)),
    Detector("DATE_OF_BIRTH", rf"(?i:{BIRTH_WORDS})", BIRTH, _whole(CONTEXT)),
    Detector("PASSPORT", rf"(?i:{PASSPORT_WORDS})", PASSPORT, check_document),
    Detector("DRIVER_LICENSE", rf"(?i:{LICENSE_WORDS})", LICENSE, check_document),
    *(_national(number) for number in NATIONAL_NUMBERS),
    Detector("API_KEY", PREFIXED_GATE, PREFIXED, _prefixed),
    Detector("API_KEY", NAMED_GATE, NAMED, _named),
    Detector("API_KEY", PRIVATE_KEY_GATE, PRIVATE_KEY, _whole(EXACT)),
    Detector("URL_CREDENTIALS", r"://[^\s/@]{0,100}:[^\s/@]+@", _URL_PASSWORD, _url_password),
)

LABELS: tuple[str, ...] = tuple(dict.fromkeys(detector.label for detector in DETECTORS))


def candidates(detector: Detector, text: str, region: str) -> Iterator[tuple[int, int, float]]:
    """The finds of one detector: start, end and score."""
    for found in detector.form.finditer(text):
        verdict = detector.check(text, found, region)
        if verdict is not None:
            yield verdict
