"""What is taken out of a text, and what stays: published test numbers, other ways to write them, and figures that are none."""

import csv
import json

import pytest

from blindgate_rag.redaction import Redactor, Rules
from runs import processor_seconds
from shared import shared

ALL = Rules(dates=True, ages=True, mrn=(r"MRN[- ]?\d{6,8}",))

CARDS = [  # the networks' and their processors' test numbers
    "378282246310005", "371449635398431", "378734493671000",  # American Express
    "30569309025904", "38520000023237", "36227206271667",  # Diners Club
    "6011111111111117", "6011000990139424", "6011981111111113",  # Discover
    "3530111333300000", "3566002020360505",  # JCB
    "5555555555554444", "5105105105105100", "2223003122003222", "2223000048400011", "5200828282828210",  # Mastercard
    "4111111111111111", "4012888888881881", "4222222222222", "4242424242424242", "4000056655665556",  # Visa
    "6759649826438453", "6799990100000000019",  # Maestro
    "6200000000000005", "6205500000000000004",  # UnionPay
    # Made up: the first of a range with a right check digit.
    "340000000000009", "30950000000000", "6011000000000000001", "6440000000000005", "6500000000000002",
    "2200000000000004", "9792000000000003",  # Mir, Troy
    "5090000000006", "5060000000000006", "5641000000000000006", "63040000000000",  # Maestro, Verve, Elo
    "6070000000000002", "8200000000000001", "8100000000000002",  # RuPay, UnionPay
]  # fmt: skip
IBANS = [  # the IBAN registry's examples
    "AD12 0001 2030 2003 5910 0100", "AE07 0331 2345 6789 0123 456", "AT61 1904 3002 3457 3201", "BE68 5390 0754 7034",
    "BR18 0036 0305 0000 1000 9795 493C 1", "CH93 0076 2011 6238 5295 7", "CZ65 0800 0000 1920 0014 5399",
    "DE89 3704 0044 0532 0130 00", "DK50 0040 0440 1162 43", "ES91 2100 0418 4502 0005 1332", "FR14 2004 1010 0505 0001 3M02 606",
    "GB29 NWBK 6016 1331 9268 19", "GR16 0110 1250 0000 0001 2300 695", "IE29 AIBK 9311 5212 3456 78",
    "IT60 X054 2811 1010 0000 0123 456", "MT84 MALT 0110 0001 2345 MTLC AST0 01S", "NL91 ABNA 0417 1643 00", "NO93 8601 1117 947",
    "PL61 1090 1014 0000 0712 1981 2874", "SA03 8000 0000 6080 1016 7519", "SE45 5000 0000 0583 9825 7466",
    "TR33 0006 1005 1978 6457 8413 26",
]  # fmt: skip
OTHERS = [
    ("nhs", "943 476 5919"), ("nhs", "9434765919"), ("nhs", "401 023 2137"), ("nhs", "943-476-5919"),
    ("nhs", "610 000 0008"), ("nhs", "720 000 0000"),
    ("ssn", "078-05-1120"), ("ssn", "219-09-9999"), ("ssn", "123-45-6789"), ("ssn", "899-12-3456"), ("ssn", "219.09.9999"),
    ("itin", "900-70-0000"), ("itin", "911-65-0000"),
    ("nino", "QQ 12 34 56 C"), ("nino", "AB123456C"),
    ("tax_id", "86095742719"), ("tax_id", "36 574 261 809"), ("tax_id", "65929970489"),
    ("ahv", "756.9217.0769.85"), ("ahv", "7569217076985"),
    ("pesel", "44051401359"), ("pesel", "00222900009"), ("pesel", "99251200008"),
    ("cpf", "529.982.247-25"), ("cpf", "52998224725"), ("bsn", "1112.22.333"), ("aadhaar", "2341 2341 2346"),
    ("nir", "2 95 10 99 126 111 93"), ("nir", "1 85 03 2A 123 456 01"), ("nir", "1 85 03 2B 123 456 28"),
    ("nir", "1 85 30 99 126 111 80"), ("dni", "54362315K"), ("dni", "X-2482300-W"), ("dni", "Z1234567R"),
    ("codice_fiscale", "RCCMNL83S18D969H"),
    ("email", "first.last+tag@example.co.uk"), ("email", "jörg@müller.example"), ("email", "o'brien@host-1.example.org"),
    ("email", "amy@[192.168.1.7]"), ("email", "amy@example.xn--p1ai"),
    ("phone", "+44 20 7946 0958"), ("phone", "+44 (0)20 7946 0958"), ("phone", "+12125550123"), ("phone", "0049 30 901820"),
    ("phone", "(212) 555-0123"), ("phone", "555-123-4567"), ("phone", "212.555.0123"), ("phone", "1-800-555-0199"),
    ("phone", "020 7946 0958"), ("phone", "07700 900123"), ("phone", "07700900123"), ("phone", "01 42 68 53 00"),
    ("phone", "01.42.68.53.00"), ("phone", "030/1234567"), ("phone", "(030) 901820"),
    ("ip", "192.168.1.254"), ("ip", "192.168.001.254"), ("ip", "2001:db8::8a2e:370:7334"), ("ip", "fe80::1"),
    ("mrn", "MRN-1234567"), ("mrn", "mrn 123456"),
    ("date", "2024-03-05"), ("date", "05.03.2024"), ("date", "3/5/24"), ("date", "5 March 2024"), ("date", "March 5, 2024"),
    ("date", "5. März 2024"), ("date", "5 de marzo de 2024"), ("date", "Sept. 3, 2021"), ("date", "2024-03-05T10:00:00Z"),
]  # fmt: skip
BESIDE_A_WORD = [
    ("ssn", "SSN: {}", "219099999"),
    ("ssn", "her social security number is {}.", "219 09 9999"), ("nhs", "NHS no. {}", "94 3476 5919"),
    ("nhs", "H&C number {}", "94 3476 5919"), ("ssn", "SS # {}", "219099999"), ("itin", "taxpayer {}", "900 70 0000"),
    ("npi", "National Provider Identifier {}", "2000000002"), ("tax_id", "IdNr. {}", "860 957 427 19"),
    ("bsn", "sofi-nummer {}", "111222333"), ("sin", "NAS {}", "910 000 009"), ("aadhaar", "UID {}", "23 4123 412346"),
    ("npi", "NPI {}", "1234567893"), ("dea", "DEA number {}", "AB1234563"), ("bsn", "BSN {}", "111222333"),
    ("sin", "SIN {}", "123 456 782"),
    ("phone", "Tel. {}", "2125550123"), ("phone", "call me at {} please", "555 0123 45"), ("age", "a patient aged {}", "93"),
    ("age", "a {}-year-old man", "101"),
]  # fmt: skip

