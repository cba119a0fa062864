"""Keys and passwords that names themselves: the prefixes that services publish for their tokens."""

from __future__ import annotations

import re

_PREFIXED = (
    r"sk-(?:proj-|svcacct-|admin-|ant-[a-z0-9]{2,12}-|or-v1-|lf-)?[A-Za-z0-9_-]{20,250}",
    r"gh[pousr]_[A-Za-z0-9]{36,255}|github_pat_[A-Za-z0-9_]{22,255}",
    r"glpat-[\w-]{20,64}|npm_[A-Za-z0-9]{36}|pypi-[\w-]{50,300}|hf_[A-Za-z0-9]{30,64}",
    r"(?:AKIA|ASIA)[A-Z0-9]{16}|AIza[\w-]{35}|ya29\.[\w-]{20,300}|GOCSPX-[\w-]{20,40}",
    r"xox[abeoprs]-[A-Za-z0-9-]{10,250}|xapp-[A-Za-z0-9-]{20,250}",
    r"[srp]k_(?:live|test)_[A-Za-z0-9]{16,250}|whsec_[A-Za-z0-9+/=]{24,100}|shp(?:at|ca|pa|ss)_[a-fA-F0-9]{32}",
    r"SG\.[\w-]{16,32}\.[\w-]{16,64}|dop_v1_[a-f0-9]{64}|gsk_[A-Za-z0-9]{32,64}|xai-[A-Za-z0-9]{32,100}|r8_[A-Za-z0-9]{32,48}",
    r"eyJ[\w-]{8,2000}\.eyJ[\w-]{8,8000}\.[\w-]{8,2000}",  # JSON Web Token
)
_NAMED = (
    r"(?i:\b(?:api[_ -]?key|secret[_ -]?(?:access[_ -]?)?key|client[_ -]?secret|(?:access|auth)[_ -]?token"
    r"|secret|token|password|passwd|pwd)[\"']?\s{0,3}(?:[:=]|\bis\b)\s{0,3}[\"'`]?)"
    r"(?P<named>[A-Za-z0-9/+_=.-]{16,200})(?![\w(])"
)
_PRIVATE_KEY = (
    r"-----BEGIN [A-Z0-9 ]{0,30}PRIVATE KEY(?: BLOCK)?-----"
    r"(?:\s{0,4}[A-Za-z-]{1,40}: [^\n]{0,200}){0,4}[^-]{0,20000}+"
    r"(?:-----END [A-Z0-9 ]{0,30}PRIVATE KEY(?: BLOCK)?-----)?"
)

PREFIXED = re.compile(rf"(?<![\w-])(?:{'|'.join(_PREFIXED)})(?!\w)")
NAMED = re.compile(_NAMED)
PRIVATE_KEY = re.compile(_PRIVATE_KEY)

PREFIXED_GATE = (
    r"\b(?:sk-[A-Za-z0-9_-]{20}|gh[pousr]_|github_pat_|glpat-|npm_|pypi-|hf_|AKIA|ASIA|AIza|ya29\.|GOCSPX-|xox[abeoprs]-|xapp-"
    r"|[srp]k_(?:live|test)_|whsec_|shp(?:at|ca|pa|ss)_|SG\.|dop_v1_|gsk_|xai-|r8_|eyJ)"
)
NAMED_GATE = (
    r"(?i)(?:key|secret|token|password|passwd|pwd)[\"']?\s{0,3}(?:[:=]|is\b)\s{0,3}"
    r"[\"'`]?[a-z0-9/+_=.-]{16}"
)
PRIVATE_KEY_GATE = r"-----BEGIN [A-Z0-9 ]{0,30}PRIVATE KEY"

_STAND_IN = re.compile(
    r"example|your|placeholder|changeme|dummy|insert|redacted|x{4}|\.{3}|_here|-here|0{6}",
    re.IGNORECASE,
)
_VARIABLE = re.compile(
    r"\$?\{.*\}|\$\w+|%\(?\w+\)?s?|\*+|x+|\[.*\]|pass(?:word)?|secret|pw", re.IGNORECASE
)


def is_prefixed_secret(key: str) -> bool:
    """Tell a key from a name that begins like one ("sk-learn-something") and from a stand-in."""
    if key.startswith("sk-") and sum(c.isdigit() for c in key) < 2:
        return False
    return len(set(key)) > 9 and not _STAND_IN.search(key)


def is_named_secret(value: str) -> bool:
    """Random-looking: letters and digits in turn; no name in code, path, date or stand-in."""
    digits = sum(c.isdigit() for c in value)
    letters = sum(c.isalpha() for c in value)
    if digits < 3 or letters < 3 or len(set(value)) < 9 or _STAND_IN.search(value):
        return False
    return value.count(".") < 2 and value.count("/") < 4 and value.count("_") + value.count("-") < 5


def is_url_password(password: str) -> bool:
    """Whether a password in a URL is one: no variable, mask or stand-in."""
    return _VARIABLE.fullmatch(password) is None
