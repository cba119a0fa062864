"""National identity numbers with check digits: one table, read by ``pii_detectors``.

Formats and check digits: python-stdnum, whose modules name their sources. A number whose form is
telling (letters in fixed places, official punctuation, two or more check digits) counts on its own;
plain runs of digits, of which one in ten passes a single check digit, need a word near them.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from stdnum import verhoeff
from stdnum.au import tfn
from stdnum.br import cpf
from stdnum.ca import sin
from stdnum.cl import rut
from stdnum.cn import ric
from stdnum.de import idnr
from stdnum.dk import cpr
from stdnum.es import dni, nie
from stdnum.fi import hetu
from stdnum.fr import nir
from stdnum.gb import nhs
from stdnum.it import codicefiscale
from stdnum.kr import rrn
from stdnum.mx import curp
from stdnum.nl import bsn
from stdnum.no import fodselsnummer
from stdnum.pl import pesel
from stdnum.pt import cc
from stdnum.se import personnummer
from stdnum.tr import tckimlik
from stdnum.za import idnr as za_idnr

_NINO = re.compile(r"(?!BG|GB|NK|KN|TN|NT|ZZ)[A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z]\d{6}[A-D]")


def _nino(number: str) -> bool:
    """UK National Insurance: no check digit, but unusual letters in fixed places."""
    return _NINO.fullmatch(number) is not None


def _aadhaar(number: str) -> bool:
    from_stdnum: bool = verhoeff.is_valid(number)
    return from_stdnum and number[0] not in "01" and len(set(number)) > 2


@dataclass(frozen=True, slots=True)
class NationalNumber:
    """One country's number.

    Attributes:
        country: ISO 3166 code.
        form: regular expression of the number with its separators, without borders.
        check: given the letters and digits in upper case.
        words: expression of words of which one must stand near; empty where the form is telling.
        score: 1.0 where check digits agree.
    """

    country: str
    form: str
    check: Callable[[str], bool]
    words: str = ""
    score: float = 1.0


NATIONAL_NUMBERS: tuple[NationalNumber, ...] = (
    NationalNumber(
        "GB", r"[A-Za-z]{2}[ -]?\d{2}[ -]?\d{2}[ -]?\d{2}[ -]?[A-Da-d]", _nino, score=0.95
    ),
    NationalNumber("ES", r"\d{2}\.?\d{3}\.?\d{3}[ -]?[A-Za-z]", dni.is_valid),
    NationalNumber("ES", r"[XYZxyz][ -]?\d{7}[ -]?[A-Za-z]", nie.is_valid),
    NationalNumber(
        "IT", r"[A-Za-z]{6}\d{2}[A-Za-z]\d{2}[A-Za-z]\d{3}[A-Za-z]", codicefiscale.is_valid
    ),
    NationalNumber(
        "FR",
        r"[12][ .-]?\d{2}[ .-]?\d{2}[ .-]?(?:\d{2}|2[ABab])[ .-]?\d{3}[ .-]?\d{3}[ .-]?\d{2}",
        nir.is_valid,
    ),
    NationalNumber("BR", r"\d{3}\.\d{3}\.\d{3}-\d{2}", cpf.is_valid),
    NationalNumber("CL", r"\d{1,2}\.\d{3}\.\d{3}-[\dKk]", rut.is_valid),
    NationalNumber("CN", r"\d{17}[\dXx]", ric.is_valid),
    NationalNumber("MX", r"[A-Za-z]{4}\d{6}[HMhm][A-Za-z]{5}[A-Za-z\d]\d", curp.is_valid),
    NationalNumber("FI", r"\d{6}[-+ABCDEFYXWVUabcdefyxwvu]\d{3}[A-Ya-y\d]", hetu.is_valid),
    NationalNumber("KR", r"\d{6}-\d{7}", rrn.is_valid),
    NationalNumber("SE", r"(?:19|20)?\d{6}[-+]\d{4}", personnummer.is_valid),
    NationalNumber(
        "PT", r"\d{8} ?\d ?[A-Z\d]{2}\d", cc.is_valid, r"cart[aã]o|cidad[aã]o|identidade|\bcc\b"
    ),
    NationalNumber(
        "IN", r"\d{4}[ -]?\d{4}[ -]?\d{4}", _aadhaar, r"aadhaar|aadhar|adhaar|uidai|आधार"
    ),
    NationalNumber("GB", r"\d{3}[ -]?\d{3}[ -]?\d{4}", nhs.is_valid, r"\bnhs\b|health service"),
    NationalNumber(
        "DE",
        r"\d{2} ?\d{3} ?\d{3} ?\d{3}",
        idnr.is_valid,
        r"steuer-?\s?(?:id|nr|nummer|identifikation)|\bidnr\b|\btin\b|tax (?:id|number)",
    ),
    NationalNumber(
        "NL",
        r"\d{4}[ .]?\d{2}[ .]?\d{3}|\d{3}[ .]\d{3}[ .]\d{3}",
        bsn.is_valid,
        r"\bbsn\b|burgerservice|sofi-?nummer",
    ),
    NationalNumber(
        "CA", r"\d{3}[ -]?\d{3}[ -]?\d{3}", sin.is_valid, r"\bsin\b|social insurance|\bnas\b"
    ),
    NationalNumber("AU", r"\d{3}[ -]?\d{3}[ -]?\d{2,3}", tfn.is_valid, r"\btfn\b|tax file"),
    NationalNumber("BR", r"\d{11}", cpf.is_valid, r"\bcpf\b"),
    NationalNumber("PL", r"\d{11}", pesel.is_valid, r"pesel"),
    NationalNumber("DK", r"\d{6}-?\d{4}", cpr.is_valid, r"\bcpr\b|personnummer"),
    NationalNumber(
        "NO",
        r"\d{6} ?\d{5}",
        fodselsnummer.is_valid,
        r"f[oø]dselsn|personnummer|\bfnr\b|national id",
    ),
    NationalNumber("TR", r"\d{11}", tckimlik.is_valid, r"kimlik|\btckn\b|\btc\b"),
    NationalNumber("ZA", r"\d{13}", za_idnr.is_valid, r"\bid\b|identity|\brsa\b"),
)