TELEPHONE_WORDS = [
    "Tel", "phone", "mobile", "mob", "cell", "fax", "helpline", "pager", "WhatsApp", "Signal", "Telefon", "Handy", "Mobil", "tél",
    "portable", "móvil", "celular", "cellulare", "telefoon", "GSM", "contact no", "ring me on", "text her back at",
]  # fmt: skip


def _found(text: str, rules: Rules = ALL) -> list[tuple[str, str]]:
    """Class and text of what is taken out."""
    return [(span.name, text[span.start : span.end]) for span in Redactor(rules).redact(text).spans]


@pytest.mark.parametrize("number", CARDS)
def test_a_card_number_is_taken_out_however_it_is_grouped(number: str) -> None:
    """Together, in fours, with dashes, as its network prints it, behind an amount and in a row of a table."""
    fours = " ".join(number[at : at + 4] for at in range(0, len(number), 4))
    for written in (number, fours, fours.replace(" ", "-"), f"{number[:4]} {number[4:10]} {number[10:]}"):
        assert _found(f"paid 12 with {written}, thanks") == [("card", written)]
        assert _found(f"17,{written},Smith") == [("card", written)]


@pytest.mark.parametrize("number", IBANS)
def test_an_iban_is_taken_out_and_what_follows_stays(number: str) -> None:
    """In groups of four, together, in small letters."""
    for written in (number, number.replace(" ", ""), number.lower()):
        assert _found(f"to {written} and then") == [("iban", written)]


