"""Identifiers of letters and digits: a table of what each looks like and what each must fulfil.

A pattern is tried where a letter or digit begins a word, and has a bound on everything that repeats; so the time is in proportion
to the text's length. A row whose check is weak wants one of its words near.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from blindgate_rag.redaction import checksums
from blindgate_rag.redaction.matches import Match
from blindgate_rag.redaction.words import any_of

_NEAR: Final = 40

_COUNTRIES: Final = (
    "AD24 AE23 AL28 AT20 AZ28 BA20 BE16 BG22 BH22 BI27 BR29 BY28 CH21 CR22 CY28 CZ24 DE22 DJ27 DK18 DO28 EE20 EG29 ES24 FI18 FK18"
    " FO18 FR27 GB22 GE22 GI23 GL18 GR27 GT28 HN28 HR21 HU28 IE22 IL23 IQ23 IS26 IT27 JO30 KW30 KZ20 LB28 LC32 LI21 LT20 LU20 LV21"
    " LY25 MC27 MD24 ME22 MK19 MN20 MR27 MT31 MU30 NI28 NL18 NO15 OM23 PK24 PL28 PS29 PT25 QA29 RO24 RS22 RU33 SA24 SC31 SD18 SE24"
    " SI19 SK24 SM27 SO23 ST25 SV28 TL23 TN24 TR26 UA29 VA22 VG24 XK20 YE30"
)
IBAN_LENGTHS: Final = {entry[:2]: int(entry[2:]) for entry in _COUNTRIES.split()}
"""Of each country in the IBAN registry (ISO 13616, SWIFT), how long its numbers are."""


@dataclass(frozen=True, slots=True)
class Code:
    """A row: an identifier of letters and digits.

    Attributes:
        pattern: a regular expression of it, in either case, with spaces, dots and dashes where it is written with them.
        check: whether its letters, in capitals, and digits are one.
        words: a regular expression: what must stand near, or nothing.
    """

    name: str
    pattern: str
    check: Callable[[str], bool]
    words: str = ""


_GAP: Final = r"[ .\n-]{0,2}"
"""What may stand between the groups of a code, whatever its issuer's style; a line may end there."""


def _groups(*groups: str) -> str:
    return _GAP.join(groups)


_MBI: Final = "[AC-HJKMNP-RT-Y]"
_MBI_OR_DIGIT: Final = "[0-9AC-HJKMNP-RT-Y]"

CODES: Final = (
    Code("nino", _groups("[A-Z]{2}", "[0-9]{2}", "[0-9]{2}", "[0-9]{2}", "[A-D]"), checksums.nino),
    Code("dea", _groups("[A-HJ-NPRSTUX][A-Z9]", "[0-9]{7}"), checksums.dea, r"dea"),
    Code(  # United States, Centers for Medicare & Medicaid Services: letters without S, L, O, I, B and Z, and no check digit
        "mbi",
        _groups(f"[1-9]{_MBI}{_MBI_OR_DIGIT}[0-9]", f"{_MBI}{_MBI_OR_DIGIT}[0-9]", f"{_MBI}{_MBI}[0-9]{{2}}"),
        lambda _: True,
    ),
    Code(
        "dni",
        r"(?:[XYZ][ -]?[0-9]{7}|[0-9]{8}|[0-9]{2}\.[0-9]{3}\.[0-9]{3})[ -]?(?:[A-DF-Z]|E(?!-?[0-9]))",
        checksums.dni,
    ),
    Code(
        "codice_fiscale",
        _groups(
            "[A-Z]{3}",
            "[A-Z]{3}",
            "[0-9L-NP-V]{2}",
            "[A-EHLMPRST]",
            "[0-9L-NP-V]{2}",
            "[A-Z]",
            "[0-9L-NP-V]{3}",
            "[A-Z]",
        ),
        checksums.codice_fiscale,
    ),
    Code(
        "nir",
        _groups("[1-478]", "[0-9]{2}", "[0-9]{2}", "[0-9][0-9AB]", "[0-9]{3}", "[0-9]{3}", "[0-9]{2}"),
        checksums.nir,
    ),
)

_IBAN_START: Final = re.compile(r"(?<![^\W_])(?:IBAN)?([A-Z]{2}[ ]?[0-9]{2})(?=[ \t.\n-]{0,3}[A-Z0-9])", re.IGNORECASE)
_IBAN_NEXT: Final = re.compile(r"[ \t.\n-]{0,3}([A-Z0-9])", re.IGNORECASE)
_MARKS: Final = re.compile(r"[^A-Z0-9]")


def _iban(text: str, start: int, end: int) -> Match | None:
    """The IBAN whose country and check digits stand there, if it is one."""
    letters = _MARKS.sub("", text[start:end].upper())
    length = IBAN_LENGTHS.get(letters[:2], 0)
    while len(letters) < length:
        found = _IBAN_NEXT.match(text, end)
        if found is None:
            return None
        letters += found[1].upper()
        end = found.end()
    # A word may follow without a space, as in text out of PDF files; a digit makes it another number.
    # Words have the form as well: `is 26 years, and so on`. Of no country's numbers letters are more than half.
    worded = sum(character.isdecimal() for character in letters) * 2 < length
    if not length or worded or text[end : end + 1].isdecimal() or not checksums.iban(letters):
        return None
    return Match("iban", start, end, letters)


class Codes:
    """Finds IBANs and the table's rows, of some classes."""

    protects = frozenset[str]()

    def __init__(self, names: frozenset[str]) -> None:
        self.names = names & {"iban", *(row.name for row in CODES)}
        self._rows = [
            (
                row,
                re.compile(rf"(?<![^\W_])(?<![0-9]\.)(?:{row.pattern})(?![^\W_])", re.IGNORECASE),
                re.compile(any_of(row.words), re.IGNORECASE),
            )
            for row in CODES
            if row.name in self.names
        ]

    def find(self, text: str) -> Iterator[Match]:
        """Find all. Takes time in proportion to the text's length."""
        if "iban" in self.names:
            for begun in _IBAN_START.finditer(text):
                if match := _iban(text, *begun.span(1)):
                    yield match
        for row, pattern, words in self._rows:
            for found in pattern.finditer(text):
                value = _MARKS.sub("", found[0].upper())
                if row.words and not words.search(text, max(found.start() - _NEAR, 0), found.end() + _NEAR):
                    continue
                if row.check(value):
                    yield Match(row.name, found.start(), found.end(), value)
