"""Whether digits and letters are an identifier that somebody can have been given: by its check digits, and by its issuer's rules.

Each function takes an identifier without spaces and marks, its letters in capitals, and answers yes or no. None of them raises.
What each computes is its issuer's publication, named there. Nothing is looked up: a card number may be right and never issued.
"""

import re
from collections import Counter
from datetime import date
from itertools import cycle
from typing import Final

# The issuers of cards: prefix (from, to), and how long their numbers are. ISO/IEC 7812; the networks' own tables.
_CARDS: Final = (
    ("4", "4", (13, 16, 18, 19)),  # Visa
    ("51", "55", (16,)),  # Mastercard
    ("2221", "2720", (16,)),
    ("34", "34", (15,)),  # American Express
    ("37", "37", (15,)),
    ("300", "305", (14, 16, 19)),  # Diners Club
    ("3095", "3095", (14, 16, 19)),
    ("36", "36", (14, 16, 19)),
    ("38", "39", (14, 16, 19)),
    ("3528", "3589", (16, 17, 18, 19)),  # JCB
    ("6011", "6011", (16, 17, 18, 19)),  # Discover
    ("644", "649", (16, 17, 18, 19)),
    ("65", "65", (16, 17, 18, 19)),
    ("62", "62", (16, 17, 18, 19)),  # UnionPay
    ("81", "81", (16, 17, 18, 19)),
    ("50", "50", (13, 14, 15, 16, 17, 18, 19)),  # Maestro, RuPay, Verve, Elo
    ("56", "58", (13, 14, 15, 16, 17, 18, 19)),
    ("60", "61", (16,)),
    ("63", "63", (13, 14, 15, 16, 17, 18, 19)),
    ("67", "67", (13, 14, 15, 16, 17, 18, 19)),
    ("82", "82", (16,)),  # RuPay
    ("2200", "2204", (16, 17, 18, 19)),  # Mir
    ("9792", "9792", (16,)),  # Troy
)


_DOUBLED: Final = str.maketrans("0123456789", "0246813579")  # and the digits of what has two, added up


def luhn(digits: str) -> bool:
    """ISO/IEC 7812-1, annex B."""
    doubled = digits[-2::-2].translate(_DOUBLED)
    return (sum(map(int, digits[::-2])) + sum(map(int, doubled))) % 10 == 0


def card(digits: str) -> bool:
    """A payment card's number of a network known here."""
    return luhn(digits) and any(
        first <= digits[: len(first)] <= last and len(digits) in lengths for first, last, lengths in _CARDS
    )


def iban(text: str) -> bool:
    """ISO 13616: the remainder by 97. The length is its country's, and the caller's to see."""
    moved = text[4:] + text[:4]
    return int("".join(str(int(character, 36)) for character in moved)) % 97 == 1 and text[2:4] not in {
        "00",
        "01",
        "99",
    }


def _weighted(digits: str, weights: tuple[int, ...]) -> int:
    return sum(int(digit) * weight for digit, weight in zip(digits, weights, strict=False))


def _day(year: int, month: int, day: int) -> bool:
    try:
        date(year, month, day)
    except ValueError:
        return False
    return True


def nhs(digits: str) -> bool:
    """NHS Data Dictionary, NHS number; also Scotland's CHI (a birthday first) and Northern Ireland's H&C number."""
    check = -_weighted(digits[:9], (10, 9, 8, 7, 6, 5, 4, 3, 2)) % 11
    if check != int(digits[9]) or digits[0] in "58" or len(set(digits)) == 1:
        return False
    return digits >= "32" or _day(2000 + int(digits[4:6]), int(digits[2:4]), int(digits[:2]))


def ssn(digits: str) -> bool:
    """United States Social Security Administration: numbers that are given out. Nothing in them is a check digit."""
    area, group, serial = digits[:3], digits[3:5], digits[5:]
    # 078-05-1120 and its like were printed on wallets and in advertisements; a text may hold them as well as any other.
    return area not in {"000", "666"} and area < "900" and group != "00" and serial != "0000"


def itin(digits: str) -> bool:
    """United States Internal Revenue Service: a taxpayer without a social security number."""
    groups = {*range(50, 66), *range(70, 89), *range(90, 93), *range(94, 100)}
    return digits[0] == "9" and int(digits[3:5]) in groups


def npi(digits: str) -> bool:
    """45 CFR 162.406: Luhn with 80840 before it."""
    return digits[0] in "12" and luhn("80840" + digits)


def tax_id(digits: str) -> bool:
    """Germany, § 139b AO: of the first ten digits one stands twice or three times; ISO/IEC 7064, MOD 11,10."""
    if digits[0] == "0" or sorted(Counter(digits[:10]).values())[-2:] not in ([1, 2], [1, 3]):
        return False
    product = 10
    for digit in digits[:10]:
        product = ((int(digit) + product) % 10 or 10) * 2 % 11
    return (11 - product) % 10 == int(digits[10])


