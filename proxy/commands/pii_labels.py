"""What the labels of the classifier ``pii`` stand for; for ``doorman packs show pii`` and the docs."""

from __future__ import annotations

from collections.abc import Iterator

LABELS: dict[str, str] = {
    "EMAIL": "mail addresses, also written out: `jane [at] example [dot] com`",
    "PHONE": "telephone numbers: valid ones with +country code, national ones of "
    "`classifiers.pii_region`",
    "CREDIT_CARD": "card numbers whose check digit and issuer's prefix agree",
    "IBAN": "bank accounts whose check digits agree",
    "US_SSN": "US social security and taxpayer numbers",
    "IP_ADDRESS": "IPv4 and IPv6 addresses",
    "MAC_ADDRESS": "hardware addresses of network cards",
    "CRYPTO_WALLET": "Bitcoin and Ethereum addresses",
    "DATE_OF_BIRTH": "a date right after a word that says it is one of birth",
    "PASSPORT": "a number right after a word for passport",
    "DRIVER_LICENSE": "a number right after a word for driving licence",
    "NATIONAL_ID": "national identity, tax and health numbers with check digits or telling letters",
    "API_KEY": "keys and tokens with the prefix of a known service, JSON Web Tokens, private keys, "
    "and values after `password:`, `api_key=` and the like",
    "URL_CREDENTIALS": "user and password within a URL",
}


def countries() -> list[str]:
    """ISO 3166 codes of the countries whose numbers ``NATIONAL_ID`` knows."""
    from classifiers.pii_national import NATIONAL_NUMBERS

    return sorted({number.country for number in NATIONAL_NUMBERS})


def described() -> Iterator[tuple[str, str]]:
    """Every label of the classifier with what it finds."""
    from classifiers.pii_detectors import LABELS as FOUND

    for label in FOUND:
        more = f" ({', '.join(countries())})" if label == "NATIONAL_ID" else ""
        yield label, LABELS[label] + more


def grades() -> list[str]:
    """The Markdown table of what scores mean, as the detectors' module says it."""
    from classifiers import pii_detectors

    return [line for line in (pii_detectors.__doc__ or "").splitlines() if line.startswith("|")]


def card() -> str:
    """The classifier in Markdown, as the cards of the packs."""
    return "\n".join(
        [
            "# pii: personal data and secrets",
            "",
            "No model: built of patterns and checksums, which come with the program. Each find has its "
            "place in the text, so it can be redacted. Names and postal addresses are not found.",
            "",
            "| label | finds |",
            "|---|---|",
            *(f"| {label} | {what} |" for label, what in described()),
            "",
            "Scores are fixed grades of certainty, not probabilities; all of them match by default, "
            "`at: 0.95` takes only the more certain. Rates cannot be promised.",
            "",
            *grades(),
            "",
        ]
    )
