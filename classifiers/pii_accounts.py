"""Payment cards, bank accounts and wallets: numbers with a checksum."""

from __future__ import annotations

import re

from stdnum import bitcoin, luhn
from stdnum.iso7064 import mod_97_10

from classifiers.pii_grades import CHECKED, OTHER_NUMBER, Verdict, near, words_of

CARD = re.compile(
    r"(?<![\w-])(?<![\d][.,])(?:(?:\d{4}(?:[ -]{1,2}|\.)){3}\d{4}(?:[ -]\d{3})?"
    r"|\d{4}[ -]\d{6}[ -]\d{4,5}|\d{8}[ -]\d{8}|\d{12,19}|\d(?:[ -]\d){12,18})(?![\w-]|[.,]\d)"
)
_ISSUERS = re.compile(
    r"4(?:\d{12}|\d{15}|\d{18})|5[1-5]\d{14}|(?:222[1-9]|22[3-9]\d|2[3-6]\d\d|27[01]\d|2720)\d{12}"
    r"|3[47]\d{13}|(?:6011|64[4-9]\d|65\d\d|62\d\d|81\d\d|82\d\d|60\d\d|508\d)\d{12,15}|(?:30[0-5]|36\d|38\d|39\d)\d{11,16}"
    r"|35(?:2[89]|[3-8]\d)\d{12,15}|(?:2131|1800)\d{11}|220[0-4]\d{12,15}"
)
_CARD_WORDS = words_of(
    r"card|credit|debit|\bcc\b|visa|master|amex|american express|discover|maestro|diners|\bjcb\b|\bpan\b"
    r"|karte|carte|tarjeta|cart[aã]o|carta"
)


def check_card(text: str, found: re.Match[str], region: str) -> Verdict:
    start, end = found.span()
    digits = re.sub(r"\D", "", found.group())
    if not luhn.is_valid(digits) or len(set(digits)) < 2:
        return None
    if _ISSUERS.fullmatch(digits):
        if OTHER_NUMBER.search(text[max(0, start - 24) : start]) and not near(
            text, start, end, _CARD_WORDS
        ):
            return None
        return start, end, CHECKED
    # Maestro has many prefixes, and issuers add some: a word near it decides.
    named = digits[0] in "23456" and near(text, start, end, _CARD_WORDS)
    return (start, end, CHECKED) if named else None


IBAN = re.compile(r"(?<![A-Za-z0-9])[A-Za-z]{2}\d{2}(?:[ -]?[A-Za-z0-9]){11,30}")
_IBAN_LENGTHS = {
    code: int(length)
    for code, length in re.findall(
        r"([A-Z]{2})(\d{2})",
        "AD24AE23AL28AT20AZ28BA20BE16BG22BH22BI27BR29BY28CH21CR22CY28CZ24DE22DJ27DK18DO28EE20EG29ES24FI18"
        "FK18FO18FR27GB22GE22GI23GL18GR27GT28HN28HR21HU28IE22IL23IQ23IS26IT27JO30KW30KZ20LB28LC32LI21LT20"
        "LU20LV21LY25MC27MD24ME22MK19MN20MR27MT31MU30NI28NL18NO15OM23PK24PL28PS29PT25QA29RO24RS22RU33SA24"
        "SC31SD18SE24SI19SK24SM27SO23ST25SV28TL23TN24TR26UA29VA22VG24XK20YE30",
    )
}
"""Length by country, from the SWIFT IBAN registry."""


def check_iban(text: str, found: re.Match[str], region: str) -> Verdict:
    length = _IBAN_LENGTHS.get(found.group()[:2].upper())
    if length is None:
        return None
    start = end = found.start()
    letters: list[str] = []
    while len(letters) < length and end < found.end():
        if text[end].isalnum():
            letters.append(text[end])
        end += 1
    number = "".join(letters).upper()
    if (
        len(number) != length
        or text[end : end + 1].isalnum()
        or not mod_97_10.is_valid(number[4:] + number[:4])
    ):
        return None
    return start, end, CHECKED


BITCOIN = re.compile(
    r"(?<!\w)(?:[13][a-km-zA-HJ-NP-Z1-9]{25,34}|bc1[a-z0-9]{8,87}|BC1[A-Z0-9]{8,87})(?!\w)"
)
ETHEREUM = re.compile(r"(?<!\w)0x[0-9a-fA-F]{40}(?!\w)")


def check_bitcoin(text: str, found: re.Match[str], region: str) -> Verdict:
    return (*found.span(), CHECKED) if bitcoin.is_valid(found.group()) else None
