"""Telephone numbers, with the phonenumbers library (Google's libphonenumber) for what is dialable.

A number with a country code counts when it is valid. A national number counts when a word near it
says what it is, or when it is written the way its region writes numbers and is valid there; dates,
prices, order numbers, addresses and the like are told apart by their shape and by the words in front.
"""

from __future__ import annotations

import re

import phonenumbers
import re2

from classifiers.pii_grades import ALONE, CONTEXT, EXACT, LOOSE, Verdict

REGIONS = ("US", "GB", "DE", "FR", "ES", "IT", "NL", "IN", "BR", "AU", "CH", "SE", "JP", "CN")
"""Where a national number may come from, after the classifier's own region."""

PHONE_GATE = r"\d(?:[ \t.()/–-]{0,3}\d){6}"
PHONE_CANDIDATE = re.compile(
    r"(?<![\w+@#$€£%=&*^])(?<!\d[.,:])(?<![.,:/-]\d)"
    r"(?P<number>(?:\+ ?|\(\+?)?\(?\d(?:[ \t.()/–-]{0,3}\d){6,16})"
    r"(?P<extension>[ ,]{0,2}(?:x|ext\.?|extension|durchwahl|poste)[ .:]{0,2}\d{1,6})?(?![\w%°€£$@])",
    re.IGNORECASE,
)

_SAYS_PHONE = re.compile(
    r"phones?\b|\btel(?:e?fon\w*|éfono|ephone)?\b|\bcall(?:ed|ing)?\b|mobile?\b|m[oó]vil\b|\bcell\b|cellular"
    r"|\bfax\b|whats ?app|\btext(?:ed)?\b|\bsms\b|\bdial\b|\breach(?:ed)?\b|\bcontact(?:ed)?\b|\bhandy"
    r"|hotline|landline|helpline|\bring\b|\bdesk\b|\bdirect(?: line)?\b|\boffice ?:|\banswering\b|num[eé]ro"
    r"|celular|cellulare|rufnummer|\bph\b|☎|📞|📱|电话|電話|手机|携帯|телефон|тел\b",
    re.IGNORECASE,
)
_SAYS_NUMBER = re.compile(
    r"\b(?:my|her|his|their|your|our|its|the|new) (?:\w+ )?(?:number|no)\b|\bnumber is\b",
    re.IGNORECASE,
)
_SAYS_OTHER = re.compile(
    r"\b(?:order|invoice|track\w*|ref\w*|ticket|case|acc(?:oun)?t|id|serial|sku|isbn|issn|part|model|version"
    r"|policy|claim|flight|confirmation|code|zip|postal|price|total|amount|cards?|credit|ssn|social|security|iban"
    r"|pmid|doi|arxiv|rfc|cve|bug|issue|commit|timestamp|population|routing|bsb|vat|ein|licen[cs]e|passport|sort"
    r"|member\w*|customer|employee|student|bank|date|born|dob|coordinates?|lat\w*|lon\w*|ip|nhs|sin|tin|pesel"
    r"|cpf|bsn|aadhaar|port|isrc|uid|hash|seed|size|volume|weight|located)\b",
    re.IGNORECASE,
)
_SAYS_ANYTHING = re2.compile(
    "(?i)" + "|".join(words.pattern for words in (_SAYS_PHONE, _SAYS_NUMBER, _SAYS_OTHER))
)
"""In RE2 ten times as fast: most candidates stand near none of the words."""
_SAYS_PHONE_AFTER = re.compile(
    r"[ ,-]*\(?(?:mobile|cell|home|work|office|tel|fax|phone|direct)\b", re.IGNORECASE
)

_DATE = re.compile(
    r"(?:(?:19|20)\d\d[-/. ](?:0?[1-9]|1[0-2])[-/. ](?:[0-2]?\d|3[01])"
    r"|(?:[0-2]?\d|3[01])(?:[-/.](?:[0-2]?\d|3[01])[-/.](?:19|20)?| (?:[0-2]?\d|3[01]) (?:19|20))\d\d)"
    r"(?:[ \t].*)?"
)
_YEARS = re.compile(
    r"(?:1[5-9]|20)\d\d ?[-–/] ?(?:1[5-9]|20)\d\d(?:[ ./-].*)?|(?:(?:1[89]|20)\d\d ){1,4}(?:1[89]|20)\d\d"
)
_ADDRESS_OR_DECIMAL = re.compile(r"(?:\d{1,3}\.){3}\d{1,3}|\d+\.\d+")
_AMOUNT = re.compile(
    r"[1-9]\d{0,2}(?:[ .]\d{3}){2,}|\d+/\d+|\d+ ?[-–] ?\d+ ?[-–] ?\d+ ?[-–] ?\d+ ?[-–] ?\d+.*"
)
_NORTH_AMERICAN = re.compile(
    r"(?:1[ .-]?)?(?:\([2-9]\d\d\) ?|[2-9]\d\d(?P<s>[ .-]))[2-9]\d\d(?:(?P=s)|[.-])\d{4}"
)
_TRUNK = re.compile(r"\(?0[1-9]\d{0,4}\)?[ /-]|\(0\)|0[1-9](?:[ .-]\d\d){4}")