@pytest.mark.parametrize(("name", "written"), OTHERS)
def test_an_identifier_is_taken_out_whole(name: str, written: str) -> None:
    """In a sentence, at its end, and alone."""
    assert _found(f"see {written}, please") == [(name, written)]
    assert _found(f"({written}).") == [(name, written)] or written.startswith("(")
    assert _found(written) == [(name, written)]


@pytest.mark.parametrize(("name", "sentence", "written"), BESIDE_A_WORD)
def test_a_weak_form_is_believed_beside_its_word(name: str, sentence: str, written: str) -> None:
    """The word decides: without it, the same digits stay."""
    assert _found(sentence.format(written)) == [(name, written)]
    assert _found(f"the sum of {written} items") == []


def _changed(digits: str) -> str:
    """With another last digit."""
    return digits[:-1] + str((int(digits[-1]) + 1) % 10)


@pytest.mark.parametrize("number", [*CARDS, "9434765919", "86095742719", "7569217076985", "44051401359"])
def test_a_wrong_check_digit_is_a_number_like_any_other(number: str) -> None:
    """An order's number of the same length stays."""
    assert _found(f"order {_changed(number)}") == []


@pytest.mark.parametrize(
    "written",
    [
        "４１１１ １１１１ １１１１ １１１１",  # noqa: RUF001 - full-width
        "\u0664\u0661\u0661\u0661" + " \u0661\u0661\u0661\u0661" * 3,  # Arabic
        "4111\u00a01111\u20091111\u202f1111",
        "4\u200b1\u200b1\u200b1\u200b1\u200b1\u200b1\u200b1\u200b1\u200b1\u200b1\u200b1\u200b1\u200b1\u200b1\u200b1",
        "4111\u20111111\u22121111\u20131111",
        "4111\u00ad1111\u00ad1111\u00ad1111",
        "4\ufe0f\u20e3111111111111111",
        "4111 1111\n1111 1111",
        "⁴¹¹¹ ¹¹¹¹ ¹¹¹¹ ¹¹¹¹",
        "𝟒𝟏𝟏𝟏𝟏𝟏𝟏𝟏𝟏𝟏𝟏𝟏𝟏𝟏𝟏𝟏",  # noqa: RUF001 - mathematical
    ],
)
def test_other_digits_and_invisible_characters_hide_nothing(written: str) -> None:
    """What reads as a card's number is one; a word before and after keeps its place."""
    assert _found(f"é {written} ü") == [("card", written)]


@pytest.mark.parametrize(
    "text",
    [
        "$1,234,567.89 and 1.234.567,89 €; +12.5 %, -3.0",
        "2019 2018 2017 2016",
        "ISBN 978-3-16-148410-0",
        "order 100-2000-3000, invoice 2024-000123-17, $1234567890",
        "version 1.2.3.4, v10.0.0.1, section 4.2.1.3",
        "0.4111111111111111 and 3.14159265358979",
        "12:30:45, 00:1a:2b:3c:4d:5e, std::vector, add::bad",
        "550e8400-e29b-41d4-a716-446655440000",
        "a@b, @mention, foo@bar, x@y.z",
        "88-year-old, at 95 degrees, $95, may 2 people, in 2019",
        "000-12-3456, 666-12-3456, 123-00-4567",
        "219099999",
        "4111 1111",
        "heart rate 63, 145/95, 233 mg/dl",
    ],
)
def test_figures_stay(text: str) -> None:
    """Amounts, years, versions, times and identifiers that name nobody."""
    assert _found(text) == []


