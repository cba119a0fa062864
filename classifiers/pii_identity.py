"""Identity papers and dates of birth: forms that mostly need a word in front to mean anything."""

from __future__ import annotations

import re

from stdnum.us import ssn

from classifiers.pii_grades import ALONE, CONTEXT, OTHER_NUMBER, Verdict, near, words_of

SSN = re.compile(r"(?<![\w.-])\d{3}(?P<s>[-. –]?)\d{2}(?P=s)\d{4}(?![\w-]|[.,]\d)")
_SSN_WORDS = words_of(r"\bssn\b|social[\s-]+security|\bss ?#|\bsocial\b|tax(?:payer)? id|\bitin\b")
_PHONE_WORDS = words_of(r"phone|\btel\b|call|mobile|fax")


def check_ssn(text: str, found: re.Match[str], region: str) -> Verdict:
    start, end = found.span()
    digits = re.sub(r"\D", "", found.group())
    if not ssn.is_valid(f"{digits[:3]}-{digits[3:5]}-{digits[5:]}"):
        return None
    if near(text, start, end, _SSN_WORDS):
        return start, end, CONTEXT
    alone = found["s"] == "-" and not _PHONE_WORDS.search(text[max(0, start - 16) : start])
    return (
        (start, end, ALONE)
        if alone and not OTHER_NUMBER.search(text[max(0, start - 20) : start])
        else None
    )


_LINK = r"(?:[\s:=,#()\"'-]|\b(?:is|was|on|the|no|num|number|nr|n°|id|le|am|el|em|il|of|my|card)\b\.?){1,10}"
_MONTH = (
    r"(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec|januar|märz|mai|okt|dez|janv|févr|mars|avr|juin|juil|août|déc"
    r"|ene|abr|ago|dic|gen|mag|giu|lug|set|ott|out)[^\W\d_]{0,7}\.?"
)
_DATE = (
    rf"(?:(?:19|20)\d\d[-/.]\d{{1,2}}[-/.]\d{{1,2}}|\d{{1,2}}[-/. ]\d{{1,2}}[-/. ](?:19|20)?\d\d"
    rf"|\d{{1,2}}(?:st|nd|rd|th|\.|er)?\s+(?:of\s+|de\s+)?{_MONTH},?\s+(?:de\s+)?(?:19|20)\d\d|{_MONTH}\s+\d{{1,2}}(?:st|nd|rd|th)?,?\s+(?:19|20)\d\d)"
)
BIRTH_WORDS = (
    r"date of birth|birth ?dates?|birthday|\bd\.?o\.?b\b\.?|\bborn|geburtsdatum|geb\.|geboren"
    r"|date de naissance|\bnée? le"
    r"|fecha de nacimiento|\bnacid[oa]|data de nascimento|\bnascid[oa]|data di nascita|\bnat[oa] il"
)
BIRTH = re.compile(rf"(?:{BIRTH_WORDS}){_LINK}(?P<it>{_DATE})(?!\w|[-/.]\d)", re.IGNORECASE)
PASSPORT_WORDS = r"passport|reisepass|passeport|pasaporte|passaporto|passaporte"
PASSPORT = re.compile(
    rf"(?:{PASSPORT_WORDS}){_LINK}(?P<it>[A-Z]{{0,3}}\d[A-Z0-9]{{4,9}})(?!\w)", re.IGNORECASE
)
LICENSE_WORDS = (
    r"driv(?:er'?s?|er’s|ing) licen[cs]e|drivers? lic\b\.?|\bdl\b|führerschein|permis de conduire"
    r"|carnet de conducir|patente di guida|rijbewijs"
)
LICENSE = re.compile(
    rf"(?:{LICENSE_WORDS}){_LINK}"
    r"(?P<it>[A-Z]{0,5}[ -]?\d[A-Z0-9]{1,15}(?:[ -][A-Z]{0,3}\d[A-Z0-9]{0,7}){0,3})(?!\w)",
    re.IGNORECASE,
)


def check_document(text: str, found: re.Match[str], region: str) -> Verdict:
    digits = sum(c.isdigit() for c in found["it"])
    return (*found.span("it"), CONTEXT) if 5 <= digits <= 15 else None