def phone(text: str, found: re.Match[str], region: str) -> Verdict:
    """Judge a candidate; trailing groups that do not belong ("... 2 times") are given up."""
    start = found.start("number")
    number = found["number"]
    extension = found["extension"]
    end = found.end() if extension else found.end("number")
    north_american = _NORTH_AMERICAN.match(number)
    if north_american and number[north_american.end() :][:1] in (" ", "\t"):
        number, extension = north_american.group(), None
        end = start + len(number)
    for _ in range(3):
        score = _score(text, start, number, region, bool(extension))
        if score is not None:
            opened = number.count("(") > number.count(")")
            return start + (opened and number[0] == "("), end, score
        cut = max(number.rfind(" "), number.rfind("\t"))
        if cut < 7 or sum(c.isdigit() for c in number[cut:]) > 5:
            return None
        number, extension = number[:cut].rstrip(" \t-–.(/"), None
        end = start + len(number)
    return None


def _score(text: str, start: int, number: str, region: str, extension: bool) -> float | None:
    digits = "".join(c for c in number if c.isdigit())
    if not 7 <= len(digits) <= 16 or len(set(digits)) < 3:
        return None
    groups = re.findall(r"\d+", number)
    if len(groups) > 8 and (max(map(len, groups)) > 1 or len(groups) > 12):
        return None
    said = _said(text, start, start + len(number))
    if number.lstrip("( ").startswith("+") or (digits.startswith("00") and len(digits) > 10):
        return _international(number, digits, bool(said))
    named = said == _DIRECTLY
    if said == 0 or _other_shape(number, named):
        return None
    if _NORTH_AMERICAN.fullmatch(number):
        return CONTEXT if said or extension else ALONE
    if len(groups) == 1 and (
        not said
        or (len(digits) == 7 and not named)
        or (digits[0] == "1" and len(digits) in (10, 12, 13))  # timestamps and ids
    ):
        return None
    if named and len(digits) <= 12:
        return CONTEXT if _valid(number, (region,)) else LOOSE
    if said and _valid(number, (region, *REGIONS)):
        return CONTEXT
    if _TRUNK.match(number) and 9 <= len(digits) <= 12 and _valid(number, (region, *REGIONS)):
        return ALONE
    return None


def _international(number: str, digits: str, said: bool) -> float | None:
    dialled = "+" + (digits[2:] if digits.startswith("00") else digits)
    # "+44 (0)20 ..." writes the trunk zero that is not dialled.
    trunk = re.sub(r"\(0\)", "", number)
    for form in (dialled, "+" + "".join(c for c in trunk if c.isdigit()).removeprefix("00")):
        try:
            parsed = phonenumbers.parse(form, None)
        except phonenumbers.NumberParseException:
            continue
        if phonenumbers.is_valid_number(parsed):
            return EXACT
        if phonenumbers.is_possible_number(parsed) and (
            said or " " in number.strip("+ ") or "-" in number
        ):
            return CONTEXT
    return None


def _valid(number: str, regions: tuple[str, ...]) -> bool:
    for home in dict.fromkeys(regions):
        try:
            if phonenumbers.is_valid_number(phonenumbers.parse(number, home)):
                return True
        except phonenumbers.NumberParseException:
            continue
    return False


def _other_shape(number: str, named: bool) -> bool:
    """Dates and the like; "723 813 266" is an amount unless a word names it a telephone number."""
    if any(shape.fullmatch(number) for shape in (_DATE, _YEARS, _ADDRESS_OR_DECIMAL)):
        return True
    return not named and _AMOUNT.fullmatch(number) is not None


_NEARBY, _DIRECTLY = 1, 2


def _said(text: str, start: int, end: int) -> int | None:
    """What the words near say: ``_DIRECTLY`` or ``_NEARBY`` a telephone number, 0 another number."""
    if _SAYS_PHONE_AFTER.match(text[end : end + 16]):
        return _DIRECTLY
    before = text[max(0, start - 48) : start]
    if _SAYS_ANYTHING.search(before) is None:
        return None
    phone_at = _last(_SAYS_PHONE, before)
    other_at = _last(_SAYS_OTHER, before)
    number_at = _last(_SAYS_NUMBER, before)
    if number_at > phone_at and number_at - other_at > 24:
        phone_at = number_at  # "number" alone; not the number of something else
    if phone_at < 0 and other_at < 0:
        return None
    if phone_at < other_at:
        return 0
    return _DIRECTLY if len(before) - phone_at <= 8 else _NEARBY


def _last(words: re.Pattern[str], text: str) -> int:
    """Where the last of the words ends, far to the left if there is none."""
    return max((found.end() for found in words.finditer(text)), default=-99)