def test_reports_and_tables_of_figures_stay() -> None:
    """Of 1,279 paragraphs, their questions and tables, and 1,303 rows, one thing is taken out: a company's telephone number."""
    documents = json.loads(shared("data/tatqa_test_gold.json").read_text())
    texts = [part["text"] for document in documents for part in document["paragraphs"]]
    texts += [question["question"] for document in documents for question in document["questions"]]
    texts += ["\n".join("\t".join(row) for row in document["table"]["table"]) for document in documents]
    for name in ("german_credit", "heart_cleveland"):
        rows = shared(f"data/{name}.csv").read_text()
        texts += [rows, "\n".join(" ".join(row) for row in csv.reader(rows.splitlines()))]
    found = [each for text in texts for each in _found(text, Rules())]
    assert found == [("phone", "886-3-578-2258")]


@pytest.mark.parametrize(
    "word",
    TELEPHONE_WORDS,
)
def test_any_number_beside_a_word_for_telephones_goes(word: str) -> None:
    """However it is grouped: as people of that language write it."""
    assert _found(f"{word}: 555 0123 45.") == [("phone", "555 0123 45")]


@pytest.mark.parametrize(
    "name",
    ["token", "key", "apikey", "api_key", "password", "passwd", "pwd", "secret", "sig", "signature", "access-token"],
)
def test_what_a_link_lets_in_by_goes(name: str) -> None:
    """Whoever has the link has the right."""
    assert _found(f"see https://example.org/x?a=1&{name}=hunter22#end") == [("credential", "hunter22")]


def test_a_telephone_behind_a_day_and_a_card_behind_a_number_go() -> None:
    """Where a day or a row's number might be taken for their beginning."""
    assert _found("seen 05-03-2024 030 1234567", Rules()) == [("phone", "030 1234567")]
    for written in ("4111 111111111111", "411 111 111 111 111 1", "4111_1111_1111_1111"):
        assert _found(f"row 7 {written}, paid") == [("card", written)]


def test_of_two_patterns_that_overlap_nothing_stays_and_each_text_comes_back() -> None:
    """The one that begins first is the shorter one; and what is around one value is not that of the same value elsewhere."""
    rules = Rules(patterns={"ward": (r"[A-Z]{2}123",), "bed": (r"123456789",)})
    redactor, text = Redactor(rules), "AB123456789 and CD123456789"
    redacted = redactor.redact(text)
    assert redacted.text == "[BED_1] and [BED_2]"
    assert redactor.restore(redacted.text) == text


def test_two_secrets_that_differ_in_capitals_are_two() -> None:
    """Or an answer would show one for the other."""
    redactor, text = Redactor(), "x?token=SecretOne x?token=secretone"
    assert redactor.restore(redactor.redact(text).text) == text


def test_what_overlaps_goes_whole() -> None:
    """Of an address with a password in it nothing stays, nor of a card in an e-mail address."""
    assert _found("https://amy:pw@example.com/x?token=abcdef12") == [
        ("credential", "amy:pw@example.com"),
        ("credential", "abcdef12"),
    ]
    assert _found("4111111111111111@example.com") == [("email", "4111111111111111@example.com")]


@pytest.mark.parametrize(
    "text",
    [
        "0",
        "4",
        "1 ",
        "4111 ",
        "@",
        "a@",
        "a@b.",
        ".",
        "1.",
        "+1",
        "tel 1",
        ":",
        "ab:",
        "GB29 ",
        "[card_",
        "\\",
        "12-34-",
        "(",
        "\u200b",
        "1-\n",
        " \n",
        "\u00ad\n",
        "&",
        "&#52;",
        "a (at) b.",
        " at a dot ",
        "212 555 ",
        '"a"@',
    ],
    ids=repr,
)
def test_a_text_made_to_be_slow_is_not(text: str) -> None:
    """Of one character again and again, 100,000 take about half a second of the processor's time at most; of more, 20,000 do."""
    length = 100_000 if len(text) == 1 else 20_000
    long = (text * length)[:length]
    redactor, redacted = Redactor(ALL), list[str]()
    assert processor_seconds(lambda: redacted.append(redactor.redact(long).text), enough=1) < 2
    assert redactor.restore(redacted[0]) == long
