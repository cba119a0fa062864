"""Personal data by its form. All values are documentation numbers or made for the test."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from classifiers.normalize import plain
from classifiers.pii import MAX_FINDS, PiiClassifier
from classifiers.pii_detectors import DETECTORS, LABELS, candidates
from classifiers.types import Batch, ClassifierError, OperatingPoint, UnknownLabel

PII = PiiClassifier()


def found(text: str, classifier: PiiClassifier = PII) -> list[tuple[str, str, float]]:
    (predictions,) = classifier.predict(Batch([text]))
    return [
        (p.label, text[p.span.start : p.span.end], p.score)
        for p in predictions
        if p.span is not None
    ]


def expect(label: str, *cases: str | tuple[str, str]) -> list[tuple[str, str, str]]:
    """Cases of a text and the find in it; a bare string is a find on its own."""
    return [(label, *((case, case) if isinstance(case, str) else case)) for case in cases]


KEY = "aB3dE5fG7hJ9kL1mN3pQ5rS7tU9vW1xY3zA5"

POSITIVE = [
    *expect(
        "EMAIL",
        "jane.doe@example.com",
        "j+tag@mail.example.co.uk",
        "o'neil@example.org",
        "x_1@sub-domain.example.museum",
        "JANE@EXAMPLE.COM",
        "jörg@exämple.de",
        "user%part@example.net",
        "用户@example.com",
        "a@xn--bcher-kva.example",
        ("Mail <jane@example.com>, please.", "jane@example.com"),
        ("(jane@example.com)", "jane@example.com"),
        ("write to jane [at] example [dot] com", "jane [at] example [dot] com"),
        ("jane(at)example.com", "jane(at)example.com"),
        ("ja\u200bne@example.com", "ja\u200bne@example.com"),
        ("jane＠example．com", "jane＠example．com"),
    ),
    *expect(
        "PHONE",
        "+1 415 555 2671",
        "+14155552671",
        "+44 20 7946 0958",
        "+49 30 901820",
        "+33 1 44 72 42 00",
        "(415) 555-0132",
        "415-555-0132",
        "415.555.0132",
        "06 12 34 56 78",
        "020 7946 0958",
        ("call me at 4155550132 tonight", "4155550132"),
        ("my number is 555-0132", "555-0132"),
        ("Tel: 030 901820", "030 901820"),
        ("phone 415-555-0132 x123.", "415-555-0132 x123"),
        ("Mobile: 723 813 266", "723 813 266"),
        ("call 415-555-0132 2 times", "415-555-0132"),
        ("call ４１５-５５５-０１３２", "４１５-５５５-０１３２"),
        ("415\u2011555\u20110132", "415\u2011555\u20110132"),
        ("00 44 20 7946 0958", "00 44 20 7946 0958"),
        ("电话 010-62345678", "010-62345678"),
    ),
    *expect(
        "CREDIT_CARD",
        "4111111111111111",
        "4111 1111 1111 1111",
        "4111-1111-1111-1111",
        "5555555555554444",
        "2223003122003222",
        "378282246310005",
        "3782 822463 10005",
        "6011111111111117",
        "30569309025904",
        "3530111333300000",
        "4222222222222",
        "41111111 11111111",
        "4 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1",
        ("my card 6759649826438453", "6759649826438453"),
        ("４１１１ 1111\u200b 1111\u20111111", "４１１１ 1111\u200b 1111\u20111111"),
        ("٤١١١١١١١١١١١١١١١", "٤١١١١١١١١١١١١١١١"),
        ("4111 1111 1111 1111 12/27 123", "4111 1111 1111 1111"),
    ),
    *expect(
        "IBAN",
        "GB82WEST12345698765432",
        "GB82 WEST 1234 5698 7654 32",
        "gb82 west 1234 5698 7654 32",
        "DE89 3704 0044 0532 0130 00",
        "FR14 2004 1010 0505 0001 3M02 606",
        "NL91ABNA0417164300",
        "CH93 0076 2011 6238 5295 7",
        "ES91 2100 0418 4502 0005 1332",
        "BE68-5390-0754-7034",
        "NO9386011117947",
        "AT611904300234573201",
        ("IBAN GB82 WEST 1234 5698 7654 32 please send it", "GB82 WEST 1234 5698 7654 32"),
    ),
    *expect(
        "US_SSN",
        "123-45-6789",
        ("SSN 123456789", "123456789"),
        ("ssn: 123 45 6789", "123 45 6789"),
        ("social security number is 123-45-6789", "123-45-6789"),
        ("123-45-6789 (SSN)", "123-45-6789"),
        ("My social is 123.45.6789", "123.45.6789"),
        ("SSN １２３-45-6789", "１２３-45-6789"),
        ("123\u201145\u20116789", "123\u201145\u20116789"),
        ("a 123-45-6789 b", "123-45-6789"),
        ("123−45−6789", "123−45−6789"),
        ("Social-Security 899-45-6789", "899-45-6789"),
        ("taxpayer id 123-45-6789", "123-45-6789"),
        ("ssn=123-45-6789;", "123-45-6789"),
    ),
    *expect(
        "IP_ADDRESS",
        "192.0.2.44",
        "198.51.100.7",
        "203.0.113.254",
        "192.168.1.20",
        "2001:db8::8a2e:370:7334",
        "2001:0db8:85a3:0000:0000:8a2e:0370:7334",
        "fe80::1ff:fe23:4567:890a",
        "2001:db8::192.0.2.1",
        ("http://192.0.2.44:8080/x", "192.0.2.44"),
        ("ping 10.0.0.1", "10.0.0.1"),
        ("from 192.0.2.0/24,", "192.0.2.0"),
        ("[2001:db8::1:2]:443", "2001:db8::1:2"),
        ("the address is 192.0.2.44.", "192.0.2.44"),
    ),
    *expect(
        "MAC_ADDRESS",
        "00:1B:44:11:3A:B7",
        "00-1b-44-11-3a-b7",
        "001b.4411.3ab7",
        "aa:bb:cc:dd:ee:ff",
        ("MAC 00:11:22:33:44:55", "00:11:22:33:44:55"),
        ("(00:1B:44:11:3A:B7)", "00:1B:44:11:3A:B7"),
    ),
    *expect(
        "CRYPTO_WALLET",
        "1BoatSLRHtKNngkdXEeobR76b53LETtpyT",
        "1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNa",
        "3J98t1WpEZ73CNmQviecrnyiWrnqRhWNLy",
        "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4",
        "BC1QW508D6QEJXTDG4Y5R3ZARVARY0C5XW7KV8F3T4",
        "0x52908400098527886E0F7030069857D2E4169EE7",
    ),
    *expect(
        "DATE_OF_BIRTH",
        ("date of birth: 12/05/1985", "12/05/1985"),
        ("DOB 1985-05-12", "1985-05-12"),
        ("D.O.B.: 12.5.85", "12.5.85"),
        ("born on May 12, 1985", "May 12, 1985"),
        ("She was born 12th of March 1985.", "12th of March 1985"),
        ("my birthday is 12 March 1985", "12 March 1985"),
        ("geboren am 12. Mai 1985", "12. Mai 1985"),
        ("né le 12 mai 1985", "12 mai 1985"),
        ("fecha de nacimiento: 12/05/1985", "12/05/1985"),
    ),
    *expect(
        "PASSPORT",
        ("passport no. AB1234567", "AB1234567"),
        ("Passport number: 123456789", "123456789"),
        ("my passport is X1234567.", "X1234567"),
        ("Reisepass C01X00T47", "C01X00T47"),
    ),
    *expect(
        "DRIVER_LICENSE",
        ("driver's license D1234567", "D1234567"),
        ("driving licence number is MORGA657054SM9IJ", "MORGA657054SM9IJ"),
        ("My driver's license number is 6940579", "6940579"),
        ("Führerschein: B072RRE2I55", "B072RRE2I55"),
    ),
    *expect(
        "NATIONAL_ID",
        "AB123456C",
        "AB 12 34 56 C",
        "12345678Z",
        "X1234567L",
        "RSSMRA85T10A562S",
        "2 95 10 99 126 111 93",
        "123.456.789-09",
        "12.345.678-5",
        "11010519491231002X",
        "131052-308T",
        ("Aadhaar 2341 2341 2346", "2341 2341 2346"),
        ("NHS number 943 476 5919", "943 476 5919"),
        ("Steuer-ID 36 574 261 809", "36 574 261 809"),
        ("BSN 111222333", "111222333"),
        ("SIN: 123 456 782", "123 456 782"),
        ("PESEL 44051401359", "44051401359"),
        ("tax file number 123 456 782", "123 456 782"),
        "BOXW310820HNERXN09",
        "971013-9019902",
        "880320-0016",
        ("cartão de cidadão 00000000 0 ZZ4", "00000000 0 ZZ4"),
        ("CPF 39053344705", "39053344705"),
        ("CPR 211062-5629", "211062-5629"),
        ("fødselsnummer 15108695088", "15108695088"),
        ("TC kimlik 17291716060", "17291716060"),
        ("ID number 7503305044089", "7503305044089"),
    ),
    *expect(
        "API_KEY",
        f"sk-proj-{KEY}",
        f"sk-ant-api03-{KEY}",
        f"ghp_{KEY}",
        f"github_pat_{KEY}",
        "AKIAQ3EGRNJ7XKLMTZ2P",
        f"AIza{KEY}"[:39],
        f"xoxb-1234567890-{KEY}",
        f"sk_live_{KEY}",
        f"hf_{KEY}",
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9P",
        f"-----BEGIN RSA PRIVATE KEY-----\nMIIE{KEY}\n{KEY}\n-----END RSA PRIVATE KEY-----",
        (f'api_key = "{KEY}"', KEY),
        (f"the password is {KEY}", KEY),
    ),
    *expect(
        "URL_CREDENTIALS",
        ("postgres://admin:hunter2@db.example.com/x", "admin:hunter2@db.example.com"),
        ("https://me:s3cr3t@example.com", "me:s3cr3t@example.com"),
        ("redis://:p4ss@cache.example.com:6379", ":p4ss@cache.example.com"),
        ("amqp://guest:gu3st@localhost", "guest:gu3st@localhost"),
    ),
]

NEGATIVE = {
    "EMAIL": [
        "user@host", "@jane", "a@b", "icon@2x.png", "git@github.com:me/repo.git", "@app.route('/x')",
        "pkg@1.2.3", "5 @ 3.50", "jane@", "@example.com", "a @ b.com", "@@@@", "jane.@example.com",
    ],
    "PHONE": [
        "2024-01-31", "31/01/2024", "2010-2015", "order 4155550132", "ticket #4155550132", "v1.2.3.4567",
        "$1,234,567.89", "1 000 000 people", "192.168.100.200", "1706700000", "1706700000123",
        "550e8400-e29b-41d4-a716-446655440000", "3.14159265358", "2024-01-31 10:20:30", "10:20:30.123456",
        "x = 1234567890", "0x12345678", "ISBN 978-3-16-148410-0", "12345678 rows",
        "lat 37.7749295, -122.4194155",
        "ids: 1234567, 2345678", "1 2 3 4 5 6 7 8 9 10", "1990 1991 1992 1993", "flight 1234567",
        "tracking 9400 1000 0000 0000", "arXiv:2309.10253", "Our offices are located at 6556 106 Rue",
    ],
    "CREDIT_CARD": [
        "4111111111111112", "1234567890123456", "0000000000000000", "41111111111111110000",
        "x4111111111111111", "4111111111111111.5", "0.4111111111111111", "1706700000123",
        "9999 9999 9999 9999", "order 4111111111111111", "550e8400-e29b-41d4-a716-446655440000",
        "tracking 4111111111111111", "4111 1111 1111", "4111-1111-1111-1111-1111",
    ],
    "IBAN": [
        "GB82WEST12345698765433", "GB82", "GB82WEST1234569876543", "ZZ82WEST12345698765432",
        "AB12CD34EF56GH78",
        "DE00000000000000000000", "XGB82WEST12345698765432", "GB82WEST123456987654321",
        "ID12 3456 7890 1234",
        "sha1 ab12cd34ef56ab12cd34ef56", "de89 of the 3704 people", "AT61 19043",
    ],
    "US_SSN": [
        "000-12-3456", "666-12-3456", "900-12-3456", "123-00-4567", "123-45-0000", "123456789",
        "123 45 6789",
        "1123-45-6789", "123-45-67890", "123-456-789", "order 123-45-6789", "078-05-1120", "2024-12-3456",
    ],
    "IP_ADDRESS": [
        "256.1.1.1", "1.2.3", "1.2.3.4.5", "version 10.0.22.150", "v4.18.0.305", "127.0.0.1", "0.0.0.0",
        "255.255.255.0", "2.0.1.3", "Chrome/91.0.4472.124", "10:20:30", "a::b", "std::vector",
        "::1", "::add",
        "01.02.03.04", "aa:bb:cc", "section 10.40.50.60",
    ],
    "MAC_ADDRESS": [
        "00:00:00:00:00:00", "ff:ff:ff:ff:ff:ff", "00:1B:44:11:3A", "10:20:30:40:50:60",
        "00:1B:44:11:3A:B7:00",
        "00:1B-44:11-3A:B7", "2001:db8::1", "12:30:45", "0G:1B:44:11:3A:B7", "x00:1B:44:11:3A:B7",
        "a:b:c:d:e:f",
        "01-02-03-04-05-06",
    ],
    "CRYPTO_WALLET": [
        "1BoatSLRHtKNngkdXEeobR76b53LETtpyU", "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t5", "0x1234", "bc1",
        "3J98t1WpEZ73CNmQviecrnyiWrnqRhWNLz", "0x52908400098527886E0F7030069857D2E4169EE", "1Password",
        "0x52908400098527886E0F7030069857D2E4169EE7A", "0xdeadbeef", "13 cats", "BC1QW508",
        "52908400098527886E0F7030069857D2E4169EE7",
    ],
    "DATE_OF_BIRTH": [
        "12/05/1985", "the meeting is on 12/05/1985", "born in 1985", "a star was born",
        "birthday party", "DOB",
        "May 12, 1985", "born to run, 12 songs", "updated 1985-05-12", "birthday cake for 12",
        "newborn 3/4 months",
        "date: 1985-05-12",
    ],
    "PASSPORT": [
        "passport", "my passport expired in 2024", "AB1234567", "passport control at gate 12", "passports",
        "passport renewal costs $130", "passport photo 35x45", "passport office", "no passport",
        "Passport.js 0.6",
        "passport for 2 people", "a passport, 12 days",
    ],
    "DRIVER_LICENSE": [
        "driver's license", "D1234567", "driving licence test in 2024", "driver license renewal",
        "license MIT 2.0",
        "DL 5 files", "driver version 1234567", "a license", "driving 1234567 km",
        "driver's license is 10 years old",
        "dl 100 MB", "licence fee 1234567",
    ],
    "NATIONAL_ID": [
        "AB123456E", "BG123456A", "12345678A", "X1234567A", "RSSMRA85T10A562T", "123.456.789-00",
        "2341 2341 2346",
        "943 476 5919", "111222333", "046 454 286", "44051401359", "Aadhaar 2341 2341 2345", "12.345.678-9",
        "12345678901",
    ],
    "API_KEY": [
        "sk-learn-is-a-library-for-python", "sk-xxxxxxxxxxxxxxxxxxxxxxxx", "ghp_short",
        "AKIAIOSFODNN7EXAMPLE",
        "api_key = os.environ['OPENAI_API_KEY']", "password: correct horse", "token = get_token(request)",
        "the secret is to practise every day", "-----BEGIN PUBLIC KEY-----", "eyJhbGciOiJIUzI1NiJ9",
        "password=your-password-here-123", "sk-your-api-key-here-1234567890",
    ],
    "URL_CREDENTIALS": [
        "https://example.com", "https://example.com:8080/x", "http://user@example.com",
        "https://x.com/@user",
        "https://${USER}:${PASS}@host", "mailto:jane@example.com", "a://b", "https://u:****@example.com",
        "time 10:20@noon", "user:pass@host", "https://user:<password>@host", "http://a.b/c:d@e",
    ],
}  # fmt: skip


@pytest.mark.parametrize(("label", "text", "value"), POSITIVE)
def test_is_found_where_it_stands(label: str, text: str, value: str) -> None:
    assert [(kind, where) for kind, where, _ in found(text)] == [(label, value)]


@pytest.mark.parametrize(("label", "text", "value"), POSITIVE)
def test_is_found_inside_a_sentence(label: str, text: str, value: str) -> None:
    sentence = f"Grüße 😀, note: {text} and so on"
    assert (label, value) in [(kind, where) for kind, where, _ in found(sentence)]


@pytest.mark.parametrize(
    ("label", "text"), [(k, t) for k, texts in NEGATIVE.items() for t in texts]
)
def test_is_not_mistaken(label: str, text: str) -> None:
    assert label not in [kind for kind, _, _ in found(text)]


def test_every_label_has_cases() -> None:
    assert set(NEGATIVE) == set(LABELS) == {label for label, _, _ in POSITIVE}
    assert all(len(texts) > 10 for texts in NEGATIVE.values())


@pytest.mark.parametrize(
    ("text", "score"),
    [
        ("4111111111111111", 1.0),
        ("GB82WEST12345698765432", 1.0),
        ("jane@example.com", 0.95),
        ("AB123456C", 0.95),
        ("SSN 123-45-6789", 0.85),
        ("123-45-6789", 0.7),
        ("415-555-0132", 0.7),
        ("call 415-555-0132", 0.85),
        ("mobile: 432 03 16", 0.75),
        ("mobile: 415 555 2671", 0.85),
    ],
)
def test_scores_are_the_grades_of_the_table(text: str, score: float) -> None:
    assert [s for _, _, s in found(text)] == [score]


def test_one_text_many_finds() -> None:
    text = "Jane <jane@example.com>, +1 415 555 2671, card 4111 1111 1111 1111, SSN 123-45-6789, 123-45-6780"
    assert [label for label, _, _ in found(text)] == [
        "EMAIL",
        "PHONE",
        "CREDIT_CARD",
        "US_SSN",
        "US_SSN",
    ]


def test_the_more_certain_of_two_readings_wins() -> None:
    assert found("https://me:s3cr3t@example.com") == [
        ("URL_CREDENTIALS", "me:s3cr3t@example.com", 0.95)
    ]


def test_labels_region_and_version() -> None:
    cards = PiiClassifier("cards", labels=["CREDIT_CARD"])
    assert cards.labels == ("CREDIT_CARD",)
    assert found("4111111111111111 jane@example.com", cards) == [
        ("CREDIT_CARD", "4111111111111111", 1.0)
    ]
    assert cards.version != PII.version == PiiClassifier().version
    assert found("x", PiiClassifier(labels=[])) == []
    with pytest.raises(ValueError, match="did you mean 'EMAIL'"):
        PiiClassifier(labels=["EMAILS"])
    with pytest.raises(ValueError, match="two-letter country code"):
        PiiClassifier(region="usa")


def test_thresholds() -> None:
    assert PII.thresholds(["EMAIL"], OperatingPoint()) == {"EMAIL": 0.5}
    assert PII.thresholds(["EMAIL"], OperatingPoint("at", 1.0)) == {"EMAIL": 1.0}
    with pytest.raises(UnknownLabel, match=r"cannot promise min_recall.*`at:`"):
        PII.thresholds(["EMAIL"], OperatingPoint("min_recall", 0.9))
    with pytest.raises(UnknownLabel, match="has no label 'PERSON'"):
        PII.thresholds(["PERSON"], OperatingPoint())


@pytest.mark.parametrize(
    "unit",
    [
        "1",
        "1 ",
        "@",
        "a@",
        "a.",
        "1.",
        "-",
        "4111 ",
        "::",
        "eyJ",
        "(at)",
        "-----BEGIN PRIVATE KEY-----",
    ],
)
def test_long_hostile_text_ends_with_a_verdict(unit: str) -> None:
    text = unit * (50_000 // len(unit)) + " jane@example.com"
    assert found(text)[-1][1].endswith("jane@example.com")


def test_too_many_finds_give_no_verdict_instead_of_half_of_one() -> None:
    assert len(found("a@b.com " * MAX_FINDS)) == MAX_FINDS
    with pytest.raises(ClassifierError, match=f"more than {MAX_FINDS} finds"):
        PII.predict(Batch(["a@b.com " * (MAX_FINDS + 1)]))


@given(st.text())
def test_any_text_gives_spans_inside_it_that_do_not_overlap(text: str) -> None:
    (predictions,) = PII.predict(Batch([text + " 4111 1111 1111 1111"]))
    spans = [p.span for p in predictions if p.span is not None]
    assert all(span.start < span.end <= len(text) + 20 for span in spans)
    assert all(a.end <= b.start for a, b in pairwise(spans))


def test_every_detector_of_the_table_finds_something() -> None:
    texts = [text for _, text, _ in POSITIVE]
    idle = [
        detector.form.pattern
        for detector in DETECTORS
        if not any(True for text in texts for _ in candidates(detector, plain(text).text, "US"))
    ]
    assert idle == []