def ahv(digits: str) -> bool:
    """Switzerland, AHVN13: 756 first, check digit of EAN-13."""
    return digits.startswith("756") and _weighted(digits, (1, 3) * 7) % 10 == 0


def bsn(digits: str) -> bool:
    """Netherlands, burgerservicenummer."""
    return _weighted(digits, (9, 8, 7, 6, 5, 4, 3, 2, -1)) % 11 == 0 and len(set(digits)) > 1


def pesel(digits: str) -> bool:
    """Poland: a birthday, its century in the month, first."""
    month = int(digits[2:4])
    century = (1900, 2000, 2100, 2200, 1800)[month // 20]
    right = -_weighted(digits, (1, 3, 7, 9, 1, 3, 7, 9, 1, 3)) % 10 == int(digits[10])
    return right and _day(century + int(digits[:2]), month % 20, int(digits[4:6]))


def cpf(digits: str) -> bool:
    """Brazil, Receita Federal: two check digits."""
    first = _weighted(digits[:9], (10, 9, 8, 7, 6, 5, 4, 3, 2)) * 10 % 11 % 10
    second = _weighted(digits[:10], (11, 10, 9, 8, 7, 6, 5, 4, 3, 2)) * 10 % 11 % 10
    return digits[9:] == f"{first}{second}" and len(set(digits)) > 1


def sin(digits: str) -> bool:
    """Canada, social insurance number."""
    return digits[0] not in "08" and luhn(digits)


# The dihedral group of the pentagon, and a permutation of its elements (Verhoeff 1969).
_PRODUCT: Final = tuple(
    tuple(
        ((a + b) % 5 if b < 5 else 5 + (a + b) % 5) if a < 5 else (5 + (a - b) % 5 if b < 5 else (a - b) % 5)  # noqa: PLR2004
        for b in range(10)
    )
    for a in range(10)
)
_STEP: Final = (1, 5, 7, 6, 2, 8, 3, 0, 9, 4)


def routing(digits: str) -> bool:
    """United States, American Bankers Association: weights 3, 7, 1; the first two digits are a Federal Reserve's district's."""
    districts = {*range(13), *range(21, 33), *range(61, 73), 80}
    return int(digits[:2]) in districts and _weighted(digits, (3, 7, 1) * 3) % 10 == 0 and len(set(digits)) > 1


def aadhaar(digits: str) -> bool:
    """India, UIDAI: Verhoeff's check digit."""
    check = 0
    for place, digit in enumerate(reversed(digits)):
        element = int(digit)
        for _ in range(place % 8):
            element = _STEP[element]
        check = _PRODUCT[check][element]
    return digits[0] not in "01" and check == 0


def nir(text: str) -> bool:
    """France, numéro de sécurité sociale: the remainder by 97; Corsica's departments are 2A and 2B."""
    number = text[:13].replace("2A", "19").replace("2B", "18")
    month = int(text[3:5])
    return number.isdecimal() and (1 <= month <= 12 or month >= 20) and int(number) % 97 + int(text[13:]) == 97  # noqa: PLR2004


def nino(text: str) -> bool:
    """United Kingdom, HMRC's NIM39110: prefixes that are given out, and QQ of its example. Nothing in it is a check digit."""
    return not re.match("(?!QQ)(?:[DFIQUV]|.[DFIQUVO]|BG|GB|KN|NK|NT|TN|ZZ)", text)


def dea(text: str) -> bool:
    """United States Drug Enforcement Administration: two letters, seven digits."""
    digits = [int(digit) for digit in text[2:]]
    return (sum(digits[0:6:2]) + 2 * sum(digits[1:6:2])) % 10 == digits[6]


def dni(text: str) -> bool:
    """Spain, DNI and NIE: a letter by the remainder by 23."""
    number = text[:-1].translate(str.maketrans("XYZ", "012"))
    return "TRWAGMYFPDXBNJZSQVHLCKE"[int(number) % 23] == text[-1]


_ODD_DIGITS: Final = (1, 0, 5, 7, 9, 13, 15, 17, 19, 21)
_ODD_LETTERS: Final = (*_ODD_DIGITS, 2, 4, 18, 20, 11, 3, 6, 8, 12, 14, 16, 10, 22, 25, 24, 23)
_ODD: Final = dict(zip("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ", _ODD_DIGITS + _ODD_LETTERS, strict=True))


def codice_fiscale(text: str) -> bool:
    """Italy, decreto 23 dicembre 1976: a letter by two tables, one for each other place."""
    even = {character: int(character, 36) - (0 if character.isdecimal() else 10) for character in _ODD}
    total = sum(table[character] for character, table in zip(text[:15], cycle((_ODD, even)), strict=False))
    return chr(ord("A") + total % 26) == text[15]
